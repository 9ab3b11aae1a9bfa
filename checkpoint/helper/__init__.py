"""Checkpoints for workers that hold no capability: a daemon that holds them does two things for them, and lends none.

Who asks is `client`; `protocol` is all that can be said. Of the daemon, `server` forks a `session` for each connection.
That one is root's, has the key, and verifies; under it `hand` dumps and restores, as the user who asks, with the two
capabilities that CRIU needs. What comes back to life was dumped by a helper: `mac` sees to that.
"""

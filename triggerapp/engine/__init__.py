"""Every change of state, and no other place changes any.

    trigger -> pending -admit-> queued -claim-> running -> completed | failed | crashed | timed_out
       (delayed)  ^  ^                           |   |
                  |  +-------- retry, rescue ----+   +- suspend -> waiting
                  +------------------------ wake ----------------------+    canceled, expired: from any live state

1. One door. A run changes status only through `models.moves.move_sql`: one conditional UPDATE
   against the table of allowed moves; zero rows means `StaleRun`.
2. Fenced. `claim` gives a lease number; every write of a worker carries it.
3. Lock a run before its waits, never two runs. A parent is told through its wait row, in the
   child's own transaction; whoever resolves a wait wakes the run afterwards.
4. Nothing leaves before commit, and nothing depends on what leaves. What must not be lost is a
   row; `on_commit` is the fast path and a tick finds whatever it missed.
5. One clock: the database's.
6. Events and waits meet under one lock: emitting and opening a wait on the same event name take
   the same advisory lock.
"""

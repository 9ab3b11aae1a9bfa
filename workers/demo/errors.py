"""What can go wrong with the demo."""


class DemoFailed(Exception):
    """The demo could not be played to its end; the message says where it stopped."""

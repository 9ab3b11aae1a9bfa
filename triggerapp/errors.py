"""What the control plane refuses, and why.

One tree; every class has a stable `code` for machines and a message that says what to do.
"""

from __future__ import annotations

from typing import ClassVar

from kombu.exceptions import EncodeError


class TriggerError(Exception):
    """Base of everything the engine raises on purpose."""

    code: ClassVar[str] = "trigger_error"


class StaleRun(TriggerError):
    """This run was claimed by another worker, canceled or finished; stop writing."""

    code = "stale_run"

    def __init__(self, run_id: object, lease: int | None = None) -> None:
        super().__init__(run_id, lease)
        self.run_id = run_id
        self.lease = lease

    def __str__(self) -> str:
        return f"run {self.run_id} is no longer held with lease {self.lease}: nothing was written"


class IllegalMove(TriggerError):
    """The run is not in a state from which this verb is allowed."""

    code = "illegal_move"


class NotFound(TriggerError):
    """No such row in this environment."""

    code = "not_found"


class BadInput(TriggerError, ValueError):
    """A value from outside that cannot be used; the message names it."""

    code = "bad_input"


class BadType(BadInput, TypeError):
    """A value of a type that cannot be used; a `TypeError` too, as Python raises it."""

    code = "bad_type"


class BadFilter(BadInput):
    """A filter that cannot be understood; the message names the place."""

    code = "bad_filter"


class BadArgument(BadInput):
    """A payload that does not fit the task; `param` is the argument to blame."""

    code = "bad_argument"

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message, param)
        self.param = param

    def __str__(self) -> str:
        return str(self.args[0])


def of_one(place: str, error: BadInput | NotFound) -> BadInput | NotFound:
    """The same refusal, of one of many that came together; it says which, as `items[1]`."""
    if isinstance(error, BadArgument):
        return BadArgument(f"{place}: {error}", f"{place}.payload.{error.param}")
    return type(error)(f"{place}: {error}")


class Unserializable(BadInput, EncodeError):
    """Something in a call that its serializer cannot encode; an `EncodeError` too, as Celery raises it."""

    code = "unserializable"


class PayloadTooLarge(BadInput):
    """Arguments or a result over the size limit."""

    code = "payload_too_large"


class TooManyPackets(TriggerError):
    """An environment keeps as many packets as it may; those of a day ago make room."""

    code = "too_many_packets"


class UnreadableSecret(TriggerError):
    """An encrypted value that none of the keys opens; the message says which, and what to do."""

    code = "unreadable_secret"


class Undecodable(TriggerError):
    """A run's stored payload, which this process cannot or must not read."""

    code = "undecodable"


class WorkerLost(TriggerError):
    """The worker died under this run, more often than is allowed."""

    code = "worker_lost"


class DatabaseNotReady(TriggerError):
    """The default database answers, but is no PostgreSQL or has no tables of ours."""

    code = "database_not_ready"


class DatabaseUnavailable(TriggerError):
    """PostgreSQL did not answer; nothing was accepted and nothing was sent."""

    code = "database_unavailable"

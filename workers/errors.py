"""What durable code may catch, and the one thing it must not.

Everything here is a `DurableError` with a stable `code`, except `Suspend`, which is a
`BaseException` so that `except Exception` in user code lets it pass. The rule: every error survives pickle, and
Celery's JSON results, which call the class with `args`; so `args` is what the constructor takes, by position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import ClassVar, TypeVar

E = TypeVar("E", bound=BaseException)


def revive(cls: type[E], args: tuple[object, ...], state: Mapping[str, object]) -> E:
    """Build an exception from its parts without running its constructor a second time.

    A constructor in Python has had its say: it may take other arguments than `args`, and may change them. The one
    in C is run, because it fills the slots that no `__dict__` shows, such as `errno`.
    """
    exc = cls.__new__(cls, *args)
    _native_constructor(cls)(exc, *args)
    exc.__dict__.update(state)
    return exc


def _native_constructor(cls: type[BaseException]) -> Callable[..., None]:
    found = (vars(base).get("__init__") for base in cls.__mro__)
    native: Callable[..., None] = next(
        init for init in found if init is not None and not isinstance(init, FunctionType)
    )
    return native


class Suspend(BaseException):
    """Leaves the user's function at a wait; the base of all control flow of a run.

    Not an `Exception`: a run that is being suspended has not failed, and no `except Exception`
    of the user may swallow it. Code that must clean up uses `finally`.
    """


class DurableError(Exception):
    """Base of everything a run raises on purpose."""

    code: ClassVar[str] = "durable_error"

    def __reduce__(self) -> tuple[object, ...]:
        return revive, (type(self), self.args, self.__dict__)


class ValueTooLarge(DurableError):
    """A step result, wait or event over the size limit."""

    code = "value_too_large"

    def __init__(self, what: str, size: int, limit: int, setting: str = "") -> None:
        super().__init__(what, size, limit, setting)
        self.what = what
        self.size = size
        self.limit = limit
        self.setting = setting
        """The one that sets the limit, if any does."""

    def __str__(self) -> str:
        raised = f", or raise {self.setting} in the TRIGGERAPP setting" if self.setting else ""
        return (
            f"{self.what} takes {self.size:,} bytes as JSON; the limit is {self.limit:,}. Store it elsewhere "
            f"(a file, an object store, a table) and pass a reference to it{raised}"
        )


class ValueUnreadable(DurableError):
    """A recorded value that this code can no longer read; usually a class that is gone."""

    code = "value_unreadable"


class JournalMismatch(DurableError):
    """The function took another path than the one its journal records."""

    code = "journal_mismatch"

    def __init__(self, step_key: str, recorded: str, current: str) -> None:
        super().__init__(step_key, recorded, current)
        self.step_key = step_key
        self.recorded = recorded
        self.current = current

    def __str__(self) -> str:
        return (
            f"step {self.step_key} was recorded with other arguments (digest {self.recorded}, now {self.current}): "
            "the code or its inputs changed since, or are not the same each time the run is entered. "
            "Either give the step an explicit `key=` so that it is told apart, "
            "or replay the run to start over with the new code"
        )


class KeyTaken(JournalMismatch):
    """Two calls in one entry of the function have the same `key=`, and are not the same call."""

    code = "key_taken"

    def __str__(self) -> str:
        return (
            f"the key {self.step_key} is used a second time, for another call ({self.recorded}, now "
            f"{self.current}): a key names one call of a run. Give each call a key of its own, as in "
            "key=f'order-{order}'"
        )


class CallRefused(DurableError):
    """Base of the refusals of one call; `called` names it as the user wrote it, such as `wait.sleep`."""

    code = "call_refused"

    def __init__(self, called: str) -> None:
        super().__init__(called)
        self.called = called


class NotInRun(CallRefused):
    """Something that needs a run was called where there is none."""

    code = "not_in_run"

    def __str__(self) -> str:
        return (
            f"{self.called} was called outside a run: it works only in a function under @durable_task, "
            "while a worker runs it"
        )


class RunContextLost(CallRefused):
    """A thread of a run calls a step, but does not carry the run."""

    code = "run_context_lost"

    def __str__(self) -> str:
        return (
            f"{self.called} was called in a thread that carries no run. Start the thread's function with "
            "`contextvars.copy_context().run(function, ...)`, with one copy for each thread"
        )


class WaitTimeout(DurableError, TimeoutError):
    """A wait reached its timeout before anything resolved it."""

    code = "wait_timeout"


class WaitCanceled(DurableError):
    """A wait was canceled instead of being resolved."""

    code = "wait_canceled"


class WaitInTransaction(CallRefused):
    """A wait was called while a database transaction was open."""

    code = "wait_in_transaction"

    def __str__(self) -> str:
        return (
            f"{self.called} was called inside atomic(): a run that waits gives up its database connection, which "
            "would roll the transaction back, and its locks cannot be held for days. Close the atomic() block "
            "before the wait"
        )


class WaitInRollback(CallRefused):
    """A wait was called in a rollback."""

    code = "wait_in_rollback"

    def __str__(self) -> str:
        return (
            f"{self.called} was called in a rollback: rollbacks run one after the other without leaving the worker. "
            "Trigger a run of another task for what takes long"
        )


class RollbackInStep(CallRefused):
    """A rollback was registered inside a step."""

    code = "rollback_in_step"

    def __str__(self) -> str:
        return (
            f"{self.called} was registered inside a step: once that step is recorded it is not entered again, and the "
            "rollback would be forgotten. Register it in the task's own function, after the step"
        )


class SuspensionSwallowed(CallRefused):
    """The user's code caught the `Suspend` of a wait and went on."""

    code = "suspension_swallowed"

    def __str__(self) -> str:
        return (
            f"the suspension at {self.called} was caught by the task's own code. Use `except Exception` instead of "
            "`except BaseException` or a bare `except`, and do not return from `finally`"
        )


class TransactionLeft(DurableError):
    """The task's function ended, and left a transaction open: nothing of it is committed."""

    code = "transaction_left"

    def __init__(self, database: str) -> None:
        super().__init__(database)

    def __str__(self) -> str:
        return (
            f"the task left a transaction of the database {self.args[0]!r} open, which was rolled back: use "
            "`with transaction.atomic()`, and put back what set_autocommit() changed"
        )


class AbortRun(DurableError):
    """Raised by the user: fail the run now, without retry."""

    code = "abort_run"


class ChildFailed(DurableError):
    """A run that this run waits for did not complete; `error` is its recorded exception."""

    code = "child_failed"

    def __init__(self, run_id: object, task: str, error: Mapping[str, object]) -> None:
        super().__init__(str(run_id), task, dict(error))
        self.run_id = str(run_id)
        self.task = task
        self.error = dict(error)

    def __str__(self) -> str:
        return f"run {self.run_id} of {self.task} failed: {self.error.get('type')}: {self.error.get('message')}"


class RecordedError(DurableError):
    """Stands for a recorded exception whose class cannot be built here."""

    code = "recorded_error"

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(type_name, message)
        self.type_name = type_name
        self.message = message

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"


class MaxDurationExceeded(DurableError):
    """The run computed for longer than its `max_duration`; waiting does not count."""

    code = "max_duration_exceeded"

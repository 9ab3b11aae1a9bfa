"""Handles: what `trigger` returns, and what a parent gets of its children.

A handle is a name for a run; it asks the database each time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

from triggerapp.errors import BadType
from workers import codec
from workers.errors import ChildFailed

if TYPE_CHECKING:
    from triggerapp.models import Run

R = TypeVar("R")
_LONGEST_POLL = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHandle(Generic[R]):
    """One run: its status, result, and the verbs."""

    id: str
    task_id: str
    """The Celery task id."""
    is_cached: bool = False
    """An idempotency key led to a run that was there before."""

    def refresh(self) -> Run:
        """The run's row as it is now."""
        from triggerapp.models import Run  # noqa: PLC0415  (needs Django)

        return Run.objects.get(pk=self.id)

    @property
    def status(self) -> str:
        """Trigger.dev v4's status name, such as `WAITING` or `COMPLETED`."""
        return self.refresh().public_status

    def get(self, timeout: float | timedelta | None = None) -> R:
        """Wait until the run ends and return its result. Raises what it raised, or `TimeoutError`."""
        seconds = _seconds(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        pause = 0.005
        while (run := self.refresh()).finished_at is None:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"run {self.id} is still {run.public_status} after {seconds} s")
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_POLL)
        result: R = outcome(run).unwrap()
        return result

    def cancel(self, *, actor: str = "") -> bool:
        """Stop it and its children; False if it was over."""
        from triggerapp.engine import verbs  # noqa: PLC0415  (needs Django)

        return verbs.cancel(UUID(self.id), actor=actor)

    def retry(self, *, actor: str = "") -> None:
        """Go on with a failed run from the step that failed. Raises `IllegalMove`."""
        from triggerapp.engine import verbs  # noqa: PLC0415  (needs Django)

        verbs.retry(UUID(self.id), actor=actor)

    def replay(self, *, from_step: str | None = None, actor: str = "") -> RunHandle[R]:
        """Do it again: a new run with the same payload. What was done before `from_step` began is not done again."""
        from triggerapp.engine import verbs  # noqa: PLC0415  (needs Django)

        fresh = verbs.replay(UUID(self.id), actor=actor, from_step=from_step)
        return RunHandle(id=str(fresh.run_id), task_id=fresh.task_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult(Generic[R]):
    """How a run ended."""

    id: str
    task: str
    ok: bool
    output: R | None = None
    error: dict[str, Any] | None = None

    def unwrap(self) -> R:
        """The output; raises the run's own exception, or `ChildFailed` where it has none."""
        if self.ok:
            return self.output  # type: ignore[return-value]
        raise self._exception()

    def _exception(self) -> BaseException:
        error = self.error or {}
        failed = ChildFailed(self.id, self.task, error=error)
        if ":" not in str(error.get("type", "")):
            return failed
        cause = codec.load_error(error)
        cause.__cause__ = failed
        return cause


def _seconds(timeout: float | timedelta | None) -> float | None:
    if isinstance(timeout, timedelta):
        return timeout.total_seconds()
    if timeout is not None and not isinstance(timeout, int | float):
        raise BadType(f"timeout={timeout!r:.80}: it takes seconds, a timedelta, or None to wait as long as it takes")
    return timeout


def outcome(run: Any) -> RunResult[Any]:
    """How a run that has ended, did."""
    return result_of({name: getattr(run, name) for name in ("id", "task", "status", "result", "result_type", "error")})


def result_of(row: dict[str, Any]) -> RunResult[Any]:
    """The result in a row of `engine.runs.results`."""
    if row["status"] != "completed":
        error = row["error"] or {"type": row["status"], "message": f"the run ended as {row['status']}"}
        return RunResult(id=str(row["id"]), task=row["task"], ok=False, error=error)
    return RunResult(
        id=str(row["id"]), task=row["task"], ok=True, output=decode_result(row["result"], row["result_type"])
    )


def decode_result(data: bytes | None, content_type: str) -> Any:
    """A result as the task returned it, through its Celery serializer."""
    from kombu import serialization  # noqa: PLC0415  (loads every serializer)

    if data is None:
        return None
    binary = content_type in ("application/x-python-serialize", "application/x-msgpack")
    return serialization.loads(bytes(data), content_type, "binary" if binary else "utf-8", accept=[content_type])

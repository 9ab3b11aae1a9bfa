"""Celery's signals as they are heard in workers: a list per task id in the ledger."""

from __future__ import annotations

import os
from typing import Any

from celery import signals

from tests.acceptance.ledger import note, notes


def in_workers() -> None:
    """Write down every signal of a task, in worker processes only."""
    if "ACCEPTANCE_QUEUE" not in os.environ:
        return
    signals.task_prerun.connect(_prerun)
    signals.task_postrun.connect(_postrun)
    signals.task_success.connect(_success)
    signals.task_failure.connect(_failure)
    signals.task_retry.connect(_retry)
    signals.task_revoked.connect(revoked)
    signals.task_internal_error.connect(_internal_error)
    signals.before_task_publish.connect(_publish)


def of(task_id: str) -> list[str]:
    """What was heard of a task, in order."""
    return notes(f"signals:{task_id}")


def _prerun(task_id: str, **_: Any) -> None:
    note(f"signals:{task_id}", "prerun")


def _postrun(task_id: str, state: str | None = None, **_: Any) -> None:
    note(f"signals:{task_id}", f"postrun {state}")


def _success(sender: Any, **_: Any) -> None:
    note(f"signals:{sender.request.id}", "success")


def _failure(task_id: str, **_: Any) -> None:
    note(f"signals:{task_id}", "failure")


def _retry(request: Any, **_: Any) -> None:
    note(f"signals:{request.id}", "retry")


def revoked(request: Any, **_: Any) -> None:
    note(f"signals:{request.id}", "revoked")


def _internal_error(task_id: str, **_: Any) -> None:
    note(f"signals:{task_id}", "internal error")


def _publish(headers: Any, **_: Any) -> None:
    note(f"signals:{headers['id']}", "publish")

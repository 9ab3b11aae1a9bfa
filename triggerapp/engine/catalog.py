"""The durable tasks of this project's Celery app, as the engine knows them."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any, Protocol, cast

from celery import Celery
from celery.app import app_or_default

from triggerapp.errors import NotFound

log = logging.getLogger(__name__)


class Subscribed(Protocol):
    """What a task is subscribed to."""

    @property
    def name(self) -> str:
        """The name of the events."""

    @property
    def filter(self) -> Mapping[str, Any] | None:
        """What their payloads match."""


class Triggerable(Protocol):
    """A durable task, as far as the engine knows it."""

    run: Callable[..., Any]
    subscriptions: Sequence[Subscribed]

    def request_for(self, args: Any, kwargs: Any, **options: Any) -> tuple[Any, Any]:
        """The `Trigger` that a call stands for."""


OURS = "triggerapp."
"""How the names of our own tasks begin."""
_NAMED = 5
"""So many tasks are named in a refusal."""
_SKIP = "CELERY_SKIP_CHECKS"
"""What Celery's `--skip-checks` sets."""
_HANDED = "TRIGGERAPP_TASK_MODULES"
_LONGEST = 128 * 1024
"""Bytes of one string that Linux hands to a new process, with its name and the NUL at its end (`MAX_ARG_STRLEN`)."""


def durable_task(name: str) -> Triggerable | None:
    """The durable task of this name in this project's Celery app."""
    app = app_or_default()
    if name not in app.tasks:
        _load_tasks(app)
    task = app.tasks.get(name)
    return cast(Triggerable, task) if hasattr(task, "request_for") else None


def missing(name: object) -> NotFound:
    """The refusal of a name that no durable task has, with what it may have meant."""
    if isinstance(name, str) and name in app_or_default().tasks and not name.startswith("celery."):
        return NotFound(f"{name!r} is a Celery task and not durable: put @durable_task on it, or call it as before")
    known = offered()
    meant = difflib.get_close_matches(str(name), known, n=1)
    if meant:
        hint = f"did you mean {meant[0]!r}?"
    elif known:
        shown = ", ".join(known[:_NAMED])
        hint = f"there {'are' if len(known) > 1 else 'is'} {shown}{', …' if len(known) > _NAMED else ''}"
    else:
        hint = "this process's Celery app has none: does it find its tasks?"
    return NotFound(f"there is no durable task {str(name)[:200]!r}; {hint}")


@lru_cache(maxsize=8)
def _load_tasks(app: Celery) -> None:
    """A web process or a ticker has not looked for its tasks as a worker does."""
    load_tasks(app.loader.import_default_modules)


def task_modules(app: Celery) -> dict[str, str]:
    """Where the app's tasks are, in the environment of a process that this worker starts beside its pool.

    Nothing if it is longer than can be handed over: the process then looks for its tasks as any other does.
    """
    found = " ".join(sorted({task.__module__ for task in app.tasks.values()} - {"__main__", "__mp_main__"}))
    return {_HANDED: found} if len(os.fsencode(f"{_HANDED}={found}\0")) <= _LONGEST else {}


def load_tasks(load: Callable[[], object]) -> None:
    """Have Celery `load` its app's tasks; in a process that a worker started, those of the worker.

    There without Django's system checks, which the worker has run: they import every view, and a second goes by.
    A task that nobody but a view imports is found by the module that the worker has it from.
    """
    handed = os.environ.pop(_HANDED, None)
    if handed is None:
        load()
        return
    with _unchecked():
        load()
    for name in handed.split():
        try:
            import_module(name)
        except ImportError as error:
            log.warning("the worker has tasks of %s, which cannot be imported here: %s", name, error)


@contextmanager
def _unchecked() -> Iterator[None]:
    said = os.environ.get(_SKIP)
    os.environ[_SKIP] = "true"
    try:
        yield
    finally:
        if said is None:
            del os.environ[_SKIP]
        else:
            os.environ[_SKIP] = said


def durable_tasks() -> list[str]:
    """The names of all durable tasks of this project's Celery app, without our own."""
    app = app_or_default()
    _load_tasks(app)
    found = (name for name, task in app.tasks.items() if hasattr(task, "request_for"))
    return sorted(name for name in found if not name.startswith(OURS))


def offered() -> list[str]:
    """Those to choose from, without Celery's own: nobody triggers `celery.map` by hand."""
    return [name for name in durable_tasks() if not name.startswith("celery.")]


def subscriptions() -> tuple[str, list[tuple[str, Subscribed]]]:
    """The name of this project's Celery app, and what its durable tasks are subscribed to."""
    app = app_or_default()
    tasks = [(name, cast(Triggerable, app.tasks[name])) for name in durable_tasks()]
    return str(app.main or "celery"), [(name, on) for name, task in tasks for on in task.subscriptions]

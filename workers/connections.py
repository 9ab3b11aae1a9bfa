"""Database connections of a worker's pool stay open from run to run.

Celery closes them before and after every task. Opening one costs several times what a whole run needs
of the database, so around durable tasks Django's own rule for requests is kept instead: close what is
broken or too old. Plain tasks are left to Celery.
"""

from __future__ import annotations

import select
from typing import Any

from celery import Celery, signals
from django.db import connections

from triggerapp.engine import sql
from workers.durable import DurableTask

_SHORT_LIVED_THREADS = ("gevent", "eventlet")
"""Pools that run each task in a thread of its own: a connection kept there would be kept for nobody."""
_LAST_WORDS = select.POLLIN | select.POLLRDHUP
"""Between tasks nothing is to be read on a pool's connection but the server's reason for closing it."""


def keep(worker: Any) -> None:
    """Have this worker's pool keep its connections; called before the pool starts."""
    if any(name in worker.pool_cls.__module__ for name in _SHORT_LIVED_THREADS):
        return
    for fixup in _django_fixups(worker.app):
        _Keeper(fixup).install()


def without_pool() -> None:
    """Django's pool is for web processes: forked, restored and dumped processes would share its connections."""
    for connection in connections.all():
        options = connection.settings_dict.get("OPTIONS", {})
        if options.get("pool"):
            connection.close()
            connection.close_pool()  # type: ignore[attr-defined]  # PostgreSQL's has one
            del options["pool"]


def _django_fixups(app: Celery) -> list[Any]:
    found = (getattr(fixup, "worker_fixup", None) for fixup in getattr(app, "_fixups", ()))
    return [fixup for fixup in found if fixup is not None]


class _Keeper:
    """Stands before Celery's handlers of the start and end of a task, which close every connection."""

    def __init__(self, fixup: Any) -> None:
        self.fixup = fixup

    def install(self) -> None:
        for signal, celerys, ours in (
            (signals.task_prerun, self.fixup.on_task_prerun, self.before),
            (signals.task_postrun, self.fixup.on_task_postrun, self.after),
        ):
            if signal.disconnect(celerys):
                signal.connect(ours, weak=False)

    def before(self, sender: Any = None, **fields: Any) -> None:
        if isinstance(sender, DurableTask):
            close_unusable()
        else:
            self.fixup.on_task_prerun(sender, **fields)

    def after(self, sender: Any = None, **fields: Any) -> None:
        if isinstance(sender, DurableTask):
            close_unusable()
            self.fixup.close_cache()
        else:
            self.fixup.on_task_postrun(sender, **fields)


def close_unusable() -> None:
    """Django's rule for requests: close what is broken or too old."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        if connection.settings_dict["CONN_MAX_AGE"] == 0:
            connection.close_at = None  # 0 is Django's word for "as long as a request": here, as long as the process
        connection.close_if_unusable_or_obsolete()
        if connection.vendor == "postgresql" and sql.is_hung_up(connection, signs=_LAST_WORDS):
            connection.close()

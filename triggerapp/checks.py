"""Django's system checks of this app: what would fail or lose work later, said at the start.

Each has an id and a hint that says what to do. What only a running server can tell is asked by `manage.py doctor`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from celery import current_app
from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from triggerapp import conf, loginpage
from triggerapp.engine import durations

SITE: Final = Path(__file__).resolve().parent.parent
"""The folder all our packages are in."""

OUR_ASGI: Final = "triggerapp.asgi.application"
"""The standalone project's, which looks after connections itself."""

OUR_PACKAGES: Final = ("workers", "checkpoint")

OUR_SETTINGS: Final = "triggerapp.settings"
"""The standalone project's, which read `DATABASE_URL`."""

POLLED_BACKENDS: Final = ("db+", "file", "s3", "azureblockblob", "mongodb", "cassandra", "elasticsearch")
"""Those that count no chord's parts: Celery's `chord_unlock` task looks again and again."""

OFTEN: Final = 10.0
"""Seconds between two looks that are too few."""

DEFAULT_VISIBILITY: Final = 3600
"""Kombu's, in seconds."""


def register() -> None:
    """Hand the checks to Django."""
    for check in (check_settings, check_database, check_connections, check_packages, check_celery, check_login):
        checks.register(check, "triggerapp")


def check_settings(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    """What `TRIGGERAPP` says must be understood: else nothing of ours runs."""
    try:
        import_string(conf.get().DASHBOARD_ACCESS)
    except (ImproperlyConfigured, ImportError) as error:
        return [checks.Error(str(error), hint="Set it right: docs/settings.md has all of them.", id="triggerapp.E004")]
    return []


def check_database(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Leases, SKIP LOCKED and advisory locks are PostgreSQL's."""
    engine = connections.settings[DEFAULT_DB_ALIAS]["ENGINE"]
    if connections[DEFAULT_DB_ALIAS].vendor == "postgresql":
        return []
    return [
        checks.Error(
            f"the default database must be PostgreSQL, not {engine}",
            hint=database_remedy(),
            id="triggerapp.E001",
        )
    ]


def database_remedy() -> str:
    """How this project comes to a PostgreSQL: only our own settings are known to read the environment."""
    module = getattr(settings, "SETTINGS_MODULE", None) or "the settings"
    where = (
        "Set DATABASE_URL"
        if module == OUR_SETTINGS
        else f"Set DATABASES['default'] in {module} (DATABASE_URL has no effect unless those settings read it)"
    )
    return f"{where}; `manage.py services start` starts a PostgreSQL of this project's own and prints its URL."


def check_connections(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Under ASGI each request has a thread of its own, and with it a connection."""
    served = getattr(settings, "ASGI_APPLICATION", None)
    if served in (None, OUR_ASGI) or connections.settings[DEFAULT_DB_ALIAS]["CONN_MAX_AGE"] == 0:
        return []
    return [
        checks.Warning(
            "ASGI_APPLICATION with CONN_MAX_AGE: each request leaves an open connection to the database over",
            hint='Set CONN_MAX_AGE to 0, and in OPTIONS "pool": True (pip install "psycopg[pool]"), which lends each '
            "request one that is open already. Workers keep their connections either way.",
            id="triggerapp.W007",
        )
    ]


def check_login(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """A dashboard that nobody can log in to."""
    if not _has_dashboard() or loginpage.address() is not None:
        return []
    return [
        checks.Warning(
            f"nobody can log in to the dashboard: LOGIN_URL = {settings.LOGIN_URL!r} is no page of this project, and "
            "Django's admin is not mounted",
            hint="Set LOGIN_URL to your login page, or mount django.contrib.auth.urls or the admin.",
            id="triggerapp.W008",
        )
    ]


def _has_dashboard() -> bool:
    try:
        return bool(getattr(settings, "ROOT_URLCONF", None) and reverse("triggers:home"))
    except NoReverseMatch:
        return False


def check_packages(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """A foreign `workers` earlier on the path would be imported instead of ours."""
    return [_shadowed(name, found) for name in OUR_PACKAGES if (found := importer_finds(name)) != SITE / name]


def importer_finds(name: str) -> Path | None:
    """The folder or file that `import name` takes."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin or name).resolve()


def _shadowed(name: str, found: Path | None) -> CheckMessage:
    if found is None:
        return checks.Error(
            f"package `{name}` is missing",
            hint="Install triggerapp again: it has three packages.",
            id="triggerapp.E003",
        )
    return checks.Error(
        f"`import {name}` takes {found} instead of triggerapp's own package",
        hint=f"Rename {found}, or move the folder it is in behind {SITE} on sys.path.",
        id="triggerapp.E002",
    )


def check_celery(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Settings of the current Celery app that lose tasks."""
    if check_settings():
        return []
    return list(celery_warnings(current_app.conf))


def celery_warnings(celery: Mapping[str, Any]) -> Iterator[CheckMessage]:
    """What is wrong with this Celery configuration."""
    if _is_redis(celery["result_backend"]) and (kept := chord_keys_kept(celery)):
        yield _chords_expire(kept)
    yield from _results(str(celery["result_backend"] or ""), interval=celery["result_chord_retry_interval"])
    if _has_no_results(celery):
        yield _no_results()
    if celery["task_acks_late"] and not celery["task_reject_on_worker_lost"]:
        yield _lost_workers_ack()
    visible = timedelta(
        seconds=(celery["broker_transport_options"] or {}).get("visibility_timeout", DEFAULT_VISIBILITY)
    )
    if _is_redis(celery["broker_url"]) and visible < conf.get().LEASE:
        yield _delivered_twice(visible)


def chord_keys_kept(celery: Mapping[str, Any]) -> timedelta | None:
    """How long the backend keeps a chord's counters; None for ever. Celery before 5.7 has only `result_expires`."""
    kept = celery.get("result_chord_expires")
    if kept is None:
        kept = celery["result_expires"]
    if not kept:
        return None
    return kept if isinstance(kept, timedelta) else timedelta(seconds=kept)


def _is_redis(url: str | Sequence[str] | None) -> bool:
    return str(url or "").startswith(("redis", "sentinel"))


def _chords_expire(kept: timedelta) -> CheckMessage:
    return checks.Warning(
        f"Celery forgets a chord after {durations.text(kept)}: "
        "if a task of its header waits longer, its body never runs",
        hint="Set CELERY_RESULT_CHORD_EXPIRES = 0 (Celery 5.7), or CELERY_RESULT_EXPIRES longer than the longest wait.",
        id="triggerapp.W001",
    )


def _results(backend: str, *, interval: float) -> Iterator[CheckMessage]:
    if backend.startswith(POLLED_BACKENDS) and interval < OFTEN:
        yield checks.Warning(
            f"this result backend has Celery ask every {interval} s whether a chord's header is done, "
            "for as long as its longest wait",
            hint="Use Redis or django-db for results, or raise CELERY_RESULT_CHORD_RETRY_INTERVAL.",
            id="triggerapp.W004",
        )
    if backend.startswith("rpc"):
        yield checks.Warning(
            "rpc results go to the queue of the process that triggered the run: they are lost if it ends before the "
            "run does, and there are no chords",
            hint="Use Redis or django-db for results; a run's handle finds its result in the database all the same.",
            id="triggerapp.W005",
        )


def _has_no_results(celery: Mapping[str, Any]) -> bool:
    """Whether results are wanted, and nothing keeps them."""
    return not celery["task_ignore_result"] and str(celery["result_backend"] or "disabled").startswith("disabled")


def _no_results() -> CheckMessage:
    return checks.Warning(
        "Celery has no result backend: `AsyncResult.get()` and `.state` raise, and a chord's body never runs",
        hint="Set CELERY_RESULT_BACKEND to Redis or django-db; where nobody wants results, CELERY_TASK_IGNORE_RESULT = "
        "True. A run's handle (`.trigger()`) finds its result in the database all the same.",
        id="triggerapp.W006",
    )


def _lost_workers_ack() -> CheckMessage:
    return checks.Warning(
        "task_acks_late without task_reject_on_worker_lost: a task whose process is killed is acknowledged and lost "
        "(durable tasks are rescued all the same)",
        hint="Set CELERY_TASK_REJECT_ON_WORKER_LOST = True, or make such tasks durable.",
        id="triggerapp.W002",
    )


def _delivered_twice(visible: timedelta) -> CheckMessage:
    return checks.Warning(
        f"the broker delivers a message again after {visible}, sooner than a lease ends ({conf.get().LEASE}): "
        "running tasks are delivered twice, and those that are not durable run twice",
        hint="Raise visibility_timeout in CELERY_BROKER_TRANSPORT_OPTIONS above the longest task.",
        id="triggerapp.W003",
    )

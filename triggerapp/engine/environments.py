"""Which environment this process works for.

Rows are made by a migration or on first use, and their ids are kept for the life of the process.
"""

from __future__ import annotations

from django.db import ProgrammingError, connection

from triggerapp import conf
from triggerapp.engine import sql
from triggerapp.engine.idcache import IdCache
from triggerapp.errors import BadInput, DatabaseNotReady
from triggerapp.models import Environment


def current() -> int:
    """The id of the environment named by the settings. All that writes asks this first: raises `DatabaseNotReady`."""
    return by_slug(conf.get().ENVIRONMENT)


def is_known(slug: str) -> bool:
    """Whether there is one of this name, or this process works for it and so will make it."""
    return slug == conf.get().ENVIRONMENT or id_of(slug) is not None


def names() -> list[str]:
    """Those that are known."""
    return sorted({conf.get().ENVIRONMENT, *Environment.objects.values_list("slug", flat=True)})


def find(slug: str) -> int:
    """The id of the one of this name, which must be known. Raises `BadInput`."""
    found = current() if slug == conf.get().ENVIRONMENT else id_of(slug)
    if found is None:
        raise BadInput(f"there is no environment {slug[:40]!r}")
    return found


def id_of(slug: str) -> int | None:
    """The id of the one of this name; None if there is none."""
    if not conf.ENVIRONMENT_NAME.fullmatch(slug):  # a NUL, for one, is nothing to ask PostgreSQL for
        return None
    return Environment.objects.filter(slug=slug).values_list("pk", flat=True).first()


def named(slug: str) -> Environment:
    """The one of this name, made on first use. Raises `BadInput` for what can be no name."""
    if not conf.ENVIRONMENT_NAME.fullmatch(slug):
        raise BadInput(f"the environment {slug[:40]!r} cannot be: its name must have {conf.ENVIRONMENT_RULE}")
    environment, _ = Environment.objects.get_or_create(slug=slug)
    return environment


def _make(slug: str) -> int:
    if connection.vendor != "postgresql":
        raise DatabaseNotReady(
            f"the default database must be PostgreSQL, not {connection.vendor}: see `manage.py check`"
        )
    try:
        return int(named(slug).pk)
    except ProgrammingError as error:
        if not sql.lacks_tables(error):
            raise
        raise DatabaseNotReady(sql.NO_TABLES) from error


by_slug = IdCache(_make)
"""The id of the environment of this name."""

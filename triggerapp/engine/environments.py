"""Which environment this process works for.

Rows are made by a migration or on first use, and their ids are kept for the life of the process.
"""

from __future__ import annotations

from triggerapp import conf
from triggerapp.engine.idcache import IdCache
from triggerapp.models import Environment


def current() -> int:
    """The id of the environment named by the settings."""
    return by_slug(conf.get().ENVIRONMENT)


def _make(slug: str) -> int:
    environment, _ = Environment.objects.get_or_create(slug=slug)
    return int(environment.pk)


by_slug = IdCache(_make)
"""The id of the environment of this name."""

"""Which environment this process works for.

Rows are made by a migration or on first use, and their ids are kept for the life of the process.
"""

from __future__ import annotations

from functools import lru_cache

from django.core.signals import setting_changed
from django.db import connection

from triggerapp import conf
from triggerapp.models import Environment


def current() -> int:
    """The id of the environment named by the settings."""
    slug = conf.get().ENVIRONMENT
    # What a transaction makes may be rolled back with it, and is not kept for the life of the process.
    return by_slug.__wrapped__(slug) if connection.in_atomic_block else by_slug(slug)


@lru_cache
def by_slug(slug: str) -> int:
    """The id of environment `slug`."""
    environment, _ = Environment.objects.get_or_create(slug=slug)
    return int(environment.pk)


setting_changed.connect(lambda **_: by_slug.cache_clear(), weak=False)

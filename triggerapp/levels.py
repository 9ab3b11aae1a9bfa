"""Who may see and do what: three levels, resolved by one function that a project may replace.

The dashboard and personal tokens go by them. By default they are Django permissions: `triggerapp.view_dashboard`,
`operate_dashboard`, `administer_dashboard`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils.module_loading import import_string

from triggerapp import conf


class Level(IntEnum):
    """What somebody may do; each level includes those before it."""

    NONE = 0
    VIEW = 1
    """See everything that is not secret."""
    OPERATE = 2
    """Trigger, retry, replay, cancel, resolve, send events."""
    ADMINISTER = 3
    """Pause queues, read the audit log."""


_PERMISSIONS = (
    (Level.ADMINISTER, "triggerapp.administer_dashboard"),
    (Level.OPERATE, "triggerapp.operate_dashboard"),
    (Level.VIEW, "triggerapp.view_dashboard"),
)


def by_permissions(request: HttpRequest) -> Level:
    """The highest level that the user has Django's permission for."""
    if not request.user.is_active:
        return Level.NONE
    return next((level for level, name in _PERMISSIONS if request.user.has_perm(name)), Level.NONE)


def level_of(request: HttpRequest) -> Level:
    """What the project's resolver (`TRIGGERAPP["DASHBOARD_ACCESS"]`) says of this request."""
    return Level(import_string(conf.get().DASHBOARD_ACCESS)(request))


def usernames(keys: Iterable[str]) -> dict[str, str]:
    """The names of the users with these primary keys; of those that are gone there is none."""
    wanted = {key for key in keys if key}
    users = get_user_model()._default_manager.filter(pk__in=wanted) if wanted else ()
    return {str(user.pk): user.get_username() for user in users}


def actor(request: HttpRequest) -> str:
    """The name under which an action is noted in the audit log."""
    return f"user {request.user.get_username()}"[:255]

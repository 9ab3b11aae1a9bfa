"""What a form says. What it does not offer is refused by the field's name, with what the field takes; nothing changes.

Scripts post too, and `paused=yes` would have resumed the queue.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.http import HttpRequest

from triggerapp import ids
from triggerapp.dashboard.asked import no_such, quoted
from triggerapp.engine import environments
from triggerapp.errors import BadInput


def nothing_but(request: HttpRequest, *names: str) -> None:
    """No other fields, where one that is not read would have bounded what is done. Raises `BadInput`."""
    for name in request.POST:
        if name not in (*names, "csrfmiddlewaretoken"):
            raise BadInput(no_such("field", name, names))


def choice(request: HttpRequest, name: str, offered: Collection[str]) -> str:
    """One of the values that are offered. Raises `BadInput`."""
    return _offered(name, request.POST.get(name, ""), offered)


def choices(request: HttpRequest, name: str, offered: Collection[str]) -> list[str]:
    """Some of the values that are offered, or none. Raises `BadInput`."""
    return [_offered(name, given, offered) for given in request.POST.getlist(name)]


def switch(request: HttpRequest, name: str) -> bool:
    """Whether something is to be so or not to be so: the form always says which. Raises `BadInput`."""
    return choice(request, name, ("1", "0")) == "1"


def box(request: HttpRequest, name: str) -> bool:
    """Whether a box is ticked: one that is not is not posted. Raises `BadInput`."""
    return bool(choices(request, name, ("1",)))


def environment(request: HttpRequest) -> str:
    """The name of an environment that there is. Raises `BadInput`."""
    return choice(request, "environment", environments.names())


def selected(request: HttpRequest, kind: str) -> list[UUID]:
    """The ids of the rows of this kind that were selected. Raises `BadInput`."""
    return [_id(kind, given) for given in request.POST.getlist(kind)]


def _offered(name: str, given: str, offered: Collection[str]) -> str:
    if given not in offered:
        raise _refused(name, given, " or ".join(offered))
    return given


def _id(kind: str, given: str) -> UUID:
    found = ids.parsed(kind, given)
    if found is None:
        raise _refused(kind, given, "an id as the dashboard shows it")
    return found


def _refused(name: str, given: str, accepted: str) -> BadInput:
    return BadInput(f"{name} must be {accepted}{f', not {quoted(given)}' if given else ': the form did not say it'}.")

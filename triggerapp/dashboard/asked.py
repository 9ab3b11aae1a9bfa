"""What a URL asks of a page. What it cannot mean is said on that page, with what is shown instead.

People edit URLs and keep old ones. A page that took `?period=99` for its usual period would pass for an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import TypeVar
from uuid import UUID

from django.http import HttpRequest

from triggerapp import ids
from triggerapp.engine import environments

_LONGEST = 60


def say(request: HttpRequest, *sentences: str) -> None:
    """Have the page begin with these sentences."""
    request.dashboard_wrong = [*wrong(request), *sentences]  # type: ignore[attr-defined]


def wrong(request: HttpRequest) -> list[str]:
    """What is to be said."""
    return getattr(request, "dashboard_wrong", [])


def without_nul(text: str) -> str:
    """A text that PostgreSQL can be asked for; one with a NUL, which nothing has, stays one that nothing has."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def quoted(text: str) -> str:
    """Something from a URL, as sentences name it."""
    shown = without_nul(text)
    return f"“{shown[:_LONGEST]}…”" if len(shown) > _LONGEST else f"“{shown}”"


def no_such(what: str, asked: str, known: Iterable[str]) -> str:
    """The beginning of a sentence: what there is not, and what there is."""
    return f"There is no {what} {quoted(asked)}; there are {', '.join(known)}."


def choice(request: HttpRequest, name: str, known: Collection[str], default: str = "") -> str:
    """One of a few words, or the usual one."""
    asked = request.GET.get(name, "")
    if asked in known:
        return asked
    if asked:
        say(request, f"{no_such(name, asked, known)} {f'Shown is {default}.' if default else 'All are shown.'}")
    return default


def flag(request: HttpRequest, name: str) -> bool:
    """Whether something is asked for: 1 is yes."""
    asked = request.GET.get(name, "")
    if mistake := not_a_flag(name, asked):
        say(request, f"{mistake} All are shown.")
    return asked == "1"


def not_a_flag(name: str, asked: str) -> str:
    """What is wrong with it; "" if nothing."""
    return "" if asked in ("", "0", "1") else f"{name} is 1 or 0, not {quoted(asked)}."


def number(request: HttpRequest, name: str) -> int | None:
    """A number from 0, if there is one."""
    asked = request.GET.get(name, "")
    found = number_or_none(asked)
    if asked and found is None:
        say(request, f"{name} is a whole number, not {quoted(asked)}. It was left out.")
    return found


def number_or_none(text: str) -> int | None:
    """What a URL says, if it is a number from 0; of one that is larger than any of ours, its beginning is too."""
    return int(text[:18]) if text.isdecimal() else None


Place = TypeVar("Place")


def older(request: HttpRequest, read: Callable[[str], Place | None]) -> Place | None:
    """Where a page of a list begins; None for the beginning of the list."""
    asked = request.GET.get("older", "")
    place = read(asked)
    if asked and place is None:
        say(request, f"{quoted(asked)} is no place in this list. It is shown from its beginning.")
    return place


def older_row(request: HttpRequest, kind: str) -> UUID | None:
    """The same where the row before it stands for a place."""
    return older(request, partial(ids.parsed, kind))


def environment_names(request: HttpRequest) -> list[str]:
    """Those to choose from; said is if another one is asked for."""
    if mistake := not_an_environment(request.GET.get("environment", "")):
        say(request, f"{mistake} So nothing is shown.")
    return environments.names()


def not_an_environment(asked: str) -> str:
    """What is wrong with it; "" if nothing."""
    is_one = not asked or environments.is_known(asked)
    return "" if is_one else no_such("environment", asked, environments.names())

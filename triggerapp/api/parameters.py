"""What a query may say: each parameter once, none that the route does not have, and each in its form.

Every refusal is a `BadInput` that names the parameter, what was given, and what would do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from django.conf import settings
from django.core.exceptions import TooManyFieldsSent
from django.http import HttpRequest, QueryDict

from triggerapp import ids
from triggerapp.engine import limits
from triggerapp.errors import BadInput

Params = Mapping[str, str]
MOST_CHARACTERS = 16_384
MOST = 1_000_000
"""Where a number has no closer limit."""
_EXAMPLE = UUID("0192f000-0000-7000-8000-000000000000")


def check(request: HttpRequest) -> None:
    """Refuse what no route can take: text that cannot be stored, and a parameter of which one value has no effect."""
    for name, values in _query(request).lists():
        shown = limits.storable(name)[:60]
        if len(values) > 1:
            raise BadInput(f"{shown} is there {len(values)} times: give it once, several values with commas between")
        limits.check_text(shown, values[0] or None, most=MOST_CHARACTERS)


def _query(request: HttpRequest) -> QueryDict:
    try:
        return request.GET
    except TooManyFieldsSent as error:
        most = settings.DATA_UPLOAD_MAX_NUMBER_FIELDS
        raise BadInput(f"the query has more than {most:,} parameters (DATA_UPLOAD_MAX_NUMBER_FIELDS)") from error


def only(params: Params, *known: str) -> None:
    """Refuse a query that asks for more: all rows would be no answer to it. What is empty asks for nothing."""
    for name, text in params.items():
        if text and name not in known:
            raise BadInput(_no_parameter(name, known))


def _no_parameter(name: str, known: Collection[str]) -> str:
    meant = next((each for each in known if each.endswith(f"[{name}]")), None)
    all_of_them = f"there are {', '.join(known)}" if known else "there is none"
    return f"there is no parameter {name[:60]!r} here; {f'did you mean {meant}' if meant else all_of_them}"


def whole_number(params: Params, name: str, default: int, *, least: int = 1, most: int = MOST) -> int:
    """A number within its limits."""
    text = params.get(name) or str(default)
    if not (text.isdecimal() and len(text) <= len(str(most)) and least <= int(text) <= most):
        raise BadInput(f"{name}={text!r:.40} must be a whole number from {least} to {most:,}")
    return int(text)


def texts(name: str, text: str) -> list[str]:
    """Values with commas between, of which one is enough."""
    found = text.split(",")
    if not all(found):
        raise BadInput(f"{name}={text!r:.40} has an empty value: write values with one comma between, as in a,b")
    return found


def one_of(name: str, text: object, words: Collection[str]) -> str:
    """One of a few words."""
    if not isinstance(text, str) or text not in words:
        raise BadInput(f"{name}={text!r:.40} must be one of {', '.join(words)}")
    return text


def flag(name: str, text: str) -> bool:
    """True or false, in these words; what is empty asks for nothing."""
    return one_of(name, text or "false", ("true", "false")) == "true"


def row(name: str, kind: str, text: object) -> UUID:
    """The id of a row that may be there or not."""
    found = ids.parsed(kind, text) if isinstance(text, str) else None
    if found is None:
        example = ids.show(kind, _EXAMPLE)
        raise BadInput(f"{name}={text!r:.60} must be the id of a {ids.word(kind)}, such as {example}")
    return found

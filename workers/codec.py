"""Values and exceptions to JSON and back.

Steps, waits and events carry JSON; types that JSON lacks travel as tagged objects (`workers.tagged`). The one rule: a
value comes back equal and of the same type, or `dumps` refuses it and names the path to what it cannot write.

Text from outside is JSON, not the output of `dumps`: read it with `json.loads`, then store `dumps` of that, so that
nobody outside can name a class. Dict order is kept in the text; a `jsonb` column does not keep it.
"""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple, cast

from triggerapp.errors import BadInput, BadType
from workers import tagged
from workers.canonical import digest
from workers.errors import RecordedError, ValueTooLarge, ValueUnreadable, revive
from workers.tagged import PLAIN_BITS, TYPE

__all__ = ["digest", "dump_error", "dumps", "load_error", "loads"]

MAX_DEPTH = 100
"""Levels of nesting. Fixed, so that what one stack could write another can read."""
MESSAGE_CHARACTERS = 10_000
TRACEBACK_CHARACTERS = 50_000
ARGS_BYTES = 64 * 1024

_NOTE = "Traceback recorded when it was first raised:"
_SCALARS = frozenset({str, int, float, bool, type(None)})
_CONTAINERS = frozenset({list, dict})
_STR_ONLY = frozenset({str})
_WRITE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode


def dumps(value: object, *, what: str, limit: int | None = None) -> str:
    """`value` as JSON text of at most `limit` bytes, by default those of the setting `MAX_VALUE_BYTES`.

    `what` names it in errors ("the result of step charge#1").
    """
    text = _plain_text(value)
    if text is None:
        text = _write_tagged(value, what)
    size = len(text) if text.isascii() else len(text.encode())
    most = _max_value_bytes() if limit is None else limit
    if size > most:
        raise ValueTooLarge(what, size, most, "MAX_VALUE_BYTES" if limit is None else "")
    return text


def _max_value_bytes() -> int:
    from triggerapp import conf  # noqa: PLC0415  (needs Django, which importing us must not)

    return conf.get().MAX_VALUE_BYTES


def loads(text: str | bytes) -> object:
    """The value that `dumps` wrote."""
    try:
        if (TYPE if isinstance(text, str) else TYPE.encode()) not in text:  # type: ignore[operator]
            return json.loads(text)
        return json.loads(text, object_hook=tagged.untag)
    except (ValueError, RecursionError) as exc:
        raise ValueUnreadable(f"a recorded value is not what was written: {type(exc).__name__}: {exc}") from exc


# --- the fast path: exact JSON types ------------------------------------------------------------


def _plain_text(value: object) -> str | None:
    """JSON text, if C code can be trusted with the value; None if it needs tags or a refusal."""
    try:
        text = _WRITE(value) if _is_plain(value, MAX_DEPTH) else None
    except (ValueError, RecursionError):  # NaN, a huge int, or little stack left
        return None
    if text is None or TYPE in text or "\\u0000" in text:
        return None
    if not text.isascii() and _has_surrogate(text):
        return None
    return text


def _is_plain(value: object, depth: int) -> bool:
    kind = type(value)
    if kind is dict:
        if not _STR_ONLY.issuperset(map(type, value)):  # type: ignore[call-overload]
            return False
        value = value.values()  # type: ignore[attr-defined]
    elif kind is not list:
        return kind in _SCALARS
    kinds = set(map(type, value))  # type: ignore[call-overload]
    if kinds <= _SCALARS:
        return True
    if not depth or not kinds <= _SCALARS | _CONTAINERS:
        return False
    return _all_plain(value, depth - 1)  # type: ignore[arg-type]


def _all_plain(values: Iterable[object], depth: int) -> bool:
    return all(_is_plain(value, depth) for value in values if type(value) in _CONTAINERS)


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


# --- the slow path: tags and refusals -----------------------------------------------------------


class _Place(NamedTuple):
    """Where in which value the writer is, for its refusals."""

    what: str
    path: str = "value"
    depth: int = 0

    def item(self, key: object) -> _Place:
        step = f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r:.60}]"
        return _Place(self.what, self.path + step, self.depth + 1)

    def refuse(self, why: str) -> str:
        return f"{self.what} cannot be stored as JSON: {self.path} {why}"


def _write_tagged(value: object, what: str) -> str:
    try:
        return _WRITE(_encode(value, _Place(what)))
    except RecursionError:
        raise BadInput(f"{what} cannot be stored as JSON: value is nested too deeply for the stack left") from None


def _encode(value: object, place: _Place) -> object:
    """`value` in exact JSON types."""
    if place.depth > MAX_DEPTH:
        short = place._replace(path=place.path[:80] + "...")
        raise BadInput(short.refuse(f"is nested deeper than {MAX_DEPTH} levels, or contains itself"))
    if type(value) in _SCALARS:
        return _encode_scalar(value, place)
    if type(value) is list:
        return [_encode(item, place.item(index)) for index, item in enumerate(value)]
    if type(value) is dict:
        return _encode_dict(value, place)
    return _encode_tagged(value, place)


def _encode_scalar(value: object, place: _Place) -> object:
    if isinstance(value, str):
        return _encode_text(value, place)
    if isinstance(value, float) and not math.isfinite(value):
        raise BadInput(place.refuse(f"is {value}, which JSON lacks; use None"))
    if isinstance(value, int) and value.bit_length() > PLAIN_BITS:
        return {TYPE: "int", "value": hex(value)}
    return value


def _encode_text(text: str, place: _Place) -> str:
    if "\0" in text:
        raise BadInput(place.refuse("has a NUL character, which PostgreSQL cannot store; remove it or use bytes"))
    if not text.isascii() and _has_surrogate(text):
        raise BadInput(place.refuse("has a lone surrogate, which UTF-8 cannot carry; remove it or use bytes"))
    return text


def _encode_dict(value: dict[object, object], place: _Place) -> object:
    if TYPE not in value and _STR_ONLY.issuperset(map(type, value)):
        return {_encode(key, place.item(key)): _encode(item, place.item(key)) for key, item in value.items()}
    pairs = [[_encode(key, place.item(key)), _encode(item, place.item(key))] for key, item in value.items()]
    return {TYPE: "dict", "value": pairs}


def _encode_tagged(value: object, place: _Place) -> object:
    if isinstance(value, Decimal) and not value.is_finite():
        raise BadInput(place.refuse(f"is {value}, which JSON lacks; use None"))
    try:
        found = tagged.tag(value)
    except Exception as exc:
        raise BadType(place.refuse(f"is {_name(value)}, which could not be read: {exc}")) from exc
    if found is None:
        raise BadType(place.refuse(f"is {_name(value)}; {_advice(value)}"))
    if "class" in found:
        _check_class(value, found, place)
    return found | {"value": _encode_content(found, place)}


def _check_class(value: object, found: tagged.Tagged, place: _Place) -> None:
    if not tagged.is_findable(type(value)):
        raise BadType(place.refuse(f"is {_name(value)}, whose class cannot be imported; define it in a module"))
    if found[TYPE] == "pydantic" and not tagged.survives(value, found):
        raise BadType(
            place.refuse(
                f"is {_name(value)}, which does not equal what its model_dump() is validated as (a secret, an "
                "excluded or private field, a subclass in a field of its base?); pass the fields it needs"
            )
        )


def _encode_content(found: tagged.Tagged, place: _Place) -> object:
    content = found["value"]
    if isinstance(content, list) and found[TYPE] in ("set", "frozenset"):
        items = [_encode(item, place.item("*")) for item in content]
        return sorted(items, key=_WRITE)  # the order of a set differs between processes
    if isinstance(content, list):
        return [_encode(item, place.item(index)) for index, item in enumerate(content)]
    if isinstance(content, dict) and found[TYPE] == "dataclass":
        return {name: _encode(item, place.item(name)) for name, item in content.items()}
    return _encode(content, place)


def _name(value: object) -> str:
    cls = type(value)
    return f"a {cls.__qualname__}" if cls.__module__ == "builtins" else f"a {cls.__module__}.{cls.__qualname__}"


def _advice(value: object) -> str:
    for base in (str, int, float, bytes, list, tuple, dict, set):
        if isinstance(value, base):
            return f"a subclass does not come back as what it was: convert it with {base.__name__}(...)"
    return (
        "steps, waits and events carry JSON values, tuples, sets, bytes, dates and times, UUIDs, Decimals, enums, "
        "dataclasses and pydantic models. Pass what identifies it, such as its id, and load it inside the step"
    )


# --- exceptions ---------------------------------------------------------------------------------


def dump_error(exc: BaseException) -> dict[str, object]:
    """What is recorded of an exception: plain JSON, of bounded size, without any text that PostgreSQL refuses."""
    return {
        "type": tagged.reference(type(exc)),
        "message": _message(exc),
        "traceback": _clean("".join(traceback.format_exception(exc)), TRACEBACK_CHARACTERS),
        "args": _try_dumps(list(_arguments(exc))),
        "state": {name: text for name, text in _state(exc) if text is not None},
        "notes": _notes(exc),
    }


def load_error(recorded: Mapping[str, object]) -> BaseException:
    """The exception that `dump_error` recorded, or a `RecordedError` where its class cannot be had.

    It carries the recorded traceback as `recorded_traceback` and, for logs, as a note.
    """
    exc = _rebuild(recorded)
    if exc is None:
        exc = RecordedError(str(recorded["type"]), str(recorded["message"]))
    text = str(recorded["traceback"])
    notes = [*cast("list[str]", recorded.get("notes") or []), f"{_NOTE}\n{text}"]
    exc.__dict__.update(recorded_traceback=text, __notes__=notes)  # past any __setattr__ of a frozen exception
    return exc


def _rebuild(recorded: Mapping[str, object]) -> BaseException | None:
    try:
        cls = tagged.resolve(str(recorded["type"]))
        if not issubclass(cls, Exception):
            return None
        text = recorded.get("args")
        args = (recorded["message"],) if text is None else tuple(cast("list[object]", loads(str(text))))
        exc = revive(cls, args, {})
        for name, value in cast("dict[str, str]", recorded.get("state") or {}).items():
            exc.__dict__[name] = loads(value)
    except Exception:  # noqa: BLE001 - an import or a constructor of the user; the RecordedError tells all there is
        return None
    return exc if _message(exc) == recorded["message"] else None


def _arguments(exc: BaseException) -> tuple[object, ...]:
    # An OSError hides the file name from `args`, and gives it to pickle only.
    return cast("tuple[object, ...]", OSError.__reduce__(exc)[1]) if isinstance(exc, OSError) else exc.args


def _state(exc: BaseException) -> Iterable[tuple[str, str | None]]:
    for name, value in exc.__dict__.items():
        if name not in ("__notes__", "recorded_traceback"):
            yield name, _try_dumps(value)


def _notes(exc: BaseException) -> list[str]:
    notes = getattr(exc, "__notes__", None)
    if not isinstance(notes, list):
        return []
    return [_clean(str(note), MESSAGE_CHARACTERS) for note in notes if not str(note).startswith(_NOTE)]


def _message(exc: BaseException) -> str:
    try:
        text = str(exc)
    except Exception as broken:  # noqa: BLE001 - __str__ is the user's code
        text = f"<str() of the exception raised {type(broken).__name__}>"
    return _clean(text, MESSAGE_CHARACTERS)


def _try_dumps(value: object) -> str | None:
    try:
        return dumps(value, what="an argument of an exception", limit=ARGS_BYTES)
    except (TypeError, ValueError, ValueTooLarge):
        return None


def _clean(text: str, limit: int) -> str:
    """Text that PostgreSQL takes; the middle goes if it is too long, for both ends of a traceback tell something."""
    if len(text) > limit:
        text = f"{text[: limit // 2]}\n... {len(text) - limit:,} characters left out ...\n{text[-limit // 2 :]}"
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()

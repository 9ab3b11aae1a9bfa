"""Tagged values: how each type that JSON lacks is written and read.

`{"$type": "datetime", "value": "2026-01-02T03:04:05+00:00"}`. Classes of the user are named by `module:qualname` and
read back only if they are dataclasses, pydantic models or enums. The one rule: what is read equals what was written,
or there is an error.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
import json
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from typing import Literal, Protocol, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from workers.errors import ValueUnreadable

TYPE = "$type"
PLAIN_BITS = 2048
"""Integers beyond this are tagged: Python refuses to parse thousands of decimal digits."""
Tagged = dict[str, object]
ClassKind = Literal["dataclass", "pydantic", "enum"]

_BUILTINS = (str, bytes, int, float, complex, list, tuple, dict, set, frozenset, BaseException)
_ABSENT = object()


class _Model(Protocol):
    """What is used of a pydantic model (2.11 or newer); pydantic itself is never imported."""

    def model_dump(self, *, mode: str, by_alias: bool, round_trip: bool) -> object: ...

    @classmethod
    def model_validate_json(cls, json_data: str, *, by_alias: bool, by_name: bool) -> object: ...


# --- classes by name ----------------------------------------------------------------------------


def reference(cls: type) -> str:
    """The name under which `resolve` finds `cls`."""
    return f"{cls.__module__}:{cls.__qualname__}"


def resolve(ref: str) -> type:
    """The class that `reference` named; `ValueUnreadable` if it is not there."""
    module, _, qualname = ref.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ValueUnreadable(f"the class {ref} is gone: restore it, leave an alias, or replay the run") from exc
    if not isinstance(found, type):
        raise ValueUnreadable(f"{ref} is not a class any more: restore it, or replay the run")
    return found


def class_kind(cls: type) -> ClassKind | None:
    """As what instances of `cls` are written; None if they are not."""
    if issubclass(cls, Enum):
        return "enum"
    if any(base.__module__ == "pydantic.main" and base.__name__ == "BaseModel" for base in cls.__mro__):
        return "pydantic"
    if dataclasses.is_dataclass(cls) and not issubclass(cls, _BUILTINS):
        return "dataclass"
    return None


def is_findable(cls: type) -> bool:
    """Whether the class can be found again by its name; one made inside a function cannot."""
    try:
        return resolve(reference(cls)) is cls
    except ValueUnreadable:
        return False


# --- writing ------------------------------------------------------------------------------------


def tag(value: object) -> Tagged | None:
    """`value` as a tagged object whose "value" may need tags itself; None if it has no tag."""
    write = _WRITERS.get(type(value))
    if write is not None:
        return write(value)
    kind = class_kind(type(value))
    return None if kind is None else {TYPE: kind, "class": reference(type(value)), "value": _CLASS_WRITERS[kind](value)}


def survives(value: object, tagged: Tagged) -> bool:
    """Whether a pydantic model equals what its written form is read as; secrets and excluded fields do not."""
    try:
        return _read_model(cast("type[_Model]", type(value)), tagged["value"]) == value
    except Exception:  # noqa: BLE001 - validators are the user's code and raise what they like
        return False


def _moment(name: str, value: datetime | time) -> Tagged:
    tagged: Tagged = {TYPE: name, "value": value.isoformat()}
    if isinstance(value.tzinfo, ZoneInfo) and value.tzinfo.key:
        tagged["zone"] = value.tzinfo.key
    if value.fold:
        tagged["fold"] = value.fold
    return tagged


def _write_time(value: time) -> Tagged:
    if value.tzinfo is not None and value.utcoffset() is None and not isinstance(value.tzinfo, ZoneInfo):
        raise ValueError(f"a time of day cannot carry {value.tzinfo!r}; use zoneinfo")
    return _moment("time", value)


def _write_timedelta(value: timedelta) -> Tagged:
    return {TYPE: "timedelta", "value": [value.days, value.seconds, value.microseconds]}


def _write_enum(value: Enum) -> object:
    # A combination of flags has no name of its own.
    return {"flag": value.value} if isinstance(value, Flag) else value.name


def _write_dataclass(value: object) -> object:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}  # type: ignore[arg-type]


def _write_model(value: _Model) -> object:
    return value.model_dump(mode="json", by_alias=False, round_trip=True)


_WRITERS: dict[type, Callable[..., Tagged]] = {
    datetime: lambda value: _moment("datetime", value),
    time: _write_time,
    date: lambda value: {TYPE: "date", "value": value.isoformat()},
    timedelta: _write_timedelta,
    UUID: lambda value: {TYPE: "uuid", "value": str(value)},
    Decimal: lambda value: {TYPE: "decimal", "value": str(value)},
    bytes: lambda value: {TYPE: "bytes", "value": base64.b64encode(value).decode("ascii")},
    tuple: lambda value: {TYPE: "tuple", "value": list(value)},
    set: lambda value: {TYPE: "set", "value": list(value)},
    frozenset: lambda value: {TYPE: "frozenset", "value": list(value)},
}
_CLASS_WRITERS: dict[ClassKind, Callable[..., object]] = {
    "enum": _write_enum,
    "dataclass": _write_dataclass,
    "pydantic": _write_model,
}


# --- reading ------------------------------------------------------------------------------------


def untag(found: dict[str, object]) -> object:
    """What a JSON object stands for; itself if it has no tag."""
    name = found.get(TYPE, _ABSENT)
    if name is _ABSENT:
        return found
    read = _READERS.get(name) if isinstance(name, str) else None
    if read is None:
        raise ValueUnreadable(f"a recorded value has the type {name!r}, which this version does not know")
    try:
        return read(found)
    except ValueUnreadable:
        raise
    except Exception as exc:
        raise ValueUnreadable(f"a recorded {_label(found)} cannot be read: {type(exc).__name__}: {exc}") from exc


def _label(found: Mapping[str, object]) -> str:
    return f"{found[TYPE]} {found['class']}" if "class" in found else str(found[TYPE])


def _read_datetime(found: Mapping[str, object]) -> datetime:
    value = datetime.fromisoformat(cast(str, found["value"]))
    zone = ZoneInfo(cast(str, found["zone"])) if "zone" in found else value.tzinfo
    return value.replace(tzinfo=zone, fold=cast(int, found.get("fold", 0)))


def _read_time(found: Mapping[str, object]) -> time:
    value = time.fromisoformat(cast(str, found["value"]))
    zone = ZoneInfo(cast(str, found["zone"])) if "zone" in found else value.tzinfo
    return value.replace(tzinfo=zone, fold=cast(int, found.get("fold", 0)))


def _read_class(found: Mapping[str, object]) -> object:
    cls = resolve(cast(str, found["class"]))
    if class_kind(cls) != found[TYPE]:
        raise ValueUnreadable(f"{found['class']} is no {found[TYPE]} any more: restore it, or replay the run")
    return _CLASS_READERS[cast(ClassKind, found[TYPE])](cls, found["value"])


def _read_enum(cls: type[Enum], value: object) -> Enum:
    return cls(value["flag"]) if isinstance(value, dict) else cls[cast(str, value)]


def _read_dataclass(cls: type, value: dict[str, object]) -> object:
    """Set the fields as recorded, as pickle does: `__post_init__` has had its say when the value was made."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    unknown = value.keys() - fields.keys()
    if unknown:
        raise ValueUnreadable(f"{reference(cls)} has no field {', '.join(sorted(unknown))} any more")
    made: object = object.__new__(cls)
    for name, field in fields.items():
        object.__setattr__(made, name, value[name] if name in value else _default(cls, field))
    return made


def _default(cls: type, field: dataclasses.Field[object]) -> object:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise ValueUnreadable(f"{reference(cls)} now has the field {field.name}, which was not recorded and has no default")


def _read_model(cls: type[_Model], value: object) -> object:
    # As JSON, so that a strict model accepts text for its dates.
    return cls.model_validate_json(json.dumps(value), by_alias=False, by_name=True)


_CLASS_READERS: dict[ClassKind, Callable[..., object]] = {
    "enum": _read_enum,
    "dataclass": _read_dataclass,
    "pydantic": _read_model,
}
_READERS: dict[str, Callable[[dict[str, object]], object]] = {
    "datetime": _read_datetime,
    "time": _read_time,
    "date": lambda found: date.fromisoformat(cast(str, found["value"])),
    "timedelta": lambda found: timedelta(*cast("list[int]", found["value"])),
    "uuid": lambda found: UUID(cast(str, found["value"])),
    "decimal": lambda found: Decimal(cast(str, found["value"])),
    "bytes": lambda found: base64.b64decode(cast(str, found["value"]), validate=True),
    "tuple": lambda found: tuple(cast("list[object]", found["value"])),
    "set": lambda found: set(cast("list[object]", found["value"])),
    "frozenset": lambda found: frozenset(cast("list[object]", found["value"])),
    "int": lambda found: int(cast(str, found["value"]), 16),
    "dict": lambda found: dict(cast("list[tuple[object, object]]", found["value"])),
    "enum": _read_class,
    "dataclass": _read_class,
    "pydantic": _read_class,
}

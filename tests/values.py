"""Values of every kind that a journal carries, and some that it does not."""

from __future__ import annotations

import enum
import uuid
from collections import namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, PrivateAttr, RootModel, SecretStr

from workers import codec

WHAT = "the result of step charge#1"
BERLIN = ZoneInfo("Europe/Berlin")


class Color(enum.Enum):
    RED = "r"


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "yes"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Item:
    sku: str
    price: Decimal = Decimal(1)
    tags: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Cart:
    items: tuple[Item, ...]
    at: datetime


@dataclass
class Doubled:
    size: int

    def __post_init__(self) -> None:
        self.size *= 2


class Order(BaseModel):
    id: uuid.UUID
    at: datetime
    total: Decimal = Field(alias="Total", validation_alias="grandTotal")
    lines: list[dict[str, int]] = []
    link: HttpUrl | None = None


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    on: date
    pair: tuple[int, int]


class Base(BaseModel):
    n: int


class Derived(Base):
    extra: str


class Holder(BaseModel):
    base: Base
    _seen: int = PrivateAttr(default=0)


class Login(BaseModel):
    password: SecretStr


class Numbers(RootModel[list[int]]):
    pass


Point = namedtuple("Point", "x y")


def there_and_back(value: object) -> object:
    return codec.loads(codec.dumps(value, what=WHAT, limit=10**7))


def assert_same(back: object, value: object) -> None:
    assert back == value
    assert type(back) is type(value)
    assert order(back) == order(value)


class User:
    pass


def order(value: object) -> object:
    """The types and the order of keys of a value, which `==` does not look at."""
    if isinstance(value, dict):
        return [(key, order(key), order(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [order(item) for item in value]
    return type(value)


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.binary(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.datetimes(timezones=st.sampled_from([None, UTC, BERLIN])),
    st.timedeltas(),
    st.sampled_from([Color.RED, Level.HIGH, Word.YES]),
)
keys = st.one_of(st.just("$type"), st.just("value"), st.text(st.characters(codec="ascii", min_codepoint=1)), scalars)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(keys, inner), st.frozensets(scalars)
    ),
)

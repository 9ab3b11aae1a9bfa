"""What a step returns comes back equal and of the same type, or is refused with the path to what cannot be written."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given

from tests.values import (
    BERLIN,
    WHAT,
    Base,
    Cart,
    Color,
    Derived,
    Doubled,
    Holder,
    Item,
    Level,
    Login,
    Numbers,
    Order,
    Point,
    Right,
    Strict,
    User,
    Word,
    assert_same,
    nested,
    order,
    there_and_back,
    values,
)
from workers import codec
from workers.errors import ValueTooLarge, ValueUnreadable

# --- there and back -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -0.0,
        1.0,
        5e-324,
        10**5000,
        -(10**700),
        "",
        "grüße 🎫",
        'back\\u0000slash "$type"',
        [],
        {},
        {"b": 1, "a": [{}, [], {"c": None}]},
        {"$type": "datetime", "value": "mine"},
        {"x": {"$type": 1}},
        {1: "a", None: 2, (1, "b"): {2: 3}},
        {True: [False]},
        (1, [2, (3,)]),
        [(), ((),)],
        b"\x00\xff",
        {1, 2, 3},
        frozenset({"a", ("b", 1)}),
        uuid.UUID(int=7),
        Decimal("1.10"),
        Decimal("-0"),
        Decimal("1E+400"),
        datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001
        datetime(2026, 1, 2, tzinfo=UTC),
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
        datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
        date(1, 1, 1),
        time(1, 2, 3, 4, fold=1),
        time(1, 2, tzinfo=UTC),
        time(1, 2, tzinfo=BERLIN),
        timedelta(days=-1, microseconds=1),
        timedelta.max,
        Color.RED,
        Level.HIGH,
        Word.YES,
        Right.READ | Right.WRITE,
        Right(0),
        {Color.RED: Word.YES},
        Item("a", Decimal("2.50"), {"new"}),
        Cart((Item("a"),), datetime(2026, 1, 2, tzinfo=UTC)),
        {"items": [{"user": Item("a")}]},
        Order(id=uuid.UUID(int=1), at=datetime(2026, 1, 2, tzinfo=UTC), grandTotal="1.10", link="https://example.org/"),
        Strict(on=date(2026, 1, 2), pair=(1, 2)),
        Holder(base=Base(n=1)),
        Numbers([1, 2]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_comes_back_equal_and_of_the_same_type(value):
    assert_same(there_and_back(value), value)


@pytest.mark.slow
@given(values)
def test_any_value_comes_back_with_types_and_order(value):
    back = there_and_back(value)
    assert back == value
    assert order(back) == order(value)


def test_a_restored_zone_is_the_zone_and_not_its_offset_of_that_day():
    assert there_and_back(datetime(2026, 1, 2, tzinfo=BERLIN)).tzinfo is BERLIN


def test_a_dataclass_is_not_initialised_a_second_time():
    assert there_and_back(Doubled(2)).size == 4


def test_a_field_that_was_added_since_takes_its_default():
    text = codec.dumps(Item("a"), what=WHAT, limit=1000)
    found = json.loads(text)
    del found["value"]["tags"]
    assert codec.loads(json.dumps(found)) == Item("a")


@pytest.mark.slow
def test_the_same_set_is_the_same_text_in_every_process():
    code = "from workers import codec; print(codec.dumps({'a', 'b', 'c', 'd'}, what='x', limit=99))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ({"items": [1, 2, 3, {"user": User()}]}, TypeError, r"value\.items\[3\]\.user is a .*User; steps, waits"),
        ({"a b": {1: User()}}, TypeError, r"value\['a b'\]\[1\] is a .*User"),
        ({"cart": Cart((Item("a", User()),), None)}, TypeError, r"value\.cart\.items\[0\]\.price is a .*User"),
        ({User(): 1}, TypeError, "User"),
        (User, TypeError, "value is a type"),
        (lambda: 1, TypeError, "value is a function"),
        ([OrderedDict()], TypeError, r"value\[0\] is a collections.OrderedDict; .* convert it with dict"),
        ([Point(1, 2)], TypeError, r"convert it with tuple\(\.\.\.\)"),
        ({"x": math.nan}, ValueError, r"value\.x is nan"),
        ({"x": Decimal("Infinity")}, ValueError, r"value\.x is Infinity"),
        ({"x": (1, -math.inf)}, ValueError, r"value\.x\[1\] is -inf"),
        ({"x": ["a\0b"]}, ValueError, r"value\.x\[0\] has a NUL character"),
        ({"a\0b": 1}, ValueError, "NUL character"),
        ({"x": "\ud800"}, ValueError, r"value\.x has a lone surrogate"),
        ({"x": Login(password="p")}, TypeError, r"value\.x is a .*Login, which does not equal"),
        (Holder(base=Derived(n=1, extra="e")), TypeError, "subclass in a field of its base"),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value,
)
def test_what_cannot_be_written_is_refused_with_its_path(value, error, message):
    with pytest.raises(error, match=message) as caught:
        codec.dumps(value, what=WHAT, limit=1000)
    assert str(caught.value).startswith(WHAT)


def test_a_class_made_inside_a_function_is_refused_because_it_cannot_be_found_again():
    @dataclass
    class Local:
        n: int

    with pytest.raises(TypeError, match="cannot be imported; define it in a module"):
        codec.dumps([Local(1)], what=WHAT, limit=1000)


def test_a_value_that_contains_itself_is_refused():
    loop: list[object] = []
    loop += [loop, loop]
    with pytest.raises(ValueError, match="contains itself"):
        codec.dumps(loop, what=WHAT, limit=1000)


def test_what_is_nested_too_deeply_is_refused_before_any_stack_ends():
    with pytest.raises(ValueError, match="nested deeper than 100 levels"):
        codec.dumps(nested(50_000), what=WHAT, limit=10**6)
    assert there_and_back(nested(100)) == nested(100)


def test_an_oversized_value_is_refused_with_size_limit_and_advice():
    with pytest.raises(ValueTooLarge, match=r"charge#1 takes 1,002 bytes as JSON; the limit is 1,000\. Store it else"):
        codec.dumps("x" * 1000, what=WHAT, limit=1000)


def test_the_size_is_counted_in_bytes_and_not_in_characters():
    with pytest.raises(ValueTooLarge, match="14 bytes"):
        codec.dumps("ü" * 6, what=WHAT, limit=10)


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"$type": "dataclass", "class": "gone:Item", "value": {}}', "the class gone:Item is gone"),
        ('{"$type": "dataclass", "class": "json:Nothing", "value": {}}', "json:Nothing is gone"),
        ('{"$type": "dataclass", "class": "subprocess:Popen", "value": {}}', "Popen is no dataclass any more"),
        ('{"$type": "dataclass", "class": "json:dumps", "value": {}}', "not a class any more"),
        ('{"$type": "pydantic", "class": "builtins:dict", "value": {}}', "dict is no pydantic"),
        ('{"$type": "novel", "value": 1}', "'novel', which this version does not know"),
        ('{"$type": ["novel"], "value": 1}', "does not know"),
        ('{"$type": "uuid", "value": "x"}', "uuid cannot be read"),
        ('{"$type": "uuid"}', "uuid cannot be read"),
        ('{"half', "not what was written"),
    ],
)
def test_what_cannot_be_read_any_more_says_why(text, message):
    with pytest.raises(ValueUnreadable, match=message):
        codec.loads(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value | {"gone": 1}, "has no field gone any more"),
        (lambda value: {}, "has the field sku, which was not recorded"),
    ],
)
def test_a_dataclass_whose_fields_no_longer_fit_says_which(change, message):
    found = json.loads(codec.dumps(Item("a"), what=WHAT, limit=1000))
    found["value"] = change(found["value"])
    with pytest.raises(ValueUnreadable, match=message):
        codec.loads(json.dumps(found))


def test_an_enum_member_that_is_gone_is_an_error_and_not_another_member():
    text = codec.dumps(Color.RED, what=WHAT, limit=1000).replace("RED", "BLUE")
    with pytest.raises(ValueUnreadable, match="Color cannot be read"):
        codec.loads(text)


def test_json_from_outside_that_looks_tagged_stays_what_it_is_once_it_went_through_dumps():
    outside = json.loads('{"$type": "dataclass", "class": "os:system", "value": {}}')
    assert there_and_back(outside) == outside


def test_importing_the_codec_needs_no_django_settings_and_no_pydantic():
    code = "import sys, workers.codec; print({'django.conf', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "set()"

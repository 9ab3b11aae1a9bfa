"""A digest tells arguments apart, whatever they are, and never raises."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given

from tests.values import (
    Color,
    Item,
    Login,
    User,
    nested,
    there_and_back,
    values,
)
from workers import codec


def test_the_order_of_keys_does_not_change_the_digest():
    assert codec.digest((), {"a": 1, "b": {"c": 2, "d": 3}}) == codec.digest((), {"b": {"d": 3, "c": 2}, "a": 1})
    assert codec.digest(({1: "a", "b": 2},), {}) == codec.digest(({"b": 2, 1: "a"},), {})


def test_a_list_and_a_tuple_have_one_digest():
    assert codec.digest(((1, 2),), {}) == codec.digest([[1, 2]], {})


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, 2),
        (1, "1"),
        (1, True),
        (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)),
        (Item("a"), Item("b")),
        ({1, 2}, {1, 3}),
        (10**5000, 10**5000 + 1),
        (User(), Login(password="p")),
        ({(1, 2): 1}, {(1, 3): 1}),
        ({Color.RED: Item("a")}, {Color.RED: Item("b")}),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_different_arguments_have_different_digests(left, right):
    assert codec.digest((left,), {}) != codec.digest((right,), {})


def test_what_cannot_be_written_counts_by_its_type_alone():
    assert codec.digest((User(),), {}) == codec.digest((User(),), {})
    assert codec.digest(([User(), 1],), {}) != codec.digest(([User(), 2],), {})


class Evil(dict):
    def items(self):
        raise RuntimeError("no")


def test_a_digest_never_raises():
    loop: list[object] = []
    loop += [loop, loop]
    for value in (Evil(a=1), loop, nested(50_000), "\ud800\0", math.nan, {User(): {User}}, {Evil: Evil(b=2), 1: 2}):
        assert len(codec.digest((value,), {"x": value})) == 64


@pytest.mark.slow
@given(values)
def test_any_value_has_a_digest_that_survives_the_way_there_and_back(value):
    assert codec.digest((value,), {}) == codec.digest((there_and_back(value),), {})

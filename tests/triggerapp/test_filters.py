"""The language of event filters, and that no index misses what a filter accepts."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triggerapp.engine import filters
from triggerapp.errors import BadFilter

MEETING = {
    "uid": "jex",
    "status": "ACCEPTED",
    "price": 0,
    "length": 15.0,
    "paid": True,
    "note": None,
    "tags": ["red", "blue", 7],
    "organizer": {"name": "Eric", "language": {"locale": "en"}},
    "attendees": [{"name": "John", "age": 30}, {"name": "Ann", "age": 20}],
    "a.b": {"~": 1},
}


@pytest.mark.parametrize(
    "filter",
    [
        {},
        {"status": "ACCEPTED"},
        {"status": ["REJECTED", "ACCEPTED"]},
        {"status": ["ACCEPTED"], "organizer": {"name": ["Eric"], "language": {"locale": "en"}}},
        {"price": [0.0], "length": 15, "paid": True},
        {"note": None},
        {"note": [{"$isNull": True}]},
        {"note": {"$exists": True}},
        {"uid": {"$isNull": False}},
        {"tags": "red"},
        {"tags": ["green", 7.0]},
        {"tags": {"$includes": 7}},
        {"tags": {"$startsWith": "bl"}},
        {"tags": {"$gt": 6}},
        {"tags": {"$anythingBut": "red"}},
        {"tags": {"$not": ["green"]}},
        {"uid": {"$startsWith": "j", "$endsWith": "x"}},
        {"uid": ["other", {"$ignoreCaseEquals": "JEX"}]},
        {"length": {"$gt": 14, "$lt": 16}},
        {"length": {"$gte": 15, "$lte": 15}},
        {"length": {"$between": [15, 20]}},
        {"status": {"$anythingBut": ["REJECTED", 1]}},
        {"missing": {"$exists": False}},
        {"missing": {"$not": "anything"}},
        {"attendees": {"name": "Ann", "age": {"$lt": 25}}},
        {"organizer": {"$not": {"name": "Ann"}}},
        {"a.b": {"~": 1}},
    ],
    ids=json.dumps,
)
def test_a_filter_matches_the_meeting(filter):
    filters.check(filter)
    assert filters.matches(filter, MEETING)


@pytest.mark.parametrize(
    "filter",
    [
        {"status": "accepted"},
        {"status": "ACCEPTED", "uid": "other"},
        {"name": "Eric"},
        {"price": False},
        {"paid": 1},
        {"price": None},
        {"missing": None},
        {"missing": {"$isNull": False}},
        {"missing": {"$isNull": True}},
        {"missing": {"$anythingBut": "x"}},
        {"missing": {"x": {"$exists": False}}},
        {"note": {"$exists": False}},
        {"note": {"$isNull": False}},
        {"status": {"$includes": "ACCEPTED"}},
        {"tags": {"$includes": "green"}},
        {"tags": {"$not": "red"}},
        {"tags": {"$gt": 7}},
        {"paid": {"$gte": 0}},
        {"uid": {"$startsWith": "j", "$endsWith": "y"}},
        {"uid": {"$gt": 1}},
        {"price": {"$startsWith": "0"}},
        {"length": {"$between": [1, 14.5]}},
        {"status": {"$anythingBut": "ACCEPTED"}},
        {"attendees": {"name": "John", "age": {"$lt": 25}}},
        {"attendees": "John"},
        {"organizer": "Eric"},
        {"uid": {"name": "Eric"}},
    ],
    ids=json.dumps,
)
def test_a_filter_does_not_match_the_meeting(filter):
    filters.check(filter)
    assert not filters.matches(filter, MEETING)


def test_one_element_must_satisfy_all_operators_of_an_object():
    between = {"n": {"$gt": 1, "$lt": 10}}
    assert not filters.matches(between, {"n": [0, 11]})
    assert filters.matches(between, {"n": [0, 5, 11]})


def test_a_payload_that_is_no_object_matches_only_the_empty_filter():
    for payload in (None, [], [{"a": 1}], "a", 1):
        assert filters.matches({}, payload)
        assert not filters.matches({"a": 1}, payload)


@pytest.mark.parametrize(
    ("filter", "message"),
    [
        (["a"], "filter must be a dict of payload keys, not list"),
        ({1: "a"}, "filter has the key 1; keys are text"),
        ({"$gt": 1}, r"filter has the operator \$gt where a payload key belongs"),
        ({"a": {"$near": 1}}, r"filter\.a has '\$near', which is no operator; the operators are \$startsWith .* \$not"),
        ({"a": {"$gt": 1, "b": 2}}, r"filter\.a has 'b', which is no operator"),
        ({"a": {"b": [1, {"$startsWith": 7}]}}, r"filter\.a\.b\[1\]\.\$startsWith takes text, not 7"),
        ({"a": {"$gt": "1"}}, r"filter\.a\.\$gt takes a number, not '1'"),
        ({"a": {"$gt": True}}, "takes a number, not True"),
        ({"a": {"$lt": float("nan")}}, "takes a number, not nan"),
        ({"a": {"$between": [2, 1]}}, r"takes \[low, high\]"),
        ({"a": {"$between": 2}}, r"takes \[low, high\]"),
        ({"a": {"$exists": 1}}, "takes true or false"),
        ({"a": {"$includes": [1]}}, "takes a scalar"),
        ({"a": {"$anythingBut": []}}, "takes a scalar or a list of scalars"),
        ({"a": {"$not": {"$near": 1}}}, r"filter\.a\.\$not has '\$near'"),
        ({"a": []}, r"filter\.a is an empty list, which nothing can match"),
        ({"a": {}}, r"filter\.a is empty"),
        ({"a": [{"b": 1}]}, r"filter\.a\[0\] must be a scalar or an operator object"),
        ({"a": [[1]]}, r"filter\.a\[0\] must be text, a number, a bool or null, not list"),
        ({"a": object()}, r"filter\.a must be text, a number, a bool or null, not object"),
        ({"a": float("inf")}, r"filter\.a is inf"),
        ({"a": 2**1024}, "has an integer of 1025 bits"),
        ({"a": ["x\0"]}, r"filter\.a\[0\] has text with a NUL"),
        ({"\ud800": 1}, "lone surrogate"),
    ],
)
def test_a_bad_filter_is_refused_with_the_place_and_what_is_known(filter, message):
    with pytest.raises(BadFilter, match=message) as caught:
        filters.check(filter)
    assert caught.value.code == "bad_filter"


def test_a_filter_nested_without_end_is_refused():
    for key in ("a", "$not"):
        deep: object = 1
        for _ in range(5_000):
            deep = {key: deep}
        with pytest.raises(BadFilter, match="nested deeper than 32 levels"):
            filters.check({"a": deep})


# --- shape and signatures -----------------------------------------------------------------------


def test_the_shape_is_what_equality_alone_pins_sorted_and_escaped():
    filter = {"b": [1, 2], "a.x": {"~": "y", "z": {"$gt": 1}}, "c": ["x", {"$gt": 1}], "d": {"$not": 1}, "": None}
    assert filters.shape(filter) == ("", "a~1x.~0", "b")


def test_a_filter_that_pins_nothing_has_the_one_signature_every_event_has():
    filter = {"a": {"$gt": 1}}
    assert filters.shape(filter) == ()
    assert filters.signatures("n", (), filter) == filters.event_signatures("n", (), {"a": 2}) != []


def test_the_path_with_the_most_values_is_left_out_until_32_combinations_remain():
    filter = {"a": list(range(8)), "b": list(range(5)), "c": list(range(4))}
    assert filters.shape(filter) == ("b", "c")
    assert filters.shape({"a": list(range(33))}) == ()
    assert filters.shape({"a": list(range(32))}) == ("a",)
    assert filters.shape({"a": [1, 1.0, True] * 11}) == ("a",)


def test_a_path_too_long_for_its_column_is_not_indexed():
    assert filters.shape({"a": 1, "b" * 501: 1}) == ("a",)


def test_there_is_one_signature_for_each_combination_and_one_of_the_shape_where_paths_multiply():
    one, two = {"a": [1, 2, 3]}, {"a": [1, 2], "b": ["x", "y"]}
    assert len(set(filters.signatures("n", filters.shape(one), one))) == 3
    assert len(set(filters.signatures("n", filters.shape(two), two))) == 4 + 1


def test_equal_numbers_have_one_signature_and_a_bool_another():
    def signature(value: object) -> list[int]:
        return filters.signatures("n", ("a",), {"a": value})

    assert signature(1) == signature(1.0)
    assert signature(0) == signature(-0.0)
    assert len({*signature(1), *signature(True), *signature("1"), *signature("true")}) == 4


def test_names_and_shapes_do_not_share_signatures():
    found = {
        *filters.signatures("n", ("a",), {"a": 1}),
        *filters.signatures("m", ("a",), {"a": 1}),
        *filters.signatures("n", ("b",), {"b": 1}),
    }
    assert len(found) == 3


def test_signatures_are_signed_64_bit_and_the_same_in_every_process():
    assert filters.signatures("cart", ("a", "b"), {"a": "x", "b": 1}) == [7291227131954175052, 6414839288564435138]
    assert all(-(2**63) <= one < 2**63 for n in range(100) for one in filters.signatures("n", ("a",), {"a": n}))


def test_an_event_without_a_pinned_path_has_no_signature():
    assert filters.event_signatures("n", ("a.b",), {"a": {"c": 1}}) == []
    assert filters.event_signatures("n", ("a",), {"a": {"b": 1}}) == []
    assert filters.event_signatures("n", ("a",), [1]) == []


def test_each_element_of_a_payload_list_is_a_candidate():
    found = filters.event_signatures("n", ("items",), {"items": ["a", "b", "a", {}, []]})
    assert found == filters.signatures("n", ("items",), {"items": ["a", "b"]})


def test_an_event_of_too_many_combinations_falls_back_to_the_whole_shape_and_misses_nothing():
    filter, payload = {"a": 7, "b": 7, "c": 7}, {key: list(range(50)) for key in "abc"}
    shape = filters.shape(filter)
    found = filters.event_signatures("n", shape, payload)
    assert len(found) == 1
    assert set(found) <= set(filters.signatures("n", shape, filter))


def test_a_single_path_is_never_cut_off():
    assert len(filters.event_signatures("n", ("a",), {"a": list(range(5000))})) == 5000


def test_a_number_beyond_any_float_in_a_payload_is_no_trouble():
    payload = {"a": [10**5000, 1], "b": 1e308}
    assert filters.matches({"a": 1, "b": {"$lt": 10**300 * 10**9}}, payload)
    assert not filters.matches({"a": {"$between": [2, 3]}}, payload)
    assert len(filters.event_signatures("n", ("a",), payload)) == 2


# --- what the index needs is necessary ----------------------------------------------------------

scalars = st.one_of(
    st.sampled_from(["x", "y", "1", "", None, True, False, 0, 1, 1.0, -0.0, 0.5, 2**53, 2.0**53, 2**53 + 1, 1e300]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
keys = st.sampled_from(["a", "b", "a.b", "~", "~1", ""])
payloads = st.dictionaries(
    keys,
    st.recursive(
        scalars, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=3))
    ),
)
operator_objects = st.sampled_from(
    [
        {"$gt": 0},
        {"$gte": 0, "$lt": 2},
        {"$exists": True},
        {"$exists": False},
        {"$not": "x"},
        {"$anythingBut": ["x"]},
        {"$isNull": False},
        {"$includes": "x"},
        {"$startsWith": "x"},
    ]
)


@st.composite
def filters_for(draw, node, depth=3):
    """A filter with a good chance to match: most of its values are taken from the payload `node`."""
    known = st.lists(st.sampled_from(sorted(node)), unique=True, min_size=1, max_size=3) if node else st.just([])
    others = draw(st.sampled_from([False] * 9 + [True]))
    chosen = [*draw(known), *(["other"] if others else [])]
    return {key: draw(conditions_for(node.get(key), depth - 1)) for key in chosen}


@st.composite
def conditions_for(draw, value, depth):
    while isinstance(value, list) and value:
        value = draw(st.sampled_from(value))
    kind = draw(st.sampled_from(["nested", "scalar", "list", "list", "long", "mixed", "operators"]))
    if kind == "operators":
        return draw(operator_objects)
    if isinstance(value, dict):
        return (draw(filters_for(value, depth)) if depth else None) or {"$exists": True}
    own = value if not isinstance(value, list) else draw(scalars)
    own = float(own) if type(own) is int and abs(own) < 2**53 and draw(st.booleans()) else own
    if kind in ("nested", "scalar"):
        return own
    others = st.one_of(scalars, operator_objects) if kind == "mixed" else scalars
    size = 30 if kind == "long" else 0
    return draw(st.permutations([own, *draw(st.lists(others, min_size=size, max_size=size + 3))]))


pairs = payloads.flatmap(lambda payload: st.tuples(filters_for(payload), st.just(payload)))


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(pairs)
def test_whatever_matches_shares_a_signature(pair):
    filter, payload = pair
    filters.check(filter)
    if not filters.matches(filter, payload):
        return
    shape = filters.shape(filter)
    assert set(filters.signatures("n", shape, filter)) & set(filters.event_signatures("n", shape, payload))


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(pairs)
def test_whatever_matches_contains_a_document_of_each_condition(pair):
    filter, payload = pair
    if not filters.matches(filter, payload):
        return
    for alternatives in filters.containments(filter):
        assert any(contains(payload, document) for document in alternatives)


def contains(left: object, right: object) -> bool:
    """PostgreSQL's `left @> right` for jsonb, inside an object."""
    if isinstance(right, dict):
        return isinstance(left, dict) and all(key in left and contains(left[key], right[key]) for key in right)
    if isinstance(right, list):
        return isinstance(left, list) and all(any(contains(one, other) for one in left) for other in right)
    return not isinstance(left, dict | list) and isinstance(left, bool) is isinstance(right, bool) and left == right


def test_a_containment_has_a_document_for_each_value_and_each_place_a_list_may_stand():
    assert filters.containments({"a": [1, "x"], "b": {"$gt": 1}}) == [[{"a": 1}, {"a": [1]}, {"a": "x"}, {"a": ["x"]}]]
    assert filters.containments({"a": {"b": 1}}) == [
        [{"a": {"b": 1}}, {"a": {"b": [1]}}, {"a": [{"b": 1}]}, {"a": [{"b": [1]}]}]
    ]


def test_a_path_that_needs_too_many_documents_is_left_to_matching():
    assert filters.containments({"a": list(range(65)), "b": 1}) == [[{"b": 1}, {"b": [1]}]]


def test_importing_the_filters_needs_no_django_settings():
    code = "import sys, triggerapp.engine.operators; print('django.conf' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, env={})
    assert done.stdout.strip() == "False"

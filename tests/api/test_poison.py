"""Whatever is sent to whatever route: a refusal with a code and a sentence, and never an error of the server."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from tests.api.conftest import Answer, Api
from tests.api.everyroute import ALL, ROWS, Row, routes
from tests.factories import make_run
from tests.inprocess import durable
from triggerapp.api import schemas
from triggerapp.api.openapi import document
from triggerapp.engine import keys
from triggerapp.models import Status

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]
VIEWS = {route.name: route.callback.cls.__name__ for route in routes() if hasattr(route.callback, "cls")}


def request_of(name: str, row: Row) -> Any:
    """The schema of the body, None if the route takes none."""
    return schemas.METHODS[f"{VIEWS[name]}.{row.method.lower()}"][0]


WRITES = [(name, row) for name, rows in ROWS.items() for row in rows if row.method != "GET"]
TAKES_BODY = [(name, row) for name, row in WRITES if request_of(name, row) is not None]
IDS = lambda value: f"{value.method} {value.path}" if isinstance(value, Row) else value  # noqa: E731
JSON_AFTER_ALL = ("UTF-16", "empty text", "a list", "a number", "null")

BODIES = {
    "not JSON": b"{",
    "empty text": b'""',
    "NaN": b'{"payload": NaN, "items": [{"payload": NaN}]}',
    "Infinity": b'{"payload": -Infinity}',
    "too deep": b'{"payload": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep for PostgreSQL": b'{"payload": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "a number of 5,000 digits": b'{"payload": ' + b"7" * 5000 + b"}",
    "bytes": bytes(range(128, 256)),
    "UTF-16": '{"payload": 1}'.encode("utf-16"),
    "NUL bytes": b"\0\0\0",
    "two values": b"{}{}",
    "a list": b"[[]]",
    "a number": b"7",
    "null": b"null",
    "too large": b'"' + b"x" * (16 * 1024 * 1024 + 1) + b'"',
}
VALUES: dict[str, Any] = {
    "NUL": "a\0b",
    "half a surrogate pair": "\ud800",
    "very long": "x" * 100_000,
    "deep": json.loads("[" * 400 + "]" * 400),
    "NUL in a key": {"a\0": 1},
    "huge": 10**300,
    "negative": -1,
    "false": False,
    "empty": "",
    "list": [None, [], {}],
    "object": {"name": {"name": "\0"}},
}
NAMES = (
    "%00",
    "a%00b",
    "a%0Ab",
    "%ED%A0%80",
    "..%2f..%2f",
    "x" * 3000,
    quote("run_\u202e"),
    "run_" + "0" * 32,
    "%27%22%3C",
    "-1",
)


@durable
def whatever(*args: Any, **kwargs: Any) -> None:
    return None


def refuses(answer: Answer, what: object) -> None:
    """No error of the server's, and a refusal that says what is wrong."""
    assert answer.status < 500, (what, answer.body)
    if answer.status >= 400:
        assert isinstance(answer.body, dict), what
        assert answer.body["code"], what
        assert len(answer.body["error"]) > 10, (what, answer.body)


def fields(name: str, row: Row) -> list[str]:
    """What the body of the route may have."""
    schema = request_of(name, row)
    found = {field for each in (schema, *schema.get("oneOf", ())) for field in each.get("properties", {})}
    options = schemas.TRIGGER["properties"]["options"]["properties"]  # each has a test of its own, below
    return sorted((found | (set(row.body) if isinstance(row.body, dict) else set())) - set(options))


@pytest.fixture
def api() -> Api:
    return Api(keys.create("prod", "tests").text)


def path_of(row: Row, names: dict[str, str]) -> str:
    path = row.path.format(**names).replace("none", whatever.name)
    return path if path.startswith("/") else f"/api/{path}"


def kind_of(row: Row) -> str:
    return "application/x-ndjson" if row.path.endswith("/items") else "application/json"


@pytest.mark.parametrize(("name", "row"), WRITES, ids=IDS)
def test_a_body_that_is_none_is_refused(name, row, place, api):
    for what, raw in BODIES.items():
        answer = api.call(row.method, path_of(row, place.names), raw=raw, content_type=kind_of(row))
        refuses(answer, (row, what))
        assert answer.status >= 400 or what in JSON_AFTER_ALL or (name, row) not in TAKES_BODY, (row, what)


@pytest.mark.parametrize(("name", "row"), TAKES_BODY, ids=IDS)
def test_a_value_that_cannot_be_is_refused_in_every_field(name, row, place, api):
    for field in fields(name, row):
        for what, value in VALUES.items():
            body = json.dumps({**(row.body if isinstance(row.body, dict) else {}), field: value}).encode()
            answer = api.call(row.method, path_of(row, place.names), raw=body, content_type=kind_of(row))
            refuses(answer, (row, field, what))


@pytest.mark.parametrize("name", sorted(schemas.TRIGGER["properties"]["options"]["properties"]))
def test_a_value_that_cannot_be_is_refused_in_every_option(name, api):
    for what, value in VALUES.items():
        options = {name: value}
        body = {"payload": 1, "options": options}
        refuses(api.post(f"/api/v1/tasks/{whatever.name}/trigger", body), (name, what))
        run = make_run(Status.COMPLETED, environment_id=keys.by_id(keys.find(api.text).id).environment)
        refuses(api.post(f"/api/v1/runs/run_{run.id}/replay", options), (name, what))


def test_what_postgresql_cannot_store_is_refused_wherever_it_is(api):
    for payload in ("a\0b", "\ud800", {"a\0": 1}, [["\0"]], {"x": {"y": ["\udfff"]}}):
        answer = api.post(f"/api/v1/tasks/{whatever.name}/trigger", {"payload": payload, "options": {"tags": ["\0"]}})
        assert answer.status in (400, 422), payload
        answer = api.post("/api/v1/events", {"name": "a", "payload": payload})
        assert (answer.status, answer.body["code"]) == (400, "bad_input"), payload


def test_a_run_that_was_given_half_a_surrogate_pair_can_be_read(api):
    run = api.post(f"/api/v1/tasks/{whatever.name}/trigger", {"payload": "a\ud800"}).body["id"]
    assert api.get(f"/api/v3/runs/{run}").body["payload"] == "a\ud800"


@pytest.mark.parametrize("row", ALL, ids=lambda row: f"{row.method} {row.path}")
def test_a_name_that_is_none_is_not_there(row, place, api):
    for slot in place.names:
        if "{" + slot + "}" not in row.path:
            continue
        for name in NAMES:
            path = path_of(row, {**place.names, slot: name})
            refuses(api.call(row.method, path, row.body, content_type=kind_of(row)), (row, name))


@pytest.mark.parametrize("path", sorted(path for path, methods in document()["paths"].items() if "get" in methods))
def test_a_query_that_cannot_be_is_refused(path, api):
    parameters = document()["paths"][path]["get"].get("parameters", ())
    for name in (each["name"] for each in parameters if each["in"] == "query"):
        for value in (*NAMES[:5], "9" * 30, "1e9", "%F0%9F%A6%84", "2026-01-01", "99999999w", "nan", "a,b,,c"):
            asked = re.sub(r"\{\w+\}", "a", path)
            refuses(api.get(f"/api{asked}?{quote(name)}={value}"), (asked, name, value))

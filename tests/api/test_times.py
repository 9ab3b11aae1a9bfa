"""Times in requests: a past one is at once; one that cannot be, or that nobody means, is refused by its name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.factories import make_run, now
from tests.inprocess import durable
from triggerapp.engine import events, publictokens, wakes
from triggerapp.errors import BadInput
from triggerapp.models import Event, Run, Status, Wait

pytestmark = pytest.mark.usefixtures("database")
ABSURD = {
    "the year 1": ("0001-01-01T00:00:00Z", "is in the year 1; it must be a moment such as '2026-01-31T12:00:00Z'"),
    "before the year 1": ("0001-01-01T00:00:00+14:00", "must be a moment such as"),
    "after the year 9999": ("9999-12-31T23:59:59-14:00", "must be a moment such as"),
    "the year 9999": ("9999-12-31T23:59:59Z", "from 2000 to 2199"),
    "JavaScript's last": ("+275760-09-13T00:00:00.000Z", "must be a moment such as"),
    "the epoch": ("1970-01-01T00:00:00Z", "is in the year 1970"),
    "no month": ("2026-13-01T00:00:00Z", "must be a moment such as"),
    "a date and more": ("2026-01-31T12:00:00Z" + "0" * 30, "must be a moment such as"),
    "without a zone": ("2026-01-31T12:00:00", "has no time zone"),
    "10^18": (10**18, "is longer than 100 years; or a moment such as"),
    "10^400": (10**400, "is longer than 100 years; or a moment such as"),
    "negative": ("-5s", "must be a duration such as '30s', '1h30m' or '2w'"),
    "a word": ("soon", "or a number of seconds; or a moment such as"),
}


@durable
def greet(name: str) -> str:
    return f"hello {name}"


CALLS = {
    "delay": lambda moment: greet.with_options(delay=moment).trigger("Ada"),
    "ttl": lambda moment: greet.with_options(ttl=moment).trigger("Ada"),
    "the time of delivery": lambda moment: events.emit("paid", "1", deliver=moment),
}


def refused(answer, name, says):
    assert (answer.status, answer.body["code"]) == (400, "bad_input"), answer.body
    assert answer.body["error"].startswith(f"{name}=") and says in answer.body["error"], answer.body


@pytest.mark.parametrize(("value", "says"), ABSURD.values(), ids=ABSURD)
def test_a_time_that_nobody_means_is_refused_by_its_name(value, says, api):
    run = make_run(Status.PENDING, due_at=now() + timedelta(hours=1))
    refused(api.post(f"/api/v1/runs/run_{run.id}/reschedule", {"delay": value}), "delay", says)
    refused(
        api.post(f"/api/v1/tasks/{greet.name}/trigger", {"payload": "Ada", "options": {"delay": value}}), "delay", says
    )
    refused(api.post("/api/v1/waitpoints/tokens", {"timeout": value}), "timeout", says)
    assert Run.objects.get().due_at == run.due_at and not Wait.objects.exists()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("0001-01-01T00:00:00Z", "is in the year 1; it must be a moment such as '2026-01-31T12:00:00Z'"),
        ("9999-12-31T23:59:59-14:00", "must be a moment such as"),
        (1_769_860_800, "is in the year 1970"),
        (10**18, "must be a moment such as"),
        ("soon", "must be a moment such as"),
    ],
)
def test_an_event_is_not_delivered_at_a_time_that_nobody_means(value, says, api):
    refused(api.post("/api/v1/events", {"name": "paid", "deliverAt": value}), "deliverAt", says)
    assert not Event.objects.exists()


def test_a_time_that_has_passed_is_at_once(api):
    past = "2020-01-31T12:00:00Z"
    run = make_run(Status.PENDING, due_at=now() + timedelta(hours=1))
    assert api.post(f"/api/v1/runs/run_{run.id}/reschedule", {"delay": past}).status == 200
    assert Run.objects.get().due_at.year == 2020
    assert api.post("/api/v1/events", {"name": "paid", "deliverAt": past}).status == 200
    assert events.deliver_due() == 1
    assert api.post("/api/v1/waitpoints/tokens", {"timeout": past}).status == 200
    assert len(wakes.expire_due()) == 1


NEVER = "must be a number of seconds since 1970"
THIRTY = "a public token lives for more than nothing and at most 30 days"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (10**400, NEVER),
        (10**18, NEVER),
        (1, THIRTY),
        (4_102_444_800, THIRTY),
        ("31d", THIRTY),
        ("-1s", "expirationTime='-1s' must be a duration such as '30s', '1h30m' or '2w', or a number of seconds since"),
        (True, "expirationTime=True must be a duration"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_public_token_does_not_end_at_a_time_that_cannot_be(value, says, api):
    answer = api.post("/api/v1/auth/public-tokens", {"scopes": ["read:runs"], "expirationTime": value})
    assert (answer.status, answer.body["code"]) == (400, "bad_input") and says in answer.body["error"]


def test_a_public_token_ends_at_the_second_that_was_named(api):
    ends = int(now().timestamp()) + 3600
    token = api.post("/api/v1/auth/public-tokens", {"scopes": ["read:runs"], "expirationTime": ends}).body["token"]
    assert abs(publictokens.open_token(token).expires - ends) <= 1


@pytest.mark.parametrize("year", [1, 1970, 2200])
def test_python_is_refused_what_nobody_means_too(year):
    moment = datetime(year, 1, 1, tzinfo=UTC)
    for name, call in CALLS.items():
        with pytest.raises(BadInput, match=f"{name}={year:04}-01-01T00:00:00.* is in the year {year}; it must be"):
            call(moment)
    assert not Run.objects.exists() and not Event.objects.exists()

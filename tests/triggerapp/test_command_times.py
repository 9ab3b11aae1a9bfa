"""Times as arguments of commands: taken as the API takes them, refused as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core.management import CommandError

from tests.inprocess import durable
from tests.triggerapp.commands import said
from triggerapp.clock import now
from triggerapp.engine import durations
from triggerapp.models import Run

pytestmark = pytest.mark.usefixtures("database")


@durable
def greet(name: str) -> str:
    return f"hello {name}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("trigger", greet.name, "--delay=-5"), "--delay=-5s is negative"),
        (("trigger", greet.name, "--delay", "soon"), "--delay='soon' must be a duration such as '30s'"),
        (("trigger", greet.name, "--delay", "2026-01-01"), "--delay='2026-01-01' has no time zone"),
        (("send_event", "paid", "--after=-90"), "--after=-1m30s is negative"),
        (("send_event", "paid", "--after", ""), "--after='' must be a duration"),
        (("api_keys", "create", "--name", "x", "--days", "0"), "--days=0s must be more than nothing"),
        (("api_keys", "create", "--name", "x", "--days", "101w1e"), "or a number of days"),
        (("api_keys", "create", "--name", "x", "--days", "1e8"), "--days=100000000d is longer than 100 years"),
    ],
)
def test_a_time_that_cannot_be_is_told_as_people_write_it_with_the_name_of_its_option(arguments, says):
    with pytest.raises(CommandError, match=re.escape(says)):
        said(*arguments)


def test_a_delay_is_a_number_of_seconds_a_duration_or_a_moment():
    for delay in ("5400", "1h30m", (now() + timedelta(minutes=90)).isoformat()):
        told = said("trigger", greet.name, '{"name": "Eve"}', "--delay", delay).strip()
        run = Run.objects.get(pk=told.removeprefix("run_"))
        assert abs(run.due_at - now() - timedelta(minutes=90)) < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(seconds=-5), "-5s"),
        (timedelta(days=1, minutes=90), "1d1h30m"),
        (timedelta(milliseconds=350), "0.35s"),
    ],
)
def test_a_duration_is_written_as_people_write_it(length, text):
    assert durations.text(length) == text

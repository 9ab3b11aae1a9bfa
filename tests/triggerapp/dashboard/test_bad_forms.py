"""What is posted and no form offers is refused by the field's name, with what the field takes; nothing is changed."""

from __future__ import annotations

from html import unescape
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from tests.factories import make_run
from tests.inprocess import durable
from triggerapp.engine import destinations, environments, schedules, webhooks
from triggerapp.engine.schedules import Plan
from triggerapp.models import ApiKey, AuditEntry, BulkAction, Destination, Endpoint, Queue, Schedule, Status


@durable
def greet(name: str) -> str:
    """Says hello."""
    return name


@pytest.fixture
def places(database: None) -> dict[str, Any]:
    """One of what the addresses of forms name."""
    environment = environments.current()
    run = make_run(Status.QUEUED)
    plan = Plan(task=greet.name, cron="0 9 * * *", timezone="UTC")
    webhooks.create("dev", "hub", preset="github")
    destinations.create("dev", "ops", "https://ops.example/hook")
    return {
        "queue": run.queue_id,
        "schedule": schedules.create(environment, plan, deduplication_key=str(uuid4())).pk,
        "endpoint": Endpoint.objects.get().pk,
        "destination": Destination.objects.get().pk,
    }


def refusal(client: Client, address: str, form: dict[str, Any]) -> str:
    """What the page says of a form that is refused."""
    answer = client.post(f"/triggers/{address}", form)
    assert answer.status_code == 400
    return unescape(answer.content.decode())


def state() -> list[Any]:
    """All that the forms below change; a write leaves an entry in the audit log."""
    tables = (AuditEntry, Queue, Schedule, Endpoint, Destination, ApiKey, BulkAction)
    return [list(table.objects.order_by("pk").values()) for table in tables]


SWITCHES = {
    "queues/{queue}/pause": "paused",
    "schedules/{schedule}/switch": "active",
    "webhooks/{endpoint}/switch": "disabled",
    "destinations/{destination}/switch": "disabled",
}


@pytest.mark.parametrize("value", ["yes", "2", "true", "1 ", "\0", "x" * 3000])
@pytest.mark.parametrize("address", SWITCHES)
def test_a_switch_takes_nothing_but_on_and_off(administrator, operator, places, address, value):
    client = operator if "schedule" in address else administrator
    before = state()
    said = refusal(client, address.format(**places), {SWITCHES[address]: value})
    assert f"{SWITCHES[address]} must be 1 or 0, not “" in said
    assert state() == before


@pytest.mark.parametrize("address", SWITCHES)
def test_a_switch_that_is_not_said_is_no_off(administrator, operator, places, address):
    client = operator if "schedule" in address else administrator
    before = state()
    assert f"{SWITCHES[address]} must be 1 or 0: the form did not say it." in refusal(
        client, address.format(**places), {}
    )
    assert state() == before


@pytest.mark.parametrize(
    ("address", "form", "says"),
    [
        ("bulk/start", {"verb": "delete", "all": "1"}, "verb must be cancel or retry or replay, not “delete”."),
        ("bulk/start", {"verb": "cancel", "all": "yes"}, "all must be 1, not “yes”."),
        ("bulk/start", {"verb": "cancel", "run": ["r1"]}, "run must be an id as the dashboard shows it, not “r1”."),
        ("webhooks/create", {"name": "w", "preset": "cake"}, "preset must be standard or "),
        ("destinations/create", {"name": "d", "url": "https://a.example", "wants": "cake"}, "wants must be run."),
        ("destinations/{destination}/edit", {"url": "https://a.example", "wants": "cake"}, "wants must be run."),
        ("keys/create", {"name": "k", "scope": "cake"}, "scope must be admin or read or write or "),
        ("variables/put", {"name": "PLACE", "value": "x", "secret": "no"}, "secret must be 1, not “no”."),
    ],
)
def test_a_value_that_is_not_offered_is_refused_with_those_that_are(places, log_in, address, form, says):
    form = form if "bulk" in address else {"environment": "dev", **form}
    client = log_in("operator" if "bulk" in address else "administrator")
    before = state()
    assert says in refusal(client, address.format(**places), form)
    assert state() == before


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("root=yes", "root is 1 or 0, not “yes”."),
        ("period=9", "There is no period “9”; there are 1h, 24h, 7d, 30d, all."),
        ("batch=b1", "“b1” is no id of a batch."),
        ("environment=dev%00", "There is no environment “dev�”; there are "),
        (
            "tagg=vip",
            "There is no filter “tagg”; there are status, task, queue, tag, version, ",
        ),
        ("tags=vip", "There is no filter “tags”; there are status, "),
        ("older=x", "There is no filter “older”; there are status, "),
        ("tag=vip&tag=", "tag can be asked for once only."),
        (["tag=vip", "tag="], "tag can be asked for once only."),
        ("tag=%00", "tag is 1 to 255 characters without NUL, not “�”."),
        ("tag=%20", "tag is 1 to 255 characters without NUL, not “ ”."),
        (f"tag={'x' * 256}", f"tag is 1 to 255 characters without NUL, not “{'x' * 60}…”."),
    ],
    ids=repr,
)
def test_a_bulk_action_is_on_no_more_than_was_asked_for(operator, places, query, says):
    before = state()
    said = refusal(operator, "bulk/start", {"verb": "cancel", "all": "1", "query": query})
    assert says in said
    assert "Show the list again, without it." in said
    assert "hown" not in said  # nothing is
    assert state() == before


def test_a_condition_that_is_posted_beside_the_query_is_none(operator, places):
    said = refusal(operator, "bulk/start", {"verb": "cancel", "all": "1", "tag": "vip"})
    assert "There is no field “tag”; there are verb, all, run, query." in said


FORMS = "events/send variables/put variables/delete destinations/create webhooks/create schedules/create keys/create"


@pytest.mark.parametrize("address", FORMS.split())
@pytest.mark.parametrize("environment", ["a\0", "\0", "", "x" * 3000, "lemuria"], ids=repr)
def test_a_form_for_an_environment_that_there_is_not_is_refused(administrator, places, address, environment):
    before = state()
    form = {"environment": environment, "name": "PLACE"}
    assert "environment must be " in refusal(administrator, address, form)
    assert state() == before

"""Django's admin: everything to be looked at, nothing to be edited."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import reverse

from tests.factories import fresh, make_event, make_event_wait, make_run, make_step
from triggerapp.admin import ReadOnly
from triggerapp.models import AuditEntry, Queue, Run, Status

OURS = [model for model, kind in admin.site._registry.items() if isinstance(kind, ReadOnly)]


@pytest.fixture
def staff(log_in):
    def staff(name):
        client = log_in(name)
        User.objects.filter(username=name).update(is_staff=True)
        return client

    return staff


def url(model, what, *args):
    return reverse(f"admin:triggerapp_{model._meta.model_name}_{what}", args=args)


def test_no_table_is_missing():
    assert set(apps.get_app_config("triggerapp").get_models()) == set(OURS)


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_every_table_can_be_looked_at_and_nothing_added(staff, model):
    run = make_run(Status.WAITING)
    make_step(run, "a#1")
    make_event_wait(run, "paid")
    make_event("paid")
    client = staff("administrator")
    assert client.get(url(model, "changelist")).status_code == 200
    assert client.get(url(model, "add")).status_code == 403
    row = model._default_manager.first()
    if row is not None:
        assert client.get(url(model, "change", row.pk)).status_code == 200
        assert client.post(url(model, "change", row.pk), {}).status_code == 403
        assert client.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403


def act(client, model, action, *rows):
    form = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    return client.post(url(model, "changelist"), form, follow=True)


def test_runs_are_canceled_retried_and_replayed_by_the_engine(staff):
    client = staff("operator")
    live, failed = make_run(), make_run(Status.FAILED)
    act(client, Run, "cancel", live)
    assert fresh(live).status == Status.CANCELED
    text = act(client, Run, "retry", failed, live).content.decode()
    assert fresh(failed).attempt == 2
    assert "only a failed run can be retried" in text
    act(client, Run, "replay", live)
    assert Run.objects.filter(replay_of=live).count() == 1
    assert set(AuditEntry.objects.values_list("actor", flat=True)) == {"user operator"}


def test_a_viewer_has_no_actions_and_an_operator_no_audit_log(staff):
    run = make_run()
    act(staff("viewer"), Run, "cancel", run)
    assert fresh(run).status == Status.QUEUED
    assert staff("operator").get(url(AuditEntry, "changelist")).status_code == 403
    assert staff("anybody").get(url(Run, "changelist")).status_code == 403


def test_queues_are_paused_by_administrators(staff):
    queue = make_run().queue
    act(staff("operator"), Queue, "pause", queue)
    assert not fresh(queue).paused
    act(staff("administrator"), Queue, "pause", queue)
    assert fresh(queue).paused

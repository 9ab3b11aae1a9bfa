"""The doctor finds what would lose runs, and says what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from typing import ClassVar
from uuid import uuid4

import pytest
from celery import current_app
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command

from triggerapp import doctor
from triggerapp.engine import destinations, environments, envvars, keys, sql, tokens, webhooks, workers
from triggerapp.models import AuditEntry
from workers.celery import app

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("projects_app")]


@pytest.fixture
def projects_app() -> Iterator[None]:
    """The doctor asks the current app; other tests have one of their own."""
    before = current_app._get_current_object()
    app.set_current()
    yield
    before.set_current()


def found(about: str) -> doctor.Finding:
    return next(finding for finding in doctor.examine() if finding.about == about)


def test_a_project_without_workers_is_warned():
    assert found("workers").level == "warning"


def test_a_worker_with_a_heartbeat_is_counted():
    workers.beat(uuid4(), hostname="here", pid=1)
    assert found("workers").level == "ok"


def test_a_broker_that_is_down_is_an_error_with_a_remedy_and_an_exit_status(monkeypatch):
    monkeypatch.setattr(app.conf, "broker_read_url", "redis://127.0.0.1:1/0")
    finding = found("broker")
    assert finding.level == "error"
    assert "start it" in finding.remedy
    with pytest.raises(CommandError):
        call_command("doctor", stdout=StringIO())


def test_an_evicting_redis_is_an_error(monkeypatch):
    monkeypatch.setattr(doctor, "_eviction", lambda url: "allkeys-lru")
    assert found("redis").level == "error"


def test_a_database_that_does_not_wait_for_the_disk_is_an_error():
    setting = sql.row("SELECT current_setting('fsync') AS fsync")
    assert found("disk").level == ("ok" if setting == {"fsync": "on"} else "error")


def test_the_findings_are_json_for_machines():
    out = StringIO()
    with suppress(CommandError):  # the tests' own server does not wait for the disk
        call_command("doctor", "--json", stdout=out)
    assert {"level", "about", "says", "remedy"} == set(json.loads(out.getvalue())[0])


# --- where tokens lead ----------------------------------------------------------------------------


class Bare:
    """A URLconf without our API."""

    urlpatterns: ClassVar[list[object]] = []


def about_tokens():
    return [(each.level, each.says) for each in doctor.examine() if each.about == "tokens"]


def test_where_no_token_was_made_nobody_is_bothered_about_urls():
    assert about_tokens() == []


def test_tokens_whose_urls_only_this_machine_reaches_are_warned_of(settings):
    tokens.create(None)
    settings.TRIGGERAPP = {}
    ((level, says),) = about_tokens()
    assert level == "warning"
    assert "http://127.0.0.1:8000: nobody outside of this machine" in says


def test_tokens_without_the_api_in_the_urlconf_are_warned_of(settings):
    tokens.create(None)
    settings.TRIGGERAPP = {"BASE_URL": "https://example.org"}
    assert about_tokens() == [("ok", "their URLs begin with https://example.org")]
    settings.ROOT_URLCONF = Bare
    ((level, says),) = about_tokens()
    assert level == "warning"
    assert "begin with https://example.org/api/, and this project's URLconf has nothing there" in says


# --- webhooks ---------------------------------------------------------------------------------------


def about_webhooks():
    return [(each.level, each.says) for each in doctor.examine() if each.about == "webhooks"]


def test_endpoints_that_the_urlconf_has_not_are_warned_of(settings):
    assert about_webhooks() == []
    webhooks.create("dev", "clerk", preset="standard")
    assert about_webhooks() == []
    settings.ROOT_URLCONF = Bare
    ((level, says),) = about_webhooks()
    assert level == "warning"
    assert "/hooks/clerk is what providers post to" in says


def test_notices_that_may_go_into_this_network_are_warned_of(settings):
    settings.TRIGGERAPP = {"WEBHOOK_ALLOW_PRIVATE": True}
    assert about_webhooks() == []
    destinations.create("dev", "ops", "http://10.0.0.1/")
    ((level, says),) = about_webhooks()
    assert (level, "post into this network" in says) == ("warning", True)


# --- what is encrypted ----------------------------------------------------------------------------


def about_secrets():
    return [(each.level, each.says) for each in doctor.examine() if each.about == "secrets"]


def test_where_nothing_is_encrypted_nobody_is_bothered_about_keys():
    assert about_secrets() == []


def test_variables_that_are_lost_with_secret_key_are_warned_of(settings):
    envvars.put(environments.current(), "A", "1")
    ((level, says),) = about_secrets()
    assert level == "warning"
    assert "SECRET_KEY" in says
    settings.SECRET_KEY = "another"
    (level, says), _ = about_secrets()
    assert (level, says) == ("error", "no key opens env var A")


def test_variables_with_a_key_of_their_own_are_fine(settings):
    settings.TRIGGERAPP = {"SECRETS_KEYS": Fernet.generate_key().decode()}
    envvars.put(environments.current(), "A", "1")
    assert about_secrets() == [("ok", "are encrypted with keys of their own, and open")]


def test_a_root_key_that_no_key_opens_is_lost_too(settings):
    keys.create("dev", "plain")
    assert about_secrets() == []
    key = keys.create("dev", "root", root=True).key
    assert AuditEntry.objects.get(target=key.prefix).after["root"]
    settings.SECRET_KEY = "another"
    (level, says), _ = about_secrets()
    assert level == "error"
    assert key.prefix in says

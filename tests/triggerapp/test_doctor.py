"""The doctor finds what would lose runs, and says what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import ClassVar
from uuid import UUID, uuid4

import pytest
from celery import current_app
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.functions import Now

import checkpoint
from checkpoint.capability import Reason, Verdict
from tests.factories import make_run, make_worker
from triggerapp import doctor, imagestore
from triggerapp.engine import destinations, environments, envvars, keys, sql, tokens, webhooks, workers
from triggerapp.models import AuditEntry, Status, Worker
from workers.celery import app

pytestmark = [pytest.mark.slow, pytest.mark.django_db, pytest.mark.usefixtures("projects_app")]


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


def test_a_worker_of_another_environment_is_no_worker_of_this_one(settings):
    settings.TRIGGERAPP = {"ENVIRONMENT": "staging"}
    workers.beat(uuid4(), hostname="here", pid=1)
    settings.TRIGGERAPP = {}
    assert found("workers").level == "warning"


def test_a_broker_that_is_down_is_an_error_with_a_remedy_and_an_exit_status(monkeypatch):
    monkeypatch.setattr(app.conf, "broker_read_url", "redis://127.0.0.1:1/0")
    finding = found("broker")
    assert finding.level == "error"
    assert "start it" in finding.remedy
    with pytest.raises(CommandError):
        call_command("doctor", stdout=StringIO())


def test_a_database_without_our_tables_is_an_error_with_a_remedy():
    sql.run("DELETE FROM django_migrations WHERE app = 'triggerapp'")
    sql.run("ALTER TABLE triggerapp_worker RENAME TO elsewhere")
    finding = found("migrations")
    assert (finding.level, finding.remedy) == ("error", "run `manage.py migrate`")
    assert [finding for finding in doctor.examine() if finding.about == "workers"] == []


def test_settings_that_are_not_understood_are_the_one_finding(settings):
    settings.TRIGGERAPP = {"LEESE": 3}
    (finding,) = doctor.examine()
    assert (finding.level, finding.about) == ("error", "triggerapp.E004")
    assert "did you mean 'LEASE'?" in finding.says


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


# --- planted faults -------------------------------------------------------------------------------


def no_database(patch, settings):
    def refuse():
        raise OperationalError("connection refused")

    patch.setattr(connection, "ensure_connection", refuse)


def no_migration(patch, settings):
    MigrationRecorder.Migration.objects.filter(app="triggerapp").last().delete()


def no_fsync(patch, settings):
    patch.setattr(doctor, "_waits_for_the_disk", lambda: False)


def clock_off(patch, settings):
    patch.setattr(doctor, "_here", lambda: datetime.now(UTC) - timedelta(minutes=3))


def no_broker(patch, settings):
    patch.setattr(app.conf, "broker_read_url", "redis://127.0.0.1:1/0")


def strange_broker(patch, settings):
    patch.setattr(app.conf, "broker_read_url", "foo://here")


def broker_without_a_number(patch, settings):
    patch.setattr(app.conf, "broker_read_url", "redis://:se/cret@here/0")


def evicting(patch, settings):
    patch.setattr(doctor, "_eviction", lambda url: "allkeys-lru")


def no_worker(patch, settings):
    make_run(Status.QUEUED)
    Worker.objects.all().delete()


def dead_worker(patch, settings):
    make_run(Status.RUNNING, worker=make_worker(alive=False))
    Worker.objects.filter(expires_at__lt=Now()).update(expires_at=Now() - timedelta(hours=1))


def thrown_away(patch, settings):
    make_run(Status.QUEUED, sends=20)


def no_store(patch, settings):
    patch.setattr(checkpoint, "check", lambda: Verdict(ok=True, version="4.2.1"))
    settings.TRIGGERAPP = {"CHECKPOINT_STORE": "/dev/null/images"}


def dead_eager_process(patch, settings):
    make_worker()
    make_run(Status.WAITING, is_eager=True, started_at=Now() - timedelta(days=2))


def lost_key(patch, settings):
    settings.TRIGGERAPP = {"SECRETS_KEYS": Fernet.generate_key().decode()}
    envvars.put(environments.current(), "A", "1")
    settings.TRIGGERAPP = {"SECRETS_KEYS": Fernet.generate_key().decode()}


def other_database(patch, settings):
    patch.setattr(connection, "vendor", "sqlite")


def early_acknowledgement(patch, settings):
    patch.setitem(app.conf, "task_acks_late", True)
    patch.setitem(app.conf, "task_reject_on_worker_lost", False)


def short_visibility(patch, settings):
    patch.setitem(app.conf, "broker_transport_options", {"visibility_timeout": 2})


def no_criu(patch, settings):
    settings.TRIGGERAPP = {"CHECKPOINT": "on"}
    reason = Reason(code="no_criu", message="no CRIU was found", remedy="python -m checkpoint install", blocking=True)
    patch.setattr(checkpoint, "check", lambda: Verdict(ok=False, reasons=(reason,)))


def key_of_django(patch, settings):
    settings.TRIGGERAPP = {}
    envvars.put(environments.current(), "A", "1")


FAULTS = [
    (no_database, "database", "error", "DATABASE_URL"),
    (no_migration, "migrations", "error", "manage.py migrate"),
    (no_fsync, "disk", "error", "fsync = on"),
    (clock_off, "clock", "error", "synchronise the clocks"),
    (no_broker, "broker", "error", "start it"),
    (strange_broker, "broker", "error", "percent-encoded"),
    (broker_without_a_number, "broker", "error", "percent-encoded"),
    (evicting, "redis", "error", "maxmemory-policy noeviction"),
    (no_worker, "workers", "error", "celery -A"),
    (dead_worker, "dead workers", "error", "takes them over"),
    (thrown_away, "messages", "warning", "workers' logs tell"),
    (no_store, "image store", "warning", "CHECKPOINT_STORE"),
    (dead_eager_process, "eager runs", "warning", "manage.py cancel"),
    (lost_key, "secrets", "error", "add the old key"),
    (other_database, "triggerapp.E001", "error", "manage.py services start"),
    (early_acknowledgement, "triggerapp.W002", "warning", "CELERY_TASK_REJECT_ON_WORKER_LOST"),
    (short_visibility, "triggerapp.W003", "warning", "visibility_timeout"),
    (no_criu, "checkpoints", "warning", "python -m checkpoint install"),
    (key_of_django, "secrets", "warning", "SECRETS_KEYS"),
]


@pytest.fixture
def sound(monkeypatch):
    """An installation without fault. The tests' own server does not wait for the disk."""
    monkeypatch.setattr(doctor, "_waits_for_the_disk", lambda: True)
    workers.beat(uuid4(), hostname="here", pid=1)


def ends_well(*options: str) -> bool:
    try:
        call_command("doctor", *options, stdout=StringIO())
    except CommandError as error:
        assert error.returncode == 1
        return False
    return True


def test_a_full_image_store_is_told(sound, monkeypatch, settings, tmp_path):
    settings.TRIGGERAPP = {"CHECKPOINT_STORE": str(tmp_path), "CHECKPOINT_QUOTA_BYTES": 1000}
    monkeypatch.setattr(checkpoint, "check", lambda: Verdict(ok=True, version="4.2.1"))
    image = uuid4()
    imagestore.store().put(image, lambda file: file.write(b"a" * 1000))
    assert found("image store").level == "warning"
    assert "is full" in found("image store").says
    imagestore.store().delete(image)
    assert found("image store").level == "ok"


def test_an_installation_without_fault_is_in_order(sound):
    assert {each.level for each in doctor.examine()} == {"ok"}
    assert ends_well()
    assert ends_well("--strict")


@pytest.mark.parametrize(
    ("plant", "about", "level", "remedy"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_planted_fault_is_found_with_its_remedy_and_an_exit_status(
    sound, monkeypatch, settings, plant, about, level, remedy
):
    plant(monkeypatch, settings)
    worst = [each for each in doctor.examine() if each.level != "ok"]
    assert [(each.about, each.level) for each in worst] in ([(about, level)], [("database", level), (about, level)])
    assert remedy in worst[-1].remedy
    assert ends_well() == (level == "warning")
    assert not ends_well("--strict")


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


def test_an_eager_run_at_work_is_no_fault():
    make_run(Status.RUNNING, is_eager=True, worker=UUID(int=0))
    assert not {"dead workers", "eager runs"} & {finding.about for finding in doctor.examine()}

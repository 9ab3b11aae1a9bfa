"""System checks: each finds what it is for, names the way out, and is silent otherwise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from celery import Celery
from django.contrib import admin
from django.core.management import call_command
from django.db import connections
from django.urls import include, path
from pytest_django import Settings

from triggerapp import checks
from triggerapp import settings as project

SAFE = {
    "broker_url": "redis://localhost/0",
    "result_backend": "redis://localhost/1",
    "result_expires": 0,
    "result_chord_expires": 0,
}


def celery_ids(**configuration: object) -> list[str | None]:
    app = Celery("checked", set_as_current=False)
    app.conf.update({**SAFE, **configuration})
    return [message.id for message in checks.celery_warnings(app.conf)]


def run_check(environment: Mapping[str, str], *, folder: Path) -> subprocess.CompletedProcess[str]:
    """`manage.py check` as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "django", "check"],
        env={"DJANGO_SETTINGS_MODULE": "triggerapp.settings", **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def on_path(*folders: Path) -> dict[str, str]:
    return {
        "PYTHONPATH": ":".join(map(str, folders)),
        "DATABASE_URL": "postgres://nobody@localhost/none",
        "CELERY_BROKER_URL": "redis://localhost/0",
        "DJANGO_SECRET_KEY": "for this test",
    }


@pytest.mark.slow
def test_the_project_passes_its_own_checks(tmp_path: Path) -> None:
    done = run_check(on_path(project.BASE_DIR), folder=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_another_database_is_refused_and_the_command_that_helps_is_named(tmp_path: Path) -> None:
    done = run_check({**on_path(project.BASE_DIR), "DATABASE_URL": "sqlite://:memory:"}, folder=tmp_path)
    assert done.returncode == 1
    assert "triggerapp.E001" in done.stderr
    assert "Set DATABASE_URL;" in done.stderr
    assert "manage.py services start" in done.stderr


@pytest.mark.slow
def test_a_project_whose_own_settings_name_the_database_is_told_to_change_those(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from triggerapp.settings import *\nDATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3'}}\n"
    )
    environment = {**on_path(tmp_path, project.BASE_DIR), "DJANGO_SETTINGS_MODULE": "own"}
    done = run_check(environment, folder=tmp_path)
    assert "Set DATABASES['default'] in own (DATABASE_URL has no effect unless" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["workers", "checkpoint"])
def test_a_foreign_package_in_front_of_ours_is_named(tmp_path: Path, name: str) -> None:
    foreign = tmp_path / f"{name}.py"
    foreign.write_text("")
    done = run_check(on_path(tmp_path, project.BASE_DIR), folder=tmp_path)
    assert "triggerapp.E002" in done.stderr
    assert str(foreign) in done.stderr


def test_a_safe_celery_configuration_has_no_warnings() -> None:
    assert celery_ids() == []


@pytest.mark.parametrize("expires", [86400, timedelta(days=1)])
def test_chords_that_expire_are_warned_of(expires: object) -> None:
    assert celery_ids(result_chord_expires=None, result_expires=expires) == ["triggerapp.W001"]


def test_chords_of_a_backend_without_expiry_are_not() -> None:
    ids = celery_ids(result_backend="db+sqlite:///x", result_chord_expires=None, result_expires=86400)
    assert "triggerapp.W001" not in ids


@pytest.mark.parametrize("backend", [None, "", "disabled://", "disabled"])
def test_results_that_nobody_keeps_are_warned_of_unless_nobody_wants_any(backend: str | None) -> None:
    assert celery_ids(result_backend=backend) == ["triggerapp.W006"]
    assert celery_ids(result_backend=backend, task_ignore_result=True) == []


def test_late_acknowledgement_without_rejection_loses_tasks() -> None:
    assert celery_ids(task_acks_late=True) == ["triggerapp.W002"]
    assert celery_ids(task_acks_late=True, task_reject_on_worker_lost=True) == []


def test_a_message_must_stay_hidden_as_long_as_a_lease() -> None:
    assert celery_ids(broker_transport_options={"visibility_timeout": 5}) == ["triggerapp.W003"]
    assert celery_ids(broker_transport_options={"visibility_timeout": 10}) == []
    assert celery_ids(broker_url="amqp://", broker_transport_options={"visibility_timeout": 5}) == []


def test_the_lease_is_the_one_that_is_set(settings: Settings) -> None:
    settings.TRIGGERAPP = {"LEASE": timedelta(hours=2)}
    assert celery_ids() == ["triggerapp.W003"]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    "wrong", [{"LEESE": 3}, {"LEASE": 3}, {"ENVIRONMENT": "my prod"}, {"DASHBOARD_ACCESS": "no.such"}, []]
)
def test_settings_that_are_not_understood_are_one_error_and_no_traceback(settings: Settings, wrong: object) -> None:
    settings.TRIGGERAPP = wrong
    (error,) = [*checks.check_settings(), *checks.check_celery(None)]
    assert error.id == "triggerapp.E004"
    settings.TRIGGERAPP = {}
    assert checks.check_settings() == []


@pytest.mark.usefixtures("database")  # it asks which migrations are applied
def test_the_migrations_make_what_the_models_say():
    call_command("makemigrations", "triggerapp", check=True, dry_run=True, verbosity=0)


@pytest.mark.parametrize(
    ("asgi", "age", "found"),
    [
        ("shop.asgi.application", 60, ["triggerapp.W007"]),
        ("shop.asgi.application", None, ["triggerapp.W007"]),
        ("shop.asgi.application", 0, []),
        (None, 60, []),
        (project.ASGI_APPLICATION, 60, []),
    ],
)
def test_connections_that_requests_would_leave_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, asgi: str | None, age: int | None, found: list[str]
) -> None:
    settings.ASGI_APPLICATION = asgi
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", age)
    assert [message.id for message in checks.check_connections(None)] == found


DASHBOARD = path("triggers/", include("triggerapp.dashboard.urls"))
ADMIN = path("admin/", admin.site.urls)
ACCOUNTS = path("accounts/", include("django.contrib.auth.urls"))


@pytest.mark.parametrize(
    ("routes", "login", "found"),
    [
        ((DASHBOARD,), "/accounts/login/", ["triggerapp.W008"]),
        ((DASHBOARD,), "shop:login", ["triggerapp.W008"]),
        ((DASHBOARD,), "/oauth2/start", []),
        ((DASHBOARD,), "https://login.example.com/", []),
        ((DASHBOARD, ADMIN), "/accounts/login/", []),
        ((DASHBOARD, ACCOUNTS), "/accounts/login/", []),
        ((DASHBOARD, ACCOUNTS), "login", []),
        ((), "/accounts/login/", []),
    ],
)
def test_a_dashboard_that_nobody_can_log_in_to_is_warned_of(
    settings: Settings, routes: tuple[object, ...], login: str, found: list[str]
) -> None:
    settings.ROOT_URLCONF, settings.LOGIN_URL = routes, login
    assert [message.id for message in checks.check_login(None)] == found

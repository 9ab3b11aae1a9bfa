"""Passwords are not tried as fast as a machine can: an address with many wrong ones waits."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from triggerapp.engine import guard

pytestmark = [pytest.mark.slow, pytest.mark.django_db]  # a password takes its time


@pytest.fixture(autouse=True)
def no_counts():
    guard.logins.forget()
    yield
    guard.logins.forget()


def login(password: str, address: str = "192.0.2.1", name: str = "ada") -> bool:
    client = Client()
    client.post("/admin/login/", {"username": name, "password": password}, REMOTE_ADDR=address)
    return "_auth_user_id" in client.session


def test_after_many_wrong_passwords_the_right_one_has_to_wait_too(settings):
    settings.TRIGGERAPP = {"FAILED_RATE": "3/minute"}
    get_user_model().objects.create_superuser("ada", password="right")
    assert login("right")
    assert [login("wrong") for _ in range(3)] == [False] * 3
    assert not login("right")
    assert login("right", address="192.0.2.2")
    guard.logins.forget()
    assert login("right")


def test_behind_a_proxy_wrong_passwords_for_one_user_do_not_lock_out_another(settings):
    settings.TRIGGERAPP = {"FAILED_RATE": "3/minute"}
    for name in ("ada", "bob"):
        get_user_model().objects.create_superuser(name, password="right")
    assert [login("wrong", name=name) for name in ("ada", "Ada", "ADA")] == [False] * 3
    assert not login("right")
    assert login("right", name="bob")


def test_a_secret_that_is_in_use_is_remembered_longest(monkeypatch, settings):
    settings.TRIGGERAPP = {"FAILED_RATE": "1/minute"}
    monkeypatch.setattr(guard, "_REMEMBERED", 2)
    for secret in ("old", "other", "old", "new"):
        guard.logins.right(secret)
    guard.logins.wrong("192.0.2.1")
    assert [guard.logins.wait("192.0.2.1", secret) == 0 for secret in ("old", "new", "other")] == [True, True, False]

"""What `manage.py dev` says about the dashboard."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client, override_settings


@pytest.fixture(autouse=True)
def nobody(database):
    User.objects.all().delete()
    yield
    User.objects.all().delete()


def said(*options):
    out = StringIO()
    call_command("devlogin", *options, stdout=out)
    return out.getvalue()


def test_the_first_user_of_an_own_database_can_log_in_with_what_is_shown_and_see_the_dashboard():
    name, password = re.search(r"Log in: (\S+) / (\S+)", said("--make", "--port", "8123")).groups()
    assert said("--make").count(password) == 1
    client = Client()
    assert client.login(username=name, password=password)
    assert client.get("/triggers/", follow=True).status_code == 200


def test_in_a_database_that_is_somebodys_no_user_is_made_and_no_password_shown():
    assert "createsuperuser" in said()
    User.objects.create_user("somebody")
    assert "createsuperuser" in said("--make")
    assert User.objects.count() == 1


@override_settings(ROOT_URLCONF="triggerapp.api.urls")
def test_where_no_url_leads_to_the_dashboard_it_says_what_to_add():
    assert 'include("triggerapp.dashboard.urls")' in said()

"""The TRIGGERAPP setting: defaults, overrides, and errors that say what to do."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from triggerapp import conf


def test_everything_has_a_default(settings: Settings) -> None:
    settings.TRIGGERAPP = {}
    assert conf.get().LEASE == timedelta(seconds=10)
    assert conf.get().ENVIRONMENT == "dev"


def test_what_is_set_replaces_the_default_and_is_read_once(settings: Settings) -> None:
    settings.TRIGGERAPP = {"LEASE": timedelta(seconds=30)}
    assert conf.get().LEASE == timedelta(seconds=30)
    assert conf.get() is conf.get()


def test_a_changed_setting_is_read_again(settings: Settings) -> None:
    settings.TRIGGERAPP = {"MAX_TAGS": 3}
    assert conf.get().MAX_TAGS == 3
    settings.TRIGGERAPP = {"MAX_TAGS": 4}
    assert conf.get().MAX_TAGS == 4


def test_nobody_changes_it_by_hand() -> None:
    with pytest.raises(FrozenInstanceError):
        conf.get().LEASE = timedelta(0)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"LEESE": timedelta(1)}, "did you mean 'LEASE'?"),
        ({"heartbeat": timedelta(1)}, "did you mean 'HEARTBEAT'?"),
        ({"XYZZY": 1}, "it may have ENVIRONMENT, LEASE"),
        ({"LEASE": 10}, "timedelta(seconds=10)"),
        ({"LEASE": timedelta(0)}, "longer than 0"),
        ({"HEARTBEAT": timedelta(seconds=6)}, "at most half of LEASE"),
        ({"EVENT_LOOKBACK": timedelta(seconds=-1)}, "0 or longer"),
        ({"EVENT_LOOKBACK": timedelta(days=8)}, "at least EVENT_LOOKBACK"),
        ({"MAX_CRASHES": 0}, "a whole number above 0"),
        ({"MAX_TAGS": True}, "a whole number above 0"),
        ({"ENVIRONMENT": ""}, "a string"),
        ({"BASE_URL": "localhost:8000"}, "http://"),
        ({"CHECKPOINT": True}, "a string"),
        ({"CHECKPOINT": "always"}, "'auto', 'on' or 'off'"),
        ({"CHECKPOINT_MIN_WAIT": timedelta(seconds=-1)}, "0 or longer"),
        ({"CHECKPOINT_KEYS": "one:short"}, "python -m checkpoint key"),
        ({"CHECKPOINT_KEYS": ["one:secret"]}, "is …; it must be a string"),
        ({"SECRETS_KEYS": ["secret"]}, "is …; it must be a string"),
        ([("LEASE", 1)], "must be a dict"),
    ],
)
def test_a_wrong_setting_says_what_is_right(settings: Settings, given: object, says: str) -> None:
    settings.TRIGGERAPP = given
    with pytest.raises(ImproperlyConfigured) as error:
        conf.get()
    assert says in str(error.value)


def test_no_lookback_is_a_choice(settings: Settings) -> None:
    settings.TRIGGERAPP = {"EVENT_LOOKBACK": timedelta(0)}
    assert conf.get().EVENT_LOOKBACK == timedelta(0)

"""A recorded exception comes back as what it was, with its traceback, or as a `RecordedError` that names it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workers import codec
from workers.errors import AbortRun, ChildFailed, JournalMismatch, RecordedError


class User:
    """Nothing that JSON can carry."""


class CardDeclined(Exception):
    def __init__(self, code: str, *, retry_after: timedelta) -> None:
        super().__init__(f"card declined: {code}")
        self.code = code
        self.retry_after = retry_after


@dataclass(frozen=True)
class FrozenError(Exception):
    code: int


class Keyed(Exception):
    def __init__(self, user: object) -> None:
        self.user = user

    def __str__(self) -> str:
        return f"no access for {self.user}"


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as caught:
        return caught


def recorded(exc: BaseException) -> BaseException:
    """`exc` after it was raised and written to a jsonb column, which sorts keys."""
    return codec.load_error(json.loads(json.dumps(codec.dump_error(raised(exc)), sort_keys=True)))


@pytest.mark.parametrize(
    "exc",
    [
        ValueError("bad"),
        ValueError(),
        KeyError("x"),
        OSError(2, "No such file", "a.txt"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        StopIteration(3),
        CardDeclined("51", retry_after=timedelta(hours=1)),
        FrozenError(3),
        Keyed("ann"),
        AbortRun("enough"),
        JournalMismatch("a#1", "x", "y"),
        ChildFailed("0190", "t", {"type": "a:B", "message": "c"}),
        ValueError("with", Decimal(1), ("things",)),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_a_recorded_exception_comes_back_with_its_class_message_and_attributes(exc):
    back = recorded(exc)
    assert type(back) is type(exc)
    assert str(back) == str(exc)
    assert back.args == exc.args
    assert {**exc.__dict__, "recorded_traceback": 0, "__notes__": 0}.keys() == back.__dict__.keys()
    assert all(back.__dict__[name] == value for name, value in exc.__dict__.items())


def test_the_slots_of_an_os_error_are_filled_again():
    back = recorded(FileNotFoundError(2, "No such file", "a.txt"))
    assert (back.errno, back.filename) == (2, "a.txt")


def test_a_restored_exception_carries_the_recorded_traceback_once_however_often_it_is_recorded():
    back = recorded(recorded(CardDeclined("51", retry_after=timedelta(0))))
    assert "in raised" in back.recorded_traceback
    assert len(back.__notes__) == 1
    assert "in raised" in back.__notes__[0]


def test_notes_of_the_user_come_back():
    exc = ValueError("bad")
    exc.add_note("while charging")
    assert recorded(exc).__notes__[0] == "while charging"


@pytest.mark.parametrize(
    ("exc", "message"),
    [
        (KeyboardInterrupt("stop"), "builtins:KeyboardInterrupt: stop"),
        (Keyed(User()), "Keyed: no access for"),
        (ExceptionGroup("many", [ValueError("a")]), r"ExceptionGroup: many \(1 sub-exception\)"),
        (Mute(), "Mute: <str"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_that_cannot_be_built_again_is_a_recorded_error_with_its_name_and_message(exc, message):
    back = recorded(exc)
    if isinstance(exc, Mute):
        assert isinstance(back, Mute)
        return
    assert isinstance(back, RecordedError)
    with pytest.raises(RecordedError, match=message):
        raise back


def test_an_exception_class_that_is_gone_is_a_recorded_error():
    found = codec.dump_error(raised(ValueError("bad"))) | {"type": "shop.gone:OutOfStock"}
    back = codec.load_error(found)
    assert isinstance(back, RecordedError)
    assert (back.type_name, back.message) == ("shop.gone:OutOfStock", "bad")


def test_a_name_that_is_no_exception_is_never_called():
    found = codec.dump_error(raised(ValueError("ls"))) | {"type": "subprocess:Popen"}
    assert isinstance(codec.load_error(found), RecordedError)


def test_an_attribute_that_cannot_be_written_is_left_out_and_the_class_stays():
    exc = ValueError("bad")
    exc.response, exc.status = User(), 503
    back = recorded(exc)
    assert type(back) is ValueError
    assert back.status == 503
    assert not hasattr(back, "response")


@pytest.mark.slow
@given(st.text())
@example("a\0b\ud800")
def test_any_message_can_be_stored_in_postgresql(text):
    found = codec.dump_error(raised(ValueError(text)))
    assert "\0" not in json.dumps(found, ensure_ascii=False).encode().decode()
    assert "\\u0000" not in json.dumps(found).replace("\\\\", "")


def test_an_endless_message_is_cut_in_the_middle():
    found = codec.dump_error(raised(ValueError("x" * 10**6)))
    assert len(json.dumps(found)) < 200_000
    assert "characters left out" in found["message"]

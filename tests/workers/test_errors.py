"""Every error of a run survives what a broker and a result backend do to it."""

from __future__ import annotations

import inspect
import pickle

import pytest

from workers import errors

MADE = [
    errors.DurableError("something"),
    errors.ValueTooLarge("the result of step a#1", 2048, 1024, "MAX_VALUE_BYTES"),
    errors.KeyTaken("charge", "aaa", "bbb"),
    errors.ValueUnreadable("gone"),
    errors.JournalMismatch("charge#1", "aaa", "bbb"),
    errors.CallRefused("wait.sleep"),
    errors.NotInRun("wait.sleep"),
    errors.RunContextLost("step"),
    errors.WaitTimeout("no cart/checked-out within 5 minutes"),
    errors.WaitCanceled("canceled by ann"),
    errors.WaitInTransaction("wait.sleep"),
    errors.TransactionLeft("default"),
    errors.SuspensionSwallowed("wait.sleep"),
    errors.WaitInRollback("wait.sleep"),
    errors.RollbackInStep("rollback"),
    errors.AbortRun("no such ticket"),
    errors.ChildFailed("0190", "shop.print_label", {"type": "builtins:ValueError", "message": "no ink"}),
    errors.RecordedError("shop.errors:OutOfStock", "none left"),
    errors.MaxDurationExceeded("ran 61 s, max_duration is 60 s"),
    errors.Suspend("until tomorrow"),
]


def test_every_error_of_the_module_is_tried_here():
    classes = {cls for _, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__}
    assert {type(exc) for exc in MADE} == classes


@pytest.mark.parametrize("exc", MADE, ids=lambda exc: type(exc).__name__)
def test_an_error_survives_pickle_with_its_message_and_attributes(exc):
    copy = pickle.loads(pickle.dumps(exc))
    assert type(copy) is type(exc)
    assert str(copy) == str(exc)
    assert (copy.args, copy.__dict__) == (exc.args, exc.__dict__)


@pytest.mark.parametrize("exc", MADE, ids=lambda exc: type(exc).__name__)
def test_an_error_can_be_made_from_its_args_as_celery_does_with_json_results(exc):
    assert str(type(exc)(*exc.args)) == str(exc)


def test_every_durable_error_has_a_code_of_its_own():
    codes = [type(exc).code for exc in MADE if isinstance(exc, errors.DurableError)]
    assert len(set(codes)) == len(codes)


def test_a_subclass_of_the_user_with_another_constructor_survives_pickle():
    copy = pickle.loads(pickle.dumps(NoSeat(row=7)))
    assert (str(copy), copy.row) == ("no seat in row 7", 7)


class NoSeat(errors.AbortRun):
    def __init__(self, *, row: int) -> None:
        super().__init__(f"no seat in row {row}")
        self.row = row


def test_a_suspension_passes_through_except_exception():
    assert not issubclass(errors.Suspend, Exception)


def test_a_wait_timeout_is_caught_as_timeout_error():
    with pytest.raises(TimeoutError, match="5 minutes"):
        raise errors.WaitTimeout("nothing within 5 minutes")


def test_a_journal_mismatch_names_the_step_both_digests_and_the_two_ways_out():
    text = str(errors.JournalMismatch("charge#1", "aaa", "bbb"))
    assert all(part in text for part in ("charge#1", "aaa", "bbb", "`key=`", "replay"))


def test_a_value_too_large_names_size_limit_and_what_to_do():
    text = str(errors.ValueTooLarge("the result of step a#1", 2048, 1024, "MAX_VALUE_BYTES"))
    assert all(part in text for part in ("the result of step a#1", "2,048", "1,024", "reference", "MAX_VALUE_BYTES"))


def test_a_limit_that_no_setting_sets_names_none():
    assert "raise" not in str(errors.ValueTooLarge("the metadata", 2048, 1024))


def test_a_wait_in_a_transaction_says_why_and_what_to_do():
    text = str(errors.WaitInTransaction("wait.sleep"))
    assert "connection" in text
    assert "Close the atomic() block" in text


def test_a_lost_context_says_how_to_carry_it():
    assert "contextvars.copy_context().run(" in str(errors.RunContextLost("step"))

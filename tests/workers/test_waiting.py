"""What user code sees of waits: values, timeouts, and refusals that leave nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from tests.inprocess import durable, forward
from triggerapp.engine import tokens
from triggerapp.errors import BadFilter, BadInput
from triggerapp.models import Wait, WaitKind
from workers import RetryPolicy, events, step, wait
from workers.errors import NotInRun, SuspensionSwallowed, ValueTooLarge, WaitInTransaction, WaitTimeout

ONCE = RetryPolicy(max_attempts=1)
NAN = float("nan")
NAIVE = datetime(2200, 1, 1)  # noqa: DTZ001
LONG = "x" * 300


def in_run(worker, body):
    """What `body` returns, called in a run."""

    @durable(retry=ONCE)
    def body_in_run():
        return body()

    return worker.until(body_in_run.trigger())


# --- values ---------------------------------------------------------------------------------------


def test_a_run_gets_the_event_it_waited_for(worker):
    @durable
    def purchase(user):
        cart = wait.for_event("cart/checked-out", filter={"userId": [user]})
        return [cart.name, cart.payload]

    run = purchase.trigger("ada")
    worker.work()
    events.send("cart/checked-out", {"userId": "bob"})
    worker.work()
    assert run.status == "WAITING"
    sent = events.send("cart/checked-out", {"userId": "ada", "items": [1]})
    worker.work()
    assert run.get(timeout=0) == ["cart/checked-out", {"userId": "ada", "items": [1]}]
    assert str(Wait.objects.get().event) == sent


def test_an_event_that_does_not_come_in_time_is_an_exception_that_can_be_caught(worker):
    def body():
        try:
            wait.for_event("paid", timeout=timedelta(minutes=5))
        except WaitTimeout as error:
            return str(error)

    assert in_run(worker, body) == "the event paid did not come in time"


def test_a_token_is_given_away_and_its_value_comes_back(worker):
    urls = []

    @durable
    def purchase():
        approval = wait.create_token(timeout=timedelta(days=2))
        step(urls.append, approval.url)
        return approval.wait()

    run = purchase.trigger()
    worker.work()
    (token,) = Wait.objects.filter(kind=WaitKind.TOKEN)
    assert urls == [tokens.url(token.id)]
    tokens.complete(token.id, '{"ok": true}')
    worker.work()
    assert run.get(timeout=0) == {"ok": True}
    assert len(urls) == 1


def test_a_token_made_outside_is_waited_for_by_its_id(worker):
    token = wait.create_token(idempotency_key="approve-7")
    assert wait.create_token(idempotency_key="approve-7") == token

    @durable
    def approve(identifier):
        return wait.for_token(identifier)

    run = approve.trigger(f"waitpoint_{token.id}")
    worker.work()
    tokens.complete(Wait.objects.get().id, '"yes"')
    worker.work()
    assert run.get(timeout=0) == "yes"


def test_tokens_made_outside_are_waited_for_one_after_the_other(worker):
    made = [wait.create_token() for _ in range(2)]

    @durable
    def approve(identifiers):
        return [wait.for_token(identifier) for identifier in identifiers]

    run = approve.trigger([str(token.id) for token in made])
    for number, token in enumerate(made):
        worker.work()
        tokens.complete(token.id, str(number))
    worker.work()
    assert run.get(timeout=0) == [0, 1]


def test_a_request_is_announced_once_and_its_body_comes_back(worker):
    urls = []

    @durable
    def approve():
        return wait.for_request(urls.append)

    run = approve.trigger()
    worker.work()
    tokens.complete(Wait.objects.get().id, '{"from": "outside"}')
    worker.work()
    assert run.get(timeout=0) == {"from": "outside"}
    assert len(urls) == 1
    assert "/callback/" in urls[0]


def test_a_request_that_nobody_makes_times_out_after_an_hour(worker):
    def body():
        with pytest.raises(WaitTimeout):
            wait.for_request(lambda url: None)
        return "gave up"

    assert in_run(worker, body) == "gave up"


def test_a_wait_until_a_moment_that_has_passed_goes_on_or_raises_as_wanted(worker):
    past = datetime(2020, 1, 1, tzinfo=UTC)
    assert in_run(worker, lambda: wait.until(past)) is None
    with pytest.raises(ValueError, match="is in the past"):
        in_run(worker, lambda: wait.until(past, reject_past=True))


def test_waits_with_keys_and_in_loops_are_each_a_wait_of_their_own(worker):
    @durable
    def nag():
        for _ in range(3):
            wait.sleep(hours=1)
        wait.sleep(hours=1, key="last")

    worker.until(nag.trigger())
    assert set(Wait.objects.values_list("key", flat=True)) == {"sleep#1", "sleep#2", "sleep#3", "last"}


def test_an_event_is_sent_once_over_all_entries(worker):
    sent = []

    @durable
    def ship():
        sent.append(events.send("order/shipped", {"order": 7}))
        wait.sleep(1)

    worker.until(ship.trigger())
    assert len(sent) == 2
    assert sent[0] == sent[1]


# --- refusals -------------------------------------------------------------------------------------

REFUSED = {
    "sleep without a time": (wait.sleep, TypeError, "one of them"),
    "sleep with two times": (lambda: wait.sleep(1, days=1), TypeError, "one of them"),
    "a negative sleep": (lambda: wait.sleep(-1), ValueError, "negative"),
    "a sleep of NaN": (lambda: wait.sleep(NAN), ValueError, "NaN"),
    "an endless sleep": (lambda: wait.sleep(float("inf")), (ValueError, OverflowError), "infinity|longest"),
    "a sleep too long": (lambda: wait.sleep(days=400), ValueError, "longest wait, 366 days"),
    "a sleep of text": (lambda: wait.sleep("1h"), TypeError, "1h|str"),
    "a naive moment": (lambda: wait.until(NAIVE), ValueError, "no time zone; pass an aware datetime"),
    "no moment": (lambda: wait.until("2200-01-01"), TypeError, "is not a datetime"),
    "a moment too far": (lambda: wait.until(datetime(9999, 1, 1, tzinfo=UTC)), ValueError, "longest wait, 366 days"),
    "a negative timeout": (lambda: wait.for_event("paid", timeout=timedelta(-1)), ValueError, "timeout.*negative"),
    "a number as timeout": (lambda: wait.for_event("paid", timeout=5), TypeError, "is not a timedelta"),
    "a negative lookback": (lambda: wait.for_event("paid", lookback=timedelta(-1)), ValueError, "lookback.*negative"),
    "an unknown operator": (lambda: wait.for_event("paid", filter={"a": {"$gtr": 1}}), BadFilter, r"\$gtr"),
    "NaN in a filter": (lambda: wait.for_event("paid", filter={"a": [NAN]}), ValueError, "nan, which JSON lacks"),
    "a NUL in a filter": (lambda: wait.for_event("paid", filter={"a": ["\0"]}), ValueError, "NUL"),
    "an event without a name": (lambda: wait.for_event(""), ValueError, "event's name.*1 to 255"),
    "an event's name too long": (lambda: wait.for_event(LONG), ValueError, "event's name.*1 to 255"),
    "a NUL in an event's name": (lambda: wait.for_event("a\0"), ValueError, "event's name"),
    "a key too long": (lambda: wait.sleep(1, key=LONG), ValueError, "1 to 255 characters"),
    "a NUL in a key": (lambda: wait.sleep(1, key="a\0"), ValueError, "no NUL"),
    "an empty key": (lambda: wait.sleep(1, key=""), ValueError, "1 to 255 characters"),
    "a token's negative timeout": (lambda: wait.create_token(timeout=timedelta(-1)), ValueError, "negative"),
    "a token's tags": (lambda: wait.create_token(tags=["t" * 129]), BadInput, "tags.*128 characters"),
    "no token": (lambda: wait.for_token("nonsense"), ValueError, "is not a token's id"),
    "a wait in a transaction": (transaction.atomic()(lambda: wait.sleep(1)), WaitInTransaction, "atomic"),
    "a step's value": (lambda: step(object, key="k"), TypeError, "the result of step k.*value is a object"),
    "NaN in a step's value": (lambda: step(lambda: {"a": NAN}, key="k"), ValueError, r"value\.a is nan"),
    "a NUL in a step's value": (lambda: step(lambda: ["\0"], key="k"), ValueError, r"value\[0\] has a NUL"),
    "a step's value too large": (lambda: step(lambda: "x" * 2**21, key="k"), ValueTooLarge, "2,097,154 bytes.*refer"),
    "an event's payload": (lambda: events.send("paid", object()), TypeError, "the payload of event paid"),
    "NaN in a payload": (lambda: events.send("paid", {"a": [NAN]}), ValueError, r"value\.a\[0\] is nan"),
    "a NUL in a payload": (lambda: events.send("paid", "\0"), ValueError, "NUL"),
    "a payload too large": (lambda: events.send("paid", "x" * 2**21), ValueTooLarge, "payload of event paid.*refer"),
    "an event's id too long": (lambda: events.send("paid", 1, id=LONG), ValueError, "id.*1 to 255 characters"),
    "a NUL in an event's id": (lambda: events.send("paid", 1, id="\0"), ValueError, "id.*1 to 255 characters"),
}


@pytest.mark.parametrize(("body", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_refused_and_leaves_no_wait(worker, body, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        in_run(worker, body)
    assert not Wait.objects.exists()


def test_swallowing_the_suspension_fails_the_run_with_what_to_do(worker):
    def body():
        try:
            wait.sleep(1)
        except BaseException:
            return "went on"

    with pytest.raises(SuspensionSwallowed, match="Use `except Exception`"):
        in_run(worker, body)


def test_an_ordinary_except_lets_the_suspension_pass(worker):
    def body():
        try:
            wait.sleep(1)
        except Exception:
            return "swallowed"
        return "waited"

    assert in_run(worker, body) == "waited"


OUTSIDE = {
    "wait.sleep": lambda: wait.sleep(1),
    "wait.until": lambda: wait.until(datetime(2200, 1, 1, tzinfo=UTC)),
    "wait.for_event": lambda: wait.for_event("paid"),
    "wait.for_token": lambda: wait.for_token("0" * 32),
    "wait.for_request": lambda: wait.for_request(print),
}


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(("called", "call"), OUTSIDE.items(), ids=OUTSIDE)
def test_waits_outside_of_a_run_say_so(called, call):
    with pytest.raises(NotInRun, match=f"{called} was called outside a run: it works only in a function under"):
        call()
    assert not Wait.objects.exists()


def test_the_longest_name_of_an_event_is_as_good_inside_a_run_as_outside(worker):
    name = "n" * 255
    events.send(name)

    def body():
        events.send(name)
        return [wait.for_event(name).name for _ in range(2)]

    assert in_run(worker, body) == [name, name]


def test_a_timeout_of_nothing_looks_once(worker):
    events.send("paid", 7)
    assert in_run(worker, lambda: wait.for_event("paid", timeout=timedelta()).payload) == 7
    forward(hours=2)
    with pytest.raises(WaitTimeout):
        in_run(worker, lambda: wait.for_event("paid", timeout=timedelta()))

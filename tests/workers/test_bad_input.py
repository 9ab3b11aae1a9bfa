"""What cannot be is refused by name where it is said, and nothing is accepted or sent."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, date, datetime, timedelta

import pytest
from celery import Task
from kombu.exceptions import EncodeError

from tests.factories import now
from tests.inprocess import durable, messages
from triggerapp.engine.verbs import cancel_stamped
from triggerapp.errors import BadInput, Unserializable
from triggerapp.models import Event, Run, Status
from workers import RetryPolicy, events, rollback, step, wait
from workers.errors import ValueTooLarge

ONCE = RetryPolicy(max_attempts=1)
NAN, INFINITY = float("nan"), float("inf")
NAIVE = datetime(2199, 1, 1)  # noqa: DTZ001
SURROGATE = "half a pair \ud83d"


@durable
def noop(*args, **kwargs):
    return list(args)


@pytest.fixture(autouse=True)
def started(worker):
    return worker


def refused(call, error, message):
    with pytest.raises(error, match=f"(?s){message}") as caught:
        call()
    assert (Run.objects.count(), Event.objects.count(), messages()) == (0, 0, [])
    return caught.value


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"idempotencykey": "k"}, "has no option 'idempotencykey'; did you mean 'idempotency_key'"),
        ({"tag": ["a"]}, "no option 'tag'; did you mean 'tags'"),
        ({"count_down": 5}, "no option 'count_down'; did you mean 'countdown'"),
        ({"args": (1,)}, "no option 'args'"),
        ({"zzz": 1}, "no option 'zzz'; apply_async passes on"),
    ],
)
def test_an_option_that_nobody_knows_is_refused_with_the_nearest_one(options, message):
    refused(lambda: noop.with_options(**options), TypeError, f"{noop.name}.*{message}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task_id": 5}, "task_id=5: it takes a string"),
        ({"link": 5}, "link=5: it takes a signature"),
        ({"link_error": [noop.s(), noop]}, "link_error=.*: it takes a signature"),
    ],
)
def test_an_option_that_no_worker_could_read_is_refused(options, message):
    refused(lambda: noop.apply_async((1,), **options), TypeError, message)
    refused(lambda: noop.with_options(**options).trigger(1), TypeError, message)


def test_all_of_celerys_options_pass():
    options = {
        "countdown": 5,
        "expires": 600,
        "priority": 3,
        "queue": "celery",
        "serializer": "json",
        "compression": "zlib",
        "headers": {"trace": "t1"},
        "link": noop.s(),
        "link_error": noop.s(),
        "shadow": "other",
        "ignore_result": True,
        "add_to_parent": False,
        "retry": True,
        "retry_policy": {"max_retries": 1},
        "time_limit": 60,
        "soft_time_limit": 30,
        "delivery_mode": 1,
        "reply_to": "replies",
        "task_id": "01890000-0000-7000-8000-000000000000",
        "stamped_headers": ["customer"],
        "customer": "ada",
    }
    run = noop.with_options(**options).trigger(1)
    assert (run.status, run.task_id) == ("DELAYED", options["task_id"])
    headers = json.loads(run.refresh().message)["headers"]
    assert (headers["trace"], headers["shadow"], headers["timelimit"]) == ("t1", "other", [60, 30])
    assert headers["stamps"] == {"customer": "ada"}


def test_an_option_of_the_tasks_own_base_class_passes():
    class Tenanted(Task):
        abstract = True

        def apply_async(self, args=None, kwargs=None, *, tenant=None, **options):
            return super().apply_async(args, {**(kwargs or {}), "tenant": tenant}, **options)

    @durable(base=Tenanted)
    def sells(tenant):
        return tenant

    assert sells.with_options(tenant="t1").options == {"tenant": "t1"}


def test_apply_async_passes_on_what_it_does_not_know_as_celery_does(started):
    result = noop.apply_async((1,), only_a_router_knows=True)
    assert started.until(Run.objects.get(task_id=result.id)) == [1]


@pytest.mark.parametrize("batch", [["x"], "x", [(1,), "x"], [{"a": 1}], [5]], ids=repr)
def test_an_item_of_a_batch_is_a_tuple_and_no_text_is_taken_for_its_characters(batch):
    refused(lambda: noop.batch_trigger(batch), BadInput, r"item [01] of batch_trigger is .*: an item is a tuple of one")


def test_a_batch_that_is_no_sequence_is_refused():
    refused(lambda: noop.batch_trigger(5), BadInput, r"batch_trigger takes tuples of positional arguments, as in .*5,")


# --- what a serializer cannot take ----------------------------------------------------------------

CALLS = {
    "args": (lambda: noop.trigger(1, {"order": [{"at": object()}]}), r"args\[1\]\.order\[0\]\.at is of type object"),
    "kwargs": (lambda: noop.trigger(order={"a b": {1, 2, frozenset()}}), r"kwargs\.order\['a b'\]"),
    "delay": (lambda: noop.delay(b"\xff", lambda: 1), r"args\[1\] is of type function"),
    "link": (lambda: noop.apply_async(link=noop.s(object())), r"callbacks\.callbacks\[0\]"),
    "of a batch, the second": (lambda: noop.batch_trigger([(1,), (object(),)]), r"args\[0\] is of type object"),
}


@pytest.mark.parametrize(("call", "path"), CALLS.values(), ids=CALLS)
def test_an_argument_that_cannot_be_encoded_is_named_with_its_task_and_path(call, path):
    error = refused(call, Unserializable, f"the call of {noop.name} cannot be encoded as json: {path}.*serializable")
    assert isinstance(error, EncodeError)  # as Celery's users catch it
    assert isinstance(error, ValueError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_an_argument_that_contains_itself_is_refused():
    loop = []
    loop.append(loop)
    refused(lambda: noop.trigger(loop), Unserializable, r"args\[0\].*Circular|args\[0\].*recursion")


def test_a_header_that_is_no_json_is_named():
    refused(lambda: noop.apply_async(headers={"trace": object()}), Unserializable, r"headers\.trace is of type object")


def test_a_result_that_cannot_be_encoded_is_named_with_its_path(started):
    @durable(retry=ONCE)
    def bad():
        return {"rows": [1, object()]}

    with pytest.raises(TypeError, match=rf"the result of {bad.name} .*value\.rows\[1\] is of type object"):
        started.until(bad.trigger())


# --- times ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("countdown", [NAN, INFINITY, -INFINITY, "5", [5], 1e300, 10**12], ids=repr)
def test_a_countdown_is_a_number_of_seconds(countdown):
    refused(lambda: noop.apply_async(countdown=countdown), BadInput, "countdown=")


@pytest.mark.parametrize("eta", ["soon", 5, date(2200, 1, 1)], ids=repr)
def test_an_eta_is_a_moment(eta):
    refused(lambda: noop.apply_async(eta=eta), BadInput, "eta=.*datetime, or its text in ISO 8601")


@pytest.mark.parametrize("expires", [NAN, INFINITY, "soon", [5], date(2200, 1, 1)], ids=repr)
def test_expires_is_seconds_or_a_moment(expires):
    refused(lambda: noop.apply_async(expires=expires), BadInput, "expires=")


def test_a_delay_beyond_the_calendar_is_refused():
    refused(lambda: noop.with_options(delay=timedelta.max).trigger(), BadInput, "delay=.*longer than 100 years")


@pytest.mark.parametrize("options", [{"countdown": 0}, {"countdown": -5}], ids=repr)
def test_a_countdown_that_is_over_is_now(options):
    noop.apply_async(**options)
    assert Run.objects.get().status == Status.QUEUED


@pytest.mark.parametrize(
    "eta", [datetime.min.replace(tzinfo=UTC), NAIVE.replace(year=1), datetime.fromtimestamp(0, UTC)], ids=str
)
def test_an_eta_of_any_past_is_at_once_as_celerys_is(eta):
    noop.apply_async(eta=eta)
    assert Run.objects.get().due_at < now()


def test_an_eta_that_nobody_means_is_refused_by_its_name():
    eta = datetime.max.replace(tzinfo=UTC)
    refused(lambda: noop.apply_async(eta=eta), BadInput, "eta=9999-.* from 2000 to 2199")


def test_a_naive_eta_is_in_the_apps_time_zone_and_a_naive_expiry_in_utc_as_celerys_are():
    noop.apply_async(eta=NAIVE, expires=NAIVE + timedelta(days=1))
    run = Run.objects.get()
    assert run.due_at == NAIVE.replace(tzinfo=noop.app.timezone)
    assert run.expires_at == NAIVE.replace(tzinfo=UTC) + timedelta(days=1)


@pytest.mark.parametrize("priority", ["high", -1, 256, 2.5, True, NAN], ids=repr)
def test_a_priority_is_a_number_that_brokers_have(priority):
    refused(lambda: noop.with_options(priority=priority).trigger(), BadInput, "priority=.*whole number from 0 to 255")


REFUSALS = {
    "a policy": lambda: RetryPolicy(max_attempts=0),
    "an option": lambda: noop.with_options(priorities=1),
    "a payload": lambda: events.send("paid", NAN),
    "what no JSON is": lambda: events.send("paid", object()),
    "what contains itself": lambda: events.send("paid", LOOP),
}
LOOP = []
LOOP.append(LOOP)


@pytest.mark.parametrize("call", REFUSALS.values(), ids=REFUSALS)
def test_every_refusal_is_a_bad_input_whatever_else_it_is(call):
    refused(call, BadInput, "")


def test_every_refusal_within_a_run_is_a_bad_input_too(started):
    @durable(retry=ONCE)
    def sells():
        calls = [
            lambda: wait.sleep(-1),
            lambda: wait.sleep("long"),
            wait.sleep,
            lambda: wait.until("soon"),
            lambda: wait.until(NAIVE),
            lambda: wait.until(datetime(2020, 1, 1, tzinfo=UTC), reject_past=True),
            lambda: wait.for_event("paid", timeout=5),
            lambda: wait.for_token("rubbish"),
            lambda: step(object, key="value"),
            lambda: step(lambda: 1, key=""),
            lambda: step(lambda: 1, key=5),
            lambda: wait.for_event("paid", key=5),
            lambda: step({"the value": "of a call made already"}),
            lambda: step(5, 1),
            lambda: step(abs, -1, rollback=5),
            lambda: rollback(None),
        ]
        return [_kind_of_refusal(call) for call in calls]

    assert started.until(sells.trigger()) == [True] * 16


def _kind_of_refusal(call):
    try:
        call()
    except Exception as error:
        return isinstance(error, BadInput)
    return False


# --- text and numbers that PostgreSQL or JSON lack ------------------------------------------------


@pytest.mark.parametrize("text", ["a\0b", SURROGATE, "", "x" * 256, None, 5], ids=ascii)
def test_an_events_name_is_a_text_that_can_be_stored(text):
    refused(lambda: events.send(text), BadInput, "an event's name")


@pytest.mark.parametrize("text", ["a\0b", SURROGATE, "", "x" * 256, 5], ids=ascii)
def test_an_events_id_is_a_text_that_can_be_stored(text):
    refused(lambda: events.send("paid", id=text), BadInput, "an event's id")


@pytest.mark.parametrize("text", ["a\0b", SURROGATE], ids=ascii)
def test_text_that_cannot_be_stored_is_refused_wherever_it_is_said(text):
    refused(lambda: noop.with_options(tags=[text]).trigger(), BadInput, "tags=")
    refused(lambda: noop.with_options(idempotency_key=text).trigger(), BadInput, "idempotency_key=")
    refused(lambda: noop.with_options(concurrency_key=text).trigger(), BadInput, "concurrency_key=")
    refused(lambda: noop.with_options(metadata={"a": text}).trigger(), BadInput, "metadata")
    refused(lambda: noop.apply_async(task_id=text), BadInput, "task id|message of")
    refused(lambda: noop.apply_async(queue=text), BadInput, "queue|message of")
    refused(lambda: noop.apply_async(shadow=text), BadInput, f"the message of {noop.name} contains")
    refused(lambda: noop.apply_async(stamped_headers=["by"], by=text), BadInput, f"the message of {noop.name} contains")
    refused(lambda: events.send("paid", {"a": text}), ValueError, r"value\.a has a")
    refused(lambda: wait.create_token(tags=[text]), BadInput, "tags=")


@pytest.mark.parametrize("text", ["a\0b", SURROGATE], ids=ascii)
def test_text_that_cannot_be_stored_is_refused_within_a_run_too(started, text):
    @durable(retry=ONCE)
    def sells():
        calls = [
            lambda: step(lambda: text, key="value"),
            lambda: step(lambda: 1, key=text),
            lambda: wait.sleep(1, key=text),
            lambda: wait.for_event(text),
            lambda: wait.for_event("paid", filter={"a": text}),
            lambda: events.send("paid", text),
        ]
        return [_refusal(call) for call in calls]

    assert all(started.until(sells.trigger()))
    assert Run.objects.get().status == Status.COMPLETED


def _refusal(call):
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("value", ["a\0b", SURROGATE], ids=ascii)
def test_arguments_and_results_carry_any_text_as_celerys_do(started, value):
    run = noop.trigger(value)
    assert cancel_stamped({"by": ["ada"]}) == 0  # which reads the messages of all live runs
    assert started.until(run) == [value]


def test_nan_and_infinity_are_carried_in_arguments_and_results_and_nowhere_else(started):
    not_a_number, *infinities = started.until(noop.trigger(NAN, INFINITY, -INFINITY))
    assert not_a_number != not_a_number
    assert infinities == [INFINITY, -INFINITY]
    Run.objects.all().delete()
    refused(lambda: noop.with_options(metadata={"a": NAN}).trigger(), BadInput, "without NaN or Infinity")
    refused(lambda: events.send("paid", {"a": INFINITY}), ValueError, r"value\.a is inf, which JSON lacks; use None")


# --- what is refused within a run -------------------------------------------------------------------

WITHIN = {
    "a wait": lambda: wait.sleep(-1),
    "an event": lambda: events.send("", {}),
    "a filter": lambda: wait.for_event("paid", filter={"total": {"$most": 1}}),
    "an option's name": lambda: noop.with_options(tagz=["a"]),
    "an option": lambda: noop.with_options(tags=[""]).trigger(),
    "a batch": lambda: noop.batch_trigger(["x"]),
    "an argument": lambda: noop.trigger(object()),
}


@pytest.mark.parametrize("call", WITHIN.values(), ids=WITHIN)
def test_a_refused_call_fails_its_run_at_once_because_the_next_attempt_would_be_refused_too(started, call):
    entered = []

    @durable
    def sells():
        entered.append(1)
        call()

    run = sells.trigger()
    with pytest.raises(BadInput):
        started.until(run)
    assert (run.status, run.refresh().attempt, len(entered)) == ("FAILED", 1, 1)


@pytest.mark.parametrize("value", [object(), NAN, "x" * 2_000_000], ids=["no JSON", "NaN", "too large"])
def test_a_step_is_not_made_again_for_a_value_that_cannot_be_recorded(started, value):
    made = []

    @durable
    def sells():
        step(lambda: made.append(1) or value, key="charge", retry=RetryPolicy(max_attempts=5))

    with pytest.raises((BadInput, ValueTooLarge)):
        started.until(sells.trigger())
    assert made == [1]

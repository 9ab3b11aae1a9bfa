"""Which runs stay in the pool process of a worker that keeps images: those of tasks that are short and never wait."""

from __future__ import annotations

import functools
import pickle
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings

import workers
from tests.inprocess import Worker, durable
from workers import RetryPolicy, identity, light, step, wait
from workers import wait as pause
from workers.options import TaskOptions
from workers.tracer import Suspended
from workers.wait import sleep

# -- what can be seen ------------------------------------------------------------------------------


def adds(one: int) -> int:
    return one + max(one, 1) + len(time.tzname)


def sleeps() -> None:
    pause.sleep(1)


def sleeps_by_its_name() -> None:
    sleep(1)


def sleeps_by_the_package() -> None:
    workers.wait.sleep(1)


def awaits_a_token(token: Any) -> None:
    token.wait()


def awaits_a_child(task: Any) -> None:
    task.trigger_and_wait()


def calls_one_that_sleeps() -> None:
    calls_it()


def calls_it() -> None:
    sleeps()


def defines_one_that_sleeps() -> Callable[[], None]:
    return lambda: [wait.sleep(each) for each in range(3)] and None


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return function(*args)

    return call


class Service:
    """A class of the project's, with a wait in one of its methods."""

    def approve(self) -> None:
        wait.for_event("approved")

    def count(self) -> int:
        return 1


def makes_a_service() -> None:
    Service().approve()


def around(one: int) -> int:
    """One that calls itself."""
    return around(one - 1) if one else 0


@pytest.mark.parametrize(
    "function",
    [
        sleeps,
        sleeps_by_its_name,
        sleeps_by_the_package,
        awaits_a_token,
        awaits_a_child,
        calls_one_that_sleeps,
        defines_one_that_sleeps,
        decorated(sleeps),
        functools.wraps(sleeps)(lambda: None),
        makes_a_service,
        Service().count,
    ],
    ids=lambda function: getattr(function, "__qualname__", "?"),
)
def test_a_wait_is_seen(function: Callable[..., object]) -> None:
    assert light.is_seen_to_wait(function)


class Touchy:
    """As Django's and Flask's proxies: whoever looks at it sets it up."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise AssertionError("it was touched")

    def __getattr__(self, name: str) -> object:
        raise AssertionError("it was touched")


proxy = Touchy()


def uses_a_proxy() -> None:
    proxy.do()  # type: ignore[operator]


def has_a_step() -> None:
    """What is beyond the project's own package is not looked at."""
    step(adds, 1)


@pytest.mark.parametrize("function", [adds, decorated(adds), around, uses_a_proxy, has_a_step, len])
def test_no_wait_is_seen_where_there_is_none(function: Callable[..., object]) -> None:
    assert not light.is_seen_to_wait(function)


# -- how it goes -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    _forget()
    with override_settings(TRIGGERAPP={"CHECKPOINT": "auto"}):
        yield
    _forget()


def _forget() -> None:
    light._short.clear()
    light._seen_to_wait.clear()


def task(run: Callable[..., object] = adds, *, checkpoint: bool | None = None) -> Any:
    return SimpleNamespace(name="a task", run=run, durable=TaskOptions(checkpoint=checkpoint))


def claimed(*, again: bool = False, waits: tuple[str, ...] = ()) -> Any:
    return SimpleNamespace(again=again, waits=[{"key": key} for key in waits])


def goes(of: Any, run: Any = None, *, error: BaseException | None = None) -> bool:
    """Whether the run stays in the pool process; it ends at once, by this error if there is one."""
    with light.judged(of, run or claimed()) as stays:
        if error is not None:
            raise error
    return stays


def make_light(of: Any) -> None:
    assert [goes(of) for _ in range(light.IN_A_ROW)] == [False] * light.IN_A_ROW
    assert goes(of)


def test_a_task_whose_runs_are_short_becomes_light() -> None:
    make_light(task())
    assert goes(task())


def test_failing_fast_is_short_too() -> None:
    for _ in range(light.IN_A_ROW):
        with pytest.raises(ValueError, match="no"):
            goes(task(), error=ValueError("no"))
    assert goes(task())


def test_a_long_run_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    make_light(task())
    monkeypatch.setattr(light, "SHORT", 0.0)
    assert goes(task())
    monkeypatch.undo()
    with override_settings(TRIGGERAPP={"CHECKPOINT": "auto"}):
        make_light(task())


def test_a_run_that_waits_ends_it_for_ever() -> None:
    make_light(task())
    with pytest.raises(Suspended):
        goes(task(), error=Suspended("a wait", at="sleep#1"))
    assert not any(goes(task()) for _ in range(3 * light.IN_A_ROW))


def test_so_does_one_that_has_waited_elsewhere() -> None:
    make_light(task())
    assert not goes(task(), claimed(again=True, waits=("a wait",)))
    assert not any(goes(task()) for _ in range(3 * light.IN_A_ROW))


PAUSES = ("charge#1:retry#1.1", "ship#1/label#1:retry#1.2.1")


@pytest.mark.parametrize("at", [*PAUSES, None])
def test_a_step_that_is_tried_again_and_a_worker_that_shuts_down_do_not(at: str | None) -> None:
    make_light(task())
    with pytest.raises(Suspended):
        goes(task(), error=pickle.loads(pickle.dumps(Suspended("gone", at=at))))  # as from a run process
    assert not goes(task(), claimed(again=True, waits=PAUSES))
    assert goes(task())


def fails() -> None:
    raise ConnectionError("not now")


def tries_again() -> None:
    step(fails, retry=RetryPolicy(min_delay=timedelta(minutes=5), max_delay=timedelta(hours=1)))


@pytest.mark.parametrize(("body", "is_light"), [(tries_again, True), (sleeps, False)])
def test_a_run_says_what_it_left_at(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, body: Callable[[], None], is_light: bool
) -> None:
    monkeypatch.setattr(identity, "home", lambda: Path("nowhere"))
    work = durable(body)
    light._short[work.name], light._seen_to_wait[work.name] = light.IN_A_ROW, False
    run = work.trigger()
    worker.work()
    assert run.status == "WAITING"
    assert (light._short[work.name] > light.IN_A_ROW) is is_light


def test_a_wait_within_a_step_that_is_tried_again_does() -> None:
    make_light(task())
    assert not goes(task(), claimed(again=True, waits=(*PAUSES, "odd#1:retry#1/sleep#1")))
    assert not goes(task())


def test_a_run_that_was_here_before_may_have_an_image_and_gets_a_process() -> None:
    make_light(task())
    assert not goes(task(), claimed(again=True))
    assert goes(task())


def test_a_task_that_is_seen_to_wait_is_never_light() -> None:
    assert not any(goes(task(sleeps)) for _ in range(3 * light.IN_A_ROW))


class Unhashable:
    """A callable that no cache takes, as is every one that says what is equal to it."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self) -> int:
        return 1


def test_a_task_whose_callable_has_no_hash_may_be_light() -> None:
    make_light(task(Unhashable()))


def test_a_task_whose_code_cannot_be_read_runs_all_the_same_and_is_never_light() -> None:
    def broken() -> None:
        """Says nonsense of where it is from."""

    broken.__module__ = 5  # type: ignore[assignment]
    assert not any(goes(task(broken)) for _ in range(3 * light.IN_A_ROW))


def test_what_the_task_itself_says_counts() -> None:
    assert not any(goes(task(checkpoint=True)) for _ in range(3 * light.IN_A_ROW))
    assert goes(task(sleeps, checkpoint=False), claimed(again=True))


def test_where_checkpoints_are_on_every_run_has_a_process() -> None:
    with override_settings(TRIGGERAPP={"CHECKPOINT": "on"}):
        assert not any(goes(task()) for _ in range(3 * light.IN_A_ROW))

"""Messages are captured side by side: threads share the result backend, and none disturbs another's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from celery import Celery
from celery.backends.redis import RedisBackend

from triggerapp.engine import dispatch
from triggerapp.errors import Unserializable

SOON = 60.0


@pytest.fixture
def subscribed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The results that Celery subscribed to."""
    asked: list[str] = []
    monkeypatch.setattr(RedisBackend, "on_task_call", lambda self, producer, task_id: asked.append(task_id))
    return asked


@pytest.fixture
def shop() -> Celery:
    """An app as in a web process: its threads share one backend, which is never connected to here."""
    app = Celery("shop", backend="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.result_backend_thread_safe = True
    return app


def capture(app: Celery, task_id: str, *, at_work: Event | None = None, go_on: Event | None = None) -> dispatch.Message:
    """Capture a call; `at_work` is set in the middle of it, and it goes on with `go_on`."""

    def send(**options: Any) -> object:
        if at_work is not None and go_on is not None:
            at_work.set()
            assert go_on.wait(SOON)
        return app.send_task("pay", task_id=task_id, **options)

    return dispatch.capture(app, send)[0]


def test_a_captured_call_does_not_subscribe_though_another_thread_has_just_captured_one(
    shop: Celery, subscribed: list[str]
):
    at_work, go_on = Event(), Event()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(capture, shop, "slow", at_work=at_work, go_on=go_on)
        assert at_work.wait(SOON)
        capture(shop, "fast")
        go_on.set()
        assert slow.result(SOON).headers["id"] == "slow"
    assert subscribed == []


def test_a_plain_call_subscribes_meanwhile_and_afterwards(shop: Celery, subscribed: list[str]):
    at_work, go_on = Event(), Event()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(capture, shop, "slow", at_work=at_work, go_on=go_on)
        assert at_work.wait(SOON)
        shop.backend.on_task_call(None, "meanwhile")
        go_on.set()
        slow.result(SOON)
    shop.backend.on_task_call(None, "afterwards")
    assert subscribed == ["meanwhile", "afterwards"]


def test_a_call_that_cannot_be_captured_leaves_nothing_behind(shop: Celery, subscribed: list[str]):
    with pytest.raises(Unserializable):
        dispatch.capture(shop, lambda **options: shop.send_task("pay", args=[object()], **options))
    shop.backend.on_task_call(None, "afterwards")
    assert subscribed == ["afterwards"]

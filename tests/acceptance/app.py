"""The Celery app of the acceptance tests: `celery -A tests.acceptance.app worker`, and the tests themselves.

Every task goes to the queue of the worker under test: in a worker that is its own, in the tests the one
last chosen with `route_to`.
"""

from __future__ import annotations

import os

from celery import Celery, _state

from tests import pauses

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.acceptance.settings")
pauses.install()

_queue = os.environ.get("ACCEPTANCE_QUEUE", "acceptance")


def route_to(queue: str) -> None:
    """Send to this queue from now on."""
    global _queue
    _queue = queue


def route(name: str, args: object, kwargs: object, options: dict[str, object], **_: object) -> dict[str, str]:
    return {"queue": _queue}


_others = _state._tls.current_app, _state.default_app
app = Celery("acceptance", include=[f"tests.acceptance.{name}" for name in ("tasks", "trouble", "nested", "memory")])
app.config_from_object("tests.acceptance.settings", namespace="CELERY")  # the tests have other Django settings
app.conf.update(
    task_routes=(route,),
    task_send_sent_event=True,
    worker_hijack_root_logger=True,
    worker_proc_alive_timeout=120.0,  # Celery kills a pool process that is not up by then; its own limit is 4 s
)
if "ACCEPTANCE_QUEUE" not in os.environ:  # other apps live in the tests' process, and stay what they were
    _state._tls.current_app, _state.default_app = _others

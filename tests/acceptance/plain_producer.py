"""A producer that knows nothing of us: plain Celery, in a process of its own. Prints the ids of what it sent."""

from __future__ import annotations

import json
import sys

from celery import Celery, chain, chord

broker, backend, queue, tag = sys.argv[1:]
app = Celery("plain", broker=broker, backend=backend)
app.conf.update(accept_content=["json", "pickle", "yaml"], task_default_queue=queue)


def named(name: str, *args: object, **options: object):
    return app.signature(f"tests.acceptance.tasks.{name}", args=args, **options)


sent = {
    "once": app.send_task("tests.acceptance.tasks.add", (1, 2)),
    "pickled": app.send_task("tests.acceptance.tasks.kinds", ({1, 2, 3},), serializer="pickle"),
    "later": app.send_task("tests.acceptance.tasks.add", (1, 3), countdown=0.5),
    "headers": app.send_task("tests.acceptance.tasks.who", (tag,), headers={"custom": "plain"}, priority=3),
    "chained": chain(named("add", 1, 1), named("add", 5)).apply_async(),
    "chorded": chord([named("add", 1, 1), named("add", 2, 2)])(named("total")),
    "retried": app.send_task("tests.acceptance.tasks.retries_by_hand", (f"{tag}:retried",)),
    "replaced": app.send_task("tests.acceptance.tasks.becomes", (dict(named("add", 3, 3)),)),
    "mapped": app.send_task("celery.starmap", kwargs={"task": dict(named("add")), "it": [[1, 1], [2, 2]]}),
    "killed": app.send_task("tests.acceptance.tasks.works", (f"{tag}:works", 0.1), soft_time_limit=60),
}
assert "workers" not in sys.modules and "triggerapp" not in sys.modules
sys.stdout.write(json.dumps({name: result.id for name, result in sent.items()}))

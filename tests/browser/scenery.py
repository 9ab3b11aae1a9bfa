"""One of everything that a page can show, so that no page is looked at while it is empty; and its evil twin.

The rows are ended or wait, and so left alone by the worker of the live site.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from tests.factories import make_event, make_event_wait, make_run, make_step, make_wait
from triggerapp.clock import now
from triggerapp.engine import audit, environments, envvars, keys, queues
from triggerapp.models import (
    Attempt,
    BulkAction,
    BulkStatus,
    Delivery,
    Deployment,
    Destination,
    Endpoint,
    EndpointSecret,
    Firing,
    LogLine,
    Notice,
    Run,
    Schedule,
    Start,
    Status,
    WaitKind,
    WaitStatus,
    Worker,
)
from triggerapp.models.runs import new_id

HOUR = timedelta(hours=1)
_ATTRIBUTE = "x\" autofocus onfocus=alert('xss') y=\"' onmouseover=alert('xss') z='`onpointerenter=alert('xss')`"
_MARKUP = "<img src=x onerror=alert('xss')><script>alert('xss')</script>\"'>{{7*7}}</textarea></pre>"
_VECTOR = "</title></style><svg/onload=alert('xss')><iframe srcdoc='<script>alert(1)</script>'></iframe>\u202e"
_HTMX = "<div hx-get=/evil hx-trigger=load hx-on:htmx:load=alert('xss') sse-swap=facts></div><!--"
EVIL = {
    "link": "javascript:alert('xss')//<a href=\"javascript:alert('xss')\">here</a><base href=//evil.example>",
    "attribute and elements": _ATTRIBUTE + _MARKUP,
    "ends and elements": _VECTOR + _HTMX,
}
"""What comes from outside, and wants to be more than text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenery:
    """The rows that pages are about."""

    failed: Run
    waiting: Run
    completed: Run
    bulk: BulkAction
    schedule: Schedule
    delivery: Delivery
    destination: Destination
    event: str
    task: str
    tag: str

    def addresses(self) -> dict[str, str]:
        """A page of each kind, by its name."""
        return {
            "runs": f"runs/?period=all&tag={self.tag}",
            "runs-none": "runs/?task=none",
            "run-failed": f"runs/{self.failed.id}/",
            "run-waiting": f"runs/{self.waiting.id}/",
            "run-completed": f"runs/{self.completed.id}/",
            "waits": "waits/",
            "events": "events/",
            "event": f"events/{self.event}/",
            "tasks": "tasks/",
            "test": f"tasks/{self.task}/test",
            "queues": "queues/",
            "workers": "workers/",
            "bulks": "bulk/",
            "bulk": f"bulk/{self.bulk.id}/",
            "webhooks": "webhooks/",
            "endpoint": f"webhooks/{self.delivery.endpoint_id}/",
            "delivery": f"deliveries/{self.delivery.id}/",
            "destinations": "destinations/",
            "destination": f"destinations/{self.destination.id}/",
            "schedules": "schedules/",
            "schedule": f"schedules/{self.schedule.id}/",
            "versions": "versions/",
            "variables": "variables/",
            "metrics": "metrics/",
            "keys": "keys/",
            "tokens": "tokens/",
            "audit": "audit/",
            "failure": "runs/00000000-0000-0000-0000-000000000000/",
        }


def ordinary() -> Scenery:
    """A shop on an ordinary day."""
    return _make(task="shop.purchase", name="cart/checked-out", word="tkt_42", queue="orders", tag="vip")


def evil(word: str) -> Scenery:
    """All that comes from outside is this."""
    short = word[:100]
    return _make(task=short, name=short, word=word, queue=short, tag=short, page="shop.echo")


def _make(*, task: str, name: str, word: str, queue: str, tag: str, page: str = "") -> Scenery:
    common = _common(task, word, queue, tag)
    completed = make_run(
        Status.COMPLETED, result=json.dumps({word: word}).encode(), result_type="application/json", **common
    )
    failed, waiting = _failed(name, word, common), _waiting(name, word, common)
    make_wait(make_run(Status.WAITING, **common), WaitKind.TOKEN, key=f"{word[:60]}#1", tags=[tag])
    for status in (Status.CANCELED, Status.EXPIRED, Status.TIMED_OUT, Status.CRASHED):
        make_run(status, **common)
    event = _told_by_an_event(name, word, completed)
    return Scenery(
        schedule=_by_the_clock(task, word, completed),
        delivery=_posted(word, event),
        destination=_told(word, failed, completed),
        failed=failed,
        waiting=waiting,
        completed=completed,
        bulk=_done(name, word),
        event=str(event),
        task=page or task,
        tag=tag,
    )


def _common(task: str, word: str, queue: str, tag: str) -> dict[str, Any]:
    """What all runs have."""
    body = json.dumps([[word], {word: [1, {word: None}], "password": "s3cret"}, {}]).encode()
    created = now() - HOUR
    moments = {"created_at": created, "started_at": created + timedelta(seconds=2)}
    return {"task": task, "queue": queue, "tags": [tag, "eu"], "payload": body, **moments}


def _waiting(name: str, word: str, common: dict[str, Any]) -> Run:
    """A run that waits for an event, behind a step and a child."""
    run = make_run(Status.WAITING, worker=_worker(word), **common)
    make_step(run, f"{word[:60]}#1", word)
    make_event_wait(run, name, {"ticket": [word]}, expires_at=Now() + HOUR)
    make_run(Status.COMPLETED, task=common["task"], parent=run, root=run, parent_key=f"trigger:{word[:60]}#1")
    return run


def _told_by_an_event(name: str, word: str, run: Run) -> UUID:
    """An event that ended the run's wait, started it, and could not start another."""
    event = make_event(name, {"ticket": word, word: word}, external_id=f"{word}-{new_id()}"[-255:])
    resolved = {"status": WaitStatus.RESOLVED, "resolved_at": Now()}
    make_wait(run, WaitKind.EVENT, key="paid#1", name=name, event=event.id, **resolved)
    for started, error in ((run.pk, ""), (None, word)):
        what = f"{new_id().hex[-4:]} {word}"[:255]
        Start.objects.create(environment_id=environments.current(), event=event, task=what, run=started, error=error)
    return event.id


def _done(name: str, word: str) -> BulkAction:
    """What people did to it, and the keys that they gave away."""
    environment = environments.current()
    keys.create("dev", word[:64], scopes=["read"], ttl=HOUR, actor=word)
    audit.record(environment, word, "event.send", name, before={word: word}, after={word: word})
    return BulkAction.objects.create(
        environment_id=environment,
        verb="retry",
        actor=f"user {word}",
        status=BulkStatus.COMPLETED,
        total=40,
        done=37,
        refused=3,
        last_refusal=f"run {word} is completed: only a failed run can be retried; replay it instead",
    )


def _posted(word: str, event: UUID) -> Delivery:
    """What others sent to an endpoint, by whatever name they call themselves."""
    environment = environments.current()
    endpoint = Endpoint.objects.create(
        environment_id=environment, name=f"payments-{new_id().hex[-8:]}", preset="generic", created_by=word
    )
    EndpointSecret.objects.create(endpoint=endpoint, sealed=b"", hint="1f3a", created_by=word)
    common = {
        "endpoint": endpoint,
        "environment_id": environment,
        "type": word[:255],
        "headers": {"user-agent": word, word: word},
        "body": json.dumps({word: word}).encode(),
        "size": 40,
        "external_id": word[:255],
        "remote": word[:64],
    }
    Delivery.objects.create(verdict="accepted", key=new_id().hex, event=event, **common)
    return Delivery.objects.create(verdict="rejected", code="bad_signature", reason=word[:512], **common)


def _told(word: str, failed: Run, delivering: Run) -> Destination:
    """Who hears how runs end, and what they answer."""
    environment = environments.current()
    url, name = "https://example.org/canary", f"ops-{new_id().hex[-8:]}"
    made = Destination.objects.create(
        environment_id=environment,
        name=name,
        url=url,
        wants=["run.failed"],
        tasks=[word[:255]],
        sealed=b"",
        hint="9b2c",
        created_by=word,
    )
    common = {"environment_id": environment, "destination": made, "about": failed.pk}
    Notice.objects.create(kind="run.failed", status=200, tries=1, run=delivering.pk, delivered_at=Now(), **common)
    Notice.objects.create(kind="run.failed", status=500, tries=10, run=delivering.pk, error=word[:512], **common)
    return made


def _by_the_clock(task: str, word: str, run: Run) -> Schedule:
    """And what is set up beside it."""
    environment = environments.current()
    schedule = Schedule.objects.create(
        environment_id=environment,
        task=task,
        cron="30 2 * * *",
        timezone="Europe/Berlin",
        external_id=word,
        deduplication_key=f"{word[:200]}-{new_id()}",
        next_at=now() + 20 * HOUR,
        created_by=word,
    )
    Firing.objects.create(schedule=schedule, due_at=now() - 2 * HOUR, run=run.pk)
    Firing.objects.create(schedule=schedule, due_at=now() - 26 * HOUR, failure=f"{word} is no task")
    version = f"20261122.{Deployment.objects.count() + 1}"
    git = {"commitSha": word, "commitMessage": word, "commitRef": word, "dirty": True}
    Deployment.objects.create(
        environment_id=environment, version=version, runtime=word[:32], git=git, external_id=word, created_by=word
    )
    envvars.put(environment, "SHOP_MODE", word, actor=word)
    envvars.put(environment, "SHOP_PASSWORD", word, is_secret=True, actor=word)
    return schedule


def _failed(name: str, word: str, common: dict[str, Any]) -> Run:
    error = {"type": f"builtins:{word}", "message": word, "traceback": f"Traceback\n  File {word}\n", "steps": []}
    failed = make_run(Status.FAILED, error=error, metadata={word: word}, finished_at=now() - HOUR / 2, **common)
    Attempt.objects.filter(run=failed).update(
        error=error, note=word, started_at=now() - HOUR + timedelta(seconds=2), finished_at=now() - HOUR / 2
    )
    moments = {"started_at": now() - HOUR + timedelta(minutes=1), "finished_at": now() - HOUR + timedelta(minutes=4)}
    step = make_step(failed, f"reserve/{word[:60]}#1", {word: word})
    step._meta.model.objects.filter(pk=step.pk).update(**moments)
    for level, logger in ((10, "shop"), (20, "stdout"), (40, word[:255])):
        LogLine.objects.create(
            run=failed,
            environment_id=failed.environment_id,
            lease=1,
            attempt=1,
            step=step.key,
            level=level,
            logger=logger,
            text=f"{word}\n{word}",
        )
    make_step(failed, f"charge/{word[:60]}#1", None, error=json.dumps(error))
    make_wait(
        failed,
        WaitKind.EVENT,
        key=f"{word[:60]}#1",
        name=name,
        status=WaitStatus.TIMED_OUT,
        opened_at=now() - HOUR + timedelta(minutes=5),
        resolved_at=now() - HOUR / 2,
        resolved_by=word,
    )
    return failed


def _worker(word: str) -> Any:
    worker = Worker.objects.create(id=new_id(), hostname=f"celery@{word}"[:255], pid=4711, expires_at=Now() + 24 * HOUR)
    queues.identify(environments.current(), "mail")
    return worker.pk

"""Runs and their attempts.

A run is one triggering of a task. It changes status only through `move`, fenced by its lease.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import connection, models
from django.db.models import Q
from django.db.models.functions import Now
from uuid6 import uuid7

from triggerapp.errors import StaleRun
from triggerapp.models.control import Environment, Queue
from triggerapp.models.moves import Status, move_sql, public_status


def new_id() -> uuid.UUID:
    """A UUIDv7: new rows lie together in the index."""
    return uuid.UUID(int=uuid7().int)


TAGGED = ~Q(tags=[])
"""What a query by tags says beside them, for the index of tags to be found."""


class Run(models.Model):
    """One triggering of a task; its id is the Celery task id unless the caller chose one."""

    id = models.UUIDField(primary_key=True, default=new_id)
    # Celery's `replace` starts another run under the same task id, one nesting deeper.
    task_id = models.CharField(max_length=255)
    nesting = models.PositiveSmallIntegerField(default=0, db_default=0)
    # No database constraint on the hot foreign keys: checking it locks one shared row per insert.
    # Their indexes are the ones listed in Meta: each costs every insert.
    environment = models.ForeignKey(
        Environment, models.DO_NOTHING, related_name="runs", db_constraint=False, db_index=False
    )
    queue = models.ForeignKey(Queue, models.DO_NOTHING, related_name="runs", db_constraint=False, db_index=False)
    task = models.CharField(max_length=255)
    status = models.CharField(max_length=16, choices=Status)

    lease = models.PositiveBigIntegerField(default=0, db_default=0)
    """Fencing token: counts claims. A write that carries another number changes nothing."""
    worker = models.UUIDField(null=True)
    attempt = models.PositiveSmallIntegerField(default=1, db_default=1)
    crashes = models.PositiveSmallIntegerField(default=0, db_default=0)
    rollbacks = models.PositiveIntegerField(default=0, db_default=0)
    """How many `rollback()` has registered; those of steps are known by these."""
    waiting_on = models.UUIDField(null=True)
    """The wait that this run is suspended on."""

    message = models.TextField()
    """The Celery message's headers, properties and route, as JSON; sent again as it was at each wake."""
    payload = models.BinaryField()
    """The Celery message's body in the task's own serializer."""
    result = models.BinaryField(null=True)
    result_type = models.CharField(max_length=64, default="", db_default="")
    error = models.JSONField(null=True)
    """Why it failed. While the run is still live: the failure whose rollbacks are under way."""
    delivered = models.BooleanField(default=False, db_default=False)
    """The end was told to Celery: result stored, callbacks sent. Of a live run: only its rollbacks are left."""

    due_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    """When its last message was sent; once it was claimed: the message that it came by."""
    sends = models.PositiveIntegerField(default=0, db_default=0)
    max_duration = models.DurationField(null=True)
    max_attempts = models.PositiveSmallIntegerField(null=True)
    computed = models.DurationField(default=timedelta, db_default=timedelta(0))
    """Time spent running in this attempt, waits excluded, up to the last suspension."""

    parent = models.ForeignKey(
        "self", models.DO_NOTHING, related_name="children", null=True, db_constraint=False, db_index=False
    )
    parent_key = models.CharField(max_length=255, null=True)
    """Which trigger in the parent's code made this run; the journal's answer on re-entry."""
    parent_wait = models.UUIDField(null=True)
    """The parent's wait that is told when this run ends."""
    root = models.ForeignKey(
        "self", models.DO_NOTHING, related_name="+", null=True, db_constraint=False, db_index=False
    )
    replay_of = models.ForeignKey(
        "self", models.DO_NOTHING, related_name="replays", null=True, db_constraint=False, db_index=False
    )
    version = models.CharField(max_length=64, null=True)
    """The registered version that it was asked for. Nothing holds it to that yet."""
    idempotency_key = models.CharField(max_length=2048, null=True)
    idempotency_digest = models.CharField(max_length=64, null=True)
    idempotency_expires_at = models.DateTimeField(null=True)
    concurrency_key = models.CharField(max_length=255, null=True)
    priority = models.SmallIntegerField(default=0, db_default=0)
    tags = ArrayField(models.CharField(max_length=128), default=list, db_default=[])
    metadata = models.JSONField(default=dict, db_default={})
    is_eager = models.BooleanField(default=False, db_default=False)
    moving = models.BooleanField(default=False, db_default=False)
    """Whoever runs it was asked to dump it where it stands, for another worker to go on with."""

    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())
    claimed_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        permissions = (
            ("view_dashboard", "Can see runs, waits, events and queues in the dashboard"),
            ("operate_dashboard", "Can trigger, retry, replay and cancel runs and send events in the dashboard"),
            ("administer_dashboard", "Can pause queues and read the audit log in the dashboard"),
        )
        constraints = (
            models.UniqueConstraint(
                fields=(
                    "task_id",
                    "nesting",
                ),
                name="run_task_id_once",
            ),
            models.UniqueConstraint(
                fields=(
                    "environment",
                    "task",
                    "idempotency_digest",
                ),
                name="run_idempotent",
                condition=Q(idempotency_digest__isnull=False),
            ),
            models.UniqueConstraint(
                fields=(
                    "parent",
                    "parent_key",
                ),
                name="run_child_once",
                condition=Q(parent_key__isnull=False),
            ),
        )
        indexes = (
            # A ticker looks at its own environment only, and those of another may lie there for long.
            models.Index(fields=("environment", "due_at"), name="run_pending", condition=Q(status=Status.PENDING)),
            models.Index(fields=("environment", "sent_at"), name="run_queued", condition=Q(status=Status.QUEUED)),
            models.Index(fields=("worker",), name="run_running", condition=Q(status=Status.RUNNING)),
            models.Index(fields=("waiting_on",), name="run_waiting", condition=Q(status=Status.WAITING)),
            models.Index(
                fields=("environment", "expires_at"),
                name="run_expiring",
                condition=Q(
                    status__in=(Status.PENDING, Status.QUEUED), expires_at__isnull=False, started_at__isnull=True
                ),
            ),
            models.Index(
                fields=("environment", "finished_at"),
                name="run_undelivered",
                condition=Q(delivered=False, finished_at__isnull=False),
            ),
            models.Index(
                fields=(
                    "environment",
                    "-created_at",
                    "-id",
                ),
                name="run_newest",
            ),
            # Of the lists by task, by queue, by tag and by status. Most runs are completed or live: those by status are
            # found among the newest, or in the indexes above; the others are few and may lie far apart.
            models.Index(fields=("environment", "task", "-created_at", "-id"), name="run_of_task"),
            models.Index(fields=("queue", "-created_at", "-id"), name="run_of_queue"),
            # Without its condition an untagged run costs an entry at each move too, and its vacuuming.
            GinIndex(fields=("tags",), name="run_tagged", condition=TAGGED),
            models.Index(
                fields=("environment", "status", "-created_at", "-id"),
                name="run_ended_badly",
                condition=Q(status__in=("failed", "crashed", "timed_out", "canceled", "expired")),
            ),
            # No entry for a run that was asked for none, and none more at a move of one that was.
            models.Index(
                fields=("environment", "version", "-created_at", "-id"),
                name="run_of_version",
                condition=Q(version__isnull=False),
            ),
            # Rare among many, and what people look for.
            models.Index(
                fields=("environment", "-created_at", "-id"),
                name="run_unsuccessful",
                condition=Q(status__in=(Status.FAILED, Status.CRASHED, Status.TIMED_OUT, Status.EXPIRED)),
            ),
            models.Index(fields=("finished_at",), name="run_canceled", condition=Q(status=Status.CANCELED)),
            models.Index(fields=("root",), name="run_root", condition=Q(root__isnull=False)),
            models.Index(fields=("replay_of",), name="run_replay", condition=Q(replay_of__isnull=False)),
            models.Index(
                fields=("environment", "finished_at"), name="run_finished", condition=Q(finished_at__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return f"{self.task} {self.id}"

    @property
    def public_status(self) -> str:
        """Trigger.dev v4's status name."""
        return public_status(self)

    def move(self, to: Status, *, lease: int | None = None, **fields: object) -> Self:
        """Change status, and `fields` with it; raises `StaleRun` if the lease or the status is another one.

        `lease=None` is for verbs that act on a run from outside (cancel, retry): there the table of moves alone judges.
        """
        columns = [field for field in self._meta.concrete_fields if field.name in fields]
        values = [f.get_db_prep_save(fields[f.name], connection) for f in columns]
        assign = ", ".join(f"{field.column} = %s" for field in columns)
        where = "id = %s" if lease is None else "id = %s AND lease = %s"
        params = [*values, self.id, *([] if lease is None else [lease])]
        with connection.cursor() as cursor:
            cursor.execute(move_sql(to, assign, where), params)
            if cursor.rowcount == 0:
                raise StaleRun(self.id, lease)
        self.refresh_from_db(fields=["status", "updated_at", *fields])
        return self


class Attempt(models.Model):
    """One try of a run; a suspension does not end it, a failure or a crash does."""

    run = models.ForeignKey(Run, models.DO_NOTHING, related_name="attempts", db_constraint=False, db_index=False)
    number = models.PositiveSmallIntegerField()
    worker = models.UUIDField(null=True)
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=16, default="", db_default="")
    error = models.JSONField(null=True)
    note = models.TextField(default="", db_default="")

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=(
                    "run",
                    "number",
                ),
                name="attempt_number_once",
            ),
        )

    def __str__(self) -> str:
        return f"{self.run_id} attempt {self.number}"

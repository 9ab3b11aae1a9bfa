"""Django's admin for every table: to look things up. State changes only through actions that call the engine.

Nothing is added, edited or deleted here: a run's state moves through one door. Secrets, digests and the bytes of
messages are not shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from triggerapp import models
from triggerapp.engine import queues, verbs
from triggerapp.errors import TriggerError
from triggerapp.levels import Level, actor, level_of

_HIDDEN = frozenset(
    {"payload", "result", "message", "value", "digest", "idempotency_digest", "signatures", "sealed", "body", "url"}
)
"""The dashboard shows values without what the settings call secret; the admin shows none."""


if TYPE_CHECKING:
    _Base = admin.ModelAdmin[Any]
else:  # the class takes no parameter where it runs
    _Base = admin.ModelAdmin


class ReadOnly(_Base):
    """Rows to look at; large tables are not counted."""

    show_full_result_count = False
    list_per_page = 50

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """All columns but those that are secret or bytes."""
        return [field.name for field in self.model._meta.concrete_fields if field.name not in _HIDDEN]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As in the dashboard."""
        return level_of(request) >= Level.VIEW

    def has_module_permission(self, request: HttpRequest) -> bool:
        """As in the dashboard."""
        return level_of(request) >= Level.VIEW

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows are made by the engine."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows are changed by the engine."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows are deleted by retention."""
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Who may use the actions on runs."""
        return level_of(request) >= Level.OPERATE

    def has_administer_permission(self, request: HttpRequest) -> bool:
        """Who may use the actions on queues, and read the audit log."""
        return level_of(request) >= Level.ADMINISTER


def _each(request: HttpRequest, rows: QuerySet[Any], verb: Callable[[Any], object]) -> None:
    """Do it to each row, and say what came of it."""
    done, refusals = 0, []
    for row in rows:
        try:
            done += verb(row) is not False
        except TriggerError as error:
            refusals.append(str(error))
    messages.success(request, f"{done} done, {len(rows) - done} not.")
    for refusal in refusals[:3]:
        messages.error(request, refusal)


class RunAdmin(ReadOnly):
    """Runs."""

    list_display = ("id", "task", "status", "queue", "attempt", "created_at", "finished_at")
    list_filter = ("status", "environment")
    list_select_related = ("queue",)
    search_fields = ("=id", "=task_id")
    ordering = ("-created_at", "-id")
    actions = ("cancel", "retry", "replay")

    @admin.action(description="Cancel", permissions=["operate"])
    def cancel(self, request: HttpRequest, rows: QuerySet[models.Run]) -> None:
        """Stop them, with their children."""
        _each(request, rows, lambda run: verbs.cancel(run.id, actor=actor(request)))

    @admin.action(description="Retry from the step that failed", permissions=["operate"])
    def retry(self, request: HttpRequest, rows: QuerySet[models.Run]) -> None:
        """Go on with them."""
        _each(request, rows, lambda run: verbs.retry(run.id, actor=actor(request)))

    @admin.action(description="Replay as new runs", permissions=["operate"])
    def replay(self, request: HttpRequest, rows: QuerySet[models.Run]) -> None:
        """Do them again."""
        _each(request, rows, lambda run: verbs.replay(run.id, actor=actor(request), environment=run.environment_id))


class QueueAdmin(ReadOnly):
    """Queues."""

    list_display = ("name", "environment", "paused")
    list_filter = ("environment", "paused")
    search_fields = ("name",)
    actions = ("pause", "resume")

    @admin.action(description="Pause", permissions=["administer"])
    def pause(self, request: HttpRequest, rows: QuerySet[models.Queue]) -> None:
        """Admit nothing more."""
        _each(request, rows, lambda queue: _set_paused(request, queue, paused=True))

    @admin.action(description="Resume", permissions=["administer"])
    def resume(self, request: HttpRequest, rows: QuerySet[models.Queue]) -> None:
        """Admit again."""
        _each(request, rows, lambda queue: _set_paused(request, queue, paused=False))


def _set_paused(request: HttpRequest, queue: models.Queue, *, paused: bool) -> None:
    queues.set_paused(queue.environment_id, queue.name, paused=paused, actor=actor(request))


class AuditAdmin(ReadOnly):
    """Who did what; for administrators."""

    list_display = ("created_at", "actor", "action", "target")
    search_fields = ("=target",)
    ordering = ("-id",)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As in the dashboard."""
        return level_of(request) >= Level.ADMINISTER


class EventAdmin(ReadOnly):
    """Events."""

    list_display = ("id", "name", "created_at", "source_run")
    search_fields = ("=id", "=name")
    ordering = ("-id",)


class WaitAdmin(ReadOnly):
    """Waits."""

    list_display = ("id", "kind", "status", "name", "key", "opened_at", "expires_at")
    list_filter = ("kind", "status")
    search_fields = ("=id", "=run__id")
    ordering = ("-id",)


class DeliveryAdmin(ReadOnly):
    """Webhooks that came in."""

    list_display = ("id", "endpoint", "verdict", "code", "type", "received_at")
    list_filter = ("verdict",)
    list_select_related = ("endpoint",)
    search_fields = ("=id", "=external_id")
    ordering = ("-id",)


class OfRunAdmin(ReadOnly):
    """What belongs to a run: found by the run's id."""

    search_fields = ("=run__id",)
    list_select_related = False
    ordering = ("-pk",)


class ScheduleAdmin(ReadOnly):
    """Schedules."""

    list_display = ("task", "cron", "timezone", "active", "next_at", "last_at", "environment")
    list_filter = ("environment", "active")
    search_fields = ("=id", "task", "=external_id")


class FiringAdmin(ReadOnly):
    """What schedules started."""

    list_display = ("schedule", "due_at", "run", "failure")
    search_fields = ("=schedule__id", "=run")
    ordering = ("-id",)


class DeploymentAdmin(ReadOnly):
    """Versions."""

    list_display = ("version", "environment", "status", "created_at", "promoted_at")
    list_filter = ("environment",)


class EnvVarAdmin(ReadOnly):
    """Environment variables, without their values."""

    list_display = ("name", "environment", "is_secret", "updated_at", "updated_by")
    list_filter = ("environment",)
    search_fields = ("name",)


_ADMINS: dict[type[Model], type[ReadOnly]] = {
    models.Run: RunAdmin,
    models.Queue: QueueAdmin,
    models.AuditEntry: AuditAdmin,
    models.Event: EventAdmin,
    models.Wait: WaitAdmin,
    models.Schedule: ScheduleAdmin,
    models.Firing: FiringAdmin,
    models.Deployment: DeploymentAdmin,
    models.EnvVar: EnvVarAdmin,
    models.Delivery: DeliveryAdmin,
    models.Step: OfRunAdmin,
    models.Attempt: OfRunAdmin,
    models.Checkpoint: OfRunAdmin,
    models.LogLine: OfRunAdmin,
    models.Restore: OfRunAdmin,
}
_OTHERS: tuple[type[Model], ...] = (
    models.Environment,
    models.Worker,
    models.BulkAction,
    models.FilterShape,
    models.Packet,
    models.ApiKey,
    models.Batch,
    models.BatchItem,
    models.SpentToken,
    models.Subscription,
    models.Start,
    models.Endpoint,
    models.EndpointSecret,
    models.Destination,
    models.Notice,
)

for model in (*_ADMINS, *_OTHERS):
    admin.site.register(model, _ADMINS.get(model, ReadOnly))

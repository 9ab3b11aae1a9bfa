"""Webhooks: endpoints that others post to with their deliveries, and destinations that we post to with our notices.

Secrets are encrypted, and several may stand at once, so that they can be rotated.
"""

from __future__ import annotations

from datetime import timedelta

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models import Q, TextChoices
from django.db.models.functions import Now

from triggerapp.models.control import Environment
from triggerapp.models.runs import new_id


class Preset(TextChoices):
    """Whose way of signing an endpoint checks."""

    STANDARD = "standard"
    """Standard Webhooks, as Svix, Clerk, Resend and others send them."""
    STRIPE = "stripe"
    GITHUB = "github"
    SLACK = "slack"
    GENERIC = "generic"
    """An HMAC over the body, perhaps with a time and an id, in a header of any name."""


class Endpoint(models.Model):
    """An address of ours that somebody else posts signed events to."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="endpoints")
    name = models.SlugField(max_length=64, db_index=False)
    """The last part of its URL, and the middle one of its events' names."""
    preset = models.CharField(max_length=16, choices=Preset)
    options = models.JSONField(default=dict, db_default={})
    """Of the generic preset: how it signs."""
    tolerance = models.DurationField(default=timedelta(minutes=5))
    """How old, or how far ahead, a signed time may be."""
    disabled_at = models.DateTimeField(null=True)
    created_by = models.CharField(max_length=255)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("environment", "name"), name="endpoint_name_once"),)

    def __str__(self) -> str:
        return self.name


class EndpointSecret(models.Model):
    """A secret that deliveries to an endpoint may be signed with."""

    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="secrets")
    sealed = models.BinaryField()
    hint = models.CharField(max_length=8)
    """Its last characters, to tell it from others."""
    created_by = models.CharField(max_length=255)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True)
    """Set when it is replaced: both stand for a while."""

    def __str__(self) -> str:
        return f"…{self.hint}"


class Verdict(TextChoices):
    """What became of a delivery."""

    ACCEPTED = "accepted"
    """It is an event."""
    DUPLICATE = "duplicate"
    """It was accepted before; nothing happened."""
    CHALLENGE = "challenge"
    """It asked whether anybody is here, and was answered."""
    REJECTED = "rejected"
    """It is not what it says, or cannot be used; the reason says why."""


class Delivery(models.Model):
    """A request to an endpoint, and what became of it. Only so many that were not accepted are kept."""

    id = models.UUIDField(primary_key=True, default=new_id)
    environment = models.ForeignKey(
        Environment, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="deliveries", db_index=False)
    verdict = models.CharField(max_length=16, choices=Verdict)
    code = models.CharField(max_length=32, default="", db_default="")
    reason = models.CharField(max_length=512, default="", db_default="")
    type = models.CharField(max_length=255, default="", db_default="")
    external_id = models.CharField(max_length=255, default="", db_default="")
    """The provider's own id."""
    key = models.CharField(max_length=64, default="", db_default="")
    """What tells it from others: a digest of the provider's id where that is signed, else of the body."""
    event = models.UUIDField(null=True)
    headers = models.JSONField(default=dict)
    """Without secrets; of signatures only the first characters."""
    body = models.BinaryField()
    """As it came; of a rejected one only the beginning."""
    size = models.PositiveIntegerField()
    remote = models.CharField(max_length=64, default="", db_default="")
    received_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("endpoint", "key"), name="delivery_once", condition=Q(verdict="accepted")),
        )
        indexes = (
            models.Index(fields=("endpoint", "-id"), name="delivery_newest"),
            models.Index(
                fields=("endpoint", "received_at"), name="delivery_unaccepted", condition=~Q(verdict="accepted")
            ),
            models.Index(fields=("environment", "received_at"), name="delivery_by_time"),
            models.Index(fields=("event",), name="delivery_of_event", condition=Q(event__isnull=False)),
        )

    def __str__(self) -> str:
        return f"{self.verdict} {self.id}"


class Destination(models.Model):
    """An address of somebody else's that we post signed notices to."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="destinations")
    name = models.SlugField(max_length=64, db_index=False)
    url = models.CharField(max_length=2048)
    wants = ArrayField(models.CharField(max_length=32))
    """Kinds of notices: `run.failed`, `run.completed`, …"""
    tasks = ArrayField(models.CharField(max_length=255), default=list, db_default=[])
    """Only of runs of these tasks; empty for all."""
    sealed = models.BinaryField()
    """Its secret."""
    hint = models.CharField(max_length=8)
    disabled_at = models.DateTimeField(null=True)
    created_by = models.CharField(max_length=255)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("environment", "name"), name="destination_name_once"),)

    def __str__(self) -> str:
        return self.name


class Notice(models.Model):
    """Something that a destination is to hear of, written in the transaction in which it happened."""

    id = models.UUIDField(primary_key=True, db_default=RandomUUID())
    environment = models.ForeignKey(
        Environment, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False
    )
    # No constraint: a run whose end is noted must neither wait for a destination that is being removed nor fail by it.
    destination = models.ForeignKey(
        Destination, models.CASCADE, related_name="notices", db_constraint=False, db_index=False
    )
    kind = models.CharField(max_length=32)
    about = models.UUIDField()
    """The run."""
    run = models.UUIDField(null=True)
    """The run of ours that delivers it."""
    status = models.PositiveSmallIntegerField(null=True)
    """The last answer's."""
    error = models.CharField(max_length=512, default="", db_default="")
    """Why the last try failed."""
    tries = models.PositiveSmallIntegerField(default=0, db_default=0)
    created_at = models.DateTimeField(db_default=Now())
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        indexes = (
            models.Index(fields=("environment", "created_at"), name="notice_by_time"),
            models.Index(fields=("destination", "-created_at"), name="notice_newest"),
            models.Index(fields=("environment",), name="notice_due", condition=Q(run__isnull=True)),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.about}"

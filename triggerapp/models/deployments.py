"""What an environment's code runs as and with: its registered versions, and its environment variables.

Values of variables are encrypted before they come here; nothing in a row can be read without the key.
"""

from __future__ import annotations

from django.db import models
from django.db.models import TextChoices
from django.db.models.functions import Now

from triggerapp.models.control import Environment
from triggerapp.models.runs import new_id


class DeploymentStatus(TextChoices):
    """How a deployment stands, in Trigger.dev's words."""

    PENDING = "pending"
    BUILDING = "building"
    DEPLOYING = "deploying"
    DEPLOYED = "deployed"
    FAILED = "failed"
    CANCELED = "canceled"
    TIMED_OUT = "timed_out"


class Deployment(models.Model):
    """A registered code version. Nothing of it changes but whether it is the one to run."""

    id = models.UUIDField(primary_key=True, default=new_id)
    environment = models.ForeignKey(Environment, models.CASCADE, related_name="deployments", db_index=False)
    version = models.CharField(max_length=64)
    """The caller's own, or the day and a number: `20261122.1`."""
    status = models.CharField(
        max_length=16, choices=DeploymentStatus, default=DeploymentStatus.DEPLOYED, db_default="deployed"
    )
    runtime = models.CharField(max_length=32, null=True)
    runtime_version = models.CharField(max_length=64, null=True)
    git = models.JSONField(null=True)
    external_id = models.CharField(max_length=255, null=True)
    created_by = models.CharField(max_length=255, default="", db_default="")
    created_at = models.DateTimeField(db_default=Now())
    deployed_at = models.DateTimeField(null=True)
    promoted_at = models.DateTimeField(null=True)
    """The one promoted last is the current one."""

    class Meta:
        constraints = (models.UniqueConstraint(fields=("environment", "version"), name="deployment_version_once"),)
        indexes = (
            models.Index(fields=("environment", "-created_at", "-id"), name="deployment_newest"),
            models.Index(fields=("environment", "-promoted_at"), name="deployment_current"),
        )

    def __str__(self) -> str:
        return self.version


class EnvVar(models.Model):
    """An environment variable. A secret one is never shown again, and stays secret."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="variables", db_index=False)
    name = models.CharField(max_length=255)
    sealed = models.BinaryField()
    """The value, encrypted together with the environment and the name that it is for."""
    is_secret = models.BooleanField(default=False, db_default=False)
    updated_by = models.CharField(max_length=255, default="", db_default="")
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (models.UniqueConstraint(fields=("environment", "name"), name="env_var_once"),)

    def __str__(self) -> str:
        return self.name

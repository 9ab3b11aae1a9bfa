"""Who may call the API: secret keys of an environment or of a user, and public tokens that were spent.

A key is stored as its digest. Its first characters are kept readable, to find it by and to show people which one it is.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from triggerapp.models.control import Environment


class ApiKey(models.Model):
    """A secret key of an environment, or the personal token of a user."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="keys", null=True)
    # No foreign key: a project that has workers only needs no users.
    owner = models.CharField(max_length=255, default="", db_default="")
    """Whose personal token it is: the primary key of the project's user. Empty for a key of an environment."""
    name = models.CharField(max_length=255)
    prefix = models.CharField(max_length=32, unique=True)
    """The readable beginning; the rest is shown once, when the key is made."""
    digest = models.CharField(max_length=64)
    sealed = models.BinaryField(null=True)
    """The whole text of a root key, encrypted: its holder signs public tokens with it, and by it they are checked."""
    scopes = ArrayField(models.CharField(max_length=255))
    created_by = models.CharField(max_length=255)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)
    """To the minute: writing it at each request would make a hot row of it."""

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="key_of_one",
                condition=Q(owner="", environment__isnull=False) | Q(~Q(owner=""), environment__isnull=True),
            ),
        )

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"


class SpentToken(models.Model):
    """A public token for one use that was used; kept until it would have expired anyway."""

    id = models.UUIDField(primary_key=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return str(self.id)

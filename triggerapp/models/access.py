"""Who may call the API: secret keys of an environment, and public tokens that were spent.

A key is stored as its digest. Its first characters are kept readable, to find it by and to show people which one it is.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from triggerapp.models.control import Environment


class ApiKey(models.Model):
    """A secret key of an environment."""

    environment = models.ForeignKey(Environment, models.CASCADE, related_name="keys")
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

    def __str__(self) -> str:
        return f"{self.prefix}… ({self.name})"


class SpentToken(models.Model):
    """A public token for one use that was used; kept until it would have expired anyway."""

    id = models.UUIDField(primary_key=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return str(self.id)

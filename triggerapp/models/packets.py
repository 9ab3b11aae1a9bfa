"""Packets: payloads that came ahead of their trigger, because they are large.

Trigger.dev's SDK uploads what is over 128 KB and then names it in the trigger. A run has a copy of its payload: a
packet is of no use for long.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from triggerapp.models.control import Environment
from triggerapp.models.runs import new_id


class Packet(models.Model):
    """An uploaded payload."""

    id = models.UUIDField(primary_key=True, default=new_id)
    environment = models.ForeignKey(Environment, models.CASCADE, related_name="packets", db_index=False)
    content_type = models.CharField(max_length=64)
    body = models.BinaryField()
    created_at = models.DateTimeField(db_default=Now(), db_index=True)

    def __str__(self) -> str:
        return f"packet {self.id}"

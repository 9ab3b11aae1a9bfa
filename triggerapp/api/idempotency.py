"""Idempotency keys: free one before its time."""

from __future__ import annotations

from typing import ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp.api.http import Access, View, body_of
from triggerapp.engine import limits, triggers
from triggerapp.errors import NotFound


class KeyReset(View):
    """Free a key: the next trigger with it is a new run."""

    access: ClassVar[Access] = {"POST": ("write", "runs")}

    def post(self, request: Request, key: str) -> Response:
        """Free the key of this task."""
        task = body_of(request).get("taskIdentifier") or ""
        limits.check_text("taskIdentifier", task)
        limits.check_text("the key", key, most=limits.KEY_CHARACTERS)
        if not triggers.forget_key(self.principal.environment, task, key, actor=self.principal.actor):
            raise NotFound(f"no run of {task[:100]} has this idempotency key")
        return Response({"id": key})

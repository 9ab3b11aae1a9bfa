"""Triggering: one run, or many."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp import ids
from triggerapp.api import options
from triggerapp.api.http import Access, View, body_of
from triggerapp.api.principals import Principal
from triggerapp.engine import calls, publictokens

_HANDLE_TTL = timedelta(hours=1)


def with_token(answer: Response, principal: Principal, scope: str, *, ttl: timedelta = _HANDLE_TTL) -> Response:
    """A public token for what was just made: the SDK hands it on, to browsers for example. Users' tokens make none."""
    if not principal.personal:
        answer["x-trigger-jwt"] = publictokens.issue(principal.key, principal.slug, [scope], ttl=ttl)
    return answer


class TaskTrigger(View):
    """Trigger a task."""

    access: ClassVar[Access] = {"POST": ("trigger", "tasks")}
    narrow: ClassVar[tuple[str, ...]] = ("tasks",)

    def post(self, request: Request, task: str) -> Response:
        """Accept one run; it is a committed row when the answer leaves."""
        self.require([("tasks", task)], f"durable task {task[:200]!r}")
        call = options.call_of(task, body_of(request), self.principal.environment)
        (triggered,) = calls.trigger([call], environment=self.principal.environment, actor=self.principal.actor)
        run = ids.show("run", triggered.run_id)
        return with_token(Response({"id": run, "isCached": triggered.cached}), self.principal, f"read:runs:{run}")

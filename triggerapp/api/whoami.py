"""Whom a key belongs to: the environment it is of, and what it may do."""

from __future__ import annotations

from typing import ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp.api.http import Access, View


class WhoAmI(View):
    """The caller, as the server sees them."""

    access: ClassVar[Access] = {"GET": ("read", "whoami")}

    def get(self, request: Request) -> Response:
        """Environment, actor and scopes of the key in the request."""
        caller = self.principal
        return Response(
            {
                "environment": caller.slug,
                "actor": caller.actor,
                "scopes": list(caller.scopes),
                "isPublicToken": caller.public,
            }
        )

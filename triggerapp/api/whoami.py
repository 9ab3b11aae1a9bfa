"""Whom a key belongs to: the environment it is of, and what it may do; and of a personal token, which user it is of."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from django.contrib.auth.models import AbstractBaseUser
from django.urls import NoReverseMatch, reverse
from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp import conf
from triggerapp.api.http import Access, View
from triggerapp.errors import NotFound

READ: Access = {"GET": ("read", "whoami")}
_NO_EMAIL: Final = "no-email@user.invalid"
# As Trigger.dev's schema has it, without which its clients take no answer; Django's takes ada@localhost too.
_EMAIL: Final = re.compile(r"(?!\.)(?!.*\.\.)[A-Z0-9_'+.-]*[A-Z0-9_+-]@([A-Z0-9][A-Z0-9-]*\.)+[A-Z]{2,}", re.IGNORECASE)


class WhoAmI(View):
    """The caller, as the server sees them."""

    access: ClassVar[Access] = READ

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


class WhoIsTheUser(View):
    """The user whose personal token it is, as Trigger.dev's command line asks for them."""

    access: ClassVar[Access] = READ
    anywhere = True

    def get(self, request: Request) -> Response:
        """Who they are, and where the dashboard is; of projects there is one, whatever `projectRef` calls it."""
        user, dashboard = self.principal.user, _dashboard()
        if user is None:
            raise NotFound("a key is no user's: GET /api/v1/whoami tells what it may; ask this with a personal token")
        known: dict[str, Any] = {"userId": str(user.pk), "email": _email(user), "dashboardUrl": dashboard}
        project = request.query_params.get("projectRef")
        if project:
            known["project"] = {"name": project, "url": dashboard, "orgTitle": urlsplit(dashboard).hostname or ""}
        return Response(known)


def _email(user: AbstractBaseUser) -> str:
    """Theirs; one that is nobody's if they have none, for there has to be one."""
    text = str(getattr(user, user.get_email_field_name(), "") or "")
    return text if _EMAIL.fullmatch(text) else _NO_EMAIL


def _dashboard() -> str:
    """Where it is; in a project without it, where the project is."""
    try:
        path = reverse("triggers:home")
    except NoReverseMatch:
        path = ""
    return conf.get().BASE_URL.rstrip("/") + path

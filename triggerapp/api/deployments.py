"""Deployments: versions of the code that were registered, and which one is current."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Q
from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp import ids
from triggerapp.api import parameters, queries, rendering
from triggerapp.api.http import Access, View, body_of, only, without_none, yes_or_no
from triggerapp.engine import deployments
from triggerapp.engine.deployments import Build
from triggerapp.errors import NotFound
from triggerapp.models import Deployment, DeploymentStatus

_SHORT = 8
READ: Access = {"GET": ("read", "deployments")}
WRITE: Access = {"POST": ("write", "deployments")}


def rendered(deployment: Deployment) -> dict[str, Any]:
    """A deployment as Trigger.dev's schemas want it."""
    optional = {"deployedAt": rendering.when(deployment.deployed_at), "git": deployment.git}
    return {
        "id": ids.show("deployment", deployment.pk),
        "createdAt": rendering.when(deployment.created_at),
        "shortCode": deployment.pk.hex[-_SHORT:],
        "version": deployment.version,
        "runtime": deployment.runtime,
        "runtimeVersion": deployment.runtime_version,
        "status": DeploymentStatus(deployment.status).name,
        "externalId": deployment.external_id,
        **without_none(optional),
    }


class DeploymentList(View):
    """The environment's deployments."""

    access: ClassVar[Access] = {**READ, **WRITE}

    def get(self, request: Request) -> Response:
        """A page of those that pass all filters, newest first."""
        params = request.query_params
        here = Deployment.objects.filter(environment_id=self.principal.environment)
        found = queries.filtered(here, params, _FILTERS)
        return Response(queries.page(found, params, time="created_at").shown(rendered))

    def post(self, request: Request) -> Response:
        """Register a version; the same version again is the same deployment."""
        body = only(body_of(request), "version", "runtime", "runtimeVersion", "git", "externalId", "promote")
        build = Build(
            version=body.get("version"),
            runtime=body.get("runtime"),
            runtime_version=body.get("runtimeVersion"),
            git=body.get("git"),
            external_id=body.get("externalId"),
        )
        promoted = yes_or_no(body, "promote", default=True)
        made = deployments.register(self.principal.environment, build, promoted=promoted, actor=self.principal.actor)
        return Response(rendered(made))


def _status(name: str, text: str) -> Q:
    return Q(status=DeploymentStatus[parameters.one_of(name, text, DeploymentStatus.__members__)])


_FILTERS: queries.Filters = {"status": _status, **queries.since("created_at", named="{}")}


class DeploymentCurrent(View):
    """The current deployment."""

    access: ClassVar[Access] = READ

    def get(self, request: Request) -> Response:
        """The one that was promoted last."""
        found = deployments.current(self.principal.environment)
        if found is None:
            raise NotFound("no version was promoted yet")
        return Response(rendered(found))


class DeploymentLatest(View):
    """The newest deployment."""

    access: ClassVar[Access] = READ

    def get(self, request: Request) -> Response:
        """The one that was registered last, promoted or not."""
        rows = Deployment.objects.filter(environment_id=self.principal.environment)
        found = rows.order_by("-created_at", "-id").first()
        if found is None:
            raise NotFound("no version was registered yet")
        return Response(rendered(found))


class DeploymentDetail(View):
    """One deployment."""

    access: ClassVar[Access] = READ

    def get(self, request: Request, deployment: str) -> Response:
        """The deployment of this id."""
        wanted = ids.read("deployment", deployment)
        found = Deployment.objects.filter(pk=wanted, environment_id=self.principal.environment).first()
        if found is None:
            raise ids.missing("deployment", wanted)
        return Response(rendered(found))


class DeploymentPromote(View):
    """Make a version the current one."""

    access: ClassVar[Access] = WRITE

    def post(self, request: Request, version: str) -> Response:
        """From now on it is the current one."""
        found = deployments.promote(self.principal.environment, version, actor=self.principal.actor)
        return Response(rendered(found))

"""Deployments: which versions of the code were registered, and which of them is the current one.

They are kept and shown, and a replay notes the one it is for; that a run stays with its version is not enforced yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import F

from triggerapp.clock import now
from triggerapp.engine import audit, limits, sql
from triggerapp.engine.sql import Lock
from triggerapp.errors import BadInput, IllegalMove, NotFound
from triggerapp.models import Deployment, DeploymentStatus

_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_MOST_GIT = 16 * 1024
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What is known of a version."""

    version: str | None = None
    """None for the day and a number."""
    runtime: str | None = None
    runtime_version: str | None = None
    git: Mapping[str, Any] | None = None
    external_id: str | None = None


def register(environment: int, build: Build, *, promoted: bool = True, actor: str = "") -> Deployment:
    """Note a version; one that is there already stays as it is. Raises `BadInput`, `IllegalMove`."""
    _check(build)
    with transaction.atomic():
        _lock(environment)
        found = Deployment.objects.filter(environment_id=environment, version=build.version).first()
        if found is None:
            found = _insert(environment, build, actor)
        if promoted:
            _promote(found, actor)
    return found


def promote(environment: int, version: str, *, actor: str = "") -> Deployment:
    """Make a version the current one. Raises `NotFound`, `IllegalMove`."""
    with transaction.atomic():
        _lock(environment)
        found = _named(environment, version)
        _promote(found, actor)
    return found


def check(environment: int, version: str) -> None:
    """Raises `NotFound` for a version that was not registered here, `IllegalMove` for one that cannot run."""
    found = _named(environment, version)
    if found.status != DeploymentStatus.DEPLOYED:
        raise IllegalMove(f"version {found.version} is {found.status}: only what was deployed can run")


def _named(environment: int, version: str) -> Deployment:
    registered = Deployment.objects.filter(environment_id=environment)
    found = registered.filter(version=version.replace("\0", "")).first()
    if found is None:
        newest = ", ".join(registered.order_by("-created_at", "-id").values_list("version", flat=True)[:_SHOWN])
        known = f"the newest that are registered: {newest}" if newest else "none was registered in this environment"
        raise NotFound(f"there is no deployment of version {version[:80]!r} ({known})")
    return found


def _lock(environment: int) -> None:
    """Two versions of one day must not get one number, nor two be promoted at the same moment."""
    sql.lock(Lock(-environment, "deployments"))


def current(environment: int) -> Deployment | None:
    """The version that was promoted last."""
    rows = Deployment.objects.filter(environment_id=environment, promoted_at__isnull=False)
    return rows.order_by(F("promoted_at").desc()).first()


def _promote(deployment: Deployment, actor: str) -> None:
    if deployment.status != DeploymentStatus.DEPLOYED:
        raise IllegalMove(
            f"version {deployment.version} is {deployment.status}: only what was deployed can be promoted"
        )
    before = current(deployment.environment_id)
    if before is not None and before.pk == deployment.pk:
        return
    deployment.promoted_at = now()
    deployment.save(update_fields=["promoted_at"])
    told = None if before is None else {"current": before.version}
    audit.record(
        deployment.environment_id,
        actor,
        "deployment.promote",
        deployment.version,
        before=told,
        after={"current": deployment.version},
    )


def _insert(environment: int, build: Build, actor: str) -> Deployment:
    moment = now()
    version = build.version or _next_version(environment, f"{moment:%Y%m%d}")
    made = Deployment.objects.create(
        environment_id=environment,
        version=version,
        runtime=build.runtime,
        runtime_version=build.runtime_version,
        git=build.git,
        external_id=build.external_id,
        created_by=actor,
        deployed_at=moment,
    )
    audit.record(environment, actor, "deployment.register", version)
    return made


def _next_version(environment: int, day: str) -> str:
    rows = Deployment.objects.filter(environment_id=environment, version__startswith=f"{day}.")
    numbers = [int(number) for version in rows.values_list("version", flat=True) if (number := version[9:]).isdecimal()]
    return f"{day}.{max(numbers, default=0) + 1}"


def _check(build: Build) -> None:
    if build.version is not None and not (isinstance(build.version, str) and _VERSION.fullmatch(build.version)):
        raise BadInput(
            f"version={build.version!r:.80} must be 1 to 64 letters, digits, and . _ + -, as in '20261122.1'"
        )
    limits.check_text("runtime", build.runtime, most=32)
    limits.check_text("runtimeVersion", build.runtime_version, most=64)
    limits.check_text("externalId", build.external_id)
    if build.git is None:
        return
    if not isinstance(build.git, dict):
        raise BadInput("git must be an object, such as {'commitSha': …, 'branch': …}")
    text = json.dumps(build.git)
    limits.check_json("git", text)
    if len(text) > _MOST_GIT:
        raise BadInput(f"git takes {len(text):,} bytes as JSON; the limit is {_MOST_GIT:,}")

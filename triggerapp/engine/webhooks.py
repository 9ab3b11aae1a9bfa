"""Endpoints: addresses of ours that others post signed events to.

A secret is told once, when it is made or given; the database has it encrypted. Several may stand at once, so that
the provider can be given a new one before the old one goes.
"""

from __future__ import annotations

import base64
import secrets as random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from triggerapp import conf
from triggerapp.clock import now
from triggerapp.engine import audit, durations, limits, named, readings, secrets, signatures
from triggerapp.engine.named import Named
from triggerapp.engine.signatures import Scheme
from triggerapp.errors import BadInput
from triggerapp.models import Endpoint, EndpointSecret, Preset

Json = Any

THEIRS = (Preset.STRIPE, Preset.SLACK)
"""Providers that make the secret themselves."""
_MOST_SECRETS = 5
_LONGEST_TOLERANCE = timedelta(hours=1)
_LONGEST_KEEP = timedelta(days=30)
"""A secret that leaked is not to stand for years by a slip of the keyboard."""
_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """An endpoint, with the only readable copy of its new secret."""

    endpoint: Endpoint
    secret: str


def create(
    environment: str,
    name: str,
    *,
    preset: str,
    secret: str | None = None,
    options: Mapping[str, Json] | None = None,
    tolerance: timedelta = timedelta(minutes=5),
    actor: str = "",
) -> Issued:
    """A new endpoint; without a `secret` of the provider's, one is made."""
    named.check_name(name)
    _check(preset, options or {}, tolerance)
    checked = {"preset": preset, "options": dict(options or {}), "tolerance": tolerance}
    with transaction.atomic():
        endpoint = _NAMED.make(environment, name, actor=actor, **checked)
        text = _add_secret(endpoint, secret, actor=actor)
        told = {"preset": preset, "secret": f"…{text[-4:]}"}
        audit.record(endpoint.environment_id, actor, "webhook.create", name, after=told)
    return Issued(endpoint=endpoint, secret=text)


def _check(preset: str, options: Mapping[str, Json], tolerance: timedelta) -> None:
    if preset not in Preset.values:
        raise BadInput(f"there is no preset {preset[:40]!r}; there are {', '.join(Preset.values)}")
    if preset == Preset.GENERIC:
        signatures.generic(options)
        readings.check_options(options)
    elif options:
        raise BadInput(f"the preset {preset} has no options")
    if not timedelta(0) < tolerance <= _LONGEST_TOLERANCE:
        raise BadInput(
            f"the tolerance {durations.text(tolerance)} must be more than nothing "
            f"and at most {durations.text(_LONGEST_TOLERANCE)}"
        )


def _add_secret(endpoint: Endpoint, given: str | None, *, actor: str) -> str:
    if given is None and endpoint.preset in THEIRS:
        raise BadInput(f"{endpoint.preset} makes the secret itself: pass the one that it shows")
    text = given if given is not None else _new_secret(endpoint.preset)
    signatures.key_of(text, standard=scheme_of(endpoint).standard_secret)
    limits.check_text("the secret", text, most=512)
    sealed = secrets.seal(text, _place(endpoint))
    EndpointSecret.objects.create(endpoint=endpoint, sealed=sealed, hint=text[-4:], created_by=actor or "code")
    return text


def _new_secret(preset: str) -> str:
    if preset == Preset.STANDARD:
        return "whsec_" + base64.b64encode(random.token_bytes(_BYTES)).decode()
    return random.token_hex(_BYTES)


def _place(endpoint: Endpoint) -> str:
    return f"the secret of webhook endpoint {endpoint.pk}"


def scheme_of(endpoint: Endpoint) -> Scheme:
    """How its provider signs."""
    if endpoint.preset == Preset.GENERIC:
        return signatures.generic(endpoint.options)
    return signatures.SCHEMES[endpoint.preset]


def standing_secrets(endpoint: Endpoint) -> list[str]:
    """What a delivery may be signed with now. Raises `UnreadableSecret`."""
    found = endpoint.secrets.filter(Q(expires_at=None) | Q(expires_at__gt=Now())).order_by("-id")
    return [secrets.unseal(bytes(each.sealed), _place(endpoint)) for each in found[:_MOST_SECRETS]]


def rotate(
    environment: str,
    name: str,
    *,
    secret: str | None = None,
    keep: timedelta = timedelta(days=1),
    actor: str = "",
) -> Issued:
    """A new secret; those before it stand for `keep` longer."""
    if not timedelta(0) <= keep <= _LONGEST_KEEP:
        raise BadInput(
            f"the old secrets cannot be kept for {durations.text(keep)}: "
            f"nothing is the least, {_LONGEST_KEEP.days} days the most"
        )
    with transaction.atomic():
        endpoint = find(environment, name, lock=True)
        EndpointSecret.objects.filter(endpoint=endpoint, expires_at__lte=Now()).delete()
        until = now() + keep
        endpoint.secrets.filter(Q(expires_at=None) | Q(expires_at__gt=until)).update(expires_at=until)
        text = _add_secret(endpoint, secret, actor=actor)
        after = {"secret": f"…{text[-4:]}", "old ones until": str(until)}
        audit.record(endpoint.environment_id, actor, "webhook.rotate", name, after=after)
    return Issued(endpoint=endpoint, secret=text)


def update(
    environment: str,
    name: str,
    *,
    options: Mapping[str, Json] | None = None,
    tolerance: timedelta = timedelta(minutes=5),
    actor: str = "",
) -> Endpoint:
    """Check its deliveries in another way. Preset and secrets stay."""
    with transaction.atomic():
        endpoint = find(environment, name, lock=True)
        _check(endpoint.preset, options or {}, tolerance)
        before = _told(endpoint)
        endpoint.options, endpoint.tolerance = dict(options or {}), tolerance
        endpoint.save(update_fields=["options", "tolerance"])
        audit.record(endpoint.environment_id, actor, "webhook.update", name, before=before, after=_told(endpoint))
    return endpoint


def _told(endpoint: Endpoint) -> dict[str, Json]:
    """What the audit log says of it."""
    return {"options": endpoint.options, "tolerance": str(endpoint.tolerance)}


def remove(environment: str, name: str, *, actor: str = "") -> None:
    """Forget it, with what was delivered to it; the events that came of that stay."""
    with transaction.atomic():
        endpoint = find(environment, name, lock=True)
        audit.record(endpoint.environment_id, actor, "webhook.remove", name, before={"preset": endpoint.preset})
        endpoint.delete()


_NAMED = Named(Endpoint, "endpoint", "webhook")
find = _NAMED.find
set_disabled = _NAMED.set_disabled


def url(endpoint: Endpoint) -> str:
    """Where its provider posts to."""
    return conf.get().BASE_URL.rstrip("/") + path(endpoint)


def path(endpoint: Endpoint) -> str:
    """The same, without the host."""
    slug = endpoint.environment.slug
    place = endpoint.name if slug == conf.get().ENVIRONMENT else f"{slug}/{endpoint.name}"
    return f"/hooks/{place}"


def all_of(environment: str | None = None) -> Sequence[Endpoint]:
    """The endpoints, of one environment or of all."""
    found = Endpoint.objects.select_related("environment").prefetch_related("secrets").order_by("environment", "name")
    return list(found if environment is None else found.filter(environment__slug=environment))

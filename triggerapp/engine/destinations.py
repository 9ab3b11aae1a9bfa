"""Destinations: addresses of others that want to hear how runs end. Each has a secret of its own, told once."""

from __future__ import annotations

import base64
import secrets as random
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction

from triggerapp.engine import audit, limits, posting, secrets
from triggerapp.engine.named import Named, check_name
from triggerapp.errors import BadInput
from triggerapp.models import FINAL, Destination

KINDS = tuple(f"run.{status.value}" for status in FINAL)
"""What there is to hear of."""
FAILURES = ("run.failed", "run.crashed", "run.timed_out")
_MOST_TASKS = 100
_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A destination, with the only readable copy of its secret."""

    destination: Destination
    secret: str


def create(
    environment: str,
    name: str,
    url: str,
    *,
    wants: Sequence[str] = FAILURES,
    tasks: Sequence[str] = (),
    actor: str = "",
) -> Issued:
    """A new destination; notices to it are signed with a new secret."""
    check_name(name)
    posting.check_new(url)
    _check(wants, tasks)
    text = _new_secret()
    heard = {"wants": list(dict.fromkeys(wants)), "tasks": list(tasks)}
    with transaction.atomic():
        destination = _NAMED.make(environment, name, actor=actor, url=url, sealed=b"", hint="", **heard)
        _seal(destination, text)
        audit.record(destination.environment_id, actor, "destination.create", name, after=_told(destination))
    return Issued(destination=destination, secret=text)


def update(
    environment: str, name: str, *, url: str = "", wants: Sequence[str], tasks: Sequence[str] = (), actor: str = ""
) -> Destination:
    """Let it hear of other ends, or elsewhere; without a URL it keeps the one it has. Its secret stays."""
    _check(wants, tasks)
    if url:
        posting.check_new(url)
    with transaction.atomic():
        destination = find(environment, name, lock=True)
        before = _told(destination)
        destination.url = url or destination.url
        destination.wants, destination.tasks = list(dict.fromkeys(wants)), list(tasks)
        destination.save(update_fields=["url", "wants", "tasks"])
        owner, after = destination.environment_id, _told(destination)
        audit.record(owner, actor, "destination.update", name, before=before, after=after)
    return destination


def _told(destination: Destination) -> dict[str, object]:
    """What the audit log says of it."""
    return {"url": posting.origin(destination.url), "wants": destination.wants, "tasks": destination.tasks}


def _check(wants: Sequence[str], tasks: Sequence[str]) -> None:
    if not wants:
        raise BadInput(f"a destination wants something: {', '.join(KINDS)}")
    for kind in wants:
        if kind not in KINDS:
            raise BadInput(f"there is no notice {kind[:40]!r}; there are {', '.join(KINDS)}")
    if len(tasks) > _MOST_TASKS:
        raise BadInput(f"a destination names at most {_MOST_TASKS} tasks")
    for task in tasks:
        limits.check_text("the name of the task", task)


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(random.token_bytes(_BYTES)).decode()


def _seal(destination: Destination, text: str) -> None:
    destination.sealed, destination.hint = secrets.seal(text, _place(destination)), text[-4:]
    destination.save(update_fields=["sealed", "hint"])


def _place(destination: Destination) -> str:
    return f"the secret of destination {destination.pk}"


def secret_of(destination: Destination) -> str:
    """What its notices are signed with. Raises `UnreadableSecret`."""
    return secrets.unseal(bytes(destination.sealed), _place(destination))


def rotate(environment: str, name: str, *, actor: str = "") -> Issued:
    """Another secret, at once: whoever checks the signatures learns it before, or misses notices until then."""
    text = _new_secret()
    with transaction.atomic():
        destination = find(environment, name, lock=True)
        _seal(destination, text)
        after = {"secret": f"…{text[-4:]}"}
        audit.record(destination.environment_id, actor, "destination.rotate", name, after=after)
    return Issued(destination=destination, secret=text)


def remove(environment: str, name: str, *, actor: str = "") -> None:
    """Forget it, with what it was told and what it was to be told."""
    with transaction.atomic():
        destination = find(environment, name, lock=True)
        audit.record(destination.environment_id, actor, "destination.remove", name, before=_told(destination))
        destination.delete()


_NAMED = Named(Destination, "destination", "destination")
find = _NAMED.find
set_disabled = _NAMED.set_disabled


def all_of(environment: str | None = None) -> Sequence[Destination]:
    """The destinations, of one environment or of all."""
    found = Destination.objects.select_related("environment").order_by("environment", "name")
    return list(found if environment is None else found.filter(environment__slug=environment))

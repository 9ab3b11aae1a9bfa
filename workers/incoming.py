"""Messages as they arrive in a pool process: our header, and runs of producers that know nothing of us.

The header is taken out of the request before the user's code sees it: Celery copies custom headers
into the messages of `retry`, where an old lease number would make the retry look stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from celery.utils.time import maybe_iso8601

from triggerapp.engine import dispatch, encoding, triggers
from triggerapp.engine.dispatch import Message
from triggerapp.engine.triggers import Trigger
from triggerapp.models import FINAL, Run
from triggerapp.models.runs import new_id
from workers.marks import CONTENT, HEADER

_EMBEDDED = ("callbacks", "errbacks", "chain", "chord")
_NOT_HEADERS = frozenset(
    "args kwargs properties reply_to correlation_id hostname delivery_info is_eager headers called_directly "
    f"logfile loglevel {HEADER} {CONTENT} {' '.join(_EMBEDDED)}".split()
)


def mark_of(request: Any) -> Mapping[str, Any] | None:
    """Our header, taken out of the request; what it hid from the broker is put back."""
    mark = request.__dict__.pop(HEADER, None)
    for headers in (request.headers or {}, (request.properties or {}).get("application_headers") or {}):
        headers.pop(HEADER, None)
        headers.pop(CONTENT, None)
    if mark is None:
        return None
    request.eta, request.expires = mark.get("eta"), mark.get("expires")
    return dict(mark)


def adopted(task: Any, request: Any, *, is_eager: bool = False) -> UUID:
    """The run that stands for a message without our header: a new one, unless it is a redelivery."""
    delivery = request.delivery_info or {}
    last = Run.objects.filter(task_id=request.id).order_by("-nesting").only("id", "nesting", "status").first()
    if last is not None and (last.status not in FINAL or delivery.get("redelivered")):
        return last.id
    nesting = max(request.replaced_task_nesting or 0, 0 if last is None else last.nesting + 1)
    request.replaced_task_nesting = nesting  # where `replace` counts on from
    expires = request.expires
    triggered = triggers.trigger(
        Trigger(
            task=task.name,
            message=capture(task, request),
            queue=delivery.get("routing_key") or task.app.conf.task_default_queue,
            run_id=_free_id(request.id, taken=last is not None),
            task_id=request.id,
            nesting=nesting,
            ttl=maybe_iso8601(expires) if isinstance(expires, str) else None,
            max_duration=task.durable.defaults.get("max_duration"),
            send=False,
            is_eager=is_eager,
        )
    )
    return triggered.run_id


def _free_id(task_id: str, *, taken: bool) -> UUID:
    try:
        return new_id() if taken else UUID(task_id)
    except ValueError:
        return new_id()


def capture(task: Any, request: Any) -> Message:
    """The message as it came, before the task's code can change its arguments."""
    content = request.__dict__.get(CONTENT) or {}  # kept: the database may not answer the first time
    serializer = task.app.conf.task_serializer if not content else dispatch.serializer_named(content["type"])
    embedded = {name: getattr(request, name) for name in _EMBEDDED}
    call = (request.args or [], request.kwargs or {}, embedded)
    content_type, content_encoding, body = encoding.encode_call(task.name, call, serializer)
    delivery = request.delivery_info or {}
    return Message(
        headers={name: value for name, value in vars(request).items() if name not in _NOT_HEADERS and _plain(name)},
        properties=_properties(request),
        exchange=delivery.get("exchange") or "",
        routing_key=delivery.get("routing_key") or "",
        content_type=content_type,
        content_encoding=content_encoding,
        compression=(request.headers or {}).get("compression"),
        body=body,
        alone=dispatch.is_alone(call),
    )


def _plain(name: str) -> bool:
    return not name.startswith("_") and name not in ("time_limit", "soft_time_limit")


def _properties(request: Any) -> dict[str, Any]:
    kept = {**(request.properties or {}), "reply_to": request.reply_to, "correlation_id": request.correlation_id}
    return {k: v for k, v in kept.items() if v is not None and k not in dispatch.NOT_PROPERTIES}

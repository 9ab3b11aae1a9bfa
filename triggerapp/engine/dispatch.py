"""The broker: messages that say "look", and nothing else.

The only module of the engine that talks to it. A message is captured as Celery builds it, kept in
the run's row, and sent after commit, raw: at each wake the same task id, chain, chord and headers.
A lost message is sent again by a tick; a doubled one finds the run already claimed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from celery import Celery, signals
from celery.app import app_or_default
from celery.app.task import Context
from celery.backends.redis import RedisBackend
from celery.result import AsyncResult
from django.db import transaction
from kombu import exceptions as kombu_exceptions
from kombu import serialization
from kombu.exceptions import ContentDisallowed, OperationalError
from kombu.serialization import prepare_accept_content
from kombu.utils import json as kombu_json
from redis.exceptions import RedisError

from triggerapp.engine import encoding, limits
from triggerapp.errors import Undecodable, Unserializable
from triggerapp.failpoints import point

log = logging.getLogger(__name__)

HEADER = "triggerapp"
"""Our header: `{"run": id, "lease": number, "sent": when, "eta": …, "expires": …}`."""

COLUMNS = "id, task_id, lease, message, payload, sent_at, started_at, computed, max_duration, delivered"
"""What `publish` needs of a run; whoever has the `Message` itself gives that as `message`."""

GRACE = timedelta(seconds=30)
"""How long after its `max_duration` a run is killed, where the pool can.

Until then it ends by itself: its step in progress is recorded, the next one refused, and its rollbacks run. The kill
is for code that comes to no step or wait; a slot that it holds for half a minute more costs less than a step cut short.
"""

Headers = dict[str, Any]
T = TypeVar("T")

_is_capturing: ContextVar[bool] = ContextVar("triggerapp_capturing", default=False)

UNREACHABLE: tuple[type[Exception], ...] = (OSError, OperationalError, RedisError)
"""What a broker or result backend raises when it does not answer."""

_UNCERTAIN: type[Exception] = getattr(kombu_exceptions, "BatchPublishError", OperationalError)
"""What a batch raises; unlike single messages it is not tried again by kombu, which had none before 5.7."""

NOT_PROPERTIES = frozenset(
    "delivery_info delivery_tag delivery_mode body_encoding content_type content_encoding expiration exchange "
    "routing_key serializer compression retry retry_policy declare headers timeout confirm_timeout".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A Celery message as the producer built it; `body` is in the task's own serializer."""

    headers: Headers
    properties: Headers
    exchange: str
    routing_key: str
    content_type: str
    content_encoding: str
    compression: str | None
    body: bytes
    alone: bool = False
    """Nothing but arguments is known to be in the body: no callback, chain or chord. It can be sent again unread."""

    def envelope(self) -> str:
        """Everything but the body, as JSON text. Raises `BadInput` for headers that are none."""
        shown = {name: limits.storable(self.headers[name]) for name in _SHOWN if self.headers.get(name)}
        parts = {**{name: getattr(self, name) for name in _ENVELOPE}, "headers": {**self.headers, **shown}}
        try:
            text = str(kombu_json.dumps(parts))
        except (TypeError, ValueError, RecursionError) as error:
            found = encoding.culprit(list(parts.items()), "json", error)
            raise Unserializable(f"the message of {self.headers.get('task')} must be JSON: {found}") from error
        limits.check_json(f"the message of {self.headers.get('task')}", text)
        return text

    @classmethod
    def load(cls, envelope: str, body: bytes) -> Message:
        """The message of a run's row."""
        return cls(**kombu_json.loads(envelope), body=bytes(body))

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """The task's positional and keyword arguments. Raises `Undecodable`."""
        args, kwargs, _ = self.opened()
        return args, kwargs

    def opened(self) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
        """Arguments, and what is embedded beside them. Raises `Undecodable`; reads only what Celery accepts here."""
        accepted = prepare_accept_content({*app_or_default().conf.accept_content, "json"})
        try:
            args, kwargs, embedded = serialization.loads(
                self.body, self.content_type, self.content_encoding, accept=accepted
            )
        except ContentDisallowed as error:
            raise Undecodable(
                f"the payload is in {self.content_type}, which this process does not read: replay the run where "
                "Celery's accept_content has it, or give another payload"
            ) from error
        except Exception as error:  # an unpickled class may raise anything
            raise Undecodable(f"the payload cannot be read as {self.content_type}: {error}") from error
        return list(args), dict(kwargs), dict(embedded or {})


_SHOWN = ("argsrepr", "kwargsrepr")
"""For people: what arguments look like, whatever text is in them."""
_ENVELOPE = "headers properties exchange routing_key content_type content_encoding compression alone".split()
_PICKLE = "application/x-python-serialize"


class _Recorder:
    """Stands in for kombu's producer while Celery builds a message, and keeps what it would have sent."""

    # Celery asks the connection which errors to try again after; recording raises none.
    recoverable_connection_errors = ()
    recoverable_channel_errors = ()

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.connection = self
        self.serializer = app.conf.task_serializer
        self.channel = None
        self.message: Message | None = None

    @contextmanager
    def _reraise_as_library_errors(self) -> Iterator[None]:
        # Celery subscribes to the result inside this block, before it builds the message. A result
        # backend that is down must not stop a run from being accepted.
        try:
            yield
        except UNREACHABLE as error:
            log.warning("the result backend did not answer (%s); the run is accepted all the same", error)

    def taken(self) -> Message | None:
        """What was recorded so far."""
        return self.message

    def required(self) -> Message:
        """What was recorded; by now something must have been."""
        if self.message is None:
            raise RuntimeError("Celery built no message")
        return self.message

    def publish(self, body: object, **options: Any) -> None:
        if self.message is not None:  # Celery's own `task-sent` event follows the message
            with self.app.producer_or_acquire() as producer, self._reraise_as_library_errors():
                producer.publish(body, **options)
            return
        content_type, content_encoding, data = encoding.encode_call(
            str(options["headers"].get("task")), body, options.get("serializer") or self.serializer
        )
        self.message = Message(
            headers=options["headers"],
            properties={k: v for k, v in options.items() if k not in NOT_PROPERTIES and v is not None},
            exchange=getattr(options["exchange"], "name", options["exchange"]) or "",
            routing_key=options["routing_key"],
            content_type=content_type,
            content_encoding=content_encoding,
            compression=options.get("compression"),
            body=data,
            alone=is_alone(body),
        )


def is_alone(body: object) -> bool:
    """Whether a message's body has arguments only."""
    return isinstance(body, tuple) and len(body) == 3 and not any(body[2].values())


def capture(app: Celery, send: Callable[..., T]) -> tuple[Message, T]:
    """The message that `send(producer=…)` would send, and what it returned; nothing is sent.

    Routers, stamps and `before_task_publish` run as ever. Raises `Unserializable` for arguments that the task's
    serializer cannot take.
    """
    recorder = _Recorder(app)
    with _unsubscribed(app):
        result = send(producer=recorder)
    if recorder.taken() is None:  # see `_reraise_as_library_errors`: once more, without the subscription
        result = send(producer=recorder, ignore_result=True)
        recorder.required().headers["ignore_result"] = False
        if isinstance(result, AsyncResult):
            result.ignored = False
    return recorder.required(), result


@contextmanager
def _unsubscribed(app: Celery) -> Iterator[None]:
    """Do not subscribe to the result in Redis: `get` does that too, and where Redis is down it takes 20 s to fail."""
    if isinstance(app.backend, RedisBackend):
        _have_ask(app.backend)
    before = _is_capturing.set(True)
    try:
        yield
    finally:
        _is_capturing.reset(before)


def _have_ask(backend: RedisBackend) -> None:
    """For good: threads may share the backend, and one that took this back would do so under the others' hands."""
    if "on_task_call" not in vars(backend):
        # Another thread may be faster: the first one stays.
        vars(backend).setdefault("on_task_call", partial(_subscribe, backend.on_task_call))


def _subscribe(on_task_call: Callable[[object, str], None], producer: object, task_id: str) -> None:
    """In the place of `on_task_call`: calls that are not captured subscribe as ever."""
    if not _is_capturing.get():
        on_task_call(producer, task_id)


def after_commit(found: Iterable[Mapping[str, Any]]) -> None:
    """Send the messages of these rows (`COLUMNS`) once the transaction has committed."""
    batch = list(found)
    if batch:
        transaction.on_commit(partial(publish, batch))


def publish(batch: Iterable[Mapping[str, Any]], *, app: Celery | None = None) -> int:
    """Send these rows' messages; how many went out. A broker that is down is the next tick's business."""
    app = app or app_or_default()
    found = list(batch)
    try:
        with app.producer_or_acquire() as producer:
            _send_all(app, producer, found)
    except UNREACHABLE as error:
        log.warning("the broker did not take a message (%s); a tick sends it again", error)
        return 0
    for _ in found:
        point("dispatch.after_send")
    return len(found)


def _send_all(app: Celery, producer: Any, found: Sequence[Mapping[str, Any]]) -> None:
    """Many messages in one round trip, where kombu (5.7) and the transport know how."""
    try:
        with producer.batch() if len(found) > 1 and hasattr(producer, "batch") else nullcontext():
            for row in found:
                point("dispatch.before_send")
                _send(app, producer, row)
    except _UNCERTAIN:  # such as a connection that had been closed: a doubled message does no harm, a late one does
        for row in found:
            _send(app, producer, row)


def _send(app: Celery, producer: Any, row: Mapping[str, Any]) -> None:
    message = row["message"]
    if not isinstance(message, Message):
        message = Message.load(message, row["payload"])
    queue = None if message.exchange else _queue(app, message)
    producer.publish(
        message.body,
        exchange=message.exchange,
        routing_key=message.routing_key if queue is None else queue.name,
        headers=_headers(message.headers, row),
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        compression=message.compression,
        declare=[queue] if queue is not None else None,
        delivery_mode=2,
        retry=True,
        retry_policy=app.conf.task_publish_retry_policy,
        **message.properties,
    )


def _queue(app: Celery, message: Message) -> Any:
    """The message's own queue; where an app without `task_create_missing_queues` has it no more, today's."""
    try:
        # Not `get`: a process that has sent nothing to a queue yet knows only the default one.
        return app.amqp.queues[message.routing_key]
    except KeyError:
        task = app.tasks.get(message.headers["task"])
        options = {} if task is None else task._get_exec_options()  # type: ignore[attr-defined]
        return app.amqp.router.route(dict(options), message.headers["task"]).get("queue")


def _headers(headers: Headers, row: Mapping[str, Any]) -> Headers:
    """The message's headers for this sending: when to run is our business, so eta and expires are hidden.

    A first sending keeps `expires`, so that a worker discards it as Celery does.
    """
    first = row["started_at"] is None
    mark = {
        "run": str(row["id"]),
        "lease": row["lease"],
        "sent": row["sent_at"].isoformat(),
        "eta": headers.get("eta"),
        "expires": headers.get("expires"),
    }
    if row.get("delivered"):  # Celery was told already: its worker is not to tell it again
        mark["told"] = True
    sent = {**headers, HEADER: mark, "eta": None, "expires": headers.get("expires") if first else None}
    if row["max_duration"] is not None:
        sent["timelimit"] = _time_limit(headers, row)
    return sent


def _time_limit(headers: Headers, row: Mapping[str, Any]) -> list[float | None]:
    left = (max(row["max_duration"] - row["computed"], timedelta()) + GRACE).total_seconds()
    hard, soft = headers.get("timelimit") or (None, None)
    return [min(hard, left) if hard else left, soft]


def serializer_of(message: Message) -> str:
    """The name of the serializer that a message's body is in. Raises `Undecodable`."""
    try:
        return serializer_named(message.content_type)
    except KeyError as error:
        raise Undecodable(f"no serializer for {message.content_type} is registered here") from error


def serializer_named(content_type: str) -> str:
    """The name of the serializer of a content type."""
    return str(serialization.registry.type_to_name[content_type])  # type: ignore[attr-defined]


def depth(routing_key: str) -> int | None:
    """How many messages lie in a broker queue; None if the broker does not say."""
    try:
        with app_or_default().connection_for_read() as connection:
            return int(_channel(connection).queue_declare(routing_key, passive=True).message_count)
    except UNREACHABLE:
        return None
    except Exception as error:  # noqa: BLE001  (each transport has its own "no such queue")
        log.debug("no depth of %s: %s", routing_key, error)
        return None


def _channel(connection: Any) -> Any:
    return connection.default_channel


def announce_canceled(task_id: str, message: Message, *, why: str) -> None:
    """Tell Celery's result backend that a run was `canceled`, or has `expired`: result REVOKED, its chord counted."""
    app = app_or_default()
    task = app.tasks.get(message.headers["task"])
    backend = task.backend if task is not None else app.backend
    ignored = bool(message.headers.get("ignore_result"))
    backend.mark_as_revoked(task_id, why, request=_request(task_id, message), store_result=not ignored)


def tell_monitors_revoked(task_id: str, message: Message) -> None:
    """Send Celery's `task-revoked` event and signal, for a run that no worker has a message of."""
    app = app_or_default()
    task = app.tasks.get(message.headers["task"])
    how = {"terminated": False, "signum": None, "expired": False}
    signals.task_revoked.send(sender=task, request=_request(task_id, message), **how)
    if task is None or task.send_events:
        with app.events.default_dispatcher() as dispatcher:
            # `state`, because monitors rank WAITING, a state that they do not know, above REVOKED.
            dispatcher.send("task-revoked", uuid=task_id, state="REVOKED", **how)


def _request(task_id: str, message: Message) -> Context:
    """What Celery is told of; pickled arguments are left out where nobody waits for what lies beside them."""
    if message.alone and message.content_type == _PICKLE:
        return Context({**message.headers, "id": task_id})
    args, kwargs, embedded = message.opened()
    return Context({**message.headers, **embedded, "args": args, "kwargs": kwargs, "id": task_id})

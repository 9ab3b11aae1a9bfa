"""What only running servers can tell: whether runs would be lost or left lying, and what to do.

Each finding has a level, a sentence, and a remedy. `manage.py doctor` prints them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from celery.app import app_or_default
from django.conf import settings
from django.core import checks
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Model
from django.urls import Resolver404, resolve
from kombu.exceptions import OperationalError as BrokerDown
from redis import Redis
from redis.exceptions import RedisError

import checkpoint
from triggerapp import clock, conf, imagestore
from triggerapp.api.ingress import receive
from triggerapp.api.tokens import callback
from triggerapp.checks import check_settings, database_remedy
from triggerapp.engine import environments, secrets, sql, tokens, webhooks
from triggerapp.models import ApiKey, Destination, Endpoint, EndpointSecret, EnvVar, Wait, WaitKind, Worker

SKEW = timedelta(seconds=5)
FAR_OFF = timedelta(minutes=1)
NIL = UUID(int=0)
_SEALED: tuple[type[Model], ...] = (EnvVar, EndpointSecret, Destination, ApiKey)
"""The tables with something encrypted in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at: `ok`, `warning` or `error`."""

    level: str
    about: str
    says: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """For `--json`."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at everything; a server that is down is a finding, not an exception."""
    if check_settings():
        return list(_settings())
    database = list(_database())
    if database[0].level == "error":
        return [*database, *_broker(), *_settings()]
    migrations = list(_migrations())
    if migrations[0].level == "error":
        return [*database, *_disk(), *migrations, *_broker(), *_settings()]
    return [
        *database,
        *_disk(),
        *migrations,
        *_clock(),
        *_broker(),
        *_workers(),
        *_tokens(),
        *_webhooks(),
        *_secrets(),
        *_checkpoints(),
        *_settings(),
    ]


def _database() -> Iterator[Finding]:
    try:
        connection.ensure_connection()
    except Exception as error:  # noqa: BLE001  (a wrong engine fails in its own ways)
        yield Finding(
            level="error",
            about="database",
            says=f"does not answer: {error}",
            remedy=database_remedy(),
        )
        return
    if connection.vendor != "postgresql":
        yield Finding(
            level="error", about="database", says=f"is {connection.vendor}", remedy="use PostgreSQL 14 or newer"
        )
    elif (version := getattr(connection, "pg_version", 0)) < 140000:
        says = f"is PostgreSQL {version // 10000}"
        yield Finding(level="error", about="database", says=says, remedy="use PostgreSQL 14 or newer")
    else:
        yield Finding(level="ok", about="database", says="answers")


def _disk() -> Iterator[Finding]:
    if not _waits_for_the_disk():
        yield Finding(level="error", about="disk", says="fsync is off: a crash loses runs", remedy="set fsync = on")
    else:
        yield Finding(level="ok", about="disk", says="fsync is on")


def _waits_for_the_disk() -> bool:
    return sql.row("SELECT current_setting('fsync') AS fsync") == {"fsync": "on"}


def _migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes("triggerapp"))
    if missing:
        yield Finding(
            level="error", about="migrations", says=f"{len(missing)} not applied", remedy="run `manage.py migrate`"
        )
    else:
        yield Finding(level="ok", about="migrations", says="applied")


def _clock() -> Iterator[Finding]:
    skew = abs(clock.now() - _here())
    if skew > SKEW:
        yield Finding(
            level="warning" if skew < FAR_OFF else "error",
            about="clock",
            says=f"this host is {skew.total_seconds():.0f} s off the database's clock: shown times mislead, and "
            "signatures and tokens that carry a time are refused or stand too long",
            remedy="synchronise the clocks, as by NTP; leases and deadlines go by the database's alone",
        )
    else:
        yield Finding(level="ok", about="clock", says="agrees with the database's")


def _here() -> datetime:
    return datetime.now(UTC)


def _broker() -> Iterator[Finding]:
    app = app_or_default()
    try:
        with app.connection_for_read() as broker:
            broker.ensure_connection(max_retries=1, timeout=3)
            scheme = broker.transport.driver_type
    except (KeyError, ValueError):  # whose text may hold the password
        yield Finding(
            level="error",
            about="broker",
            says="its address is not understood: there is no such transport, or its port is not a number",
            remedy="write broker_url as redis://:PASSWORD@HOST:PORT/0 or amqp://USER:PASSWORD@HOST//, percent-encoded",
        )
        return
    except (OSError, BrokerDown, RedisError) as error:
        yield Finding(
            level="error",
            about="broker",
            says=f"does not answer: {error}",
            remedy="start it; runs are accepted meanwhile and sent when it is back",
        )
        return
    yield Finding(level="ok", about="broker", says=f"{scheme} answers")
    if scheme == "redis":
        yield from _redis(str(app.conf.broker_url))


def _redis(url: str) -> Iterator[Finding]:
    policy = _eviction(url)
    if policy not in (None, "noeviction"):
        yield Finding(
            level="error",
            about="redis",
            says=f"maxmemory-policy is {policy}: messages, results and chords may be thrown away",
            remedy="set maxmemory-policy noeviction",
        )


def _eviction(url: str) -> str | None:
    """The policy; None where the server does not say (a managed Redis may forbid CONFIG)."""
    try:
        with Redis.from_url(url.replace("redis+socket://", "unix://")) as client:
            limits = client.config_get("maxmemory*")
    except (OSError, RedisError, ValueError):
        return None
    return str(limits.get("maxmemory-policy")) if int(limits.get("maxmemory", 0)) else None


def _workers() -> Iterator[Finding]:
    here, lease = environments.current(), conf.get().LEASE
    alive = Worker.objects.filter(environment=here, expires_at__gt=clock.now()).count()
    left = sql.row(_LEFT, {"here": here, "most": _MOST, "lease": lease, "often": _OFTEN}) or {}
    if alive:
        yield Finding(level="ok", about="workers", says=f"{alive} with a heartbeat younger than {lease}")
    else:
        yield _no_worker(left["queued"])
    for name, finding in _LYING.items():
        if left[name]:
            yield replace(finding, says=finding.says.format(runs=_some(left[name]), **left))


def _no_worker(queued: int) -> Finding:
    runs = f"; {_some(queued)} to be taken now" if queued else ""
    return Finding(
        level="error" if queued else "warning",
        about="workers",
        says=f"none has a heartbeat: runs are accepted, nothing runs them and no timer fires{runs}",
        remedy="start one: `celery -A yourproject worker`",
    )


_LYING = {
    "lost": Finding(
        level="error",
        about="dead workers",
        says="{runs} with workers whose heartbeat stopped, and nobody took them over",
        remedy="start a worker of this environment, or start one again whose ticker ended: it takes them over",
    ),
    "thrown": Finding(
        level="warning",
        about="messages",
        says="{runs} queued though sent many times, and no worker takes them, such as {thrown_one}",
        remedy="workers throw their messages away, as of a task that they do not know or in a serializer that "
        "they do not accept, or none reads their queue: workers' logs tell, `manage.py cancel RUN` ends them",
    ),
    "eager": Finding(
        level="warning",
        about="eager runs",
        says="{runs} in the process that called apply() for over a day, such as {eager_one}: no heartbeat tells "
        "whether it lives",
        remedy="where that process is gone, end the run: `manage.py cancel RUN`",
    ),
}
"""What lies and needs somebody, by what is counted."""

_MOST = 1000
_OFTEN = 10
_LEFT = """
SELECT (SELECT count(*) FROM (SELECT 1 FROM triggerapp_run WHERE environment_id = %(here)s AND status = 'queued'
        LIMIT %(most)s) q) AS queued,
  (SELECT count(*) FROM (SELECT 1 FROM triggerapp_run r WHERE environment_id = %(here)s AND status = 'running'
    AND NOT is_eager
    AND NOT EXISTS (SELECT 1 FROM triggerapp_worker w WHERE w.id = r.worker AND w.expires_at > now() - %(lease)s)
        LIMIT %(most)s) l) AS lost,
  thrown.*, eager.*
FROM (SELECT count(*) AS thrown, min(id::text) AS thrown_one FROM (SELECT id FROM triggerapp_run r
    WHERE environment_id = %(here)s AND status = 'queued' AND sends >= %(often)s AND NOT EXISTS
      (SELECT 1 FROM triggerapp_run busy WHERE busy.queue_id = r.queue_id AND busy.status = 'running')
    LIMIT %(most)s) t) thrown,
  (SELECT count(*) AS eager, min(id::text) AS eager_one FROM (SELECT id FROM triggerapp_run
    WHERE environment_id = %(here)s AND status IN ('running', 'waiting') AND is_eager
      AND started_at < now() - interval '1 day' LIMIT %(most)s) e) eager
"""


def _some(count: int) -> str:
    return "1 run is" if count == 1 else f"{count:,} runs{' or more' if count >= _MOST else ''} are"


def _tokens() -> Iterator[Finding]:
    """Where the URLs of tokens lead; nothing where no token was ever made."""
    if not Wait.objects.filter(kind=WaitKind.TOKEN).exists():
        return
    base, mounted = conf.get().BASE_URL, _resolves(tokens.path(NIL), callback)
    if not mounted:
        yield Finding(
            level="warning",
            about="tokens",
            says=f"their URLs begin with {base}/api/, and this project's URLconf has nothing there",
            remedy='add path("api/", include("triggerapp.api.urls")) to it, unless another project serves that address',
        )
    if base == conf.Conf().BASE_URL and not settings.DEBUG:
        yield Finding(
            level="warning",
            about="tokens",
            says=f"their URLs begin with {base}: nobody outside of this machine reaches them",
            remedy='set TRIGGERAPP = {"BASE_URL": ...} to where the outside reaches this installation',
        )
    elif mounted:
        yield Finding(level="ok", about="tokens", says=f"their URLs begin with {base}")


def _resolves(path: str, view: Callable[..., object]) -> bool:
    try:
        return resolve(path).func is view
    except Resolver404:
        return False


def _webhooks() -> Iterator[Finding]:
    """Whether endpoints are reached, and whether notices are kept from private addresses; nothing where none is."""
    endpoint = Endpoint.objects.select_related("environment").first()
    if endpoint is not None and not _resolves(webhooks.path(endpoint), receive):
        yield Finding(
            level="warning",
            about="webhooks",
            says=f"{webhooks.url(endpoint)} is what providers post to, and this project's URLconf has nothing there",
            remedy='add path("hooks/", include("triggerapp.api.ingress")) to it, unless another project serves it',
        )
    if conf.get().WEBHOOK_ALLOW_PRIVATE and not settings.DEBUG and Destination.objects.exists():
        yield Finding(
            level="warning",
            about="webhooks",
            says="notices may go to private addresses: whoever makes a destination can post into this network",
            remedy="take WEBHOOK_ALLOW_PRIVATE out of TRIGGERAPP: it is for development",
        )


def _secrets() -> Iterator[Finding]:
    """Whether what is encrypted opens, and with which key; nothing where nothing is."""
    sealed: list[Any] = [row for model in _SEALED for row in model._default_manager.exclude(sealed=None)]
    if not sealed:
        return
    lost = [f"{row._meta.verbose_name} {row}" for row in sealed if not secrets.opens(bytes(row.sealed))]
    if lost:
        yield Finding(
            level="error",
            about="secrets",
            says=f"no key opens {', '.join(lost[:5])}{' and others' if len(lost) > 5 else ''}",
            remedy="add the old key to TRIGGERAPP['SECRETS_KEYS'], or the old SECRET_KEY to SECRET_KEY_FALLBACKS",
        )
    if not conf.get().SECRETS_KEYS:
        yield Finding(
            level="warning",
            about="secrets",
            says="variables, root keys and webhooks' secrets are encrypted with a key derived from SECRET_KEY, and are "
            "lost with it",
            remedy="set TRIGGERAPP['SECRETS_KEYS'], and the values anew",
        )
    elif not lost:
        yield Finding(level="ok", about="secrets", says="are encrypted with keys of their own, and open")


def _checkpoints() -> Iterator[Finding]:
    """Whether processes can be dumped here, by a dump and a restore; asked only where they are to be."""
    wanted = conf.get().CHECKPOINT
    if wanted == "off":
        yield Finding(level="ok", about="checkpoints", says="are off: runs are entered again after each wait")
        return
    verdict = checkpoint.check()
    if verdict.ok:
        yield Finding(level="ok", about="checkpoints", says=f"work here: CRIU {verdict.version}, {verdict.mode}")
    for reason in verdict.reasons:
        level = "warning" if wanted == "on" and reason.blocking else "ok"
        yield Finding(level=level, about="checkpoints", says=reason.message, remedy=reason.remedy)
    if verdict.ok or wanted == "on":
        yield from _image_store()


def _image_store() -> Iterator[Finding]:
    """Whether it answers, and has room; nothing is written there, which a worker's user could be kept from then."""
    place, quota = conf.get().CHECKPOINT_STORE, conf.get().CHECKPOINT_QUOTA_BYTES
    try:
        next(iter(imagestore.store().list()), None)
        if quota:
            checkpoint.require_room(imagestore.store(), quota)
    except checkpoint.QuotaExceeded as full:
        yield Finding(
            level="warning",
            about="image store",
            says=f"{place} is full; until there is room runs wait without images, and lose nothing",
            remedy=str(full),
        )
    except (checkpoint.CheckpointError, ValueError) as problem:
        yield Finding(
            level="error" if conf.get().CHECKPOINT == "on" else "warning",
            about="image store",
            says=f"{place} does not answer: {problem}",
            remedy="see CHECKPOINT_STORE in TRIGGERAPP; until it answers runs wait without images, and lose nothing",
        )
    else:
        yield Finding(level="ok", about="image store", says=f"{place} answers")


def _settings() -> Iterator[Finding]:
    levels: dict[bool, str] = {True: "error", False: "warning"}
    for message in checks.run_checks(tags=["triggerapp"]):
        yield Finding(
            level=levels[message.is_serious()],
            about=str(message.id),
            says=str(message.msg),
            remedy=str(message.hint or ""),
        )

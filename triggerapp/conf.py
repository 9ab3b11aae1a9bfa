"""The app's one setting: `TRIGGERAPP = {...}` in the Django settings, as a frozen dataclass.

Everything has a default. A wrong key or value stops Django at the first look, with the way out in the message.
"""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64decode
from dataclasses import dataclass, fields
from datetime import timedelta
from difflib import get_close_matches
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

SETTING = "TRIGGERAPP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """What can be set, and what it is if it is not."""

    ENVIRONMENT: str = "dev"
    """The environment of this process: its runs, queues and keys are those of no other."""

    LEASE: timedelta = timedelta(seconds=10)
    """How long a worker may be silent before its runs are taken back."""

    HEARTBEAT: timedelta = timedelta(seconds=3)
    """How often a worker renews its leases; at least twice a lease."""

    TICK: timedelta = timedelta(seconds=1)
    """The longest the ticker sleeps without looking for work."""

    RESEND_AFTER: timedelta = timedelta(seconds=5)
    """A run nobody claimed for this long has its message sent again."""

    EVENT_LOOKBACK: timedelta = timedelta(hours=1)
    """A wait also takes an event that came at most this long before it; 0 for none."""

    EVENT_RETENTION: timedelta = timedelta(days=7)
    """How long events are kept."""

    WEBHOOK_RETENTION: timedelta = timedelta(days=7)
    """How long webhooks that came in or went out are kept, and a delivery is known again; at least 3 days."""

    WEBHOOK_ALLOW_PRIVATE: bool = False
    """Whether notices may go to private addresses, and without TLS: for development."""

    RUN_RETENTION: timedelta = timedelta(days=30)
    """How long ended runs are kept."""

    MAX_PAYLOAD_BYTES: int = 3 * 1024 * 1024
    """The size of a run's arguments at most."""

    MAX_PACKETS: int = 5_000
    """How many uploaded payloads an environment keeps at most; each is kept for a day."""

    MAX_RESULT_BYTES: int = 10 * 1024 * 1024
    """The size of a run's result at most."""

    MAX_VALUE_BYTES: int = 1024 * 1024
    """The size of a step's value, a wait's value or an event's payload at most."""

    MAX_CRASHES: int = 3
    """A run that took down this many workers is not tried again."""

    IDEMPOTENCY_TTL: timedelta = timedelta(days=30)
    """How long an idempotency key finds its run, unless the trigger says otherwise."""

    BASE_URL: str = "http://127.0.0.1:8000"
    """Where the outside reaches this installation; the URLs of tokens begin with it."""

    MAX_TAGS: int = 10
    """How many tags a run has at most."""

    API_RATE: str = "6000/minute"
    """How many requests a key may make in a second, minute, hour or day."""

    FAILED_RATE: str = "60/minute"
    """How many keys that do not stand, or wrong passwords, an address may try before it is told to wait."""

    API_MAX_BODY_BYTES: int = 16 * 1024 * 1024
    """The size of a request to the API at most, batches included."""

    CHECKPOINT: str = "auto"
    """Whether the process of a waiting run is kept as an image: "auto" where that works and pays, "on", or "off"."""

    CHECKPOINT_MIN_WAIT: timedelta = timedelta(milliseconds=350)
    """Timers shorter than this keep their process: dumping and restoring it costs as much of a processor."""

    CHECKPOINT_STORE: str = "~/.local/state/triggerapp/checkpoints"
    """The folder or `s3://bucket/prefix` of images; shared, if they are to be restored on other hosts too."""

    CHECKPOINT_KEYS: str = ""
    """Keys as `python -m checkpoint key` makes them, by spaces; the first one seals, all open. "": from SECRET_KEY."""

    CHECKPOINT_BASE: str = "copied"
    """How run processes have their zygote's memory: "copied", or as a file that all of a host have "mapped"."""

    CHECKPOINT_MAX_BYTES: int = 2 << 30
    """The size of a process image at most; the run of a larger one is re-entered."""

    CHECKPOINT_QUOTA_BYTES: int = 0
    """How much an environment's images may take; while they take that much, runs wait without one. 0: no bound."""

    CHECKPOINT_RETENTION: timedelta = timedelta(days=30)
    """How long images are kept; the run of an older one is re-entered."""

    SECRETS_KEYS: str = ""
    """Fernet keys for what is encrypted in the database, by spaces; the first seals, all open. "": from SECRET_KEY."""

    FLOWER_URL: str = ""
    """Where people reach Flower, if it runs: the dashboard leads there."""

    DASHBOARD_ACCESS: str = "triggerapp.levels.by_permissions"
    """A function of a request that says what its user may do: a `triggerapp.levels.Level`."""

    REDACT: tuple[str, ...] = ("passw", "secret", "authorization", "api_?key", "credit_?card")
    """Regular expressions; values under keys that match one are not shown in the dashboard."""

    LOGS: str = "on"
    """Whether what runs log and print is kept beside them: "on" or "off"."""

    LOG_LINES: int = 10_000
    """How many lines of a run are kept at most."""

    LOG_BYTES: int = 1024 * 1024
    """How much text of a run is kept at most."""

    LOG_RETENTION: timedelta = timedelta(days=7)
    """How long lines are kept; never longer than their run."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) != each.default:
                _check_value(each.name, getattr(self, each.name), kind=type(each.default))
        _check_environment(self.ENVIRONMENT)
        _check_durations(self)
        _check_checkpoints(self)
        if self.LOGS not in ("on", "off"):
            raise _wrong("LOGS", self.LOGS, want="'on' or 'off'")
        for name in ("API_RATE", "FAILED_RATE"):
            if not re.fullmatch(r"[1-9]\d*/(second|minute|hour|day)", getattr(self, name)):
                raise _wrong(name, getattr(self, name), want="a rate, as in '100/second', or per minute, hour or day")
        if not all(map(_is_fernet_key, self.SECRETS_KEYS.replace(",", " ").split())):
            raise _wrong(
                "SECRETS_KEYS", self.SECRETS_KEYS, want="keys as cryptography's Fernet.generate_key() makes them"
            )
        _check_patterns("REDACT", self.REDACT)
        for name in ("BASE_URL", "FLOWER_URL"):
            url = getattr(self, name)
            if url and not url.startswith(("http://", "https://")):
                raise _wrong(name, url, want="a URL that begins with http:// or https://")
        if self.EVENT_RETENTION < self.EVENT_LOOKBACK:
            raise _wrong("EVENT_RETENTION", self.EVENT_RETENTION, want="at least EVENT_LOOKBACK")


def get() -> Conf:
    """The setting as it stands."""
    return _read()


@cache
def _read() -> Conf:
    given: dict[str, Any] = getattr(settings, SETTING, {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"{SETTING} must be a dict, not {given!r}")
    known = [each.name for each in fields(Conf)]
    for key in given:
        if key not in known:
            raise ImproperlyConfigured(f"{SETTING} has no key {key!r}{_hint(str(key), known)}")
    return Conf(**given)


def _hint(key: str, known: list[str]) -> str:
    nearest = get_close_matches(key.upper(), known, n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else f"; it may have {', '.join(known)}"


def _check_value(name: str, value: object, *, kind: type) -> None:
    if kind is timedelta and not isinstance(value, timedelta):
        raise _wrong(name, value, want="a timedelta, as in timedelta(seconds=10)")
    if kind is int and (type(value) is not int or value < 1):
        raise _wrong(name, value, want="a whole number above 0")
    if kind is bool and not isinstance(value, bool):
        raise _wrong(name, value, want="True or False")
    if kind is str and (not isinstance(value, str) or not value):
        raise _wrong(name, value, want="a string that is not empty")


_POSITIVE = (
    "LEASE HEARTBEAT TICK RESEND_AFTER EVENT_RETENTION RUN_RETENTION IDEMPOTENCY_TTL CHECKPOINT_RETENTION "
    "LOG_RETENTION".split()
)


ENVIRONMENT_NAME = re.compile(r"[\w-]{1,32}", re.ASCII)
ENVIRONMENT_RULE = "1 to 32 letters, digits, hyphens or underscores"


def _check_environment(slug: str) -> None:
    if not ENVIRONMENT_NAME.fullmatch(slug):
        raise _wrong("ENVIRONMENT", slug, want=ENVIRONMENT_RULE)


def _check_durations(conf: Conf) -> None:
    for name in _POSITIVE:
        if getattr(conf, name) <= timedelta(0):
            raise _wrong(name, getattr(conf, name), want="longer than 0")
    if conf.EVENT_LOOKBACK < timedelta(0):
        raise _wrong("EVENT_LOOKBACK", conf.EVENT_LOOKBACK, want="0 or longer")
    if conf.WEBHOOK_RETENTION < timedelta(days=3):
        raise _wrong("WEBHOOK_RETENTION", conf.WEBHOOK_RETENTION, want="at least 3 days: so long providers try again")
    if conf.HEARTBEAT * 2 > conf.LEASE:
        raise _wrong("HEARTBEAT", conf.HEARTBEAT, want="at most half of LEASE, so that one late beat loses no run")


def _check_checkpoints(conf: Conf) -> None:
    if conf.CHECKPOINT not in ("auto", "on", "off"):
        raise _wrong("CHECKPOINT", conf.CHECKPOINT, want="'auto', 'on' or 'off'")
    if conf.CHECKPOINT_BASE not in ("copied", "mapped"):
        raise _wrong("CHECKPOINT_BASE", conf.CHECKPOINT_BASE, want="'copied' or 'mapped'")
    if conf.CHECKPOINT_MIN_WAIT < timedelta(0):
        raise _wrong("CHECKPOINT_MIN_WAIT", conf.CHECKPOINT_MIN_WAIT, want="0 or longer")
    if not all(map(_is_key, conf.CHECKPOINT_KEYS.replace(",", " ").split())):
        raise _wrong(
            "CHECKPOINT_KEYS", conf.CHECKPOINT_KEYS, want="keys as `python -m checkpoint key` makes them, id:base64"
        )


def _check_patterns(name: str, value: object) -> None:
    try:
        if isinstance(value, str) or not all(re.compile(str(pattern)) for pattern in value):  # type: ignore[attr-defined]
            raise TypeError
    except (re.error, TypeError) as error:
        raise _wrong(name, value, want="a list of regular expressions") from error


def _is_key(text: str) -> bool:
    name, _, encoded = text.partition(":")
    try:
        return bool(name) and len(b64decode(encoded, validate=True)) == 32
    except ValueError:
        return False


def _is_fernet_key(text: str) -> bool:
    try:
        return len(urlsafe_b64decode(text)) == 32
    except ValueError:
        return False


_SECRET = ("CHECKPOINT_KEYS", "SECRETS_KEYS")


def _wrong(name: str, value: object, *, want: str) -> ImproperlyConfigured:
    shown = "…" if name in _SECRET else repr(value)  # this is logged
    return ImproperlyConfigured(f"{SETTING}[{name!r}] is {shown}; it must be {want}")


def _forget(*, setting: str, **_: object) -> None:
    """Read again after a test overrode the setting."""
    if setting == SETTING:
        _read.cache_clear()


setting_changed.connect(_forget)

"""What a trigger may ask for. Checked before anything is written, so that a refusal leaves nothing half done.

Every refusal is a `BadInput` that names the option, what was given, and what would do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from triggerapp import conf
from triggerapp.engine import durations
from triggerapp.errors import BadInput, PayloadTooLarge

Json = Any

NAME_CHARACTERS = 255
KEY_CHARACTERS = 2048
TAG_CHARACTERS = 128
METADATA_BYTES = 256 * 1024
MOST_ATTEMPTS = 32_767
MOST_PRIORITY = 255
DEEPEST = 500
"""Levels of nesting in JSON; the encoders of Python and PostgreSQL stop not far beyond."""
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL character in JSON text, which PostgreSQL cannot store."""


def check_payload(task: str, body: bytes) -> None:
    """Refuse arguments over the size limit."""
    limit = conf.get().MAX_PAYLOAD_BYTES
    if len(body) > limit:
        raise PayloadTooLarge(
            f"the arguments of {task} are {len(body):,} bytes; the limit is {limit:,} "
            "(TRIGGERAPP['MAX_PAYLOAD_BYTES']). Store them elsewhere and pass a reference."
        )


def check_json(what: str, text: str) -> None:
    """Refuse JSON text, ASCII only, with characters that PostgreSQL's JSON cannot hold."""
    if ("\\u0000" in text and NUL.search(text)) or ("\\ud" in text and not _is_storable(_plain(text))):
        raise BadInput(f"{what} contains a NUL character or half a surrogate pair, which PostgreSQL cannot store")


def is_shallow(value: Json) -> bool:
    """Whether JSON is nested no deeper than `DEEPEST` levels; found out without recursion."""
    layer = [value]
    for _ in range(DEEPEST):
        inner = [each.values() if isinstance(each, dict) else each for each in layer if isinstance(each, dict | list)]
        layer = [item for items in inner for item in items]
        if not layer:
            return True
    return False


def storable(text: str) -> str:
    """Text for people to read, with what PostgreSQL cannot store written as Python would."""
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()


def _plain(text: str) -> str:
    return json.dumps(json.loads(text), ensure_ascii=False)


def check_deadline(name: str, value: object) -> None:
    """A deadline is a time from now, or a moment of a known time zone that somebody may mean."""
    if value is None:
        return
    if not isinstance(value, datetime | timedelta):
        raise BadInput(f"{name}={value!r}: pass a timedelta or an aware datetime")
    if isinstance(value, datetime) and value.tzinfo is None:
        raise BadInput(f"{name}={value.isoformat()} has no time zone: pass an aware datetime, as timezone.now() is")
    if isinstance(value, timedelta):
        durations.check(name, value)
    else:
        durations.check_due(name, value)


def check_more_than_nothing(name: str, value: object) -> None:
    """A time that must not be empty."""
    if value is None:
        return
    if not isinstance(value, timedelta):
        raise BadInput(f"{name}={value!r}: pass a timedelta")
    if value <= timedelta():
        raise BadInput(f"{name}={durations.text(value)} must be more than nothing")


def check_attempts(value: object, *, name: str = "max_attempts") -> None:
    """How often a run is tried in all."""
    if value is not None and (type(value) is not int or not 1 <= value <= MOST_ATTEMPTS):
        raise BadInput(f"{name}={_short(value)} must be a whole number from 1 (1 means no retry) to {MOST_ATTEMPTS:,}")


def check_priority(value: object) -> None:
    """Celery's, of a message in its broker queue; from what is no number a broker makes what it likes."""
    if value is not None and (type(value) is not int or not 0 <= value <= MOST_PRIORITY):
        raise BadInput(f"priority={_short(value)} must be a whole number from 0 to {MOST_PRIORITY} (on Redis to 9)")


def check_text(name: str, value: object, *, most: int = NAME_CHARACTERS) -> None:
    """A text that fits its column."""
    if value is None:
        return
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise BadInput(f"{name}={_short(value)} must be a text of 1 to {most} characters")
    if not _is_storable(value):
        raise BadInput(
            f"{name}={_short(value)} contains a NUL character or half a surrogate pair, which PostgreSQL cannot store"
        )


def check_tags(tags: Sequence[str]) -> None:
    """Few short texts."""
    most = conf.get().MAX_TAGS
    if isinstance(tags, str) or len(tags) > most or not all(map(_is_tag, tags)):
        raise BadInput(f"tags={_short(tags)}: at most {most} texts of 1 to {TAG_CHARACTERS} characters, no NUL")


def check_metadata(metadata: Json) -> None:
    """A JSON object that fits."""
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise BadInput(f"metadata={_short(metadata)} must be an object (in Python a dict)")
    try:
        text = json.dumps(metadata, allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        place = "".join(map("[{!r}]".format, _not_json(metadata, [])))
        raise BadInput(f"metadata{place} must be JSON, without NaN or Infinity: {error}") from error
    if NUL.search(text):
        raise BadInput("metadata contains a NUL character, which PostgreSQL cannot store")
    if size > METADATA_BYTES:
        raise BadInput(f"metadata takes {size:,} bytes as JSON; the limit is {METADATA_BYTES:,}")


OPTIONS: Final[Mapping[str, Callable[[Any], None]]] = {
    "delay": partial(check_deadline, "delay"),
    "ttl": partial(check_deadline, "ttl"),
    "max_duration": partial(check_more_than_nothing, "max_duration"),
    "max_attempts": check_attempts,
    "idempotency_key": partial(check_text, "idempotency_key", most=KEY_CHARACTERS),
    "idempotency_ttl": partial(check_more_than_nothing, "idempotency_ttl"),
    "concurrency_key": partial(check_text, "concurrency_key"),
    "tags": check_tags,
    "metadata": check_metadata,
}
"""What may be asked of a trigger, and the check of each."""


def check_options(given: Mapping[str, Any]) -> None:
    """Refuse options of a trigger that cannot be; others than ours are passed over."""
    for name, check in OPTIONS.items():
        if name in given:
            check(given[name])


def _not_json(value: object, path: list[object]) -> list[object]:
    """The way to the first value that JSON cannot carry."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        try:
            json.dumps(child, allow_nan=False)
        except RecursionError:
            return path
        except (TypeError, ValueError):
            return _not_json(child, [*path, key])
    return path


def _is_tag(tag: object) -> bool:
    return isinstance(tag, str) and 0 < len(tag) <= TAG_CHARACTERS and _is_storable(tag)


def _is_storable(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text):,} characters)"

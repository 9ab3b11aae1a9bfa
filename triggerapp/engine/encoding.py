"""Arguments and results as bytes, in the serializer of their task.

What cannot be encoded is refused with the path to it, before anything is written or sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kombu import serialization
from kombu.exceptions import EncodeError

from triggerapp.errors import Unserializable

DEEPEST = 100
PATH_CHARACTERS = 200


def encode(body: object, serializer: str) -> tuple[str, str, bytes]:
    """Content type, content encoding and bytes of `body`. Raises `Unserializable`, which names the path in it."""
    try:
        return _dumps(body, serializer)
    except EncodeError as error:
        raise Unserializable(culprit([("value", body)], serializer, error)) from error


def encode_call(task: str, body: object, serializer: str) -> tuple[str, str, bytes]:
    """The same for the body of a task's message."""
    try:
        return _dumps(body, serializer)
    except EncodeError as error:
        names = ("args", "kwargs", "callbacks")
        parts = list(zip(names, body, strict=False)) if isinstance(body, tuple) else [("body", body)]
        found = culprit(parts, serializer, error)
        raise Unserializable(f"the call of {task} cannot be encoded as {serializer}: {found}") from error


def culprit(parts: Sequence[tuple[str, object]], serializer: str, error: Exception) -> str:
    """Which part of these cannot be encoded, and what it is."""
    name, value = next((part for part in parts if not _encodes(part[1], serializer)), parts[0])
    path, found = _locate(name, value, serializer, 0)
    return f"{path[:PATH_CHARACTERS]} is of type {type(found).__qualname__} ({error})"


def _locate(path: str, value: object, serializer: str, depth: int) -> tuple[str, object]:
    bad = (child for child in _children(value) if not _encodes(child[1], serializer))
    step, item = next(bad, ("", None))
    if not step or depth == DEEPEST:
        return path, value
    return _locate(path + step, item, serializer, depth + 1)


def _children(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield (f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r:.60}]"), item
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))


def _encodes(value: object, serializer: str) -> bool:
    try:
        _dumps(value, serializer)
    except EncodeError:
        return False
    return True


def _dumps(body: object, serializer: str) -> tuple[str, str, bytes]:
    content_type, encoding, data = serialization.dumps(body, serializer)
    return content_type, encoding, data.encode() if isinstance(data, str) else data

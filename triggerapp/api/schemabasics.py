"""What descriptions in OpenAPI are made of."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
YES: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
ANY: Schema = {}
OBJECT: Schema = {"type": "object", "additionalProperties": True}
DURATION: Schema = {"type": "string", "description": "such as 30s, 1h30m or 2w; or a moment in ISO 8601"}
TTL: Schema = {"oneOf": [TEXT, {"type": "number", "description": "seconds"}]}
PAGE = ("page[size]", "page[after]", "page[before]")
"""The query of a list by cursor."""


def record(*required: str, **properties: Schema) -> Schema:
    """An object with these properties."""
    found = {"type": "object", "properties": properties}
    return {**found, "required": list(required)} if required else found


def one_of(*words: str) -> Schema:
    """One of these words."""
    return {"type": "string", "enum": list(words)}


def several(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def paged(items: Schema) -> Schema:
    """A page of a list by cursor."""
    return record("data", "pagination", data=several(items), pagination=record(next=TEXT, previous=TEXT))


def numbered(items: Schema) -> Schema:
    """A page of a list by number."""
    pagination = record(currentPage=NUMBER, totalPages=NUMBER, count=NUMBER)
    return record("data", "pagination", data=several(items), pagination=pagination)

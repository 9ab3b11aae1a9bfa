"""A run's call, to be copied: as Python and as curl."""

from __future__ import annotations

import json
import shlex
from typing import Any

from django.urls import NoReverseMatch, reverse

from triggerapp import conf, redaction

Json = Any


def python(task: str, args: list[Json], kwargs: dict[str, Json]) -> str:
    """The same call, from the project's own code."""
    module, _, name = task.rpartition(".")
    given = [repr(each) for each in redaction.data(args)]
    given += [
        f"{key}={value!r}" if key.isidentifier() else f"**{ {key: value}!r}"
        for key, value in redaction.data(kwargs).items()
    ]
    if not module or not all(part.isidentifier() for part in task.split(".")):
        return f"app.tasks[{task!r}].delay({', '.join(given)})"
    return f"from {module} import {name}\n\n{name}.delay({', '.join(given)})"


def _keyword(name: str, value: Json) -> str:
    return f"{name}={value!r}" if name.isidentifier() else f"**{ {name: value}!r}"


def curl(task: str, args: list[Json], kwargs: dict[str, Json]) -> str:
    """The same call over the API; empty where the project does not mount it."""
    try:
        path = reverse("task-trigger", kwargs={"task": task})
    except NoReverseMatch:
        return ""
    body = json.dumps({"payload": redaction.data({"args": args, "kwargs": kwargs})})
    url = shlex.quote(conf.get().BASE_URL.rstrip("/") + path)
    return (
        f'curl {url} -H "Authorization: Bearer $TRIGGER_SECRET_KEY" \\\n'
        f"  -H 'Content-Type: application/json' --data {shlex.quote(body)}"
    )

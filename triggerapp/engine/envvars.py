"""Environment variables: stored encrypted, secret ones never shown again.

They are stored and managed here, and not yet given to runs. No value reaches the audit log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from triggerapp.engine import audit, limits, secrets, sql
from triggerapp.errors import BadInput, NotFound
from triggerapp.models import Environment, EnvVar

REDACTED = "<redacted>"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_BYTES = 64 * 1024
"""Linux takes 128 KiB for one variable, its name included."""
_MOST_AT_ONCE = 1000

_PUT = (
    "INSERT INTO triggerapp_envvar (environment_id, name, sealed, is_secret, updated_by) VALUES (%s, %s, %s, %s, %s) "
    "ON CONFLICT (environment_id, name) DO UPDATE SET sealed = EXCLUDED.sealed, updated_by = EXCLUDED.updated_by, "
    "is_secret = triggerapp_envvar.is_secret OR EXCLUDED.is_secret, updated_at = now() "
    "RETURNING is_secret, xmax = 0 AS is_new"
)


def put(environment: int, name: str, value: str, *, is_secret: bool = False, actor: str = "") -> None:
    """Set a variable, new or not; one that is secret stays so. Raises `BadInput`."""
    _check(name, value)
    with transaction.atomic():
        _put(_slug(environment), environment, name, value, is_secret, actor)


def put_many(
    environment: int, values: Mapping[str, str], *, override: bool, is_secret: bool = False, actor: str = ""
) -> None:
    """Set all of them or none. Raises `BadInput`, also if some are there and `override` is not asked for."""
    if len(values) > _MOST_AT_ONCE:
        raise BadInput(f"at most {_MOST_AT_ONCE:,} variables at once")
    for name, value in values.items():
        _check(name, value)
    slug = _slug(environment)
    with transaction.atomic():
        present = [] if override else _present(environment, values)
        if present:
            names = ", ".join(present[:10])
            raise BadInput(f"these are set already: {names}; nothing was changed. Pass override: true to change them")
        for name in sorted(values):  # in one order: two imports at once must not wait for each other
            _put(slug, environment, name, values[name], is_secret, actor)


def change(environment: int, name: str, value: str, *, actor: str = "") -> None:
    """Give a variable another value. Raises `BadInput`, `NotFound`."""
    _check(name, value)
    with transaction.atomic():
        find(environment, name, lock=True)
        _put(_slug(environment), environment, name, value, False, actor)


def delete(environment: int, name: str, *, actor: str = "") -> None:
    """Delete a variable. Raises `NotFound`."""
    with transaction.atomic():
        found = find(environment, name, lock=True)
        audit.record(environment, actor, "env_var.delete", name, before={"secret": found.is_secret})
        found.delete()


def find(environment: int, name: str, *, lock: bool = False) -> EnvVar:
    """The variable. Raises `NotFound`."""
    rows = _rows().select_for_update(of=("self",)) if lock else _rows()
    found = rows.filter(environment_id=environment, name=name).first() if _NAME.fullmatch(name) else None
    if found is None:
        raise NotFound(f"there is no environment variable {name[:80]!r}")
    return found


def listed(environment: int) -> list[EnvVar]:
    """All variables, by name."""
    return list(_rows().filter(environment_id=environment).order_by("name"))


def shown(variable: EnvVar) -> str:
    """The value as people may see it: not at all if it is secret. Raises `UnreadableSecret`."""
    return REDACTED if variable.is_secret else _revealed(variable)


def _rows() -> QuerySet[EnvVar]:
    return EnvVar.objects.select_related("environment")


def _revealed(variable: EnvVar) -> str:
    return secrets.unseal(bytes(variable.sealed), _place(variable.environment.slug, variable.name))


def _check(name: Any, value: Any) -> None:
    if name is None:
        raise BadInput("the name of the variable is missing")
    limits.check_text("the name of a variable", name)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadInput(f"{name!r:.80} is no name of a variable: letters, digits and _, and no digit in front")
    if not isinstance(value, str):
        raise BadInput(f"the value of {name} must be a text")
    if "\0" in value:
        raise BadInput(f"the value of {name} contains a NUL character, which no process can be given")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise BadInput(f"the value of {name} contains half a surrogate pair") from error
    if size > _MOST_BYTES:
        raise BadInput(f"the value of {name} takes {size:,} bytes; the limit is {_MOST_BYTES:,}")


def _present(environment: int, names: Mapping[str, Any]) -> list[str]:
    rows = EnvVar.objects.filter(environment_id=environment, name__in=list(names)).order_by("name")
    return list(rows.values_list("name", flat=True))


def _put(slug: str, environment: int, name: str, value: str, is_secret: bool, actor: str) -> None:
    sealed = secrets.seal(value, _place(slug, name))
    row = sql.row(_PUT, [environment, name, sealed, is_secret, actor])
    assert row is not None
    action = "env_var.create" if row["is_new"] else "env_var.update"
    audit.record(environment, actor, action, name, after={"secret": row["is_secret"]})


def _slug(environment: int) -> str:
    return str(Environment.objects.values_list("slug", flat=True).get(pk=environment))


def _place(slug: str, name: str) -> str:
    return f"environment variable {name} of {slug}"

"""Which helper there is for this process, and why it cannot be used."""

from __future__ import annotations

import grp
import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from checkpoint.helper import client
from checkpoint.helper.client import Helper
from checkpoint.helper.protocol import OtherVersion
from checkpoint.verdict import Reason

VARIABLE: Final = "CHECKPOINT_HELPER"
DEFAULT: Final = Path("/run/triggerapp-helper/checkpoint.sock")
CODES: Final = frozenset({f"helper_{what}" for what in ("group", "down", "version", "silent", "refuses")})
"""Of the reasons for which one cannot be used."""
PATIENCE: Final = timedelta(seconds=30)
_START: Final = (
    "as root start it: python -m checkpoint helper --group GROUP (systemd: triggerapp-checkpoint-helper); where none "
    f"is wanted, unset {VARIABLE}"
)


def address() -> Path | None:
    """Where this process is to look for one: the variable, or where it is by default."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    return DEFAULT if os.path.lexists(DEFAULT) else None


def find() -> Helper | Reason | None:
    """The helper that serves this process, or why the one that there should be does not."""
    place = address()
    if place is None:
        return None
    try:
        answer = client.greet(place, timeout=PATIENCE)
    except PermissionError:
        return Reason(
            code="helper_group",
            message=f"this user may not speak to the helper at {place}",
            remedy=f"add the user to the group {_group(place)} (usermod -aG), and start the worker anew",
        )
    except (FileNotFoundError, ConnectionRefusedError) as problem:
        return Reason(code="helper_down", message=f"no helper listens at {place}: {problem.strerror}", remedy=_START)
    except OtherVersion as problem:
        remedy = "install the same version of triggerapp for the helper and for the worker"
        return Reason(code="helper_version", message=f"the helper at {place}: {problem}", remedy=remedy)
    except (OSError, ValueError, TypeError) as problem:
        return Reason(code="helper_silent", message=f"the helper at {place} does not answer: {problem}", remedy=_START)
    if answer.ok:
        return Helper(address=place, version=answer.criu)
    what, _, remedy = answer.message.partition(": ")
    return Reason(code="helper_refuses", message=f"the helper at {place}: {what}", remedy=remedy or "see its log")


def _group(place: Path) -> str:
    """Of the socket, or of the nearest folder above it that can be seen."""
    for path in (place, *place.parents):
        with suppress(OSError):
            number = path.stat().st_gid
            with suppress(KeyError):
                return grp.getgrgid(number).gr_name
            return str(number)
    return "?"

"""Capabilities of a file: whoever may execute it has them, and so needs none himself.

The kernel keeps them in an extended attribute; the layout is that of `vfs_cap_data` in linux/capability.h.
"""

from __future__ import annotations

import grp
import os
import struct
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import Final

_ATTRIBUTE: Final = "security.capability"
_LAYOUT: Final = struct.Struct("<5I")
_VERSION_2: Final = 0x02000000
_EFFECTIVE: Final = 1


class Capability(IntEnum):
    """Those of capabilities(7) that CRIU has a use for."""

    DAC_READ_SEARCH = 2
    SETPCAP = 8
    NET_ADMIN = 12
    SYS_CHROOT = 18
    SYS_ADMIN = 21
    SYS_TIME = 25
    CHECKPOINT_RESTORE = 40


NEEDED: Final = frozenset({Capability.CHECKPOINT_RESTORE, Capability.SETPCAP})
"""What dumps and restores processes of one's own user."""


def read(program: Path) -> frozenset[Capability]:
    """What it gives to who executes it, as far as CRIU has a use for it."""
    try:
        raw = os.getxattr(program, _ATTRIBUTE)
        flags, low, _, high, _ = _LAYOUT.unpack_from(raw)
    except (OSError, struct.error):
        return frozenset()
    return among(low | high << 32) if flags & _EFFECTIVE else frozenset()


def write(program: Path, capabilities: Iterable[Capability]) -> None:
    """Have it give these. OSError where the file system keeps none, or this process may not."""
    mask = sum(1 << capability for capability in capabilities)
    os.setxattr(program, _ATTRIBUTE, _LAYOUT.pack(_VERSION_2 | _EFFECTIVE, mask & 0xFFFFFFFF, 0, mask >> 32, 0))


def among(mask: int) -> frozenset[Capability]:
    """Those that are in a mask as the kernel prints it."""
    return frozenset(capability for capability in Capability if mask >> capability & 1)


def names(capabilities: Iterable[Capability]) -> str:
    """As systemd and setcap have them."""
    return ", ".join(f"CAP_{capability.name}" for capability in sorted(capabilities, reverse=True))


def group(program: Path) -> str:
    """The group that it belongs to."""
    number = program.stat().st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)

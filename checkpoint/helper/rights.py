"""Becoming the peer: a child of the helper gives up all but two capabilities, and later those too.

Whoever has the peer's user can signal such a process, and nothing else: it holds capabilities that he lacks, so the
kernel does not let him trace it or look into it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable
from typing import Final

from checkpoint.filecaps import NEEDED
from checkpoint.helper.peer import Peer

_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 8, 24, 38, 47
_AMBIENT_RAISE, _AMBIENT_CLEAR = 2, 4
_KEYCTL: Final = {"x86_64": 250, "aarch64": 219}
_JOIN_SESSION: Final = 1
_VERSION_3: Final = 0x20080522
_LAST: Final = 63
_libc: Final = ctypes.CDLL(None, use_errno=True)


def become(peer: Peer) -> None:
    """Go on as the peer, with what CRIU needs, to be passed on to it. OSError if that is not to be had.

    Unsupported if the peer has ended.

    The bounding set stays as wide as the peer's, that what is restored may have the one it had. And where the peer can
    gain no rights by what it executes, what it has restored cannot either: the image may be of a process that could.
    """
    bound, bounding_set = peer.no_new_privs, peer.bounding_set
    peer.require_alive()
    needed = sum(1 << capability for capability in NEEDED)
    _limit(bounding_set | needed)
    _leave_keyring()
    os.setgroups(peer.groups)
    os.setresgid(peer.gid, peer.gid, peer.gid)
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setresuid(peer.uid, peer.uid, peer.uid)
    _hold(needed)
    for capability in NEEDED:
        _prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, capability)
    if bound:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)


def give_up() -> None:
    """Hold no capability any more."""
    _prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR)
    _hold(0)


def _leave_keyring() -> None:
    """What is restored has the keyring of whoever restores it: one without root's keys."""
    number = _KEYCTL.get(platform.machine())
    if number is not None and _libc.syscall(number, _JOIN_SESSION, None) < 0 and ctypes.get_errno() != errno.ENOSYS:
        raise OSError(ctypes.get_errno(), "there is no keyring of its own to be had")


def _limit(mask: int) -> None:
    for capability in _missing(mask):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # fails for those that this kernel does not know


def _missing(mask: int) -> Iterable[int]:
    return (capability for capability in range(_LAST + 1) if not mask >> capability & 1)


def _hold(mask: int) -> None:
    """Make these the permitted, effective and inheritable ones."""
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header, sets = struct.pack("Ii", _VERSION_3, 0), struct.pack("6I", low, low, low, high, high, high)
    if _libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "the capabilities that CRIU needs are not to be had")


def _prctl(option: int, *arguments: int) -> None:
    if _libc.prctl(option, *map(ctypes.c_ulong, (*arguments, *[0] * (4 - len(arguments))))) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}): {os.strerror(ctypes.get_errno())}")

"""Forking far away: run processes get a random pid, so that it is still free where they are restored.

A restored process has the pid it had. With `ns_last_pid` its later threads and children are far away too; with clone3
only the process itself is, and only where the one that forks has no further thread, a library's included. Where
neither can be, pids are as everybody's, and restores collide now and then.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import signal
from pathlib import Path
from typing import Final

_LAST_PID: Final = Path("/proc/sys/kernel/ns_last_pid")
_MAX_PID: Final = Path("/proc/sys/kernel/pid_max")
_LOWEST: Final = 1000
_ROOM: Final = 256
"""Left above a chosen pid for threads and children."""
_TRIES: Final = 8
_CLONE3: Final = 435
_PR_GET_TID_ADDRESS: Final = 40
_CLONE_CHILD_SETTID: Final = 0x01000000
_CLONE_CHILD_CLEARTID: Final = 0x00200000
_CLONE_FIELDS: Final = "flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid set_tid_size cgroup"


class _CloneArguments(ctypes.Structure):
    """struct clone_args of linux/sched.h."""

    _fields_ = [(name, ctypes.c_uint64) for name in _CLONE_FIELDS.split()]


def fork() -> int:
    """Fork into a random region of pids, by the best means there is."""
    if leap() or not _is_alone():
        return os.fork()
    for _ in range(_TRIES):
        try:
            return fork_as(_choose())
        except FileExistsError:
            continue
        except OSError:  # clone3 hidden by a seccomp profile, or not allowed
            break
    return os.fork()


def leap() -> bool:
    """Make the kernel hand out pids from a random place on; False if it may not be told."""
    try:
        _LAST_PID.write_text(str(_choose()))
    except OSError:
        return False
    return True


def can_leap() -> bool:
    """Whether this process may choose where pids go on."""
    return os.access(_LAST_PID, os.W_OK)


def most() -> int:
    """One more than the highest pid."""
    return int(_MAX_PID.read_text())


def fork_as(pid: int) -> int:
    """Fork with this very pid. FileExistsError if it is taken, OSError if the kernel does not let us.

    Only from a process with one thread: it goes past the C library, whose fork lets others be made ready for it. In the
    child OpenBLAS would wait for ever for threads that are not there.
    """
    arguments, kept = _arguments(pid)
    # The three calls that os.fork makes around fork(2): hooks, and the interpreter's own locks.
    ctypes.pythonapi.PyOS_BeforeFork()
    made = _syscall(_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
    problem = ctypes.get_errno()
    if made == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    del kept
    if made < 0:
        raise OSError(problem, os.strerror(problem))
    return int(made)


def _is_alone() -> bool:
    """Whether this process has one thread, those included that Python knows nothing of."""
    return len(os.listdir("/proc/self/task")) == 1


def _arguments(pid: int) -> tuple[_CloneArguments, ctypes.Array[ctypes.c_int]]:
    wanted = (ctypes.c_int * 1)(pid)
    arguments = _CloneArguments(
        flags=_CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID,
        child_tid=_tid_address(),  # glibc keeps the thread's id there, and trusts it
        exit_signal=signal.SIGCHLD,
        set_tid=ctypes.addressof(wanted),
        set_tid_size=1,
    )
    return arguments, wanted


def _tid_address() -> int:
    address = ctypes.c_void_p()
    if _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) or not address.value:
        raise OSError(errno.ENOSYS, "the kernel does not tell where the thread's id is kept")
    return address.value


def _choose() -> int:
    return random.SystemRandom().randrange(_LOWEST, most() - _ROOM)


# PyDLL keeps the GIL over the call: in the child nobody else could give it back.
_libc: Final = ctypes.PyDLL(None, use_errno=True)
_syscall: Final = _libc.syscall
_syscall.restype = ctypes.c_long

"""Another process, stopped and made to call the kernel: what CRIU does to dump one, without CRIU. By ptrace(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Final

from checkpoint.errors import Unsupported

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.restype = ctypes.c_long
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

_SINGLE_STEP, _GET_REGISTERS, _SET_REGISTERS, _ATTACH, _DETACH, _SET_OPTIONS = 9, 12, 13, 16, 17, 0x4200
_EXIT_KILL: Final = 1 << 20
"""Half way through, the process is of no use to anybody: it ends with whoever traces it."""
_WALL: Final = 0x40000000
_PR_SET_PTRACER: Final = 0x59616D61
_SYSCALL: Final = b"\x0f\x05"
_VDSO: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) .* \[vdso\]$", re.MULTILINE)
_NO_CALL: Final = (1 << 64) - 1
_LARGEST_ERROR: Final = 4095


class Call(IntEnum):
    """The numbers of x86-64."""

    OPEN = 2
    CLOSE = 3
    MMAP = 9
    FLOCK = 73


class _Registers(ctypes.Structure):
    """`struct user_regs_struct` of x86-64."""

    _names = (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
        "ds es fs gs"
    )
    _fields_ = [(name, ctypes.c_ulonglong) for name in _names.split()]


_ARGUMENTS: Final = ("rdi", "rsi", "rdx", "r10", "r8", "r9")


class Traced:
    """A process that stands still for the one thread that traces it."""

    def __init__(self, pid: int, memory: int) -> None:
        self._pid = pid
        self._memory = memory
        self._before = _Registers()
        _ptrace(_GET_REGISTERS, pid, ctypes.addressof(self._before))
        self._instruction = self._find_instruction()

    def read(self, address: int, size: int) -> bytes:
        """Its memory."""
        return os.pread(self._memory, size, address)

    def write(self, address: int, content: bytes) -> None:
        """Change its memory; what it maps privately becomes its own."""
        while content:
            done = os.pwrite(self._memory, content, address)
            address, content = address + done, content[done:]

    def call(self, call: Call, *arguments: int) -> int:
        """Have it make this call; OSError if the kernel refuses."""
        registers = _Registers.from_buffer_copy(self._before)
        registers.rax, registers.orig_rax, registers.rip = call, _NO_CALL, self._instruction
        for name, value in zip(_ARGUMENTS, arguments, strict=False):
            setattr(registers, name, value)
        _ptrace(_SET_REGISTERS, self._pid, ctypes.addressof(registers))
        _ptrace(_SINGLE_STEP, self._pid)
        _await_stop(self._pid, signal.SIGTRAP)
        _ptrace(_GET_REGISTERS, self._pid, ctypes.addressof(registers))
        failed = _NO_CALL + 1 - registers.rax
        if failed <= _LARGEST_ERROR:
            raise OSError(failed, f"process {self._pid}: {call.name}: {os.strerror(failed)}")
        return int(registers.rax)

    @contextmanager
    def opened(self, path: Path) -> Iterator[int]:
        """Have it open a file to read; the descriptor, which is the process's."""
        name = os.fsencode(path) + b"\0"
        room = (self._before.rsp - 4096 - len(name)) & ~15  # below what the function at work may use
        kept = self.read(room, len(name))
        self.write(room, name)
        descriptor = self.call(Call.OPEN, room, os.O_RDONLY | os.O_CLOEXEC)
        self.write(room, kept)
        yield descriptor
        self.call(Call.CLOSE, descriptor)

    def go_on(self) -> None:
        """Where it stood, as if nothing had been."""
        _ptrace(_SET_REGISTERS, self._pid, ctypes.addressof(self._before))
        _ptrace(_DETACH, self._pid)

    def _find_instruction(self) -> int:
        found = _VDSO.search(Path(f"/proc/{self._pid}/maps").read_text())
        if found is None:
            raise Unsupported(f"process {self._pid} has no vdso to call the kernel from")
        start, end = (int(number, 16) for number in found.groups())
        return start + self.read(start, end - start).index(_SYSCALL)


def allow(pid: int) -> None:
    """Let a process trace this one where the kernel (Yama) lets it be traced by its parents alone."""
    _LIBC.prctl(_PR_SET_PTRACER, pid, 0, 0, 0)


@contextmanager
def traced(pid: int) -> Iterator[Traced]:
    """Stop a process; it goes on after the block, and is killed if that fails half way.

    Unsupported on other machines than x86-64, PermissionError where this process may not trace it.
    """
    if platform.machine() != "x86_64":
        raise Unsupported(f"processes are not traced on {platform.machine()}")
    _ptrace(_ATTACH, pid)
    _await_stop(pid, signal.SIGSTOP)
    _ptrace(_SET_OPTIONS, pid, data=_EXIT_KILL)
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        process = Traced(pid, memory)
        yield process
        process.go_on()
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(memory)


def _await_stop(pid: int, wanted: signal.Signals) -> None:
    _, status = os.waitpid(pid, _WALL)
    if not os.WIFSTOPPED(status):
        raise ProcessLookupError(errno.ESRCH, f"process {pid} ended while it was traced")
    if os.WSTOPSIG(status) != wanted:
        raise OSError(errno.EINTR, f"process {pid} was interrupted by {signal.strsignal(os.WSTOPSIG(status))}")


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    if _LIBC.ptrace(request, pid, 0, data) < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, f"process {pid} cannot be traced: {os.strerror(failed)}")

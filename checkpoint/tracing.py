"""Another process, stopped and made to call the kernel: what CRIU does to dump one, without CRIU. By ptrace(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import Final

from checkpoint.errors import Unsupported

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.restype = ctypes.c_long
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

_SINGLE_STEP, _GET_REGISTERS, _SET_REGISTERS, _DETACH = 9, 12, 13, 17
_SEIZE, _INTERRUPT = 0x4206, 0x4207
_EXIT_KILL: Final = 1 << 20
"""A process in the middle of a call that was not its own ends with whoever traces it."""
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
        self.is_changed = False
        """Whether it may go on only if the block comes to its end."""
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

    def rewind(self) -> None:
        """Have it stand where it stood, as if nothing had been."""
        _ptrace(_SET_REGISTERS, self._pid, ctypes.addressof(self._before))

    def _find_instruction(self) -> int:
        found = _VDSO.search(Path(f"/proc/{self._pid}/maps").read_text())
        if found is None:
            raise Unsupported(f"process {self._pid} has no vdso to call the kernel from")
        start, end = (int(number, 16) for number in found.groups())
        place = self.read(start, end - start).find(_SYSCALL)
        if place < 0:
            raise Unsupported(f"the vdso of process {self._pid} calls no kernel")
        return start + place


def allow(pid: int) -> None:
    """Let a process trace this one where the kernel (Yama) lets it be traced by its parents alone."""
    _LIBC.prctl(_PR_SET_PTRACER, pid, 0, 0, 0)


@contextmanager
def traced(pid: int) -> Iterator[Traced]:
    """Stop a process; it goes on after the block, unless that fails when the process is changed: then it is killed.

    Unsupported on other machines than x86-64, PermissionError where this process may not trace it.
    """
    if platform.machine() != "x86_64":
        raise Unsupported(f"processes are not traced on {platform.machine()}")
    _ptrace(_SEIZE, pid, _EXIT_KILL)  # unlike PTRACE_ATTACH it leaves no signal behind that stops the process later
    try:
        _ptrace(_INTERRUPT, pid)
        _await_stop(pid, signal.SIGTRAP)
        with _memory_of(pid) as memory:
            process = Traced(pid, memory)
            with _ended_well(process, pid):
                yield process
    finally:
        with suppress(ProcessLookupError):
            _ptrace(_DETACH, pid)


@contextmanager
def _ended_well(process: Traced, pid: int) -> Iterator[None]:
    try:
        yield
        process.rewind()
    except BaseException:
        if process.is_changed:
            os.kill(pid, signal.SIGKILL)
        else:
            process.rewind()
        raise


@contextmanager
def _memory_of(pid: int) -> Iterator[int]:
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        yield memory
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

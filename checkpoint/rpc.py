"""CRIU's own protocol, spoken to a `criu swrk` of our own over a socketpair.

Field numbers and enums are those of `images/rpc.proto` in CRIU's sources (4.2). A worker serves one request; started
ahead of it, the request saves the 5 ms of starting a program.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from checkpoint import processes, protobuf
from checkpoint.protobuf import Value

_LARGEST: Final = 1 << 20
_ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}


class Kind(IntEnum):
    """criu_req_type."""

    DUMP = 1
    RESTORE = 2


class Option(IntEnum):
    """The fields of criu_opts that are used here."""

    IMAGES_DIR_FD = 1
    PID = 2
    LEAVE_RUNNING = 3
    EXT_UNIX_SK = 4
    FILE_LOCKS = 8
    LOG_LEVEL = 9
    LOG_FILE = 10
    LINK_REMAP = 18
    RST_SIBLING = 26
    INHERIT_FD = 27
    MANAGE_CGROUPS_MODE = 34
    GHOST_LIMIT = 35
    EXTERNAL = 37
    TIMEOUT = 45
    TCP_CLOSE = 52
    UNPRIVILEGED = 67
    IMAGES_DIR = 68
    LEAVE_STOPPED = 69


class Gone(Exception):
    """The worker ended without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What of criu_resp matters: whether it worked, the restored pid, and errno and message if not."""

    success: bool
    pid: int = 0
    errno: int = 0
    message: str = ""


class Worker:
    """One `criu swrk`. The descriptors in `passing` keep their numbers in it; it is gone when the block ends.

    It dies with the thread that made it: one that hangs would hang for ever. Its session is its own: by that its
    helpers are found, which do not die with it.
    """

    def __init__(self, program: Path, *, passing: Iterable[int] = ()) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [program, "--no-default-config", "swrk", str(theirs.fileno())],
                pass_fds=[theirs.fileno(), *passing],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                cwd="/",
                start_new_session=True,
                preexec_fn=partial(processes.die_with, os.getpid()),
            )

        task = processes.look(self._process.pid)
        assert task is not None, "it has not been waited for"
        self.task: Final = task

    @property
    def pid(self) -> int:
        return self._process.pid

    def request(self, kind: Kind, options: Iterable[tuple[Option, Value]], *, timeout: timedelta) -> Answer:
        """Ask, and wait for the answer. TimeoutError, or Gone if the worker died."""
        self._line.settimeout(timeout.total_seconds())
        try:
            self._line.send(encode(kind, options))
            raw = self._line.recv(_LARGEST)
        except (BrokenPipeError, ConnectionResetError):
            raw = b""
        if not raw:
            raise Gone(self._describe_end())
        return decode(raw)

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let it end by itself: without its socket it has nothing to do."""
        self._line.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _describe_end(self) -> str:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "CRIU closed its socket without an answer"
        return f"CRIU was killed by signal {-code}" if code < 0 else f"CRIU ended with {code} and no answer"


def memory() -> str:
    """Where CRIU keeps what it learned about the kernel, if that is a tmpfs. With all its rights it is always /run."""
    return "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "")


def _environment() -> dict[str, str]:
    """Without a folder of no name: that would be the root of the file system."""
    return _ENVIRONMENT | ({"XDG_RUNTIME_DIR": memory()} if memory() else {})


def encode(kind: Kind, options: Iterable[tuple[Option, Value]]) -> bytes:
    """A criu_req: type = 1, opts = 2."""
    return protobuf.encode([(1, kind), (2, protobuf.encode(options))])


def decode(raw: bytes) -> Answer:
    """A criu_resp: success = 2, restore.pid = 4.1, cr_errno = 7, cr_errmsg = 9."""
    try:
        fields = protobuf.decode(raw)
        restored = protobuf.decode(protobuf.content(fields, 4))
        return Answer(
            success=bool(protobuf.integer(fields, 2)),
            pid=protobuf.integer(restored, 1),
            errno=protobuf.integer(fields, 7),
            message=protobuf.content(fields, 9).decode(errors="replace"),
        )
    except ValueError as problem:
        raise Gone(f"CRIU answered with something else: {problem}") from problem


def inherited(descriptors: Mapping[str, int]) -> list[tuple[Option, Value]]:
    """One inherit_fd (key = 1, fd = 2) for each descriptor."""
    return [(Option.INHERIT_FD, protobuf.encode([(1, key), (2, fd)])) for key, fd in descriptors.items()]


def key(descriptor: int) -> str:
    """CRIU's name for what `descriptor` is open on: `socket:[123]`, `pipe:[123]`."""
    return os.readlink(f"/proc/self/fd/{descriptor}")

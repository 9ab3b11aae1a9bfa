"""What no image can carry is named before the dump."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import checkpoint
from checkpoint import refusals
from checkpoint.errors import Refused

IO_URING_SETUP = 425


def test_a_plain_process_has_nothing_in_the_way(tmp_path: Path) -> None:
    program = f"""
        import select, socket, signal, threading
        held = [open({str(tmp_path / "file")!r}, "w"), select.epoll(), socket.socketpair(), socket.socket(),
                open("/dev/urandom", "rb"), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)]
    """
    with running(program) as pid:
        assert refusals.find(pid) == []


def test_a_pair_between_a_process_and_its_child_is_fine() -> None:
    program = """
        import os, socket, time
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            theirs.recv(1)
            os._exit(0)
        theirs.close()
    """
    with running(program) as pid:
        assert refusals.find(pid) == []


def test_a_unix_connection_to_a_server_is_named_with_descriptor_server_and_remedy() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        path = f"{folder}/.s.PGSQL.5432"
        server.bind(path)
        server.listen()
        program = f"""
            import os, socket
            held = socket.socket(socket.AF_UNIX)
            held.connect({path!r})
            os.dup2(held.fileno(), 17)
        """
        with running(program) as pid:
            connection, _ = server.accept()
            with connection, pytest.raises(Refused) as caught:
                checkpoint.require_dumpable(pid)
        assert f"descriptor 17 of process {pid}" in str(caught.value)
        assert f"a unix connection to {path}: close it before the wait" in str(caught.value)


def test_the_line_to_the_supervisor_is_expected() -> None:
    ours, theirs = socket.socketpair()
    inode = os.fstat(theirs.fileno()).st_ino
    with ours, theirs, running("", passing=theirs.fileno()) as pid:
        theirs.close()
        assert [refusal.what for refusal in refusals.find(pid)] != []
        assert refusals.find(pid, external=[inode]) == []


def test_system_v_shared_memory_is_named() -> None:
    program = """
        import ctypes
        libc = ctypes.CDLL(None)
        id = libc.shmget(0, 4096, 0o1600)
        libc.shmat.restype = ctypes.c_void_p
        libc.shmat(id, None, 0)
        libc.shmctl(id, 0, None)
    """
    with running(program) as pid:
        assert "System V shared memory" in str(refusals.find(pid)[0])


@pytest.mark.skipif(
    ctypes.CDLL(None, use_errno=True).syscall(IO_URING_SETUP, 0, None) == -1 and ctypes.get_errno() == 38,
    reason="this kernel has no io_uring",
)
def test_io_uring_is_named_with_a_remedy() -> None:
    program = f"""
        import ctypes
        parameters = ctypes.create_string_buffer(120)
        held = ctypes.CDLL(None).syscall({IO_URING_SETUP}, 4, parameters)
        if held < 0:
            raise SystemExit("not allowed")
    """
    with running(program) as pid:
        assert "uvloop" in str(refusals.find(pid)[0])


def test_a_descriptor_of_a_process_outside_is_named_and_one_of_its_own_is_not() -> None:
    program = """
        import os
        ended = os.fork()
        if ended == 0:
            os._exit(0)
        held = [os.pidfd_open(pid) for pid in (os.getpid(), ended, os.getppid())]
        os.waitpid(ended, 0)
        os.dup2(held[2], 17)
        os.close(held[2])
    """
    with running(program) as pid:
        [refusal] = refusals.find(pid)
    assert refusal.what == f"descriptor 17 of process {pid} (anon_inode:[pidfd]), of process {os.getpid()} outside"


def test_a_device_is_named() -> None:
    if not (os.access("/dev/kmsg", os.R_OK) and os.access("/dev/fuse", os.R_OK)):
        pytest.skip("no device to open here")
    with running('held = open("/dev/fuse", "rb", buffering=0)') as pid:
        assert "/dev/fuse" in str(refusals.find(pid)[0])


@contextmanager
def running(program: str, *, passing: int | None = None) -> Iterator[int]:
    """A process that has run `program` and waits; its pid."""
    text = f'{textwrap.dedent(program)}\nprint("ready", flush=True)\ninput()'
    passed = [] if passing is None else [passing]
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=passed
    )
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 120)[0]
        assert process.stdout.readline() == "ready\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()

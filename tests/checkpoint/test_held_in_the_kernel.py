"""What a process may hold while it is away, a row of docs/checkpoints.md each: what the kernel keeps for it."""

from __future__ import annotations

import contextvars
import ctypes
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from checkpoint import rights
from checkpoint.filecaps import Capability
from tests.checkpoint.holding import Held

pytestmark = [pytest.mark.criu, pytest.mark.usefixtures("no_process_left")]


IO_URING_SETUP = 425


def test_timers_go_on_with_what_they_had_left(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        rung: list[str] = []
        signal.signal(signal.SIGALRM, lambda *_: rung.append("alarm"))
        timer = threading.Timer(0.7, rung.append, ["timer"])
        timer.start()
        signal.setitimer(signal.ITIMER_REAL, 0.6)
        yield
        deadline = time.monotonic() + 60
        while len(rung) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        return sorted(rung)

    assert held.across(holding) == ["alarm", "timer"]


def test_the_monotonic_clock_never_runs_backwards(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        before, wall = time.monotonic(), time.time()
        yield
        return [time.monotonic() >= before, time.time() - wall >= 1]

    assert held.across(holding, lambda: time.sleep(1)) == [True, True]


def test_pipes_events_and_polls_keep_what_is_in_them(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        reading, writing = os.pipe()
        counter = ctypes.CDLL(None).eventfd(5, 0)
        ours, theirs = socket.socketpair()
        poll = select.epoll()
        poll.register(reading, select.EPOLLIN)
        os.write(writing, b"piped")
        theirs.send(b"sent")
        yield
        ready = [number for number, _ in poll.poll(5)]
        event = int.from_bytes(os.read(counter, 8), "little")
        return [ready == [reading], os.read(reading, 9).decode(), event, ours.recv(9).decode()]

    assert held.across(holding) == [True, "piped", 5, "sent"]


def test_descriptors_of_processes_that_travel_or_have_ended_go_on(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        child, ended = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE), subprocess.Popen(["/bin/true"])
        descriptors = [os.pidfd_open(pid) for pid in (child.pid, ended.pid)]
        ended.wait()
        yield
        before = [bool(select.select([each], [], [], 0)[0]) for each in descriptors]
        signal.pidfd_send_signal(descriptors[0], signal.SIGTERM)
        return [*before, child.wait(60)]

    assert held.across(holding) == [False, True, -signal.SIGTERM]


def watching(folder: Path) -> Generator[None, None, object]:
    libc = ctypes.CDLL(None)
    descriptor = libc.inotify_init1(0)
    assert libc.inotify_add_watch(descriptor, os.fsencode(folder), 0x100) > 0  # IN_CREATE
    yield
    (folder / "new").touch()
    return "went on" if b"new" in os.read(descriptor, 4096) else "saw nothing"


def test_inotify_goes_on_watching_or_is_refused_with_what_it_lacks(held: Held, tmp_path: Path) -> None:
    if Capability.DAC_READ_SEARCH in rights.own():
        assert held.across(lambda: watching(tmp_path)) == "went on"
    else:
        assert "grant the worker CAP_DAC_READ_SEARCH" in held.refusal(lambda: watching(tmp_path))


def test_generators_closures_and_context_go_on(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        variable = contextvars.ContextVar[str]("variable")
        variable.set("set")
        numbers = (number * number for number in range(10))
        sum_before = sum(next(numbers) for _ in range(3))
        add: Callable[[int], int] = lambda more: sum_before + more  # noqa: E731
        yield
        return [add(sum(numbers)), variable.get()]

    assert held.across(holding) == [285, "set"]


def test_io_uring_is_refused_with_the_descriptor_and_the_remedy(held: Held) -> None:
    probe = ctypes.CDLL(None, use_errno=True).syscall(IO_URING_SETUP, 4, (ctypes.c_char * 120)())
    if probe < 0:
        pytest.skip(f"no io_uring here: {os.strerror(ctypes.get_errno())}")
    os.close(probe)

    def holding() -> Generator[None, None, object]:
        ring = ctypes.CDLL(None).syscall(IO_URING_SETUP, 4, (ctypes.c_char * 120)())
        os.dup2(ring, 41)
        yield
        return "went on"

    message = held.refusal(holding)
    assert "descriptor 41" in message
    assert "io_uring" in message
    assert "instead of uvloop" in message


def test_system_v_shared_memory_is_refused_with_the_remedy(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        libc = ctypes.CDLL(None)
        libc.shmat.restype = ctypes.c_void_p
        id = libc.shmget(0, 4096, 0o1600)
        assert libc.shmat(id, None, 0)
        libc.shmctl(id, 0, None)  # gone with its last user
        yield
        return "went on"

    assert "multiprocessing.shared_memory" in held.refusal(holding)

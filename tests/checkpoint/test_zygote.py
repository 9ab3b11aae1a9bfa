"""The zygote: it forks processes on request, and they go with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import checkpoint
from checkpoint import processes, sandbox
from checkpoint.criu import Criu
from checkpoint.sandbox import Sandbox
from checkpoint.zygote import Unborn, Zygote, listen
from tests.checkpoint.freezing import SOON

_PROGRAM = """
import os, socket, subprocess, sys
from checkpoint import sandbox, zygote

def main(line):
    numbers = (n for n in range(10))
    total = 0
    child = subprocess.Popen(["sleep", "1000"])
    for number in numbers:
        total += number
        print("at", number)
        if sandbox.park(line, b"%d" % total).payload == b"end":
            child.kill()
            return
zygote.reserve()
kept = open(sys.argv[2])
zygote.serve(socket.socket(fileno=int(sys.argv[1])), main, keeper=0)
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[Zygote, subprocess.Popen[bytes]]]:
    listener = checkpoint.listen(tmp_path / "zygote")
    (tmp_path / "file").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(listener.fileno()), str(tmp_path / "file")],
        stdin=subprocess.PIPE,
        pass_fds=[listener.fileno()],
        start_new_session=True,
    )
    yield Zygote(tmp_path / "zygote"), process
    listener.close()
    process.stdin.close()
    process.wait(120)


@pytest.fixture
def zygote(started: tuple[Zygote, subprocess.Popen[bytes]]) -> Zygote:
    return started[0]


def gone(*tasks: processes.Task) -> bool:
    deadline = time.monotonic() + 60
    while any(task.alive() for task in tasks) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(task.alive() for task in tasks)


def family(process: Sandbox) -> list[processes.Task]:
    return processes.family([process.pid])


def test_processes_are_forked_and_parked_and_print_into_a_pipe(zygote: Zygote) -> None:
    first, second = zygote.fork(), zygote.fork()
    for process in (first, second):
        assert process.await_park(timeout=SOON) == b"0"
        assert os.read(process.output, 100) == b"at 0\n"
        process.wake(restored=False)
        assert process.await_park(timeout=SOON) == b"1"
        process.end()
    assert first.pid != second.pid


def test_a_process_has_its_line_its_output_and_the_files_of_the_zygote(zygote: Zygote, tmp_path: Path) -> None:
    process = zygote.fork()
    process.await_park(timeout=SOON)
    held = [os.readlink(path) for path in Path(f"/proc/{process.pid}/fd").iterdir()]
    process.end()
    kinds = sorted(name.split(":")[0] for name in held)
    assert kinds == ["/dev/null", str(tmp_path / "file"), "pipe", "pipe", "socket"]


def test_a_process_and_its_children_end_with_their_supervisor(zygote: Zygote) -> None:
    asking, told = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        process = zygote.fork()
        process.await_park(timeout=SOON)
        os.write(told, str(process.pid).encode())
        signal.pause()
    tasks = processes.family([int(os.read(asking, 20))])
    assert len(tasks) == 2
    os.kill(supervisor, signal.SIGKILL)
    os.waitpid(supervisor, 0)
    assert gone(*tasks)


def test_what_is_let_go_ends_by_itself(zygote: Zygote) -> None:
    process = zygote.fork()
    process.await_park(timeout=SOON)
    tasks = family(process)
    process.release()
    assert gone(tasks[0]) and tasks[1].alive()
    os.kill(tasks[1].pid, signal.SIGKILL)


def test_all_end_with_the_zygote_however_it_ends(started: tuple[Zygote, subprocess.Popen[bytes]]) -> None:
    zygote, program = started
    process = zygote.fork()
    process.await_park(timeout=SOON)
    task = family(process)[0]
    program.kill()
    program.wait()
    assert gone(task)
    process.end()


def test_a_zygote_is_reached_however_deep_its_folder_is(tmp_path: Path) -> None:
    """A socket's path may have 107 characters, a temporary folder's more."""
    deep = tmp_path / ("x" * 200)
    deep.mkdir()
    with listen(deep / "zygote") as listener, pytest.raises(Unborn, match="does not answer: timed out"):
        assert (deep / "zygote").is_socket() and listener.fileno() >= 0
        Zygote(deep / "zygote").fork(timeout=timedelta(seconds=0.1))


def test_all_end_with_the_keeper(started: tuple[Zygote, subprocess.Popen[bytes]]) -> None:
    zygote, program = started
    process = zygote.fork()
    process.await_park(timeout=SOON)
    tasks = family(process)
    program.stdin.close()
    assert program.wait(120) == 0
    assert gone(*tasks)


def test_a_zygote_tells_when_it_is_ready(started: tuple[Zygote, subprocess.Popen[bytes]]) -> None:
    zygote, program = started
    zygote.await_ready()
    assert program.poll() is None


def test_no_zygote_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unborn, match="does not answer"):
        Zygote(tmp_path / "none").fork()
    listener = checkpoint.listen(tmp_path / "deaf")
    with pytest.raises(Unborn, match="does not answer"):
        Zygote(tmp_path / "deaf").fork(timeout=timedelta(milliseconds=50))
    listener.close()


@pytest.mark.criu
def test_a_process_is_restored_and_ends_with_its_new_supervisor(zygote: Zygote, criu: Criu, tmp_path: Path) -> None:
    process = zygote.fork()
    process.await_park(timeout=SOON)
    process.wake(restored=False)
    assert process.await_park(timeout=SOON) == b"1"
    os.read(process.output, 100)
    (tmp_path / "image").mkdir()
    criu.dump(process.pid, tmp_path / "image", external=[process.inode], timeout=SOON)
    control, pipe = process.inode, process.pipe
    process.end()

    asking, told = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        restored = sandbox.thaw(criu, tmp_path / "image", control=control, pipe=pipe)
        leash = zygote.watch(restored.pid)
        restored.wake(b"", restored=True)
        os.write(told, restored.await_park(timeout=SOON) + b" " + os.read(restored.output, 100))
        os.write(told, str(restored.pid).encode())
        signal.pause()
        leash.close()
    said = b""
    while said.count(b"\n") < 1 or said.endswith(b"\n"):
        said += os.read(asking, 100)
    assert said == b"3 at 2\n%d" % process.pid
    tasks = processes.family([process.pid])
    assert len(tasks) == 2
    os.kill(supervisor, signal.SIGKILL)
    os.waitpid(supervisor, 0)
    assert gone(*tasks)

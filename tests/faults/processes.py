"""Real processes, forked from one that has imported everything: a worker is up in a fraction of a second.

What is forked is what runs in production: the `celery worker` command in a session of its own, its pool,
its ticker. A lane (`tests.faults.lane`) is the parent of all of them, also of orphans, and ends them by their ids.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from triggerapp import failpoints

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_prctl = ctypes.CDLL(None).prctl


def adopt_orphans() -> None:
    """Become the parent of whatever loses its parent below this process."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Have the kernel end this process with the one that started it, which may be killed."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def fork(body: Callable[[], object], *, log: Path) -> int:
    """Run `body` in a forked process, which ends with it and with this one; its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        end_with_parent()
        os.setsid()
        _redirect(log)
        body()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _redirect(log: Path) -> None:
    nothing, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)


def worker(name: str, *options: str, fail: str = "", log: Path, before: Callable[[], object] = lambda: None) -> int:
    """Fork a Celery worker, with its failpoints and what `before` patches in it; its pid."""

    def run() -> None:
        from tests.faults.tasks import app
        from workers import link

        os.environ["TRIGGERAPP_FAIL"] = fail
        failpoints.load(fail)
        before()
        first = iter([_ForkedTicker])
        real = link.start

        def start(path: str, **how: Any) -> Any:
            """The first ticker is forked too; later ones are executed as ever."""
            made = next(first, None)
            return made(path, **how) if made else real(path, **how)

        link.start = start
        quiet = ("--without-mingle", "--without-gossip", "--without-heartbeat", "--loglevel=INFO")
        app.worker_main(["worker", "-n", f"{name}@faults", *quiet, *options])

    return fork(run, log=log)


class _ForkedTicker:
    """What `workers.link` wants of `subprocess.Popen`, for a ticker that need not import everything anew."""

    def __init__(self, path: str, *, hostname: str, wait: bool) -> None:
        from workers import identity, link

        self.returncode: int | None = None
        stdin, stdout, parent = os.pipe(), os.pipe(), os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._tick(identity.worker(), hostname, parent, stdin=stdin[0], stdout=stdout[1])
        os.close(stdin[0])
        os.close(stdout[1])
        self.stdin = os.fdopen(stdin[1], "w")
        self.stdout = os.fdopen(stdout[0])
        link._pipe = self.stdin
        link.greet(self.stdin, path)
        if wait:
            self.stdout.readline()

    def _tick(self, worker: UUID, hostname: str, parent: int, *, stdin: int, stdout: int) -> None:
        from workers import identity, ticker

        try:
            os.setsid()
            os.dup2(stdin, 0)
            os.dup2(stdout, 1)
            board = os.dup2(identity.board().fd, 3)
            os.closerange(4, 256)
            sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
            os.environ["TRIGGERAPP_TICKER"] = "1"
            failpoints.load(os.environ["TRIGGERAPP_FAIL"])
            ticker.main(str(worker), hostname, str(parent), str(board))
        finally:
            os._exit(0)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float) -> None:
        if not until(lambda: self.poll() is not None, within=timeout):
            raise subprocess.TimeoutExpired("ticker", timeout)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class ClientDied(RuntimeError):
    """The forked client was killed before it answered."""


def call(function: Callable[..., Any], *args: Any, fail: str = "", log: Path, patience: float = 120.0) -> Any:
    """What `function` returns in a forked process: the lane itself never opens a connection of the product's."""
    reader, writer = os.pipe()

    def run() -> None:
        failpoints.load(fail)
        answer = json.dumps(function(*args), default=str)
        with os.fdopen(writer, "w") as file:
            file.write(answer)

    pid = fork(run, log=log)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = _read(pipe, patience)
    if answer is None:
        os.kill(pid, signal.SIGKILL)  # else it would be waited for for ever
    _, status = os.waitpid(pid, 0)
    if status != 0 or answer is None:
        raise ClientDied(f"{function.__name__}: status {os.waitstatus_to_exitcode(status)}")
    return json.loads(answer)


def _read(pipe: io.BufferedReader, patience: float) -> bytes | None:
    deadline, found = time.monotonic() + patience, b""
    while time.monotonic() < deadline:
        if select.select([pipe], [], [], 0.2)[0]:
            data = os.read(pipe.fileno(), 1 << 16)
            if not data:
                return found
            found += data
    return None


def is_alive(pid: int) -> bool:
    """Whether a child of ours still runs; a dead one is reaped."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    return failpoints._family(pid)


def orphaned(program: str) -> list[tuple[int, str]]:
    """Processes of this program below this one whose worker is gone; and the state that each is in."""
    found = []
    for pid in family(os.getpid()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            _, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        except OSError:
            continue
        state, parent, *_ = rest.split()
        if program in command and int(parent) == os.getpid() and state != "Z":
            found.append((pid, state))
    return found


def signal_all(pid: int, number: signal.Signals) -> None:
    """Send a signal to a worker, its pool and its ticker."""
    for each in family(pid):
        with suppress(ProcessLookupError):
            os.kill(each, number)


def end_all() -> None:
    """Kill whatever runs below this process, and reap it."""
    while len(children := family(os.getpid())) > 1:
        for pid in children[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap()


def reap() -> None:
    """Free the pids of the dead, orphans among them, as an init process does; a worker's killer may wait for that."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def until(condition: Callable[[], object], *, within: float, every: float = 0.02) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True

"""Where it is measured: a database of the bench's own, a private queue, real worker processes.

All of it is gone afterwards, also after a failure or ctrl-C. Runs of the project are never touched.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from celery.result import AsyncResult
from django.db import connection

from triggerapp.engine import environments, queues, sql
from triggerapp.services.process import leash
from workers.bench import tasks

T = TypeVar("T")
PATIENCE = 600.0
"""Seconds for one round, before the bench gives up and says so."""
_LOOK = 0.01


class BenchError(Exception):
    """A benchmark could not be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a benchmark is given."""

    quick: bool
    say: Callable[[str], None]
    """Tell the person who waits what is being done."""
    runs: int = 100_000
    """How many runs lie in the table whose list is measured."""
    waiting: int | None = None
    """How many runs wait as images at once, if that was said."""

    def pick(self, full: T, *, quick: T) -> T:
        """A size: the full one, or the one for `--quick`."""
        return quick if self.quick else full

    @contextmanager
    def worker(self, slots: int = 2, *, naps: int = 50) -> Iterator[Worker]:
        """A Celery worker of its own, ready and warm after so many short waits a slot; ended afterwards."""
        with ExitStack() as stack:
            log = stack.enter_context(tempfile.TemporaryFile())
            process = _start(slots, log)
            stack.callback(_end, process)
            worker = Worker(process, slots=slots, log=log)
            worker.warm_up(naps)
            yield worker
        clear()


@contextmanager
def opened(*, quick: bool, say: Callable[[str], None], runs: int, waiting: int | None = None) -> Iterator[Stage]:
    """The stage; its database and queue are gone afterwards."""
    queue = f"triggerapp-bench-{os.getpid()}"
    tasks.app.conf.task_default_queue = queue
    with _database(f"triggerapp_bench_{os.getpid()}") as name, _environ({tasks.DATABASE: name, tasks.QUEUE: queue}):
        tasks.app.set_default()
        tasks.app.set_current()
        try:
            yield Stage(quick=quick, say=say, runs=runs, waiting=waiting)
        finally:
            _remove_queue(queue)


@contextmanager
def _database(name: str) -> Iterator[str]:
    """A new database beside the project's, on the same server, with the same migrations."""
    before = connection.settings_dict["NAME"]
    connection.settings_dict.setdefault("TEST", {})["NAME"] = name
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    _forget_ids()
    try:
        yield name
    finally:
        connection.creation.destroy_test_db(before, verbosity=0)
        _forget_ids()


def _forget_ids() -> None:
    environments.by_slug.forget()
    queues.identify.forget()


@contextmanager
def _environ(values: dict[str, str]) -> Iterator[None]:
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)


def _remove_queue(queue: str) -> None:
    with tasks.app.connection_for_write() as broker:
        channel: Any = broker.default_channel
        channel.queue_delete(queue)


class Worker:
    """A running worker of the bench's."""

    def __init__(self, process: subprocess.Popen[bytes], *, slots: int, log: IO[bytes]) -> None:
        self.pid = process.pid
        self.slots = slots
        self.hostname = _hostname()
        self._process = process
        self._log = log

    def warm_up(self, naps: int) -> None:
        """Have each slot run each kind of task, so that connections and caches are there."""
        self.settle([tasks.plain_noop.delay() for _ in range(10 * self.slots)])
        self.settle([tasks.durable_noop.delay() for _ in range(10 * self.slots)])
        self.settle([tasks.nap.delay() for _ in range(naps * self.slots)])

    def pause(self) -> None:
        """Take no more messages."""
        self._control("cancel_consumer")
        time.sleep(1.1)  # a blocking read of the broker's that is under way ends within a second

    def go_on(self) -> None:
        """Take messages again."""
        self._control("add_consumer")

    def _control(self, verb: str) -> None:
        queue = os.environ[tasks.QUEUE]
        replies = getattr(tasks.app.control, verb)(queue, destination=[self.hostname], reply=True, timeout=10, limit=1)
        if not replies:
            raise BenchError(f"the worker did not answer {verb}")

    def settle(self, results: Sequence[AsyncResult[Any]]) -> None:
        """Return once the last of these, in the order of their sending, have ended."""
        last = results[-8 * self.slots :]
        for result in last:
            self.until(result.ready)

    def until(self, condition: Callable[[], bool], *, every: float = _LOOK) -> None:
        """Look until it holds. Raises `BenchError` if the worker died or time ran out."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self._process.poll() is not None:
                raise BenchError(f"the worker ended with status {self._process.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise BenchError(f"not done within {PATIENCE:.0f} s; the worker says:\n{self.tail()}")
            time.sleep(every)

    def tail(self) -> str:
        """The end of what it printed."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-3000:]

    def family(self) -> list[int]:
        """The worker's main process, its pool and its ticker."""
        return descendants(self.pid)

    def run_processes(self) -> list[int]:
        """Those that run runs: forked from the worker's zygote, or restored, and then children of a pool process."""
        alike = [pid for pid in self.family() if b"workers.zygote" in _read(f"/proc/{pid}/cmdline")]
        return [pid for pid in alike if _parent(pid) != self.pid]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:  # it ended meanwhile
        return b""


def _parent(pid: int) -> int:
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def cpu(pids: Sequence[int]) -> float:
    """Seconds of processor that these processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _hostname() -> str:
    return f"bench-{os.getpid()}@localhost"


def _start(slots: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", "-A", "workers.bench.tasks:app", "worker"),
            *("-P", "prefork", "-c", str(slots), "-Q", os.environ[tasks.QUEUE], "-n", _hostname(), "-l", "WARNING"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=leash(signal.SIGKILL),
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def descendants(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for one in found:
        try:
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
        except OSError:  # it ended meanwhile
            continue
    return found


def count(status: str, task: Any = tasks.durable_noop) -> int:
    """How many runs of the task have this status."""
    found = sql.rows("SELECT count(*) AS n FROM triggerapp_run WHERE status = %s AND task = %s", [status, task.name])
    return int(found[0]["n"])


def clear() -> None:
    """Forget all runs, so that each benchmark begins with the same tables.

    Never while a worker runs: it would adopt what is left in the queue.
    """
    _remove_queue(os.environ[tasks.QUEUE])
    for table in ("step", "wait", "attempt", "event", "filtershape", "checkpoint", "logline", "restore", "run"):
        sql.run(f"TRUNCATE triggerapp_{table} CASCADE")


def forget(results: Sequence[AsyncResult[Any]]) -> None:
    """Take the results out of the backend."""
    for result in results:
        result.forget()

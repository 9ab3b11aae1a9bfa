"""Whatever is killed, and whenever: nothing of CRIU's and nothing half restored stays, running, waiting or stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Barrier, Event, Thread

import pytest

from checkpoint import leftovers, processes
from checkpoint.criu import Criu
from checkpoint.errors import RestoreFailed
from checkpoint.line import Line
from checkpoint.processes import Task
from checkpoint.rpc import Worker
from checkpoint.sandbox import Sandbox, park
from tests.checkpoint.conftest import _adopt_orphans
from tests.checkpoint.freezing import SOON, until

Run = Callable[[Callable[[Line], None]], Sandbox]


@pytest.fixture
def idle_criu(tmp_path: Path) -> Path:
    """A CRIU that neither answers nor ends with its socket."""
    program = tmp_path / "criu"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    return program


KEEPER = """
import sys, time
from pathlib import Path
from checkpoint.rpc import Worker
worker = Worker(Path(sys.argv[1]))
print(worker.pid, flush=True)
time.sleep(600)
"""


def test_criu_dies_with_the_process_that_started_it(idle_criu: Path) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", KEEPER, str(idle_criu)], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    criu = processes.look(int(supervisor.stdout.readline()))
    assert criu is not None and criu.alive()
    supervisor.kill()
    supervisor.communicate()
    assert until(lambda: not criu.alive())


def test_a_criu_that_hangs_is_killed_and_never_stopped(idle_criu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped first, it would stay so for ever if we were killed in between."""
    sent: list[signal.Signals] = []
    send = Task.send
    monkeypatch.setattr(Task, "send", lambda task, number: (sent.append(number), send(task, number))[1])
    worker = Worker(idle_criu)
    hanging = processes.look(worker.pid)
    assert hanging is not None
    assert processes.kill(lambda: processes.family([worker.pid])) == []
    assert set(sent) == {signal.SIGKILL}
    assert not hanging.exists()
    worker.close()


def stand(line: Line) -> None:
    held = bytearray(os.urandom(1 << 20) * 20)
    park(line, str(len(held)).encode())


@pytest.fixture
def image(run: Run, criu: Criu, tmp_path: Path) -> Iterator[tuple[Path, int, int]]:
    """A dumped process: its images, its pid and the inode of its line."""
    process = run(stand)
    process.await_park(timeout=SOON)
    (tmp_path / "images").mkdir()
    criu.dump(process.pid, tmp_path / "images", external=[process.inode], timeout=SOON)
    process.end()
    yield tmp_path / "images", process.pid, process.inode
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)


RESTORER = """
import sys, time
from pathlib import Path
import checkpoint
with checkpoint.Thaw(checkpoint.driver()) as restore:
    sys.stdin.readline()
    print("go", flush=True)
    restore(Path(sys.argv[1]), control=int(sys.argv[2]))
time.sleep(600)
"""


@pytest.mark.criu
@pytest.mark.parametrize("moment", [0.005, 0.02, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1])
def test_of_a_restore_whose_supervisor_is_killed_nothing_stays(
    image: tuple[Path, int, int], orphans: Callable[[], list[Task]], moment: float
) -> None:
    """CRIU's helpers stay stopped, and what is half restored waits for it, until somebody looks into the record."""
    folder, _, inode = image
    command = [sys.executable, "-c", RESTORER, str(folder), str(inode)]
    supervisor = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert supervisor.stdin is not None and supervisor.stdout is not None
    print("go", file=supervisor.stdin, flush=True)
    assert supervisor.stdout.readline() == "go\n"
    time.sleep(moment)
    supervisor.kill()
    supervisor.communicate()
    leftovers.end_abandoned(folder.parent)
    assert until(lambda: not orphans()), [(task, _line_of(task)) for task in orphans()]


@pytest.fixture
def orphans() -> Iterator[Callable[[], list[Task]]]:
    """Those that have come to this process, which are all there are."""
    before = {task.pid for task in processes.family([os.getpid()])}
    _adopt_orphans(True)
    yield lambda: [task for task in processes.family([os.getpid()]) if task.pid not in before and task.alive()]
    _adopt_orphans(False)


def _line_of(task: Task) -> str:
    with suppress(OSError):
        return Path(f"/proc/{task.pid}/cmdline").read_text().replace("\0", " ")
    return "gone"


@pytest.mark.criu
def test_what_is_at_work_is_left_alone_and_what_is_done_is_on_no_record(
    image: tuple[Path, int, int], criu: Criu
) -> None:
    folder, _, _ = image
    with criu.prepare() as worker, leftovers.recorded(folder, worker.task):
        assert leftovers.end_abandoned(folder.parent) == 0
        assert worker.task.alive()
    assert not list(folder.glob("at-work")) and leftovers.end_abandoned(folder.parent) == 0


@pytest.mark.criu
def test_of_two_threads_that_restore_one_image_the_loser_does_not_end_the_winners_process(
    image: tuple[Path, int, int], criu: Criu
) -> None:
    folder, pid, inode = image
    for _ in range(3):
        with _race(criu, folder, inode) as (won, lost):
            assert len(won) == 1 and len(lost) == 1
            assert won[0].pid == pid and processes.look(pid) is not None
            won[0].wake(restored=True)
            won[0].end()


@contextmanager
def _race(criu: Criu, folder: Path, inode: int) -> Iterator[tuple[list[Sandbox], list[RestoreFailed]]]:
    """Two threads, which live on within the block: a process ends with the thread that it is the child of."""
    won: list[Sandbox] = []
    lost: list[RestoreFailed] = []
    begin, both, over = Barrier(2), Barrier(3), Event()

    def restore() -> None:
        ours, theirs = Line.pair()
        begin.wait()
        try:
            pid = criu.restore(folder, inherit={f"socket:[{inode}]": theirs.fileno()}, timeout=SOON)
            won.append(Sandbox(pid, ours, theirs.inode()))
        except RestoreFailed as problem:
            lost.append(problem)
        theirs.close()
        both.wait()
        over.wait()

    threads = [Thread(target=restore) for _ in range(2)]
    for thread in threads:
        thread.start()
    both.wait()
    yield won, lost
    over.set()
    for thread in threads:
        thread.join()

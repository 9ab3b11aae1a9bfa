"""A process of its own: parked, woken, ended, and nothing inherited."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from checkpoint import pids, processes, sandbox
from checkpoint.errors import RestoreFailed
from checkpoint.line import Hung, Line, Message, Word
from checkpoint.reseed import reseed
from checkpoint.sandbox import Sandbox
from tests.checkpoint.freezing import SOON

Run = Callable[[Callable[[Line], None]], Sandbox]


def test_a_process_that_parks_goes_on_with_what_it_is_woken_with(run: Run, output: Path) -> None:
    def main(line: Line) -> None:
        wake = sandbox.park(line, b"waiting for an event")
        sys.stdout.write(f"{wake}\n")
        sandbox.park(line)

    process = run(main)
    assert process.await_park(timeout=SOON) == b"waiting for an event"
    process.wake(b"the event", restored=False)
    process.await_park(timeout=SOON)
    assert output.read_text() == "Wake(payload=b'the event', restored=False)\n"


def test_it_leads_its_own_session_and_inherits_nothing(run: Run) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    process = run(lambda line: sandbox.park(line) and None)
    process.await_park(timeout=SOON)
    held = {int(number) for number in os.listdir(f"/proc/{process.pid}/fd")}
    os.close(reader)
    os.close(writer)
    assert held == {0, 1, 2, 3}
    assert os.readlink(f"/proc/{process.pid}/fd/0") == "/dev/null"
    assert os.getsid(process.pid) == process.pid


def test_an_exception_goes_to_its_output_and_not_into_the_parent(run: Run, output: Path) -> None:
    def main(line: Line) -> None:
        raise ValueError("as planned")

    process = run(main)
    assert os.waitpid(process.pid, 0)[1] == 1 << 8
    assert "ValueError: as planned" in output.read_text()


def test_it_ends_when_its_supervisor_is_gone(run: Run, output: Path) -> None:
    process = run(lambda line: sandbox.park(line) and None)
    process.await_park(timeout=SOON)
    process.line.close()
    assert os.waitpid(process.pid, 0)[1] == 1 << 8
    assert output.read_text() == ""


def test_a_process_that_does_not_call_back_in_time_is_gone(run: Run) -> None:
    process = run(lambda line: signal.pause())
    with pytest.raises(RestoreFailed, match="did not call back"):
        process.wake(restored=True, timeout=timedelta(milliseconds=50))
    assert processes.look(process.pid) is None


def test_a_process_that_calls_back_with_something_else_is_gone(run: Run) -> None:
    def main(line: Line) -> None:
        line.receive()
        line.send(Message(Word.AWAKE, b"guessed"))
        signal.pause()

    process = run(main)
    with pytest.raises(RestoreFailed, match="something else"):
        process.wake(restored=True)
    assert processes.look(process.pid) is None


def test_ending_a_process_ends_its_children_too(run: Run, no_process_left: None) -> None:
    def main(line: Line) -> None:
        if os.fork() == 0:
            signal.pause()
        sandbox.park(line)

    process = run(main)
    process.await_park(timeout=SOON)
    process.end()


def test_two_processes_of_one_parent_draw_different_numbers(run: Run, output: Path) -> None:
    def main(line: Line) -> None:
        sys.stdout.write(f"{random.random()}\n")

    for _ in range(2):
        os.waitpid(run(main).pid, 0)
    first, second = output.read_text().split()
    assert first != second


def test_reseeding_forgets_the_state_of_random() -> None:
    state = random.getstate()
    reseed()
    assert random.getstate() != state


def test_a_line_carries_large_messages_and_notices_its_end() -> None:
    ours, theirs = Line.pair()
    large = Message(Word.NOTE, os.urandom(3 << 20))
    writer = threading.Thread(target=ours.send, args=[large])
    writer.start()
    assert theirs.receive(timeout=SOON) == large
    writer.join()
    ours.close()
    with pytest.raises(Hung):
        theirs.receive()
    theirs.close()


def test_a_line_does_not_wait_for_ever_and_believes_no_nonsense() -> None:
    ours, theirs = Line.pair()
    with pytest.raises(TimeoutError):
        theirs.receive(timeout=timedelta(milliseconds=10))
    for nonsense in (b"?\0\0\0\0", b"n\xff\xff\xff\xff"):
        os.write(ours.fileno(), nonsense)
        with pytest.raises(Hung):
            theirs.receive(timeout=SOON)
    ours.close()
    theirs.close()


def alone(program: str, *arguments: str) -> int:
    """The exit status of a program: parallel test processes have threads, and such must not fork past the C library."""
    found = subprocess.run([sys.executable, "-c", program, *arguments], timeout=180, check=False)
    return found.returncode


FORKS_AS = """
import os, sys, threading
from checkpoint import pids
wanted = int(sys.argv[1])
try:
    pid = pids.fork_as(wanted)
except PermissionError:
    sys.exit(9)
if pid == 0:
    born = []
    thread = threading.Thread(target=lambda: born.append(threading.get_native_id()))
    thread.start()
    thread.join()
    os._exit(7 if os.getpid() == wanted and threading.get_native_id() == wanted and born else 1)
assert pid == wanted
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_fork_can_have_the_very_pid_that_is_wanted() -> None:
    wanted = next(pid for pid in range(pids.most() - 2000, pids.most()) if processes.look(pid) is None)
    status = alone(FORKS_AS, str(wanted))
    if status == 9:
        pytest.skip("not allowed to choose pids")
    assert status == 7


def test_a_pid_that_is_taken_is_not_forked_to() -> None:
    with pytest.raises((FileExistsError, PermissionError)):
        pids.fork_as(os.getpid())


FORKS = """
import os, sys, threading
from checkpoint import pids
def refuse(pid):
    raise PermissionError
pids.leap = lambda: False
if sys.argv[1] == "refused":
    pids.fork_as = refuse
if sys.argv[1] == "with threads":
    del pids.fork_as  # it would leave out what libraries do about their threads
    threading.Thread(target=threading.Event().wait, daemon=True).start()
pid = pids.fork()
if pid == 0:
    os._exit(3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("choosing", ["allowed", "refused", "with threads"])
def test_a_fork_works_whether_or_not_pids_may_be_chosen(choosing: str) -> None:
    assert alone(FORKS, choosing) == 3


def test_of_processes_that_were_let_go_none_stays_a_zombie_for_long(tmp_path: Path) -> None:
    """Each would keep its pid for as long as its supervisor lives."""
    for _ in range(3):
        process = sandbox.start(lambda line: line.receive() and None, output=tmp_path / "output")
        task = processes.look(process.pid)
        assert task is not None
        process.release()
        deadline = time.monotonic() + 60
        while task.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        processes.let_go(process.pid)
        assert not task.exists()

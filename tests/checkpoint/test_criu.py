"""Real dumps and restores."""

from __future__ import annotations

import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

import checkpoint
from checkpoint import processes, sandbox
from checkpoint.archive import Archive
from checkpoint.binary import Binary
from checkpoint.criu import Criu, Mode
from checkpoint.errors import Damaged, DumpFailed, RestoreFailed
from checkpoint.line import Hung, Line
from checkpoint.manifest import Host, Manifest
from checkpoint.pack import Label
from checkpoint.sandbox import Sandbox
from tests.checkpoint.freezing import SOON, until

pytestmark = [pytest.mark.slow, pytest.mark.criu, pytest.mark.usefixtures("no_process_left")]

Run = Callable[[Callable[[Line], None]], Sandbox]


def count(line: Line) -> None:
    """A generator in the middle of its loop, that nothing could pickle."""
    total = 0
    for number in (n * n for n in range(1000)):
        total += number
        wake = sandbox.park(line, str(total).encode())
        how = "restored" if wake.restored else "went on"
        sys.stdout.write(f"{number} {total} {wake.payload.decode()} {how}\n")


def test_a_generator_in_the_middle_of_its_loop_goes_on_in_a_restored_process(
    run: Run, criu: Criu, folder: Path, output: Path
) -> None:
    process = run(count)
    for _ in range(3):
        process.await_park(timeout=SOON)
        process.wake(b"before", restored=False)
    assert process.await_park(timeout=SOON) == b"14"
    again = restore(criu, freeze(criu, process, folder), process)
    again.wake(b"after", restored=True)
    assert again.await_park(timeout=SOON) == b"30"
    assert output.read_text().splitlines()[-1] == "9 14 after restored"
    assert again.pid == process.pid
    assert processes.look(again.pid).parent == os.getpid()  # type: ignore[union-attr]
    again.end()


def test_one_process_is_frozen_and_thawed_twenty_times(run: Run, criu: Criu, folder: Path) -> None:
    process = run(count)
    opened = len(os.listdir("/proc/self/fd"))
    for cycle in range(20):
        process.await_park(timeout=SOON)
        images = freeze(criu, process, folder / str(cycle))
        process = restore(criu, images, process)
        shutil.rmtree(images)
        process.wake(restored=True)
    assert process.await_park(timeout=SOON) == str(sum(n * n for n in range(21))).encode()
    assert len(os.listdir("/proc/self/fd")) == opened
    assert len(os.listdir(f"/proc/{process.pid}/fd")) == 4
    process.end()


def test_a_process_whose_dump_failed_goes_on(run: Run, criu: Criu, folder: Path, output: Path) -> None:
    process = run(count)
    process.await_park(timeout=SOON)
    with pytest.raises(DumpFailed) as caught:
        criu.dump(process.pid, folder)  # without its line named as external
    assert any("unix" in line for line in caught.value.log)
    assert processes.look(process.pid).state == "S"  # type: ignore[union-attr]
    process.wake(b"anyway", restored=False)
    process.await_park(timeout=SOON)
    assert "anyway went on" in output.read_text()


def test_a_dumped_process_that_is_still_needed_goes_on(run: Run, criu: Criu, folder: Path) -> None:
    process = run(count)
    process.await_park(timeout=SOON)
    criu.dump(process.pid, folder, external=[process.inode], timeout=SOON)
    assert until(lambda: processes.look(process.pid).state == "T")  # type: ignore[union-attr]
    processes.thaw(process.pid)
    process.wake(restored=False)
    assert process.await_park(timeout=SOON) == b"1"


def test_a_dump_can_leave_the_process_running(run: Run, criu: Criu, folder: Path) -> None:
    process = run(count)
    process.await_park(timeout=SOON)
    criu.dump(process.pid, folder, external=[process.inode], leave_stopped=False, timeout=SOON)
    process.wake(restored=False)
    assert process.await_park(timeout=SOON) == b"1"


def test_a_process_that_is_not_there_cannot_be_dumped(criu: Criu, folder: Path) -> None:
    with pytest.raises(DumpFailed):
        criu.dump(4194300, folder)


@pytest.mark.parametrize("moment", [0.001, 0.004, 0.008, 0.012, 0.016, 0.02, 0.025, 0.03, 0.04])
def test_a_dump_that_is_cut_off_at_any_moment_leaves_the_process_alive_or_dead(
    run: Run, criu: Criu, folder: Path, moment: float
) -> None:
    """The time limit kills CRIU with SIGKILL, wherever it is: seldom in a place that the process does not survive."""
    process = run(count)
    process.await_park(timeout=SOON)
    try:
        criu.dump(process.pid, folder, external=[process.inode], timeout=timedelta(seconds=moment))
    except DumpFailed as problem:
        assert "killed" in problem.message
    else:
        processes.thaw(process.pid)
    if is_dead(process.pid):
        return
    try:
        process.wake(restored=False)
    except RestoreFailed as problem:  # it has died meanwhile: one that lives and says nothing runs into the time limit
        assert isinstance(problem.__cause__, Hung)
        return
    assert process.await_park(timeout=SOON) == b"1"


def test_a_busy_process_with_threads_and_a_child_is_frozen_in_the_middle(run: Run, criu: Criu, folder: Path) -> None:
    def main(line: Line) -> None:
        import threading

        child = os.fork()
        if child == 0:
            signal.pause()
        threading.Thread(target=time.sleep, args=[1000], daemon=True).start()
        sandbox.park(line)
        os.kill(child, signal.SIGTERM)
        sandbox.park(line, str(os.waitpid(child, 0)[1]).encode())

    process = run(main)
    process.await_park(timeout=SOON)
    again = restore(criu, freeze(criu, process, folder), process)
    again.wake(restored=True)
    assert again.await_park(timeout=SOON) == str(int(signal.SIGTERM)).encode()
    again.end()


def test_two_restores_of_one_image_draw_different_numbers_everywhere(run: Run, criu: Criu, folder: Path) -> None:
    def main(line: Line) -> None:
        ssl.RAND_bytes(1)
        sandbox.park(line)
        drawn = (random.random(), ssl.RAND_bytes(8), os.urandom(8), uuid4())
        sandbox.park(line, repr(drawn).encode())

    process = run(main)
    process.await_park(timeout=SOON)
    images = freeze(criu, process, folder)
    drawn = []
    for _ in range(2):
        again = restore(criu, images, process)
        again.wake(restored=True)
        drawn.append(again.await_park(timeout=SOON).decode().split(", "))
        again.end()
    assert all(first != second for first, second in zip(*drawn, strict=True))


def test_it_is_restored_by_another_supervisor_when_the_first_is_gone(run: Run, criu: Criu, folder: Path) -> None:
    process = run(count)
    process.await_park(timeout=SOON)
    images = freeze(criu, process, folder)
    done = subprocess.run(
        [sys.executable, "-c", OTHER_SUPERVISOR, str(images), str(process.inode)],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == "child True woken b'1'\n"


OTHER_SUPERVISOR = """
import os, sys
from datetime import timedelta
from pathlib import Path
import checkpoint
from checkpoint import processes
from checkpoint.line import Hung, Line
images, inode = Path(sys.argv[1]), sys.argv[2]
ours, theirs = Line.pair()
pid = checkpoint.driver().restore(images, inherit={f"socket:[{inode}]": theirs.fileno()})
process = checkpoint.Sandbox(pid, ours, theirs.inode())
theirs.close()
process.wake(restored=True)
print("child", processes.look(pid).parent == os.getpid(), "woken", process.await_park(timeout=timedelta(seconds=120)))
process.end()
"""


def test_a_pid_that_is_in_use_is_not_taken_from_its_owner(run: Run, criu: Criu, folder: Path) -> None:
    process = run(count)
    process.await_park(timeout=SOON)
    criu.dump(process.pid, folder, external=[process.inode], timeout=SOON)
    with pytest.raises(RestoreFailed, match=f"pid {process.pid} is in use"):
        criu.restore(folder)
    processes.thaw(process.pid)
    process.wake(restored=False)
    assert process.await_park(timeout=SOON) == b"1"


def test_a_restore_without_its_line_fails_and_leaves_nothing(run: Run, criu: Criu, folder: Path) -> None:
    process = run(count)
    process.await_park(timeout=SOON)
    images = freeze(criu, process, folder)
    with pytest.raises(RestoreFailed) as caught:
        criu.restore(images)
    assert caught.value.log
    assert is_dead(process.pid)


def test_a_restore_that_hangs_is_ended_with_all_it_made(run: Run, criu: Criu, folder: Path) -> None:
    """CRIU waits for ever for pages that were cut off; that is why images are verified first."""

    def main(line: Line) -> None:
        import threading

        threading.Thread(target=time.sleep, args=[1000], daemon=True).start()
        sandbox.park(line)

    process = run(main)
    process.await_park(timeout=SOON)
    images = freeze(criu, process, folder)
    largest = max(images.glob("pages-*.img"), key=lambda path: path.stat().st_size)
    os.truncate(largest, 4096 * 10)
    with pytest.raises(RestoreFailed):
        restore(criu, images, process, timeout=timedelta(seconds=1))
    assert is_dead(process.pid)


@pytest.mark.parametrize("moment", [0.001, 0.005, 0.01, 0.015, 0.02, 0.03])
def test_a_restore_that_is_cut_off_at_any_moment_leaves_nothing(
    run: Run, criu: Criu, folder: Path, moment: float
) -> None:
    process = run(count)
    process.await_park(timeout=SOON)
    images = freeze(criu, process, folder)
    try:
        restore(criu, images, process, timeout=timedelta(seconds=moment)).end()
    except RestoreFailed as problem:
        assert "killed" in problem.message
    assert is_dead(process.pid)


def test_a_process_travels_sealed_through_a_store(run: Run, criu: Criu, tmp_path: Path, archive: Archive) -> None:
    label = Label(checkpoint=uuid4(), run=uuid4(), sequence=1, lease=1)
    host = here(criu)
    process = run(count)
    process.await_park(timeout=SOON)
    save(archive, criu, process, label)
    with archive.unpacked(label, host=host) as (images, manifest):
        again = restore(criu, images, process)
        assert manifest.pid == again.pid
    again.wake(restored=True)
    assert again.await_park(timeout=SOON) == b"1"
    again.end()


@pytest.mark.parametrize("at", [0.01, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("damage", ["flip", "cut", "zero"])
def test_no_damaged_image_reaches_criu(archive: Archive, sealed: tuple[Label, bytes], at: float, damage: str) -> None:
    label, raw = sealed
    place = int(len(raw) * at)
    altered = {
        "flip": raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :],
        "cut": raw[:place],
        "zero": raw[:place] + bytes(len(raw[place : place + 64])) + raw[place + 64 :],
    }[damage]
    archive.store.delete(label.checkpoint)
    archive.store.put(label.checkpoint, lambda file: file.write(altered) and None)
    with pytest.raises(Damaged), archive.unpacked(label, host=here(checkpoint.driver())):
        pytest.fail("CRIU would have been given this")
    assert os.listdir(archive.scratch) == [] if archive.scratch.exists() else True


def test_a_criu_that_hangs_in_a_dump_is_ended_and_the_process_goes_on(run: Run, tmp_path: Path, folder: Path) -> None:
    program = tmp_path / "criu"
    program.write_text("#!/bin/sh\nsleep 1000 &\nsleep 1000\n")
    program.chmod(0o755)
    hanging = Criu(binary=Binary(path=program, version=(4, 2)), mode=Mode.PRIVILEGED)
    process = run(count)
    process.await_park(timeout=SOON)
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(DumpFailed, match=r"more than 0\.2 s"):
        hanging.dump(process.pid, folder, timeout=timedelta(seconds=0.2))
    process.wake(restored=False)
    assert process.await_park(timeout=SOON) == b"1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def sealed(run: Run, criu: Criu, archive: Archive) -> Iterator[tuple[Label, bytes]]:
    """A stored checkpoint: its label and its bytes."""
    label = Label(checkpoint=uuid4(), run=uuid4(), sequence=1, lease=1)
    process = run(count)
    process.await_park(timeout=SOON)
    save(archive, criu, process, label)
    with archive.store.get(label.checkpoint) as file:
        yield label, file.read()


def save(archive: Archive, criu: Criu, process: Sandbox, label: Label) -> None:
    with archive.private_folder() as images:
        criu.dump(process.pid, images, external=[process.inode], timeout=SOON)
        manifest = Manifest.describe(process.pid, images, control=process.inode, host=here(criu))
        archive.save(label, images, manifest)
    process.end()


def freeze(criu: Criu, process: Sandbox, folder: Path) -> Path:
    """Dump the process and end it."""
    folder.mkdir(exist_ok=True)
    criu.dump(process.pid, folder, external=[process.inode], timeout=SOON)
    process.end()
    return folder


def restore(criu: Criu, images: Path, process: Sandbox, *, timeout: timedelta = SOON) -> Sandbox:
    ours, theirs = Line.pair()
    try:
        name = f"socket:[{process.inode}]"
        pid = criu.restore(images, inherit={name: theirs.fileno()}, timeout=timeout)
        return Sandbox(pid, ours, theirs.inode())
    except RestoreFailed:
        ours.close()
        raise
    finally:
        theirs.close()


def here(criu: Criu) -> Host:
    return Host.here(criu=criu.binary.version, mode=criu.mode.value)


def is_dead(pid: int) -> bool:
    task = processes.look(pid)
    return task is None or task.state in "ZX"

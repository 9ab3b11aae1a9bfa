"""Again and again, many at once, and elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoint.line import Line
from checkpoint.sandbox import Sandbox
from tests.checkpoint.freezing import SOON, Freezer
from tests.checkpoint.lean import count

pytestmark = [pytest.mark.criu, pytest.mark.usefixtures("no_process_left")]

CYCLES = 200
AT_ONCE = 20
NOISE = 64 << 10
"""Bytes: an image has some pages more or fewer each time; 64 KiB in 190 cycles are no growth."""
Run = Callable[[Callable[[Line], None]], Sandbox]


def lean(function: str, folder: Path, number: int) -> Any:
    """What a function of `lean` returns, in a program of its own."""
    command = [sys.executable, "-m", "tests.checkpoint.lean", function, str(folder), str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_one_process_goes_through_two_hundred_cycles_and_grows_by_nothing(tmp_path: Path) -> None:
    grown = lean("cycle", tmp_path, CYCLES)
    assert [each["number"] for each in grown] == list(range(1, CYCLES + 1))
    early, last = grown[10], grown[-1]
    assert last["size"] < early["size"] + NOISE
    assert last["mappings"] <= early["mappings"] + 2
    assert last["files"] == early["files"]
    assert last["ours"] <= early["ours"]


@pytest.mark.slow
def test_twenty_processes_are_restored_at_once(tmp_path: Path) -> None:
    assert lean("at_once", tmp_path, AT_ONCE) == list(range(1, AT_ONCE + 1))


def test_of_two_supervisors_that_restore_one_image_at_once_one_gets_it(
    run: Run, freezer: Freezer, tmp_path: Path
) -> None:
    process = run(count)
    process.await_park(timeout=SOON)
    label, _ = freezer.freeze(process)
    command = [sys.executable, "-c", RIVAL, str(tmp_path), str(label.checkpoint), str(label.run)]
    rivals = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        assert [rival.stdout.readline() for rival in rivals] == ["ready\n"] * 2  # type: ignore[union-attr]
        for _ in range(5):
            for rival in rivals:
                print("go", file=rival.stdin, flush=True)
            found = sorted(rival.stdout.readline() for rival in rivals)  # type: ignore[union-attr]
            assert found == ["lives 1\n", "refused\n"]
            for rival in rivals:
                print("end it", file=rival.stdin, flush=True)
            assert [rival.stdout.readline() for rival in rivals] == ["ended\n"] * 2  # type: ignore[union-attr]
    finally:
        for rival in rivals:
            rival.communicate(timeout=120)


@pytest.mark.parametrize("where", ["here", "in other network and mount namespaces"])
def test_it_goes_on_after_its_zygote_and_supervisor_are_gone_with_only_the_store_left(
    freezer: Freezer, tmp_path: Path, where: str
) -> None:
    """Another program, later; there also with a private /tmp, in which only the store is shared."""
    private = where != "here"
    if private and subprocess.run(["unshare", "-n", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("namespaces cannot be made here")
    first = subprocess.run(
        [sys.executable, "-c", FIRST, str(tmp_path)], capture_output=True, text=True, timeout=180, check=False
    )
    assert first.stderr == ""
    checkpoint_id, run_id = first.stdout.split()
    shutil.rmtree(tmp_path / "scratch")
    command = [sys.executable, "-c", SECOND, str(tmp_path), checkpoint_id, run_id]
    if private:
        script = 'mkdir "$1.all" && mount --bind "$1" "$1.all" && mount -t tmpfs none "$1" && mkdir "$1/store" '
        script += '&& mount --bind "$1.all/store" "$1/store" && ip link set lo up && shift && exec "$@"'
        command = ["unshare", "-n", "-m", "sh", "-c", script, "sh", str(tmp_path), *command]
    second = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, cwd=os.getcwd())
    assert second.stderr == ""
    assert second.stdout == "went on with 16 from 14\n"


COMMON = """
import os, sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
import checkpoint
from checkpoint import *
from tests.checkpoint.freezing import SOON, Freezer
from tests.checkpoint.lean import count
root = Path(sys.argv[1])
ring = Keyring(current="one", keys={"one": b"1" * 32})
archive = Archive(store=DirectoryStore(root / "store"), keyring=ring, scratch=root / "scratch")
freezer = Freezer(criu=checkpoint.driver(), archive=archive)
"""
FIRST = (
    COMMON
    + """
def main(line):
    total = 0
    for number in (n * n for n in range(100)):
        total += number
        wake = park(line, f"{number} from {total - number}".encode())
def stand(line):
    park(line)
base = freezer.make_base(start(stand, output=root / "output"))
process = start(main, output=Path("/dev/null"))
for _ in range(3):
    process.await_park(timeout=SOON)
    process.wake(restored=False)
process.await_park(timeout=SOON)
label = Label(checkpoint=uuid4(), run=uuid4(), sequence=1, lease=1)
freezer.freeze(process, base=base, label=label)
print(label.checkpoint, label.run)
"""
)
SECOND = (
    COMMON
    + """
label = Label(checkpoint=UUID(sys.argv[2]), run=UUID(sys.argv[3]), sequence=1, lease=1)
process = freezer.thaw(label)
print("went on with", process.await_park(timeout=SOON).decode())
process.end()
"""
)
RIVAL = (
    COMMON
    + """
label = Label(checkpoint=UUID(sys.argv[2]), run=UUID(sys.argv[3]), sequence=1, lease=1)
print("ready", flush=True)
while sys.stdin.readline():
    try:
        process = freezer.thaw(label)
        print("lives", process.await_park(timeout=SOON).decode().split()[0], flush=True)
    except RestoreFailed as problem:
        process = None
        print("refused", flush=True)
    sys.stdin.readline()
    if process is not None:
        process.end()
    print("ended", flush=True)
"""
)

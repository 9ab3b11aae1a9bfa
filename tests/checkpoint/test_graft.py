"""Zygotes whose memory is a private mapping of their base."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from checkpoint import graft, sandbox
from checkpoint.base import Base
from checkpoint.errors import Mismatch, RestoreFailed, Unsupported
from checkpoint.line import Line
from checkpoint.sandbox import Sandbox
from tests.checkpoint.freezing import SOON, Freezer
from tests.checkpoint.test_base import HELD, stand

pytestmark = [pytest.mark.criu, pytest.mark.usefixtures("no_process_left")]
Run = Callable[[Callable[[Line], None]], Sandbox]

GROWING = bytearray(b"x" * 4_000_000)
"""So large that the C library maps it by itself, and makes it longer by mremap."""


def mother(line: Line) -> None:
    """Stands still to be grafted, then lives on as its own fork would."""
    sandbox.park(line)
    own = [str(number) for number in range(1000)]
    said = ""
    while True:
        GROWING.extend(b"y" * 3_000_000)
        fresh = bytearray(6_000_000)
        told = f"{len(own)} {sum(HELD[1])} {GROWING.count(b'y')} {GROWING.count(b'x')} {sum(fresh)} {said}"  # type: ignore[arg-type]
        wake = sandbox.park(line, told.encode())
        said = wake.payload.decode()
        own.append(said)


def grafted(run: Run, freezer: Freezer) -> tuple[Sandbox, Base]:
    """A process whose memory is the base's, at work."""
    base = freezer.make_base(run(stand))
    process = run(mother)
    process.await_park(timeout=SOON)
    size = graft.graft(process.pid, base)
    assert size > len(GROWING)
    assert is_on(process, base)
    process.wake(restored=False)
    return process, base


def is_on(process: Sandbox, base: Base) -> bool:
    """Whether it has the base mapped."""
    return str(base.path.resolve()) in Path(f"/proc/{process.pid}/maps").read_text()


def private(process: Sandbox) -> int:
    """Bytes of memory that it shares with nobody."""
    raw = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    return 1024 * sum(int(size) for size in re.findall(r"Private_Dirty: +(\d+)", raw))


def expected(rounds: int, said: str = "") -> bytes:
    return f"{999 + rounds} {sum(range(200_000))} {3_000_000 * rounds} 4000000 0 {said}".encode()


def test_a_grafted_process_has_what_it_had_and_grows(run: Run, freezer: Freezer) -> None:
    process, _ = grafted(run, freezer)
    for rounds in range(1, 10):
        assert process.await_park(timeout=SOON) == expected(rounds, str(rounds - 1) if rounds > 1 else "")
        process.wake(str(rounds).encode(), restored=False)
    assert process.await_park(timeout=SOON)


def test_its_image_holds_what_it_changed_and_comes_back(run: Run, freezer: Freezer) -> None:
    process, base = grafted(run, freezer)
    process.await_park(timeout=SOON)
    label, _ = freezer.freeze(process, base=base)
    assert freezer.archive.manifest(label).grafted == str(base.path.resolve())
    for rounds in range(2, 6):
        again = freezer.thaw(label, str(rounds).encode())
        assert is_on(again, base)
        assert again.await_park(timeout=SOON) == expected(rounds, str(rounds))
        label, stored = freezer.freeze(again, base=base)
        assert stored.size * 20 < base.size
    last = freezer.thaw(label)
    last.await_park(timeout=SOON)
    assert private(last) * 2 < base.size + len(GROWING)
    last.end()


def test_where_its_base_lies_elsewhere_it_is_not_restored(run: Run, freezer: Freezer, tmp_path: Path) -> None:
    process, base = grafted(run, freezer)
    process.await_park(timeout=SOON)
    label, _ = freezer.freeze(process, base=base)
    elsewhere = replace(freezer, archive=replace(freezer.archive, scratch=tmp_path / "elsewhere"))
    with pytest.raises(Mismatch, match="TMPDIR"):
        elsewhere.thaw(label)


def test_what_is_refused_before_anything_was_changed_leaves_the_process_as_it_was(run: Run, freezer: Freezer) -> None:
    base = freezer.make_base(run(stand))
    process = run(mother)
    process.await_park(timeout=SOON)
    moved = base.path.rename(base.path.with_suffix(".moved"))
    with pytest.raises(FileNotFoundError):
        graft.graft(process.pid, base)
    os.truncate(moved, base.size)
    moved.rename(base.path)
    with pytest.raises(Unsupported, match="large"):
        graft.graft(process.pid, base)
    process.wake(restored=False)
    assert process.await_park(timeout=SOON) == expected(1)


def test_a_process_that_is_half_changed_is_killed(run: Run, freezer: Freezer, monkeypatch: pytest.MonkeyPatch) -> None:
    base = freezer.make_base(run(stand))
    process = run(mother)
    process.await_park(timeout=SOON)

    def fail(*_: object) -> None:
        raise OSError("no more")

    monkeypatch.setattr(graft, "_map", fail)
    with pytest.raises(OSError, match="no more"):
        graft.graft(process.pid, base)
    with pytest.raises(RestoreFailed):
        process.wake(restored=False)


def test_a_process_that_is_no_more_is_not_grafted(run: Run, freezer: Freezer) -> None:
    base = freezer.make_base(run(stand))
    with pytest.raises(ProcessLookupError):
        graft.graft(2**22 - 1, base)

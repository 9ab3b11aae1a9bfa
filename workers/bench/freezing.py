"""One process, frozen and thawed again and again by us and by CRIU's own command: `python -m workers.bench.freezing N`.

Executed anew, so that what is forked is a zygote's child and nothing of the bench; prints its samples as JSON. Both do
the same work on the same process in turn, so that what else the machine does weighs on both.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Timer
from uuid import uuid4

import checkpoint
from checkpoint import (
    Archive,
    Base,
    Criu,
    DirectoryStore,
    Host,
    Keyring,
    Label,
    Manifest,
    Sandbox,
    binary,
    processes,
    rights,
)
from checkpoint.graft import graft
from checkpoint.line import Line

PATIENCE = timedelta(seconds=30)
GRAFTED = ", base mapped"
"""What the names of samples end with whose process has its base mapped."""

_PR_SET_CHILD_SUBREAPER = 36
_BOTH = ("--tcp-close", "--ext-unix-sk", "--file-locks", "--link-remap", "--manage-cgroups=ignore", "-v1", "-o", "log")


@dataclass(slots=True)
class Samples:
    """Seconds by name, and bytes."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    sizes: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, others: Samples, suffix: str) -> None:
        """Those of `others`, under names of their own."""
        for name, seconds in others.seconds.items():
            self.seconds[name + suffix] += seconds
        for name, sizes in others.sizes.items():
            self.sizes[name + suffix] += sizes

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name].append(time.perf_counter() - began)

    @contextmanager
    def charged(self, name: str) -> Iterator[list[int]]:
        """Seconds of processor, ours and of children that have ended; and of those that the block adds to the list."""
        living: list[int] = []
        began = _spent()
        yield living
        self.seconds[name].append(_spent() - began + sum(map(_spent_by, living)))


def main(rounds: int) -> None:
    """Measure and print."""
    _load()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what the command restores is nobody's child
    with tempfile.TemporaryDirectory(prefix="checkpoint-bench-") as folder:
        blank, plain, grafted = (_start(main, folder) for main in (_stand, _work, _work))
        bench = _Bench(Path(folder))
        base = bench.base(blank)
        graft(grafted.pid, base)
        for process in (plain, grafted):
            process.wake(restored=False)
            process.await_park(timeout=PATIENCE)
        for number in range(rounds + 1):
            bench.samples = bench.samples if number > 1 else Samples()  # the first round only warms up
            plain, grafted = bench.round(plain, base), bench.round_grafted(grafted, base)
        plain.end()
        grafted.end()
    json.dump({"seconds": bench.samples.seconds, "sizes": bench.samples.sizes}, sys.stdout)


def _load() -> None:
    """What a worker's zygote has done before it forks."""
    import django  # noqa: PLC0415  (only when this is run as a program)

    django.setup()
    from django.db import connections  # noqa: PLC0415

    from workers.bench import tasks  # noqa: PLC0415

    tasks.app.finalize()
    assert tasks.app.amqp and tasks.app.backend
    _use()
    connections.close_all()
    gc.collect()
    gc.freeze()


def _start(main: Callable[[Line], None], folder: str) -> Sandbox:
    process = checkpoint.start(main, output=Path(folder) / "output")
    process.await_park(timeout=PATIENCE)
    return process


def _stand(line: Line) -> None:
    checkpoint.park(line)


def _work(line: Line) -> None:
    from django.db import connections  # noqa: PLC0415

    checkpoint.park(line)
    kept = [_use() for _ in range(5)]
    connections.close_all()
    while True:
        kept.append(str(len(kept)) * 100)
        checkpoint.park(line)


def _use() -> str:
    """Queries, JSON and a template, as a task may have them before its wait."""
    from django.template import Context, Engine  # noqa: PLC0415

    from triggerapp.models import Run  # noqa: PLC0415

    rows = [list(Run.objects.filter(status="completed").order_by("-created_at").values()[:5]) for _ in range(20)]
    data = json.loads(json.dumps([{"number": number, "text": "x" * 50} for number in range(500)]))
    page = "{% for row in data %}{{ row.number }} {{ row.text|upper }}{% endfor %}"
    return Engine().from_string(page).render(Context({"data": data, "rows": rows}))


class _Bench:
    """Ours and CRIU's, in turn."""

    def __init__(self, folder: Path) -> None:
        self.criu = Criu(binary=binary.find(), mode=rights.mode())
        self.host = Host.here(criu=self.criu.version, mode=self.criu.mode.value)
        ring = Keyring(current="bench", keys={"bench": os.urandom(32)})
        self.archive = Archive(store=DirectoryStore(folder / "store"), keyring=ring, scratch=folder / "scratch")
        self.raw = folder / "raw"
        self.samples = Samples()

    def base(self, blank: Sandbox) -> Base:
        with self.archive.private_folder() as images:
            self.criu.dump(blank.pid, images, external=[blank.inode])
            blank.end()
            return self.archive.bases.make(images)

    def round(self, process: Sandbox, base: Base) -> Sandbox:
        """Dump by both, restore by both; the process that we have restored."""
        label = Label(checkpoint=uuid4(), run=uuid4(), sequence=1, lease=1)
        self._dump(process, base, label)
        processes.thaw(process.pid)
        self._dump_raw(process)
        process.end()
        self._restore_raw(process)
        return self._restore(label)

    def round_grafted(self, process: Sandbox, base: Base) -> Sandbox:
        """The same by ours alone, with names of their own."""
        label = Label(checkpoint=uuid4(), run=uuid4(), sequence=1, lease=1)
        all_samples, self.samples = self.samples, Samples()
        self._dump(process, base, label)
        process.end()
        process = self._restore(label)
        all_samples.add(self.samples, GRAFTED)
        self.samples = all_samples
        return process

    def _dump(self, process: Sandbox, base: Base, label: Label) -> None:
        timed = self.samples.timed
        worker = self.criu.prepare()
        time.sleep(0.02)  # made ahead, in the time that the function runs
        with timed("dump"), self.samples.charged("dump: processor"), self.archive.private_folder() as images:
            with timed("dump: CRIU"):
                self.criu.dump(process.pid, images, external=[process.inode], worker=worker, timeout=PATIENCE)
            self.samples.sizes["image"].append(sum(path.stat().st_size for path in images.glob("*.img")))
            with timed("dump: reduce"):
                base.reduce(images)
            with timed("dump: describe"):
                manifest = Manifest.describe(process.pid, images, control=process.inode, host=self.host, base=base)
            with timed("dump: seal and store"):
                stored = self.archive.save(label, images, manifest)
        self.samples.sizes["stored"].append(stored.size)

    def _restore(self, label: Label) -> Sandbox:
        timed = self.samples.timed
        with self.samples.charged("restore: processor") as living:
            with timed("restore"):
                process = self._thaw(label)
                with timed("restore: call back"):
                    process.wake(restored=True)
            process.await_park(timeout=PATIENCE)
            living.append(process.pid)
        self.samples.sizes["private"].append(_private_memory(process.pid))
        return process

    def _thaw(self, label: Label) -> Sandbox:
        began = time.perf_counter()
        with (
            checkpoint.Thaw(self.criu) as thaw,
            self.archive.unpacked(label, host=self.host) as (images, manifest),
        ):
            self.samples.seconds["restore: fetch and verify"].append(time.perf_counter() - began)
            with self.samples.timed("restore: CRIU"):
                return thaw(images, control=manifest.control)

    def _dump_raw(self, process: Sandbox) -> None:
        self.raw.mkdir()
        external = f"unix[{process.inode}]"
        with self.samples.timed("dump by criu"):
            self._command("dump", "-t", str(process.pid), "--leave-stopped", "--external", external)

    def _restore_raw(self, process: Sandbox) -> None:
        ours, theirs = Line.pair()
        inherit = f"fd[{theirs.fileno()}]:socket:[{process.inode}]"
        with self.samples.timed("restore by criu"):
            self._command("restore", "-d", "--pidfile", "pid", "--inherit-fd", inherit, passing=[theirs.fileno()])
        pid = int((self.raw / "pid").read_text())
        processes.end(lambda: processes.family([pid]))
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        for end in (ours, theirs):
            end.close()
        for path in self.raw.iterdir():
            path.unlink()
        self.raw.rmdir()

    def _command(self, *arguments: str, passing: Sequence[int] = ()) -> None:
        where = ["-D", str(self.raw), *_BOTH, "--ghost-limit", "100M"]
        rights = ["--unprivileged"] if self.criu.mode is checkpoint.Mode.UNPRIVILEGED else []
        command = [str(self.criu.binary.path), *arguments, *where, *rights]
        with subprocess.Popen(command, pass_fds=passing) as process, _killed_after(PATIENCE, process):
            process.wait()  # with a time limit of its own it looks at ever longer intervals, which would be measured
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)


@contextmanager
def _killed_after(patience: timedelta, process: subprocess.Popen[bytes]) -> Iterator[None]:
    limit = Timer(patience.total_seconds(), process.kill)
    limit.start()
    try:
        yield
    finally:
        limit.cancel()


def _private_memory(pid: int) -> int:
    """Bytes that a process shares with nobody."""
    raw = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(size) for size in re.findall(r"Private_(?:Clean|Dirty): +(\d+)", raw))


def _spent() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _spent_by(pid: int) -> float:
    """What a process has used; of a restored one that is its restore."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""Where workers stand: one started elsewhere has another directory, network and /tmp, as on another host.

It is told the same addresses as every other. What it connects to on its loopback is forwarded to ours; the folders with
ledger, images and the file on which PostgreSQL listens are kept.
"""

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from workers.demo import elsewhere, processes
from workers.demo.errors import DemoFailed
from workers.demo.forwarding import Forwarder
from workers.demo.processes import Worker

_TRACE = "rehearsed"
"""A file that is to be seen there."""


def why_not_elsewhere(folder: Path, needed: Sequence[Path] = ()) -> str:
    """Why this user can start no worker elsewhere on this machine; empty if that is possible. Raises `DemoFailed`."""
    program = elsewhere.program(tmp=_make(folder / "rehearsal"), needed=[folder, *_pythons(), *needed])
    command = [*program, sys.executable, "-c", "import sys, workers; open(sys.argv[1]).close()", str(folder / _TRACE)]
    (folder / _TRACE).touch()
    tried = subprocess.run(command, cwd=another_directory(folder), capture_output=True, text=True, check=False)
    match tried.returncode:
        case 0:
            return ""
        case elsewhere.REFUSED:
            return tried.stderr.splitlines()[-1]
    raise DemoFailed(f"no worker can be started elsewhere: {tried.stderr}")


@contextmanager
def worker_elsewhere(name: str, folder: Path, *, ports: Sequence[int], needed: Sequence[Path] = ()) -> Iterator[Worker]:
    """A worker in another directory, network and /tmp, while entered; of our /tmp it has the `needed` folders alone."""
    with ExitStack() as forwarding:  # which goes on until the worker has ended
        ours, theirs = map(forwarding.enter_context, socket.socketpair())
        options = [*(f"--port={port}" for port in ports), f"--hand-over={theirs.fileno()}"]
        tmp = _make(processes.temporary(name, folder))
        program = elsewhere.program(*options, tmp=tmp, needed=[folder, *_pythons(), *needed])
        command, inherits = (*program, *processes.CELERY), (theirs.fileno(),)
        with Worker(name, folder, command, directory=another_directory(folder), inherits=inherits) as worker:
            theirs.close()
            for port, listener in zip(ports, elsewhere.receive(ours, len(ports)), strict=False):
                forwarding.enter_context(Forwarder(listener, ("127.0.0.1", port)))
            yield worker


def another_directory(folder: Path) -> Path:
    """To stand in."""
    return _make(folder / "elsewhere")


def _make(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _pythons() -> list[Path]:
    """Where Python and all that it imports is."""
    return [Path(path) for path in (sys.prefix, sys.base_prefix, *sys.path)]

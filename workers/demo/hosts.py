"""Where workers stand: one started elsewhere has another directory, network and /tmp, as on another host.

It is told the same addresses as every other: they are forwarded from its loopback to ours.
"""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from workers.demo import elsewhere, processes
from workers.demo.forwarding import Forwarder
from workers.demo.processes import Worker


def why_not_elsewhere(folder: Path) -> str:
    """Why no worker can be started elsewhere by this user on this machine; empty if one can."""
    return elsewhere.refusal(_room(folder))


@contextmanager
def worker_elsewhere(name: str, folder: Path, ports: Sequence[int]) -> Iterator[Worker]:
    """A worker in another directory, network and /tmp, while entered."""
    with ExitStack() as forwarding:  # which goes on until the worker has ended
        ours, theirs = map(forwarding.enter_context, socket.socketpair())
        options = [*(f"--port={port}" for port in ports), f"--hand-over={theirs.fileno()}"]
        command = (*elsewhere.program(_room(folder), *options), *processes.CELERY)
        inherits = (theirs.fileno(),)
        with Worker(name, folder, command, directory=another_directory(folder), inherits=inherits) as worker:
            theirs.close()
            for listener in elsewhere.receive(ours, len(ports)):
                forwarding.enter_context(Forwarder(listener))
            yield worker


def another_directory(folder: Path) -> Path:
    """To stand in."""
    place = folder / "elsewhere"
    place.mkdir(exist_ok=True)
    return place


def _room(folder: Path) -> Path:
    room = folder / "tmp"
    room.mkdir(exist_ok=True)
    return room

"""Another host, as far as a process can tell: `python -m workers.demo.elsewhere OPTIONS COMMAND...`. For root.

The command runs in a network of its own, which has a loopback and nothing else, and with a /tmp of its own, in which
only what is to be kept is seen. Sockets that listen on that loopback are handed to whoever started this.
"""

import argparse
import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NoReturn

from workers.bench import mounts

TMP: Final = Path("/tmp")
_SET_FLAGS, _UP = 0x8914, 0x1
"""SIOCSIFFLAGS and IFF_UP of netdevice(7)."""


def program(room: Path, *options: str) -> tuple[str, ...]:
    """What to put before a command. `room` is an empty folder, for what will be its /tmp."""
    python = (Path(path) for path in (sys.prefix, sys.base_prefix, *sys.path))
    kept = [f"--keep={path}" for path in (room.parent, *python) if TMP in path.parents and path.is_dir()]
    return (sys.executable, "-m", "workers.demo.elsewhere", f"--room={room}", *kept, *options, "--")


def refusal(room: Path) -> str:
    """Why there is no such place for a process of ours; empty if there is."""
    tried = subprocess.run([*program(room), "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else (tried.stderr.strip().splitlines() or ["it ended"])[-1]


def receive(handed: socket.socket, count: int) -> list[socket.socket]:
    """The listening sockets, in the order of the ports; fewer if the process ended before."""
    _, files, *_ = socket.recv_fds(handed, 1, count)
    return [socket.socket(fileno=file) for file in files]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    chosen = _parser().parse_args(arguments)
    try:
        _leave_tmp(chosen.room, chosen.keep)
        _leave_network()
    except subprocess.CalledProcessError as problem:
        sys.exit(problem.stderr.decode().strip())
    except OSError as problem:
        sys.exit(problem.strerror)
    if chosen.hand_over is not None:
        _hand_over(chosen.hand_over, chosen.port)
    os.execvp(chosen.command[0], chosen.command)


def _leave_tmp(room: Path, kept: Iterable[Path]) -> None:
    mounts.leave_others()
    mounts.mount("-t", "tmpfs", "-o", "mode=1777", "none", str(room))
    for path in kept:
        place = room / path.relative_to(TMP)
        place.mkdir(parents=True, exist_ok=True)
        mounts.mount("--bind", str(path), str(place))
    here = Path.cwd()
    mounts.mount("--rbind", str(room), str(TMP))
    os.chdir(here)  # by the new way


def _leave_network() -> None:
    mounts.leave_network()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))
        except OSError as problem:
            sys.exit(f"its loopback stays down: {problem.strerror}")


def _hand_over(number: int, ports: Sequence[int]) -> None:
    listeners = [socket.create_server(("127.0.0.1", port)) for port in ports]
    with socket.socket(fileno=number) as handed:
        socket.send_fds(handed, [b"!"], [listener.fileno() for listener in listeners])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers.demo.elsewhere", description=__doc__)
    parser.add_argument("--room", type=Path, required=True, help="an empty folder for what will be its /tmp")
    parser.add_argument("--keep", type=Path, action="append", default=[], help="a folder in /tmp that stays")
    parser.add_argument("--port", type=int, action="append", default=[], help="listen here on its loopback")
    parser.add_argument("--hand-over", type=int, metavar="FD", help="a unix socket, for the sockets that listen")
    parser.add_argument("command", nargs="+")
    return parser


if __name__ == "__main__":
    main()

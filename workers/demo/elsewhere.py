"""Another host, as far as a process can tell: `python -m workers.demo.elsewhere OPTIONS -- COMMAND...`. For root.

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

from workers import namespaces

TMP: Final = Path("/tmp")
REFUSED: Final = 77
"""The exit status where this user may not have such a place; why is its last line."""

_SET_FLAGS, _UP = 0x8914, 0x1
"""SIOCSIFFLAGS and IFF_UP of netdevice(7)."""


def program(*options: str, tmp: Path, needed: Iterable[Path]) -> tuple[str, ...]:
    """What to put before a command. `tmp` is an empty folder, which will be its /tmp; those needed are kept in it."""
    names = {name: None for path in needed for name in (path, path.resolve())}  # both: either may be called for
    kept = [f"--keep={path}" for path in names if TMP in path.parents and path.is_dir()]
    return (sys.executable, "-m", "workers.demo.elsewhere", f"--tmp={tmp.resolve()}", *kept, *options, "--")


def receive(handed: socket.socket, count: int) -> list[socket.socket]:
    """The listening sockets, in the order of the ports; none if the process ended before."""
    _, files, *_ = socket.recv_fds(handed, 1, count)
    return [socket.socket(fileno=file) for file in files]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    chosen = _parser().parse_args(arguments)
    try:
        _leave_tmp(chosen.tmp, chosen.keep)
        namespaces.leave_network()
        _raise_loopback()
    except subprocess.CalledProcessError as problem:
        _refuse(problem.stderr.decode().strip() or str(problem))
    except OSError as problem:
        _refuse(f"{problem.filename}: {problem.strerror}")
    if chosen.hand_over is not None:
        _hand_over(chosen.hand_over, chosen.port)
    os.environ["TMPDIR"] = str(TMP)
    os.execvp(chosen.command[0], chosen.command)


def _leave_tmp(tmp: Path, kept: Iterable[Path]) -> None:
    namespaces.leave_mounts()
    for path in kept:
        place = tmp / path.relative_to(TMP)
        place.mkdir(parents=True, exist_ok=True)
        namespaces.mount("--bind", str(path), str(place))
    here = Path.cwd()
    namespaces.mount("--rbind", str(tmp), str(TMP))
    os.chdir(here)  # by the new way


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))
        except OSError as problem:
            raise OSError(problem.errno, problem.strerror, "loopback") from problem


def _refuse(reason: str) -> NoReturn:
    print(reason, file=sys.stderr)
    sys.exit(REFUSED)


def _hand_over(number: int, ports: Sequence[int]) -> None:
    listeners = [socket.create_server(("127.0.0.1", port)) for port in ports]
    with socket.socket(fileno=number) as handed:
        socket.send_fds(handed, [b"!"], [listener.fileno() for listener in listeners])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers.demo.elsewhere", description=__doc__)
    parser.add_argument("--tmp", type=Path, required=True, help="an empty folder, which will be its /tmp")
    parser.add_argument("--keep", type=Path, action="append", default=[], help="a folder in /tmp that stays")
    parser.add_argument("--port", type=int, action="append", default=[], help="listen here on its loopback")
    parser.add_argument("--hand-over", type=int, metavar="FD", help="a unix socket, for the sockets that listen")
    parser.add_argument("command", nargs="+")
    return parser


if __name__ == "__main__":
    main()

"""A place that has less than the tests: `python -m tests.box [OPTIONS] COMMAND...`. For root.

Another user, fewer capabilities, a filter of system calls, or all that a container has: a root of its own on overlayfs,
its own processes, a /run in memory, and the masks of Docker. Servers and network are those of the tests.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from workers.bench import mounts

ROOT: Final = Path(__file__).resolve().parents[1]
NOBODY: Final = 65534
DOCKERS: Final = (
    "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,"
    "audit_write,setfcap"
)
"""The capabilities that Docker leaves to a container."""

_ROOM: Final = Path("/mnt")
_NEW_MOUNTS, _NEW_NAME, _NEW_IPC, _NEW_PIDS = 0x00020000, 0x04000000, 0x08000000, 0x20000000
_DIE_WITH_PARENT, _SET_SECCOMP, _FILTER = 1, 22, 2
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_MASKED: Final = ("kcore", "keys", "timer_list", "sysrq-trigger")
_READ_ONLY: Final = ("sys", "bus", "fs", "irq")
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_REFUSED: Final = {435: 38, 165: 1, 166: 1, 272: 1, 308: 1, 321: 1, 323: 1, 425: 1}
"""As in Docker's profile clone3 is not there; mount, unshare, setns, bpf, userfaultfd and io_uring are forbidden."""
_libc: Final = ctypes.CDLL(None, use_errno=True)


def box(*options: str) -> tuple[str, ...]:
    """What to put before a command. That other users reach Python and this project is seen to."""
    reached = [option for path in (sys.executable, sys.prefix, ROOT) for option in ("--reach", str(path))]
    return (sys.executable, "-m", "tests.box", *reached, *options, "--")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    chosen = _parser().parse_args(arguments)
    if chosen.container:
        _enter_container(chosen.volume)
    else:
        _call("unshare", _NEW_MOUNTS)
        _make_room()
    for path in chosen.reach:
        _let_reach(path.absolute())
        _let_reach(path.resolve())
    for path in chosen.nosuid:
        _run("mount", "--bind", str(path), str(path))
        _run("mount", "-o", "remount,bind,nosuid", str(path))
    if chosen.filter:
        _filter_calls()
    command = [*_setpriv(chosen), *chosen.command]
    os.execvp(command[0], command)


def _setpriv(chosen: argparse.Namespace) -> list[str]:
    command = ["setpriv"]
    if chosen.user:
        groups = f"--groups={chosen.group}" if chosen.group else "--clear-groups"
        command += [f"--reuid={chosen.user}", f"--regid={chosen.user}", groups]
    if chosen.ambient is not None or chosen.user:
        kept = _only(chosen.ambient or "")
        command += [f"--inh-caps={kept}", f"--ambient-caps={kept}"]
    if chosen.capabilities is not None:
        command.append(f"--bounding-set={_only(chosen.capabilities)}")
    return [*command, "--no-new-privs"] if chosen.no_new_privs else command


def _only(names: str) -> str:
    return ",".join(["-all", *(f"+{name}" for name in names.split(",") if name)])


def _enter_container(volumes: Iterable[Path]) -> None:
    """Go on as a child of its first process, in a root of its own."""
    _call("unshare", _NEW_MOUNTS | _NEW_NAME | _NEW_IPC | _NEW_PIDS)
    _go_on_in_child()  # the first in there has to stay
    _make_room()
    root = _make_root()
    for volume in volumes:
        (root / volume.relative_to("/")).mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(volume), str(root / volume.relative_to("/")))
    _run("hostname", "box")
    _change_root(root)
    _go_on_in_child()  # and waits for orphans, as with `docker run --init`


def _make_room() -> None:
    """What is mounted from now on nobody else sees, and is gone with the last process in here."""
    _run("mount", "--make-rprivate", "/")
    _run("mount", "-t", "tmpfs", "none", str(_ROOM))


def _make_root() -> Path:
    """Docker's: what is written stays in memory."""
    upper, work, root = (_ROOM / name for name in ("upper", "work", "root"))
    for folder in (upper, work, root):
        folder.mkdir()
    _run("mount", "-t", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", "none", str(root))
    _run("mount", "-t", "proc", "none", str(root / "proc"))
    for name in ("run", "dev"):
        _run("mount", "-t", "tmpfs", "-o", "mode=0755", "none", str(root / name))
    (root / "dev/shm").mkdir()
    _run("mount", "-t", "tmpfs", "none", str(root / "dev/shm"))
    for name in _DEVICES:
        (root / "dev" / name).touch()
        _run("mount", "--bind", f"/dev/{name}", str(root / "dev" / name))
    for name in _MASKED:
        _run("mount", "--bind", "/dev/null", str(root / "proc" / name), may_fail=True)
    for name in _READ_ONLY:
        _run("mount", "--bind", str(root / "proc" / name), str(root / "proc" / name), may_fail=True)
        _run("mount", "-o", "remount,bind,ro", str(root / "proc" / name), may_fail=True)
    return root


def _change_root(root: Path) -> None:
    here = os.getcwd()
    os.chdir(root)
    _run("pivot_root", ".", str(root / _ROOM.relative_to("/")))
    os.chdir("/")
    _run("umount", "-l", str(_ROOM))
    os.chdir(here)


def _go_on_in_child() -> None:
    """This process passes SIGTERM on, waits for whatever becomes its child, and ends as the first one does."""
    child = os.fork()
    if child == 0:
        _libc.prctl(_DIE_WITH_PARENT, int(signal.SIGKILL), 0, 0, 0)
        return

    def forward(number: int, frame: FrameType | None) -> None:
        os.kill(child, number)

    signal.signal(signal.SIGTERM, forward)
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _let_reach(path: Path) -> None:
    """Open the folders above it that are closed to others, in this mount namespace alone."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & 0o001:
            mounts.lay_over(folder, room=_ROOM)


def _filter_calls() -> None:
    """A program for the kernel: load the call's number; for each that is refused, compare, and return its error."""
    steps = [struct.pack("HBBI", 0x20, 0, 0, 0)]
    for number, error in _REFUSED.items():
        steps += [struct.pack("HBBI", 0x15, 0, 1, number), struct.pack("HBBI", 0x06, 0, 0, _REFUSE | error)]
    steps.append(struct.pack("HBBI", 0x06, 0, 0, _ALLOW))
    program = ctypes.create_string_buffer(b"".join(steps))
    described = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
    _call("prctl", _SET_SECCOMP, _FILTER, ctypes.create_string_buffer(described), 0, 0)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        sys.exit(f"{name}: {os.strerror(ctypes.get_errno())}")


def _run(*command: str, may_fail: bool = False) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.box", description=__doc__)
    parser.add_argument("--container", action="store_true", help="namespaces and a root of its own")
    parser.add_argument("--volume", type=Path, action="append", default=[], help="a folder that a container shares")
    parser.add_argument("--nosuid", type=Path, action="append", default=[], help="a folder whose files give no rights")
    parser.add_argument("--filter", action="store_true", help="a seccomp filter like Docker's")
    parser.add_argument("--user", type=int, default=0, help="another user, without capabilities")
    parser.add_argument("--group", help="a further group of that user")
    parser.add_argument("--no-new-privs", action="store_true")
    parser.add_argument("--capabilities", help="those that can be had; all of the tests' by default")
    parser.add_argument("--ambient", help="those that it has whoever it is; of another user's no others")
    parser.add_argument("--reach", type=Path, action="append", default=[], help="what other users are to reach")
    parser.add_argument("command", nargs="+")
    return parser


if __name__ == "__main__":
    main()

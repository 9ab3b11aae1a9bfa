"""Starting processes and ending exactly those.

A pid alone proves nothing: it may have been given to another process since. Every pid is kept
together with its birth, and nothing is signalled unless both match.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypedDict

from triggerapp.services.account import Account
from triggerapp.services.errors import ServicesError

PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One process, told apart from a later one with the same pid."""

    pid: int
    birth: str

    def alive(self) -> bool:
        """Is this very process still running? A zombie is not."""
        return birth(self.pid) == self.birth


def birth(pid: int) -> str | None:
    """When process `pid` began, in the machine's own words; None if there is none, or only a zombie."""
    if Path("/proc/self/stat").exists():
        return _birth_from_proc(pid)
    return _birth_from_ps(pid)


def _birth_from_proc(pid: int) -> str | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name, in parentheses, may hold anything
    return None if fields[0] in "ZX" else fields[19]


def _birth_from_ps(pid: int) -> str | None:
    listed = subprocess.run(
        ["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    state, _, started = listed.partition(" ")
    return None if not state or state.startswith("Z") else started


def identify(pid: int) -> Identity | None:
    """The identity of the process that has `pid` now."""
    born = birth(pid)
    return Identity(pid=pid, birth=born) if born else None


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    account: Account,
    dies_with_us: signal.Signals | None,
) -> subprocess.Popen[bytes]:
    """Start `command` as `account` in a session of its own, out of reach of this terminal's ctrl-C.

    With `dies_with_us` the kernel sends that signal when the thread that called this ends, however it ends.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            preexec_fn=leash(dies_with_us),  # runs after setuid, which would clear it
            **as_account(account),
        )


class AsAccount(TypedDict, total=False):
    """Arguments of `subprocess` that change the account."""

    user: int
    group: int
    extra_groups: list[int]


def as_account(account: Account) -> AsAccount:
    """What `subprocess` needs to run something as `account`; nothing where that is us."""
    if account.uid == os.geteuid():
        return {}
    return AsAccount(user=account.uid, group=account.gid, extra_groups=[])


def leash(death_signal: signal.Signals | None) -> Callable[[], None] | None:
    """A `preexec_fn` by which the kernel sends the child that signal when the thread that started it ends."""
    if death_signal is None or sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)  # loaded here: the forked child must not import or allocate more than it has to
    return partial(_bind_to_parent, libc.prctl, int(death_signal), os.getpid())


def _bind_to_parent(prctl: Callable[[int, int], int], death_signal: int, parent: int) -> None:
    prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:  # it died before prctl could see it
        os._exit(1)


def end(process: Identity, *, with_signal: signal.Signals, within: float) -> None:
    """Signal this very process and wait until it is gone; SIGKILL if it is not `within` seconds."""
    for number in (with_signal, signal.SIGKILL):
        if not _send(process, number):
            return
        if until(lambda: not process.alive(), within=within):
            return
    raise ServicesError(
        f"process {process.pid} does not end even on SIGKILL: it hangs in the kernel; see its /proc entry"
    )


def _send(process: Identity, number: signal.Signals) -> bool:
    """Signal the process if it is still the same one."""
    if not process.alive():
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    except PermissionError as cause:
        raise ServicesError(f"process {process.pid} belongs to another user: stop the services as that user") from cause
    return True


def until(condition: Callable[[], bool], *, within: float) -> bool:
    """Wait for `condition`, at most `within` seconds; did it come true?"""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True

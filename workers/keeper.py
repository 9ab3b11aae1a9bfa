"""The worker's main process as keeper of its zygote: whether there can be one, its folder, its life."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from socket import socket
from typing import IO, Self

import checkpoint
from checkpoint import Unborn, Verdict, Zygote, leftovers, manifest, use
from checkpoint.base import place_of
from workers import base, identity, link, reentry

log = logging.getLogger(__name__)

_TOO_SOON = 10.0
"""Seconds of a life that is no life: an app that cannot be imported is not imported for ever."""
_TRIES = 3
_IMPORTS = 120.0
"""Seconds that the worker waits for its zygote at its start."""


class Keeper:
    """A zygote, started again when it dies."""

    def __init__(self, app: str, home: Path, lock: IO[bytes]) -> None:
        self._app = app
        self._home = home
        self._lock = lock
        self._short_lives = 0
        self._listener: socket | None = checkpoint.listen(home / "zygote")
        self._base: IO[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self._give_up()
            raise

    @classmethod
    def make(cls, app: str) -> Self | None:
        """For this worker; None, and the log says why, where no process can be dumped."""
        verdict = checkpoint.check()
        _report(verdict)
        if not verdict.ok:
            return None
        try:
            with ExitStack() as undo:
                home, lock = _settle()
                undo.callback(lock.close)
                undo.callback(_remove, home)
                keeper = cls(app, home, lock)
                undo.pop_all()
        except OSError as problem:  # a full disk, or one that may not be written to
            reentry.say_why(f"no zygote could be started: {problem}")
            return None
        identity.settle(home)
        _prepare()
        keeper._await_ready()
        return keeper

    def _await_ready(self) -> None:
        """Before the worker takes tasks: their time limits are not for imports."""
        deadline = time.monotonic() + _IMPORTS
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(Unborn):
                return Zygote(self._home / "zygote").await_ready(timeout=timedelta(seconds=1))
        log.warning("the zygote is not ready; runs that it cannot start stay in the pool processes")
        return None

    def look_after(self) -> None:
        """Start it again if it died; if it does so at once each time, runs stay in the pool processes.

        And hold its base, and end what a pool process left behind that was killed in the middle of a dump or a restore.
        """
        leftovers.end_abandoned(self._home / "images")
        self._hold_base()
        if self._listener is None or self._process.poll() is None:
            return
        is_short = time.monotonic() - self._started < _TOO_SOON
        self._short_lives = self._short_lives + 1 if is_short else 0
        if self._short_lives >= _TRIES:
            log.error("the zygote ended %s times at once: no process is dumped any more", _TRIES)
            link.tell("waiting", how=f"by re-entry: the zygote ended {_TRIES} times at once")
            self._give_up()
            return
        log.warning("the zygote ended with status %s; starting another", self._process.returncode)
        self._start()

    def stop(self) -> None:
        """End it and all that was forked from it; nothing of this worker's stays."""
        self._give_up()
        self._end()
        self._let_go_of_base()
        _remove(self._home)
        self._lock.close()
        _leave_nothing(self._home.parent)

    def _start(self) -> None:
        assert self._listener is not None
        self._let_go_of_base()
        self._started = time.monotonic()
        descriptor = self._listener.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workers.zygote", self._app, str(self._home), str(descriptor)],
            stdin=subprocess.PIPE,
            pass_fds=[descriptor],
            start_new_session=True,
            env=link.environment(TRIGGERAPP_ZYGOTE_OF=str(os.getpid())),
        )

    def _hold_base(self) -> None:
        """Before an image needs it, and is stored with it, nobody else does."""
        digest = None if self._base else base.of(self._home, self._process.pid)
        if digest is None:
            return
        # Just deleted: it is looked for again with the next look.
        with suppress(FileNotFoundError), ExitStack() as undo:
            file = undo.enter_context(place_of(digest, _bases(self._home)).open("rb"))
            use.hold(file)
            undo.pop_all()
            self._base = file

    def _let_go_of_base(self) -> None:
        if self._base is not None:
            self._base.close()
            self._base = None

    def _give_up(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            (self._home / "zygote").unlink(missing_ok=True)

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _prepare() -> None:
    """What each pool process would have to load and read before its first dump, while the zygote does so too."""
    from workers.supervision import supervisor  # noqa: F401, PLC0415  (late: the zygote is to be started first)

    manifest.learn(os.getpid())


def _report(verdict: Verdict) -> None:
    """In the log and in the worker's row."""
    if verdict.ok:
        log.info("waiting runs are kept as images: CRIU %s, %s", verdict.version, verdict.mode)
        link.tell("waiting", how=f"as images: CRIU {verdict.version}, {verdict.mode}")
        return
    reasons = "; ".join(reason.message for reason in verdict.reasons if reason.blocking)
    reentry.say_why(reasons, at_length=str(verdict))


def _settle() -> tuple[Path, IO[bytes]]:
    """A folder that only this user can enter; what workers that were killed have left is removed."""
    root = Path(tempfile.gettempdir()) / f"triggerapp-{os.geteuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    if root.stat().st_uid != os.geteuid() or root.stat().st_mode & 0o077:
        root = Path(tempfile.mkdtemp(prefix="triggerapp-"))
    with (root / "lock").open("wb") as everyones:
        fcntl.flock(everyones, fcntl.LOCK_EX)  # one that is being made is not abandoned
        for folder in _abandoned(root):
            leftovers.end_abandoned(folder / "images")
            _remove(folder)
        home = Path(tempfile.mkdtemp(prefix="worker-", dir=root))
        lock = (home / "lock").open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
    _share_bases(home, root / "bases")
    return home, lock


def _remove(home: Path) -> None:
    """A worker's folder, and what its zygotes' bases take here; who needs one of them later has it from the store."""
    for digest in base.made(home):
        use.discard(place_of(digest, _bases(home)))
    shutil.rmtree(home, ignore_errors=True)


def _leave_nothing(root: Path) -> None:
    """With the last worker of this host and user go the bases that were fetched: they are memory in the clear."""
    with suppress(FileNotFoundError), (root / "lock").open("wb") as everyones:  # somebody tidied the temporary folder
        fcntl.flock(everyones, fcntl.LOCK_EX)  # none is being made meanwhile
        if not any(root.glob("worker-*")):
            for path in (root / "bases").iterdir():
                use.discard(path)


def _share_bases(home: Path, bases: Path) -> None:
    """Images in the clear go with their worker; bases, tens of megabytes, are unpacked once for all of this host."""
    bases.mkdir(mode=0o700, exist_ok=True)
    (home / "images").mkdir(mode=0o700)
    _bases(home).symlink_to(bases)


def _bases(home: Path) -> Path:
    return home / "images" / "bases"


def _abandoned(root: Path) -> Iterator[Path]:
    """Folders whose worker, and all that it forked, are gone: nobody holds their lock."""
    for path in root.glob("worker-*/lock"):
        with suppress(OSError), path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield path.parent

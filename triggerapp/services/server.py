"""One local server: its process, its address and the file that remembers both.

A subclass says how to prepare, launch and ask its kind of server. The address outlives the process:
a server that was stopped or killed comes back where its clients look for it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Final

from triggerapp.services import process
from triggerapp.services.account import Account, present
from triggerapp.services.errors import ServicesError
from triggerapp.services.process import Identity

PATIENCE: Final = 120.0
"""Seconds a server gets to start, and to stop before it is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the state file says: where the server is found, and which process it was last."""

    url: str
    pid: int
    birth: str

    @property
    def identity(self) -> Identity:
        return Identity(pid=self.pid, birth=self.birth)


class Server(ABC):
    """A server that is started, stopped and killed alone, always at the same address."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    passing_troubles: ClassVar[tuple[bytes, ...]] = ()
    """What its log says when it ended at once but will start a moment later."""

    def __init__(self, folder: Path, *, die_with_parent: bool = False) -> None:
        self.folder = folder
        self.die_with_parent = die_with_parent
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def account(self) -> Account:
        """The account it runs under."""
        return present()

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def state_file(self) -> Path:
        return self.folder / f"{self.name}.json"

    @abstractmethod
    def prepare(self) -> tuple[str, Sequence[str | Path]]:
        """Make its data ready; its URL and its command line."""

    @abstractmethod
    def answers(self, url: str) -> bool:
        """Does it serve clients at `url`?"""

    def record(self) -> Record | None:
        """What is remembered of it, running or not."""
        try:
            return Record(**json.loads(self.state_file.read_text()))
        except FileNotFoundError:
            return None
        except PermissionError as cause:
            raise ServicesError(
                f"{self.state_file} belongs to another user: set the two URLs, or be that user"
            ) from cause
        except (ValueError, TypeError) as cause:
            raise ServicesError(f"{self.state_file} is not what `manage.py services` wrote: remove it") from cause

    def url(self) -> str | None:
        """Where it is, if it runs."""
        known = self.record()
        return known.url if known and known.identity.alive() else None

    def start(self) -> str:
        """Its URL, once it answers. One that runs already is used as it is."""
        if running := self.url():
            if not process.until(lambda: self.answers(running), within=PATIENCE):
                raise ServicesError(f"{self.name} runs but does not answer: see {self.log}, then stop and start it")
            return running
        url, command = self.prepare()
        deadline = time.monotonic() + PATIENCE
        while not self._launch(url, command, deadline=deadline):
            time.sleep(0.1)
        return url

    def stop(self) -> bool:
        """End it in order; False if it did not run."""
        ran = self.url() is not None
        self._end(self.stop_signal)
        return ran

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL); `start` brings it back at the same address."""
        self._end(signal.SIGKILL)

    def _launch(self, url: str, command: Sequence[str | Path], *, deadline: float) -> bool:
        """Start it and wait for an answer; False if it ended at once over something that passes."""
        logged = self.log.stat().st_size if self.log.exists() else 0
        self._child = process.spawn(
            command,
            log=self.log,
            account=self.account,
            dies_with_us=self.stop_signal if self.die_with_parent else None,
        )
        self._remember(url, self._child.pid)
        while self._child.poll() is None and time.monotonic() < deadline:
            if self.answers(url):
                return True
            time.sleep(0.02)
        said = self.log.read_bytes()[logged:]
        self.kill()
        if time.monotonic() < deadline and any(trouble in said for trouble in self.passing_troubles):
            return False
        raise ServicesError(f"{self.name} did not start. The end of {self.log}:\n{_tail(said)}")

    def _remember(self, url: str, pid: int) -> None:
        """Write the state file, whole or not at all, for our eyes only: the URL may hold a password."""
        known = process.identify(pid) or Identity(pid=pid, birth="")
        draft = self.state_file.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(Record(url=url, pid=known.pid, birth=known.birth))))
        os.replace(draft, self.state_file)

    def _end(self, with_signal: signal.Signals) -> None:
        known = self.record()
        if known:
            process.end(known.identity, with_signal=with_signal, within=PATIENCE)
        if self._child:
            self._child.poll()  # reaps it


def _tail(output: bytes) -> str:
    return "\n".join(output.decode(errors="replace").splitlines()[-15:])

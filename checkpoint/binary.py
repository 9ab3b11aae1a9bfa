"""Which CRIU is used here, and why not another.

The first of `CHECKPOINT_CRIU`, what `python -m checkpoint install` made, and PATH that is new enough; the variable,
if it is set, alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from checkpoint.errors import Unsupported

VARIABLE: Final = "CHECKPOINT_CRIU"
MINIMUM: Final = (4, 2)
PROGRAMS: Final = ("usr/sbin/criu", "usr/bin/criu")
"""Where Debian's packages have it, below a prefix."""
WHY: Final = (
    "older ones restore the vDSO's random state, so that two restores of one image draw the same os.urandom(), "
    "and cannot dump network sockets on current kernels"
)
INSTALL: Final = f"run `python -m checkpoint install`, or set {VARIABLE} to a CRIU of 4.2 or newer"

_SYSTEM: Final = Path("/opt/triggerapp-criu")
_FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """A CRIU that can be used: where it is and its version."""

    path: Path
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"CRIU {dotted(self.version)} at {self.path}"


def find() -> Binary:
    """The CRIU to use. Unsupported if there is none, or only old ones."""
    refusals = []
    for path in candidates():
        try:
            return inspect(path)
        except Unsupported as refusal:
            refusals.append(refusal.message)
    raise Unsupported("; ".join(refusals) or f"no CRIU was found: {INSTALL}")


def inspect(path: Path) -> Binary:
    """The CRIU at `path`. Unsupported if it does not run or is too old."""
    version = ask_version(path)
    if version < MINIMUM:
        raise Unsupported(f"CRIU {dotted(version)} at {path} is older than {dotted(MINIMUM)}: {WHY}; {INSTALL}")
    return Binary(path=path, version=version)


def candidates() -> Iterator[Path]:
    """Where a CRIU is, best first."""
    named = os.environ.get(VARIABLE)
    if named:
        yield Path(named)
        return
    starts = map(start_of, dict.fromkeys((default_prefix(), _SYSTEM)))
    yield from (start for start in starts if os.access(start, os.X_OK))
    found = shutil.which("criu", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_FOLDERS]))
    if found:
        yield Path(found)


def first() -> Path | None:
    """The program of the best one, whether or not it runs: on its file the kernel looks for capabilities."""
    return next(map(program_of, candidates()), None)


def default_prefix() -> Path:
    """Where the installer puts CRIU for this user."""
    if os.geteuid() == 0:
        return _SYSTEM
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(data) / _SYSTEM.name


def start_of(prefix: Path) -> Path:
    """The script in `prefix` that starts its CRIU."""
    return prefix / "bin" / "criu"


def program_of(start: Path) -> Path:
    """CRIU itself, where `start` is the installer's script that starts it."""
    prefix = start.parent.parent
    made = (prefix / name for name in PROGRAMS) if start == start_of(prefix) else ()
    return next((program for program in made if program.is_file()), start)


def dotted(version: tuple[int, ...]) -> str:
    """4.2.1 for (4, 2, 1)."""
    return ".".join(map(str, version))


def ask_version(path: Path) -> tuple[int, ...]:
    """What the program at `path` says of itself."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except OSError as problem:
        raise Unsupported(f"{path} does not run: {problem.strerror}; {INSTALL}") from problem
    except subprocess.TimeoutExpired as problem:
        raise Unsupported(f"{path} does not run: it did not say its version in {_PATIENCE} s; {INSTALL}") from problem
    found = re.search(r"Version: (\d+(?:\.\d+)*)", done.stdout)
    if found is None:
        said = (done.stderr or done.stdout).strip()[-300:]
        raise Unsupported(f"{path} does not tell its version ({said}); {INSTALL}")
    return tuple(map(int, found[1].split(".")))

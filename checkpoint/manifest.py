"""What one checkpoint is, and whether a host can thaw it.

An image maps files by path: code that differs there would be mixed into a living process. CRIU compares sizes and
build ids; two builds can have both in common, so files are compared by their content here.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from checkpoint import buildid, processes
from checkpoint.base import Base
from checkpoint.errors import Damaged

_FORMAT: Final = 3
_MAPPING: Final = re.compile(r"^[0-9a-f]+-[0-9a-f]+ (?P<rights>....) \S+ \S+ [1-9]\d* +(?P<path>/.+)$", re.MULTILINE)
_COMPARED: Final = 256 << 20
"""Mapped files above this size are compared by size and build id alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What must fit where a process is thawed."""

    name: str
    machine: str
    kernel: str
    cpu: tuple[str, ...]
    criu: tuple[int, ...]
    mode: str
    python: str
    user: tuple[int, int]

    @classmethod
    def here(cls, *, criu: tuple[int, ...], mode: str) -> Self:
        """This host, with the CRIU it uses and how."""
        return cls(
            name=socket.gethostname(),
            machine=platform.machine(),
            kernel=platform.release(),
            cpu=_cpu_flags(),
            criu=criu,
            mode=mode,
            python=platform.python_version(),
            user=(os.geteuid(), os.getegid()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedFile:
    """A file whose content is part of the process without being in its image."""

    path: str
    size: int
    build_id: str
    digest: str

    @classmethod
    def read(cls, path: str) -> Self | None:
        """The file as it is now; None if it is not there."""
        try:
            now = os.stat(path)
        except OSError:
            return None
        # A file changed in place has another ctime, so what was read of it once holds.
        build_id, digest = _fingerprint(path, now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        return cls(path=path, size=now.st_size, build_id=build_id, digest=digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFile:
    """One of CRIU's image files."""

    name: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One checkpoint: whose it is, where it was made, what it maps, and the files it consists of."""

    pid: int
    control: int
    """The inode of the process's end of its line."""
    made: datetime
    host: Host
    mapped: tuple[MappedFile, ...]
    images: tuple[ImageFile, ...]
    base: str | None = None
    """The digest of the base that the images were reduced by."""
    grafted: str | None = None
    """Where the base lay, if the process has it mapped: there it has to lie again."""

    @classmethod
    def describe(cls, pid: int, directory: Path, *, control: int, host: Host, base: Base | None = None) -> Self:
        """The checkpoint in `directory`, of a process that still stands there, stopped; reduced by `base`, if given."""
        paths = _mapped(pid)
        base_path = os.path.realpath(base.path) if base else ""
        return cls(
            pid=pid,
            control=control,
            made=datetime.now(UTC),
            host=host,
            mapped=tuple(_read(paths - {base_path})),
            images=tuple(_images(directory)),
            base=base.digest if base else None,
            grafted=base_path if base_path in paths else None,
        )

    @property
    def size(self) -> int:
        """What the images hold, in bytes."""
        return sum(image.size for image in self.images)

    def mismatch(self, host: Host) -> str | None:
        """Why this must not be thawed on `host`, which is the one this process is on; None if it can."""
        reasons = (*_mismatches(self.host, host), *_changed(self.mapped))
        return reasons[0] if reasons else None

    def to_json(self) -> bytes:
        return json.dumps({"format": _FORMAT, **asdict(self), "made": self.made.isoformat()}).encode()

    @classmethod
    def from_json(cls, raw: bytes) -> Self:
        """Damaged if it is no manifest, or one of another format."""
        try:
            found = json.loads(raw)
            if found["format"] != _FORMAT:
                raise ValueError(f"format {found['format']}")
            return cls(
                pid=found["pid"],
                control=found["control"],
                made=datetime.fromisoformat(found["made"]),
                host=_host(found["host"]),
                mapped=tuple(MappedFile(**entry) for entry in found["mapped"]),
                images=tuple(ImageFile(**entry) for entry in found["images"]),
                base=found["base"],
                grafted=found["grafted"],
            )
        except (ValueError, KeyError, TypeError) as problem:
            raise Damaged(f"the manifest cannot be read: {problem}") from problem


def learn(pid: int) -> None:
    """Read what this process maps, for this one and its later forks to know: its own forks map the same."""
    for _ in _read(_mapped(pid)):
        pass


def _host(found: dict[str, object]) -> Host:
    lists = {key: tuple(value) for key, value in found.items() if isinstance(value, list)}
    return Host(**{**found, **lists})  # type: ignore[arg-type]  # its own to_json, inside a seal


def _mismatches(made: Host, here: Host) -> Iterator[str]:
    for what in ("machine", "python", "mode", "user"):
        if getattr(made, what) != getattr(here, what):
            yield f"made with {what} {getattr(made, what)}, and here is {getattr(here, what)}"
    if here.criu < made.criu:
        yield f"made by CRIU {_dotted(made.criu)}, and here is the older {_dotted(here.criu)}"
    if _numbers(here.kernel) < _numbers(made.kernel):
        yield f"made on kernel {made.kernel}, and here is the older {here.kernel}"
    absent = sorted(set(made.cpu) - set(here.cpu))
    if absent:
        yield f"made on a CPU with {', '.join(absent[:5])}, which this one lacks"


def _changed(mapped: Iterable[MappedFile]) -> Iterator[str]:
    for file in mapped:
        now = MappedFile.read(file.path)
        if now is None:
            yield f"{file.path}, which the process maps, is not here"
        elif now != file:
            yield f"{file.path}, which the process maps, is another file here"


def _mapped(pid: int) -> set[str]:
    """What the process and its children map privately. Shared mappings are data, and may change."""
    paths = set()
    for task in processes.family([pid]):
        for found in _MAPPING.finditer(Path(f"/proc/{task.pid}/maps").read_text(errors="surrogateescape")):
            if found["rights"].endswith("p") and not found["path"].endswith(" (deleted)"):
                paths.add(found["path"])
    return paths


def _read(paths: Iterable[str]) -> Iterator[MappedFile]:
    for path in sorted(paths):
        file = MappedFile.read(path) if os.path.isfile(path) else None
        if file is not None:
            yield file


def _images(directory: Path) -> Iterator[ImageFile]:
    for path in sorted(directory.glob("*.img")):
        yield ImageFile(name=path.name, size=path.stat().st_size, digest=_digest(path))


@lru_cache(maxsize=4096)
def _fingerprint(path: str, device: int, inode: int, size: int, modified: int, changed: int) -> tuple[str, str]:
    return buildid.read(path), _digest(Path(path)) if size <= _COMPARED else ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1)
def _cpu_flags() -> tuple[str, ...]:
    found = re.search(r"^(?:flags|Features)\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return tuple(sorted(found[1].split())) if found else ()


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", release)[:3]))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))

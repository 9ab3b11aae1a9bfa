"""Brings a working CRIU to Debian 12 and 13 without touching the system's packages or its libc.

Debian's own archive has it in a later release. An apt with lists, cache and sources of its own fetches CRIU and every
library it needs, libc included, from the mirror this host uses already, signed by Debian's archive keys. All is
unpacked into a folder of its own and started through the dynamic loader in there. Nothing is installed.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from checkpoint import binary, grant
from checkpoint.binary import Binary
from checkpoint.errors import InstallFailed, Unsupported

Say = Callable[[str], None]

_RELEASE: Final = "forky"
"""The Debian release whose CRIU is new enough; 13 has 4.1."""
_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TOOLS: Final = ("apt-get", "apt-cache", "dpkg-deb")
_LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"
_LOADER: Final = f"{_LIBRARIES}/ld-linux-x86-64.so.2"
_PATIENCE: Final = 600.0
_ELSEWHERE: Final = (
    "On Fedora 43 or newer: dnf install criu. On Arch: pacman -S criu. Elsewhere build CRIU 4.2 or newer from its "
    f"sources, and set {binary.VARIABLE} if it is not on PATH."
)


def install(prefix: Path | None = None, *, group: str | None = None, say: Say = lambda line: None) -> Binary:
    """A CRIU in `prefix`, made now or before. InstallFailed says what is in the way.

    For a `group` it brings the capabilities it needs; `say` tells what that means.
    """
    prefix = (prefix or binary.default_prefix()).absolute()
    if group is not None:
        prefix = grant.guarded(prefix, group)  # before what lies there is executed
    with _alone(prefix):
        made = _there_or_made(prefix, say)
        if group is not None:
            say(grant.grant(prefix, group, loader=_LOADER, libraries=_LIBRARIES))
    return made


def _there_or_made(prefix: Path, say: Say) -> Binary:
    made = _made_before(prefix)
    if made is not None:
        say(f"{made} is there already")
        return made
    _require_debian()
    with tempfile.TemporaryDirectory(prefix="criu-", dir=prefix.parent) as folder:
        Path(folder).chmod(0o755)  # apt fetches under an account of its own
        return _make(prefix, Path(folder), say)


def _make(prefix: Path, folder: Path, say: Say) -> Binary:
    apt = _Apt.beside(folder, mirror=_mirror())
    say(f"reading the package list of Debian {_RELEASE} (10 MB)")
    apt.update()
    packages = apt.needed_by("criu")
    say(f"fetching CRIU and {len(packages) - 1} libraries")
    root = folder / "root"
    for archive in apt.download(packages, folder / "packages"):
        _run(["dpkg-deb", "-x", str(archive), str(root)])
    shutil.rmtree(root / "usr/share", ignore_errors=True)
    _write_start(root, prefix)
    _put_in_place(root, prefix)
    try:
        made = binary.inspect(binary.start_of(prefix))
    except Unsupported as problem:
        raise InstallFailed(f"what was fetched does not work: {problem.message}") from problem
    say(f"{made} is ready")
    return made


@dataclass(frozen=True, slots=True)
class _Apt:
    """An apt that knows one release of one mirror, and nothing of what is installed here."""

    options: tuple[str, ...]

    @classmethod
    def beside(cls, folder: Path, *, mirror: str) -> _Apt:
        for name in ("lists/partial", "cache/archives/partial", "packages"):
            (folder / name).mkdir(parents=True)
        (folder / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {mirror} {_RELEASE} main\n")
        (folder / "status").touch()
        return cls(
            (
                f"Dir::Etc::sourcelist={folder}/sources.list",
                "Dir::Etc::sourceparts=-",
                "Dir::Etc::preferences=/dev/null",
                "Dir::Etc::preferencesparts=-",
                f"Dir::State::lists={folder}/lists",
                f"Dir::State::status={folder}/status",
                f"Dir::Cache={folder}/cache",
                "Acquire::Languages=none",
                "APT::Update::Error-Mode=any",
            )
        )

    def update(self) -> None:
        self._call("apt-get", "update")

    def needed_by(self, package: str) -> list[str]:
        """The package and everything it depends on."""
        leave_out = "recommends suggests conflicts breaks replaces enhances".split()
        listed = self._call("apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in leave_out), package)
        return sorted({line for line in listed.splitlines() if line[:1].isalnum()})

    def download(self, packages: Sequence[str], folder: Path) -> list[Path]:
        self._call("apt-get", "download", *packages, cwd=folder)
        return sorted(folder.glob("*.deb"))

    def _call(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        options = [word for option in self.options for word in ("-o", option)]
        return _run([program, "-q", *options, *arguments], cwd=cwd)


def _mirror() -> str:
    """Where this host gets its own Debian from."""
    listed = _run(["apt-get", "indextargets", "--format", "$(COMPONENT) $(RELEASE) $(SITE)", "Created-By: Packages"])
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    for line in listed.splitlines():
        component, release, site = line.split(" ", 2)
        if component == "main" and release in (codename, "stable", "oldstable"):
            return site
    raise InstallFailed(f"apt has no source for Debian {codename} main, so its mirror is not known: add one, try again")


def _require_debian() -> None:
    release = platform.freedesktop_os_release()
    name = release.get("PRETTY_NAME", "this system")
    if release.get("ID") != "debian" or release.get("VERSION_ID") not in ("12", "13"):
        raise InstallFailed(f"this installs CRIU on Debian 12 and 13, and this is {name}. {_ELSEWHERE}")
    if platform.machine() != "x86_64":
        raise InstallFailed(f"this installs CRIU on x86-64, and this is {platform.machine()}. {_ELSEWHERE}")
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent:
        raise InstallFailed(f"{' and '.join(absent)} must be there to fetch packages")
    if not _KEYRING.exists():
        raise InstallFailed(f"{_KEYRING} is missing: apt-get install debian-archive-keyring")


def _made_before(prefix: Path) -> Binary | None:
    try:
        return binary.inspect(binary.start_of(prefix))
    except Unsupported:
        return None


def _write_start(root: Path, prefix: Path) -> None:
    """The script that starts this CRIU with its own libc. It execs: the driver needs CRIU to be its child."""
    found = next((name for name in binary.PROGRAMS if (root / name).exists()), None)
    if found is None or not (root / _LOADER).exists():
        raise InstallFailed("the fetched packages hold no CRIU or no dynamic loader: Debian changed their layout")
    start = binary.start_of(root)
    start.parent.mkdir(exist_ok=True)
    start.write_text(
        "#!/bin/sh\nunset LD_PRELOAD LD_LIBRARY_PATH\n"
        f"exec '{prefix}/{_LOADER}' --library-path '{prefix}/{_LIBRARIES}' '{prefix}/{found}' \"$@\"\n"
    )
    start.chmod(0o755)


def _put_in_place(root: Path, prefix: Path) -> None:
    root.chmod(0o755)
    if prefix.exists():
        prefix.rename(root.parent / "replaced")  # deleted with the folder
    root.rename(prefix)


@contextmanager
def _alone(prefix: Path) -> Iterator[None]:
    """One installer at a time."""
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(prefix.with_name(f".{prefix.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise InstallFailed(
            f"{prefix.parent} cannot be written ({problem.strerror}): choose another --prefix"
        ) from problem
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _run(command: Sequence[str], *, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
            env=os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        )
    except subprocess.TimeoutExpired as problem:
        raise InstallFailed(f"{command[0]} took more than {_PATIENCE:.0f} s: is the mirror reachable?") from problem
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-8:]
        raise InstallFailed(f"{command[0]} ended with {done.returncode}:", said)
    return done.stdout

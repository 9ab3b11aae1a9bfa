"""Who runs PostgreSQL, and which folders that account reaches.

PostgreSQL refuses to run as root, so root hands it to `postgres` or `nobody`. Anyone else runs it as themselves.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from triggerapp.services.errors import ServicesError

CANDIDATES: Final = ("postgres", "nobody")

SOCKET_PATH_LIMIT: Final = 100
"""A socket's path holds 107 bytes on Linux and 103 on macOS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user and group of this machine."""

    name: str
    uid: int
    gid: int


def database_account() -> Account:
    """The account PostgreSQL runs under: the present one, or an unprivileged one when that is root."""
    if os.geteuid() != 0:
        return present()
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise ServicesError(
        "PostgreSQL does not run as root, and this machine has no account `postgres` or `nobody`: "
        "make one with `useradd --system postgres`, run this as another user, or set DATABASE_URL"
    )


def present() -> Account:
    """The account of this process; a uid without a passwd entry is common in containers."""
    return Account(name=str(os.geteuid()), uid=os.geteuid(), gid=os.getegid())


def reaches(account: Account, path: Path) -> bool:
    """Can `account` enter (or execute) `path`? Asked of the kernel, which knows of ACLs too."""
    if account.uid == os.geteuid():
        return os.access(path, os.X_OK)
    asked = subprocess.run(
        ["test", "-x", path],
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        check=False,
    )
    return asked.returncode == 0


def reachable_home(folder: Path, *, account: Account) -> Path:
    """Where the server keeps its data: `folder`, or a stand-in where that is out of reach or its path too long."""
    if reaches(account, folder.parent) and len(os.fsencode(folder)) + len("/socket/.s.PGSQL.5432") <= SOCKET_PATH_LIMIT:
        return private(folder, account=account)
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return private(Path("/var/tmp") / f"triggerapp-{account.uid}-{digest}", account=account)


def private(folder: Path, *, account: Account) -> Path:
    """`folder`, made if need be, for `account` alone. Its name may be guessed: one that is not ours is refused."""
    if not os.path.lexists(folder):
        folder.mkdir(mode=0o700)
        _give(folder, account=account)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == account.uid and not found.st_mode & 0o077:
        return folder
    raise ServicesError(
        f"{folder} is not a folder of user {account.name} with mode 0700: it was made by another user. "
        "Stop the services as that user and remove it"
    )


def _give(folder: Path, *, account: Account) -> None:
    """Make `folder` the account's own."""
    if account.uid != os.geteuid():
        os.chown(folder, account.uid, account.gid)

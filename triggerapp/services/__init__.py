"""Real servers of one's own: PostgreSQL and Valkey for a project in development, its demo and its tests.

Everything lives in one folder, `.services` of the project; nothing has to run beforehand, and only what was
started here is ever stopped. This module needs no Django settings: `triggerapp.settings` itself asks it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from triggerapp.services.errors import ServicesError
from triggerapp.services.postgres import Postgres
from triggerapp.services.valkey import Valkey

__all__ = ["FOLDER", "ServiceUrls", "Services", "ServicesError", "local_secret", "running_urls"]

FOLDER: Final = ".services"
"""The folder's name in a project."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUrls:
    """Where the servers are, in the words of `DATABASE_URL` and `CELERY_BROKER_URL`."""

    database_url: str
    broker_url: str


class Services:
    """The two servers of one folder. Starting twice is starting once; each can be restarted alone."""

    def __init__(self, folder: Path, *, die_with_parent: bool = False) -> None:
        self.folder = folder.absolute()
        self.postgres = Postgres(self.folder, die_with_parent=die_with_parent)
        self.valkey = Valkey(self.folder, die_with_parent=die_with_parent)

    def start(self) -> ServiceUrls:
        """Start what does not run yet; the addresses, once both answer."""
        with _alone(self.folder):
            return ServiceUrls(database_url=self.postgres.start(), broker_url=self.valkey.start())

    def stop(self) -> dict[str, bool]:
        """Stop what this folder started, and nothing else; which servers did run. The data stays."""
        servers = (self.valkey, self.postgres)
        if not self.folder.exists():
            return {server.name: False for server in servers}
        with _alone(self.folder):
            return {server.name: server.stop() for server in servers}

    def missing(self) -> list[str]:
        """The names of those that do not run."""
        return [server.name for server in (self.postgres, self.valkey) if server.url() is None]

    def urls(self) -> ServiceUrls | None:
        """Where they are, if both run."""
        database, broker = self.postgres.url(), self.valkey.url()
        if database is None or broker is None:
            return None
        return ServiceUrls(database_url=database, broker_url=broker)


def running_urls(project: Path) -> ServiceUrls | None:
    """Where the servers of `project` are, if both run."""
    return Services(project / FOLDER).urls()


def local_secret(project: Path) -> str:
    """A key made once for this folder, for lack of one in the environment. ServicesError if it is another user's."""
    file = project / FOLDER / "secret-key"
    if not file.exists():
        with _alone(file.parent):
            _make_secret(file)
    try:
        return file.read_text()
    except PermissionError as cause:
        raise ServicesError(f"{file} is another user's: set DJANGO_SECRET_KEY, or work as that user") from cause


def _make_secret(file: Path) -> None:
    """Write it whole or not at all: somebody may be reading."""
    if file.exists():
        return
    draft = file.with_suffix(".new")
    draft.touch(mode=0o600)
    draft.write_text(secrets.token_urlsafe(50))
    os.replace(draft, file)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and let nobody else work in it meanwhile."""
    try:
        _make(folder)
        lock = (folder / "lock").open("a")
    except OSError as cause:
        raise ServicesError(
            f"cannot write to {folder} ({cause.strerror}): be the user it belongs to, or set DATABASE_URL, "
            "CELERY_BROKER_URL and DJANGO_SECRET_KEY and do without it"
        ) from cause
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path) -> None:
    """Others may pass through (the database's account has its data below), but not look around."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    ignored = folder / ".gitignore"
    if not ignored.exists():
        ignored.write_text("*\n")

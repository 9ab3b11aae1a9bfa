"""Posting to an address that somebody else gave us: to the address that was checked, within limits, and no further.

The check is made where the connection is: a name is resolved once, every address of it must be public, and one of
those is connected to, so that a name that changes its mind in between gains nothing. A redirect is an answer like any
other, and is not followed. No proxy of the environment is asked.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpcore

from triggerapp import conf
from triggerapp.engine import addresses
from triggerapp.errors import BadInput, TriggerError

SECONDS = 20.0
"""For all of it."""
ANSWER_BYTES = 64 * 1024
"""No more of an answer is read."""
_URL_CHARACTERS = 2048
_PORTS = {"https": 443, "http": 80}


class NotPublic(TriggerError):
    """The address is private or special; nothing was sent. `TRIGGERAPP["WEBHOOK_ALLOW_PRIVATE"]` allows it."""

    code = "not_public"


class Unreachable(TriggerError):
    """Nobody answered in time."""

    code = "unreachable"


def origin(url: str) -> str:
    """Scheme and host, for people to read: what follows them is often the secret itself."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname or ''}"[:100]
    except ValueError:
        return "(unreadable)"


def check_url(url: str) -> None:
    """Refuse what cannot be posted to, before its name is resolved. Raises `BadInput`."""
    if not 0 < len(url) <= _URL_CHARACTERS or not url.isascii() or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise BadInput(f"the URL {origin(url)!r} must be 1 to {_URL_CHARACTERS:,} characters of ASCII without spaces")
    _parts(url)


def check_new(url: str) -> None:
    """Refuse what would never be posted to; a host by name is looked up when there is something to post."""
    if not url:
        raise BadInput("the url is missing: an address such as https://example.com/hook")
    check_url(url)
    _, host, port, _ = _parts(url)
    try:
        _resolved(host, port, flags=socket.AI_NUMERICHOST)
    except httpcore.ConnectError:
        return  # a name
    except NotPublic as error:
        raise BadInput(
            f"the URL {origin(url)!r} has a private or special address, to which nothing is sent "
            "(TRIGGERAPP['WEBHOOK_ALLOW_PRIVATE'] allows it)"
        ) from error


def _parts(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and target."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # which quotes what it cannot read
        raise BadInput("the URL cannot be read: its host or its port is none") from None
    schemes = ("https", "http") if conf.get().WEBHOOK_ALLOW_PRIVATE else ("https",)
    if parts.scheme not in schemes or not host:
        raise BadInput(
            f"the URL {origin(url)!r} must begin with {' or '.join(f'{each}://' for each in schemes)} and a host"
        )
    if parts.username is not None or parts.password is not None or "\\" in url:
        raise BadInput("the URL must have no user, no password and no backslash")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.scheme, host, port or _PORTS[parts.scheme], target


def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """The status of the answer. Raises `BadInput`, `NotPublic`, `Unreachable`."""
    check_url(url)
    scheme, host, port, target = _parts(url)
    deadline = time.monotonic() + SECONDS
    # The guard sees the plain host, without brackets; the Host header has them.
    address = httpcore.URL(scheme=scheme, host=host, port=port, target=target)
    sent = {"Host": urlsplit(url).netloc, "User-Agent": "triggerapp", "Content-Type": "application/json", **headers}
    try:
        with (
            httpcore.ConnectionPool(network_backend=_Guard(deadline), http1=True, http2=False) as pool,
            pool.stream("POST", address, headers=list(sent.items()), content=body) as answer,
        ):
            _drain(answer.iter_stream())
            return int(answer.status)
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError, ssl.SSLError) as error:
        raise Unreachable(f"{host} did not answer: {type(error).__name__} {error}".strip()) from error


def _drain(chunks: Iterable[bytes]) -> None:
    left = ANSWER_BYTES
    for chunk in chunks:
        left -= len(chunk)
        if left <= 0:
            return


class _Guard(httpcore.NetworkBackend):
    """Connects to public addresses only, and gives every step what is left of the time."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        last: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in _resolved(host, port):
            try:
                stream = self.inner.connect_tcp(address, port, timeout=_left(self.deadline))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
                continue
            try:
                _check(str(stream.get_extra_info("server_addr")[0]))
            except NotPublic:
                stream.close()
                raise
            return _Timed(stream, self.deadline)
        raise last

    def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        raise NotPublic("a socket of this machine is nobody else's address")

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, _left(self.deadline)))


def _resolved(host: str, port: int, *, flags: int = 0) -> list[str]:
    """The addresses of a host, all of them public. A number in any notation is one too: the system reads it."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"{host} is not known: {error}") from error
    numbers = list(dict.fromkeys(str(each[4][0]) for each in found))
    for number in numbers:
        _check(number)
    return numbers


def _check(address: str) -> None:
    if not addresses.is_public(address) and not conf.get().WEBHOOK_ALLOW_PRIVATE:
        raise NotPublic(f"{address} is not a public address; nothing was sent")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout(f"it took longer than {SECONDS:.0f} s")
    return left


class _Timed(httpcore.NetworkStream):
    """A stream of which every read and write ends with the time for all."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self.inner = inner
        self.deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.inner.read(max_bytes, _left(self.deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.inner.write(buffer, _left(self.deadline))

    def close(self) -> None:
        self.inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Timed(self.inner.start_tls(ssl_context, server_hostname, _left(self.deadline)), self.deadline)

    def get_extra_info(self, info: str) -> Any:
        return self.inner.get_extra_info(info)

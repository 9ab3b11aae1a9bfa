"""Posting goes to public addresses only, whatever they are called, to no other than was checked, and within limits."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from triggerapp.engine import addresses, posting
from triggerapp.engine.posting import NotPublic, Unreachable
from triggerapp.errors import BadInput

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001:82f::200e"]
NOT_PUBLIC = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254 127.0.0.1 127.1.2.3 169.254.0.1 169.254.169.254
169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1 192.168.0.1 192.168.255.255
198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 ::ffff:8.8.8.8
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1
2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe::1 3fff::1 5f00::1 fc00::1 fd00::1 fdff::1
fd00:ec2::254 fe80::1 fe80::1%eth0 febf::1 fec0::1 ff02::1 ff0e::1 4000::1 8000::1
""".split()


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public(address):
    assert addresses.is_public(address)


@pytest.mark.parametrize("address", [*NOT_PUBLIC, "", "localhost", "1.1.1", "0x7f000001", "1.1.1.1/32", "1.1.1.1 "])
def test_what_is_not(address):
    assert not addresses.is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0x7f.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1]",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.1.1:8080",
        "[fd00:ec2::254]",
    ],
)
def test_nothing_is_sent_to_an_address_that_is_not_public_however_it_is_written(host):
    with pytest.raises((NotPublic, Unreachable)) as refused:
        posting.post(f"https://{host}/hook", b"{}", {})
    assert isinstance(refused.value, NotPublic) or "not known" in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com:70/",
        "javascript:alert(1)",
        "//example.com/",
        "https://",
        "https:///path",
        "https://user@example.com/",
        "https://user:pw@example.com/",
        "https://example.com\\@127.0.0.1/",
        "https://example.com:99999/",
        "https://example.com:abc/",
        "https://exa mple.com/",
        "https://example.com/\r\nX: y",
        "https://exämple.com/",
        "https://[::1/",
        "https://example.com/" + "x" * 3000,
    ],
)
def test_a_url_that_cannot_be_is_refused_before_anything_is_asked(url, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", None)
    with pytest.raises(BadInput):
        posting.post(url, b"{}", {})


def found(*numbers: str) -> Callable[..., list[object]]:
    """A name server that knows these addresses for every name."""
    return lambda host, port, **_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port)) for number in numbers]


def test_a_name_is_refused_if_any_of_its_addresses_is_private(monkeypatch):
    monkeypatch.setattr(posting.socket, "getaddrinfo", found("93.184.215.14", "127.0.0.1"))
    with pytest.raises(NotPublic, match=r"127\.0\.0\.1"):
        posting.post("https://rebind.example/", b"{}", {})


def test_a_name_that_changes_its_mind_is_asked_only_once(monkeypatch):
    asked, connected = [], []

    def change(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        return found("93.184.215.14" if len(asked) == 1 else "127.0.0.1")(host, port)

    def connect(self: object, host: str, *args: object, **_: object) -> None:
        connected.append(host)
        raise posting.httpcore.ConnectError("nobody there")

    monkeypatch.setattr(posting.socket, "getaddrinfo", change)
    monkeypatch.setattr(posting.httpcore.SyncBackend, "connect_tcp", connect)
    with pytest.raises(Unreachable):
        posting.post("https://rebind.example/", b"{}", {})
    assert (asked, connected) == (["rebind.example"], ["93.184.215.14"])


def test_what_is_connected_to_is_checked_too(monkeypatch, receiver):
    """Should a name be resolved to another address after all, by a layer below."""
    there = receiver.server_address
    real = posting.httpcore.SyncBackend.connect_tcp

    def elsewhere(self: object, host: str, port: int, **options: object) -> object:
        return real(self, str(there[0]), int(there[1]), **options)

    monkeypatch.setattr(posting, "_resolved", lambda host, port: ["93.184.215.14"])
    monkeypatch.setattr(posting.httpcore.SyncBackend, "connect_tcp", elsewhere)
    with pytest.raises(NotPublic, match=r"127\.0\.0\.1"):
        posting.post("https://example.com/", b"{}", {})
    assert receiver.requests == []


# --- a server here, allowed for development --------------------------------------------------------


class Receiver(http.server.ThreadingHTTPServer):
    """Notes what it is sent, and answers as it is told."""

    status = 200
    headers: dict[str, str] = {}
    requests: list[tuple[str, dict[str, str], bytes]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?a=1"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(server.status)
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver(("127.0.0.1", 0), _Handler)
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def private_allowed(settings):
    settings.TRIGGERAPP = {"WEBHOOK_ALLOW_PRIVATE": True}


def test_a_private_address_can_be_allowed_for_development(receiver, private_allowed):
    assert posting.post(receiver.url, b'{"a": 1}', {"x-own": "1"}) == 200
    ((path, headers, body),) = receiver.requests
    assert (path, body, headers["x-own"]) == ("/hook?a=1", b'{"a": 1}', "1")
    assert headers["host"] == f"127.0.0.1:{receiver.server_address[1]}"


def test_a_redirect_is_not_followed(receiver, private_allowed):
    receiver.status, receiver.headers = 302, {"Location": receiver.url}
    assert posting.post(receiver.url, b"{}", {}) == 302
    assert len(receiver.requests) == 1


def test_a_proxy_of_the_environment_is_not_asked(receiver, private_allowed, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert posting.post(receiver.url, b"{}", {}) == 200


@contextmanager
def talking(*pieces: bytes, pause: float = 0.0, endless: bool = False) -> Iterator[str]:
    """A server that answers with these bytes, slowly or for ever."""
    stop = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def talk() -> None:
        try:
            stream, _ = listening.accept()
            with stream:
                stream.recv(65536)
                for piece in pieces:
                    stream.sendall(piece)
                while endless and not stop.wait(pause):
                    stream.sendall(pieces[-1])
        except OSError:
            return

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        stop.set()
        listening.close()
        thread.join(60)


@pytest.mark.slow
def test_a_server_that_dribbles_is_left_when_the_time_is_up(private_allowed, monkeypatch):
    monkeypatch.setattr(posting, "SECONDS", 1.0)
    for start in (b"H", b"HTTP/1.1 200 OK\r\nX: y", b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n"):
        with talking(start, b"x", pause=0.05, endless=True) as url, pytest.raises(Unreachable):
            posting.post(url, b"{}", {})


def test_no_more_of_an_answer_is_read_than_the_limit(private_allowed):
    with talking(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, endless=True) as url:
        assert posting.post(url, b"{}", {}) == 200


@pytest.mark.parametrize("answer", [b"", b"\x00\xff\xfe", b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"])
def test_what_is_no_http_is_nobody(private_allowed, answer):
    with talking(answer) as url, pytest.raises(Unreachable):
        posting.post(url, b"{}", {})


def test_nobody_listens(private_allowed):
    with pytest.raises(Unreachable, match="did not answer"):
        posting.post("http://127.0.0.1:1/", b"{}", {})

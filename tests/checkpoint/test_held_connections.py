"""What a process may hold while it is away, a row of docs/checkpoints.md each: connections."""

from __future__ import annotations

import http.server
import os
import socket
import ssl
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.checkpoint.holding import Held

pytestmark = [pytest.mark.criu, pytest.mark.usefixtures("no_process_left")]


def test_a_psycopg_connection_is_cut_and_a_new_one_works(held: Held, database: str) -> None:
    psycopg = pytest.importorskip("psycopg")

    def holding() -> Generator[None, None, object]:
        connection = psycopg.connect(database, autocommit=True)
        connection.execute("SELECT 1")
        yield
        try:
            connection.execute("SELECT 1")
            return "it lives"
        except psycopg.OperationalError as problem:
            cut = str(problem).splitlines()[0]
        with psycopg.connect(database) as again:
            return [cut, again.execute("SELECT 2").fetchone()[0]]

    cut, two = held.across(holding)  # type: ignore[misc]
    assert "server closed the connection unexpectedly" in cut
    assert two == 2


def test_a_connection_over_a_unix_socket_is_refused_with_the_descriptor_and_the_remedy(
    held: Held, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()

        def holding() -> Generator[None, None, object]:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(tmp_path / "s"))
            os.dup2(connection.fileno(), 40)
            yield
            return "went on"

        accepted: list[socket.socket] = []
        accepting = threading.Thread(target=lambda: accepted.append(server.accept()[0]))
        accepting.start()
        message = held.refusal(holding)
        accepting.join()
        accepted.pop().close()
    assert "descriptor 40" in message
    assert str(tmp_path / "s") in message
    assert "close it before the wait" in message


def test_a_redis_client_connects_again_by_itself(held: Held) -> None:
    redis = pytest.importorskip("redis")
    url = os.environ["CELERY_BROKER_URL"]

    def holding() -> Generator[None, None, object]:
        client = redis.Redis.from_url(url)
        client.ping()
        yield
        return client.ping()

    assert held.across(holding) is True


@pytest.mark.parametrize("library", ["requests", "httpx"])
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_an_http_pool_connects_again_by_itself(held: Held, tmp_path: Path, library: str, secure: bool) -> None:
    client = pytest.importorskip(library)
    certificate = make_certificate(tmp_path)

    def holding() -> Generator[None, None, object]:
        if library == "requests":
            session = client.Session()
            session.verify, session.trust_env = str(certificate), False
        else:
            session = client.Client(
                verify=ssl.create_default_context(cafile=str(certificate)), trust_env=False, timeout=60
            )
        first = session.get(url).text
        yield
        return [first, session.get(url).text, session.post(url, data={"field": "value"}).text]

    with serving(certificate if secure else None) as url:
        assert held.across(holding) == ["hello", "hello", "hello"]


@pytest.fixture
def database() -> Iterator[str]:
    """The tests' PostgreSQL by TCP, whatever it listens on itself."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    host = parts.netloc.rpartition("@")[2].rpartition(":")[0].replace("%2F", "/") or parts.hostname or "localhost"
    host = parse_qs(parts.query).get("host", [host])[0]
    if not host.startswith("/"):
        yield os.environ["DATABASE_URL"]
        return
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_relay, args=[server, f"{host}/.s.PGSQL.{parts.port or 5432}"], daemon=True).start()
        yield f"postgres://{parts.username}@127.0.0.1:{server.getsockname()[1]}{parts.path}?sslmode=disable"


def _relay(server: socket.socket, path: str) -> None:
    while True:
        try:
            near, _ = server.accept()
        except OSError:
            return
        far = socket.socket(socket.AF_UNIX)
        far.connect(path)
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=_pump, args=[source, sink], daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            end.close()


@contextmanager
def serving(certificate: Path | None) -> Iterator[str]:
    """A server that says hello and keeps connections open."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hello)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_name("key.pem"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


class _Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    do_POST = do_GET

    def log_message(self, *_: object) -> None: ...


def make_certificate(folder: Path) -> Path:
    """A certificate of its own for 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return folder / "cert.pem"

"""What a process may hold while it is away, a row of docs/checkpoints.md each: it is dumped, killed, and restored."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import fcntl
import gc
import http.server
import json
import mmap
import multiprocessing
import os
import queue
import select
import signal
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from multiprocessing import shared_memory
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from checkpoint import require_dumpable, sandbox
from checkpoint.archive import Archive
from checkpoint.criu import Criu
from checkpoint.errors import Refused, RestoreFailed
from checkpoint.line import Line
from checkpoint.sandbox import Sandbox
from checkpoint.seal import Keyring
from checkpoint.store import DirectoryStore
from tests.checkpoint.freezing import SOON, Freezer

pytestmark = [pytest.mark.criu, pytest.mark.usefixtures("no_process_left")]

Holding = Callable[[], Generator[None, None, object]]
"""Takes hold of something, yields where it waits, and returns what it finds afterwards."""
IO_URING_SETUP = 425


class Held:
    """Processes that hold something over a wait."""

    def __init__(self, run: Callable[[Callable[[Line], None]], Sandbox], freezer: Freezer) -> None:
        self._run = run
        self._freezer = freezer

    def across(self, holding: Holding, meanwhile: Callable[[], object] = lambda: None) -> object:
        """What `holding` returns after its process was dumped, killed and restored; its error as a text."""
        process = self._standing(holding)
        require_dumpable(process.pid, external=[process.inode])
        label, _ = self._freezer.freeze(process)
        meanwhile()
        again = self._freezer.thaw(label)
        found: object = json.loads(again.await_park(timeout=SOON))
        again.end()
        return found

    def refusal(self, holding: Holding) -> str:
        """Why `holding` cannot be dumped; it goes on here, and returns what it should."""
        process = self._standing(holding)
        with pytest.raises(Refused) as caught:
            require_dumpable(process.pid, external=[process.inode])
        process.wake(restored=False)
        assert json.loads(process.await_park(timeout=SOON)) == "went on"
        process.end()
        return caught.value.message

    def _standing(self, holding: Holding) -> Sandbox:
        process = self._run(lambda line: _hold(line, holding))
        process.await_park(timeout=SOON)
        return process


def _hold(line: Line, holding: Holding) -> None:
    held = holding()
    next(held)
    gc.collect()
    sandbox.park(line)
    try:
        next(held)
    except StopIteration as end:
        found = end.value
    except Exception as problem:
        found = f"{type(problem).__name__}: {problem}"
    sandbox.park(line, json.dumps(found).encode())


# -- files ---------------------------------------------------------------------------------------


def test_a_file_being_read_goes_on_at_its_place(held: Held, tmp_path: Path) -> None:
    (tmp_path / "read").write_text("one\ntwo\nthree\n")

    def holding() -> Generator[None, None, object]:
        with open(tmp_path / "read") as file:
            first = file.readline()
            yield
            return [first, file.readline()]

    assert held.across(holding) == ["one\n", "two\n"]


def test_a_file_being_appended_to_may_grow_meanwhile(held: Held, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def holding() -> Generator[None, None, object]:
        with open(log, "a") as file:
            file.write("before\n")
            file.flush()
            os.set_blocking(file.fileno(), True)
            yield
            file.write("after\n")
        return log.read_text().splitlines()

    def grow() -> None:
        with log.open("a") as file:
            file.write("meanwhile\n")

    assert held.across(holding, grow) == ["before", "meanwhile", "after"]


def test_a_deleted_temporary_file_travels_in_the_image(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        with tempfile.TemporaryFile() as file:
            file.write(b"kept" * 500_000)
            yield
            file.seek(-4, os.SEEK_END)
            return file.read().decode()

    assert held.across(holding) == "kept"


def test_a_file_being_read_that_changed_its_size_is_refused(held: Held, tmp_path: Path) -> None:
    path = tmp_path / "read"
    path.write_text("one\n")

    def holding() -> Generator[None, None, object]:
        with open(path) as file:
            yield
            return file.read()

    with pytest.raises(RestoreFailed) as caught:
        held.across(holding, lambda: path.write_text("longer than before\n"))
    assert any("bad size" in line for line in caught.value.log)


def test_a_file_that_is_gone_is_refused_by_its_name(held: Held, tmp_path: Path) -> None:
    path = tmp_path / "gone"
    path.write_text("one\n")

    def holding() -> Generator[None, None, object]:
        with open(path) as file:
            yield
            return file.read()

    with pytest.raises(RestoreFailed, match="gone"):
        held.across(holding, path.unlink)


def test_a_file_lock_is_held_again(held: Held, tmp_path: Path) -> None:
    path = tmp_path / "locked"

    def holding() -> Generator[None, None, object]:
        with open(path, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
            with open(path, "a") as other:
                try:
                    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return "locked"
            return "free"

    assert held.across(holding) == "locked"


def test_an_sqlite_database_goes_on_in_memory_and_on_disk(held: Held, tmp_path: Path) -> None:
    def holding() -> Generator[None, None, object]:
        memory, disk = sqlite3.connect(":memory:"), sqlite3.connect(tmp_path / "db")
        for database in (memory, disk):
            database.execute("CREATE TABLE t (n)")
            database.execute("INSERT INTO t VALUES (1)")
            database.commit()
        disk.execute("INSERT INTO t VALUES (2)")  # in an open transaction
        yield
        disk.execute("INSERT INTO t VALUES (3)")
        disk.commit()
        return [database.execute("SELECT sum(n) FROM t").fetchone()[0] for database in (memory, disk)]

    assert held.across(holding) == [1, 6]


def test_a_mapped_file_and_shared_memory_keep_their_content(held: Held, tmp_path: Path) -> None:
    (tmp_path / "mapped").write_bytes(bytes(8192))

    def holding() -> Generator[None, None, object]:
        block = shared_memory.SharedMemory(create=True, size=100_000)
        with open(tmp_path / "mapped", "r+b") as file, closing(mmap.mmap(file.fileno(), 0)) as mapped:
            mapped[:2], block.buf[:2] = b"ab", b"cd"
            yield
            found = bytes(mapped[:2]).decode() + bytes(block.buf[:2]).decode()
        block.close()
        block.unlink()
        return found

    assert held.across(holding) == "abcd"


# -- connections ---------------------------------------------------------------------------------


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
            session = client.Client(verify=ssl.create_default_context(cafile=str(certificate)), trust_env=False)
        first = session.get(url).text
        yield
        return [first, session.get(url).text, session.post(url, data={"field": "value"}).text]

    with serving(certificate if secure else None) as url:
        assert held.across(holding) == ["hello", "hello", "hello"]


# -- running things --------------------------------------------------------------------------------


def test_threads_idle_and_busy_go_on(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        counted, work, done = [0], queue.Queue[int](), queue.Queue[int]()
        stop = threading.Event()

        def count() -> None:
            while not stop.is_set():
                counted[0] += 1

        threads = [
            threading.Thread(target=count),
            threading.Thread(target=lambda: done.put(work.get() * 2)),
            threading.Thread(target=stop.wait),
        ]
        for thread in threads:
            thread.start()
        yield
        before = counted[0]
        work.put(21)
        answer = done.get(timeout=10)
        time.sleep(0.2)
        stop.set()
        for thread in threads:
            thread.join(10)
        return [answer, counted[0] > before, any(thread.is_alive() for thread in threads)]

    assert held.across(holding) == [42, True, False]


def test_an_asyncio_loop_goes_on_in_the_middle_of_an_await(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        runner = asyncio.Runner()
        loop = runner.get_loop()
        future = loop.create_future()

        async def body() -> str:
            async with asyncio.timeout(60):
                return f"got {await future}"

        task = loop.create_task(body())
        loop.run_until_complete(asyncio.sleep(0.01))  # it stands in its await now
        yield
        loop.call_later(0.05, future.set_result, 7)
        found = loop.run_until_complete(task)
        runner.close()
        return found

    assert held.across(holding) == "got 7"


def test_a_subprocess_travels_with_its_parent(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdin and child.stdout
        child.stdin.write(b"before ")
        child.stdin.flush()
        yield
        output, _ = child.communicate(b"after")
        return [output.decode(), child.returncode]

    assert held.across(holding) == ["before after", 0]


def test_multiprocessing_locks_queues_and_pools_go_on(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        context = multiprocessing.get_context("fork")
        lock, values = context.Lock(), context.Queue()
        lock.acquire()
        values.put("queued")
        with context.Pool(2) as pool:
            first = pool.map(abs, [-1, -2])
            time.sleep(0.1)  # the queue's thread has written
            yield
            found = [first, pool.map(abs, [-3, -4]), values.get(timeout=10), lock.acquire(block=False)]
        values.close()
        values.join_thread()
        return found

    assert held.across(holding) == [[1, 2], [3, 4], "queued", False]


def test_numpy_with_its_threads_goes_on(held: Held) -> None:
    pytest.importorskip("numpy")

    def holding() -> Generator[None, None, object]:
        import numpy

        matrix = numpy.arange(250_000, dtype=float).reshape(500, 500) / 250_000
        product = matrix @ matrix  # OpenBLAS has its threads now
        yield
        return bool((matrix @ matrix == product).all())

    assert held.across(holding) is True


# -- what the kernel keeps ---------------------------------------------------------------------------


def test_timers_go_on_with_what_they_had_left(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        rung: list[str] = []
        signal.signal(signal.SIGALRM, lambda *_: rung.append("alarm"))
        timer = threading.Timer(0.7, rung.append, ["timer"])
        timer.start()
        signal.setitimer(signal.ITIMER_REAL, 0.6)
        yield
        deadline = time.monotonic() + 10
        while len(rung) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        return sorted(rung)

    assert held.across(holding) == ["alarm", "timer"]


def test_the_monotonic_clock_never_runs_backwards(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        before, wall = time.monotonic(), time.time()
        yield
        return [time.monotonic() >= before, time.time() - wall >= 1]

    assert held.across(holding, lambda: time.sleep(1)) == [True, True]


def test_pipes_events_and_polls_keep_what_is_in_them(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        reading, writing = os.pipe()
        counter = ctypes.CDLL(None).eventfd(5, 0)
        ours, theirs = socket.socketpair()
        poll = select.epoll()
        poll.register(reading, select.EPOLLIN)
        os.write(writing, b"piped")
        theirs.send(b"sent")
        yield
        ready = [number for number, _ in poll.poll(5)]
        event = int.from_bytes(os.read(counter, 8), "little")
        return [ready == [reading], os.read(reading, 9).decode(), event, ours.recv(9).decode()]

    assert held.across(holding) == [True, "piped", 5, "sent"]


def test_inotify_goes_on_watching(held: Held, tmp_path: Path) -> None:
    def holding() -> Generator[None, None, object]:
        libc = ctypes.CDLL(None)
        descriptor = libc.inotify_init1(0)
        assert libc.inotify_add_watch(descriptor, os.fsencode(tmp_path), 0x100) > 0  # IN_CREATE
        yield
        (tmp_path / "new").touch()
        return b"new" in os.read(descriptor, 4096)

    assert held.across(holding) is True


def test_generators_closures_and_context_go_on(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        variable = contextvars.ContextVar[str]("variable")
        variable.set("set")
        numbers = (number * number for number in range(10))
        sum_before = sum(next(numbers) for _ in range(3))
        add: Callable[[int], int] = lambda more: sum_before + more  # noqa: E731
        yield
        return [add(sum(numbers)), variable.get()]

    assert held.across(holding) == [285, "set"]


def test_io_uring_is_refused_with_the_descriptor_and_the_remedy(held: Held) -> None:
    probe = ctypes.CDLL(None, use_errno=True).syscall(IO_URING_SETUP, 4, (ctypes.c_char * 120)())
    if probe < 0:
        pytest.skip(f"no io_uring here: {os.strerror(ctypes.get_errno())}")
    os.close(probe)

    def holding() -> Generator[None, None, object]:
        ring = ctypes.CDLL(None).syscall(IO_URING_SETUP, 4, (ctypes.c_char * 120)())
        os.dup2(ring, 41)
        yield
        return "went on"

    message = held.refusal(holding)
    assert "descriptor 41" in message
    assert "io_uring" in message
    assert "instead of uvloop" in message


def test_system_v_shared_memory_is_refused_with_the_remedy(held: Held) -> None:
    def holding() -> Generator[None, None, object]:
        libc = ctypes.CDLL(None)
        libc.shmat.restype = ctypes.c_void_p
        id = libc.shmget(0, 4096, 0o1600)
        assert libc.shmat(id, None, 0)
        libc.shmctl(id, 0, None)  # gone with its last user
        yield
        return "went on"

    assert "multiprocessing.shared_memory" in held.refusal(holding)


# -- fixtures ----------------------------------------------------------------------------------------


@pytest.fixture
def held(run: Callable[[Callable[[Line], None]], Sandbox], criu: Criu, tmp_path: Path) -> Held:
    keyring = Keyring(current="one", keys={"one": b"1" * 32})
    archive = Archive(store=DirectoryStore(tmp_path / "store"), keyring=keyring, scratch=tmp_path / "scratch")
    return Held(run, Freezer(criu=criu, archive=archive))


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
    thread = threading.Thread(target=server.serve_forever)
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

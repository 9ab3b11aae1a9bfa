"""The demo's second worker stands elsewhere: what it sees there, and that it reaches the servers it is told of."""

import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import criu
from tests.box import box
from tests.workers.test_demo_parts import eventually
from workers.demo import __main__ as demo
from workers.demo import elsewhere, hosts, ledger, observing, processes
from workers.demo.errors import DemoFailed
from workers.demo.forwarding import Forwarder

LOOK = """
import os, socket, sys, time
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as server:
    server.sendall(b"from elsewhere")
    server.shutdown(socket.SHUT_WR)
    print(server.makefile("rb").read().decode(), sorted(os.listdir("/tmp")), os.getcwd(), flush=True)
time.sleep(600)
"""
ASK = """
import sys
from pathlib import Path
from workers.demo import hosts
print(hosts.why_not_elsewhere(Path(sys.argv[1])))
"""


class Shout(socketserver.StreamRequestHandler):
    """Answers when all has been said."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server on our loopback."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Shout) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo's. As there, what is started in another directory finds the project."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv(ledger.PATH, str(tmp_path / "ledger.jsonl"))
    return tmp_path


@pytest.fixture
def _allowed(folder: Path) -> None:
    if refusal := hosts.why_not_elsewhere(folder):
        criu.leave(f"no process can be started elsewhere: {refusal}")


def answer(connection: socket.socket, question: bytes) -> bytes:
    connection.sendall(question)
    connection.shutdown(socket.SHUT_WR)
    return connection.makefile("rb").read()


def forwarder_to(port: int) -> tuple[Forwarder, int]:
    """One that listens at another port of the same loopback, as if it were another's; and that port."""
    listener = socket.create_server(("127.0.0.1", 0))
    return Forwarder(listener, ("127.0.0.1", port)), listener.getsockname()[1]


def test_all_that_is_said_is_forwarded_both_ways_and_so_is_its_end(port: int) -> None:
    forwarder, entrance = forwarder_to(port)
    with forwarder:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", entrance), timeout=60) as connection:
                assert answer(connection, b"a" * 5_000_000) == b"A" * 5_000_000


def test_who_asks_for_a_server_that_is_away_is_turned_away() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        forwarder, entrance = forwarder_to(nobody.getsockname()[1])
        with forwarder, socket.create_connection(("127.0.0.1", entrance), timeout=60) as connection:
            assert connection.recv(1) == b""


@pytest.mark.usefixtures("_allowed")
def test_a_worker_elsewhere_has_its_own_directory_network_and_tmp_and_reaches_the_servers(
    folder: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "CELERY", (sys.executable, "-c", LOOK, str(port)))
    stranger = Path(f"/tmp/stranger-{os.getpid()}")
    stranger.touch()
    try:
        with hosts.worker_elsewhere("worker 2", folder, ports=[port]) as worker:
            eventually(lambda: "\n" in worker.log.read_text())
            said = worker.log.read_text()
            assert observing.shared_with(worker) == ()
    finally:
        stranger.unlink()
    assert said.startswith("FROM ELSEWHERE") and said.endswith(f"{folder}/elsewhere\n")
    assert stranger.name not in said


def test_a_worker_at_home_shares_all_of_it(folder: Path) -> None:
    sleeper = (sys.executable, "-c", "import time; time.sleep(600)")
    with processes.Worker("worker 1", folder, sleeper) as worker:
        assert observing.shared_with(worker) == ("directory", "network", "/tmp")
        worker.kill9()


@pytest.mark.usefixtures("_allowed")
def test_a_worker_that_ends_before_it_listens_leaves_nobody_waiting(folder: Path, port: int) -> None:
    taken = [port, port]  # the second cannot be listened on
    with hosts.worker_elsewhere("worker 2", folder, ports=taken) as worker:
        eventually(lambda: not worker.alive)
    assert "Address already in use" in worker.log.read_text()


def test_who_may_not_leave_is_told_why(folder: Path) -> None:
    criu.require_root()
    command = [*box("--capabilities", ""), sys.executable, "-c", ASK, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("unshare: Operation not permitted\n", "")


@pytest.mark.usefixtures("_allowed")
def test_a_folder_behind_a_link_is_kept_under_its_own_name(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    assert hosts.why_not_elsewhere(folder / "link") == ""


@pytest.mark.usefixtures("_allowed")
def test_a_place_that_cannot_be_made_is_no_refusal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "TMP", Path("/"))
    with pytest.raises(DemoFailed, match="no worker can be started elsewhere"):
        hosts.why_not_elsewhere(folder)


def test_what_listens_on_a_file_has_no_port() -> None:
    urls = ("postgres://somebody@%2Fsome%2Fwhere:5432/demo", "redis://:secret@127.0.0.1:6379/0", "smtp://127.0.0.1:25")
    assert demo._ports(*urls) == [6379, 25]


# Processes of runs


ZYGOTE = """
import os, subprocess, sys, time
if sys.argv[2] == "worker":
    subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[1], "workers.zygote", *sys.argv[3:]])
elif sys.argv[3:] and os.fork() == 0:
    print("forked", flush=True)
else:
    print("loaded", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("asked", "said", "held"), [((), "loaded", 0), (("run",), "forked", 1)])
def test_the_processes_of_runs_are_those_that_a_zygote_forked(
    folder: Path, asked: tuple[str, ...], said: str, held: int
) -> None:
    command = (sys.executable, "-c", ZYGOTE, ZYGOTE, "worker", *asked)
    with processes.Worker("worker 1", folder, command) as worker:
        eventually(lambda: said in worker.log.read_text())
        assert len(worker.of_runs()) == held
        worker.kill9()

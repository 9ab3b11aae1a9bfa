"""The REST API: what a trigger costs over HTTP beside the engine's call alone, and the list among very many runs.

One server process (uvicorn), and clients that keep their connections, on the same machine.
"""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from triggerapp.engine import calls, environments, keys
from triggerapp.engine.calls import Call
from triggerapp.services.process import leash
from workers.bench import asking, lists, report, stage, tasks
from workers.bench.report import Figure
from workers.bench.stage import BenchError, Stage

TITLE = "REST API: one server process"
CLIENTS = (1, 8, 32)
_TASK = f"/api/v1/tasks/{tasks.durable_noop.name}/trigger"


def measure(on: Stage) -> list[Figure]:
    """The engine alone, over HTTP, and the list."""
    count = on.pick(1000, quick=60)
    found = _engine(on, count)
    with _server() as port:
        key = keys.create("dev", "bench").text
        _ask(port, key, clients=2, count=100)
        for clients in CLIENTS:
            on.say(f"triggers over HTTP, {clients} at a time")
            found += _triggers(port, key, clients, count)
        stage.clear()
        runs = on.pick(on.runs, quick=10_000)
        on.say(f"the list among {runs:,} runs, which are loaded first")
        found += lists.measure(port, key, runs=runs, count=on.pick(20, quick=2))
    stage.clear()
    return found


def _engine(on: Stage, count: int) -> list[Figure]:
    on.say("triggers, the engine alone")
    environment, call = environments.by_slug("dev"), Call(task=tasks.durable_noop.name)

    def trigger() -> None:
        calls.trigger([call], environment=environment, actor="bench")

    times = [asking.timed(trigger) for _ in range(count + 20)][20:]
    rate = Figure(name="engine call, rate", value=count / sum(times), unit="/s")
    return [*report.latency("engine call", times), rate]


def _triggers(port: int, key: str, clients: int, count: int) -> list[Figure]:
    started = time.perf_counter()
    times = _ask(port, key, clients=clients, count=count)
    rate = len(times) / (time.perf_counter() - started)
    name = f"trigger, {clients} client{'s' if clients > 1 else ''}"
    return [*report.latency(name, times), Figure(name=f"{name}, rate", value=rate, unit="/s")]


def _ask(port: int, key: str, *, clients: int, count: int) -> list[float]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return asking.spread(port, _TASK, headers, clients=clients, count=count, body="{}")


@contextmanager
def _server() -> Iterator[int]:
    """A server of the bench's own; the port that it listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    command = ["uvicorn", "workers.bench.served:application", "--port", str(port), "--lifespan", "off"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--log-level", "warning"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=leash(signal.SIGKILL),
        )
        try:
            _wait_until_ready(process, port)
            yield port
        finally:
            process.terminate()
            process.wait(20)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            server.request("GET", "/api/v1/ready")
            if server.getresponse().status == http.client.OK:
                return
        except OSError:
            time.sleep(0.1)
    raise BenchError("the server of the bench did not start")

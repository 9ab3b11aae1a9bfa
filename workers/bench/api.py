"""The REST API: what a trigger costs over HTTP beside the engine's call alone, and the list among very many runs.

One server process (uvicorn), and clients that keep their connections, on the same machine.
"""

from __future__ import annotations

import http.client
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import urlencode

from django.db import connection

from triggerapp.clock import now
from triggerapp.engine import calls, environments, keys, queues, sql
from triggerapp.engine.calls import Call
from triggerapp.models.runs import new_id
from triggerapp.services.process import leash
from workers.bench import report, stage, tasks
from workers.bench.report import Figure
from workers.bench.stage import BenchError, Stage

TITLE = "REST API: one server process"
CLIENTS = (1, 8, 32)
_LISTS: Sequence[dict[str, str]] = (
    {},
    {"page[size]": "100"},
    {"filter[status]": "FAILED,CRASHED"},
    {"filter[status]": "WAITING,EXECUTING"},
    {"filter[taskIdentifier]": "shop.task7"},
    {"filter[taskIdentifier]": "shop.none"},
    {"filter[tag]": "user_77"},
    {"filter[queue]": "orders"},
    {"filter[createdAt][period]": "1h"},
)
_TASK = f"/api/v1/tasks/{tasks.durable_noop.name}/trigger"


def measure(on: Stage) -> list[Figure]:
    """The engine alone, over HTTP, and the list."""
    count = on.pick(1000, quick=60)
    found = _engine(on, count)
    with _server() as port:
        key = keys.create("dev", "bench").text
        _spread(port, key, clients=2, count=100, path=_TASK, body="{}")
        for clients in CLIENTS:
            on.say(f"triggers over HTTP, {clients} at a time")
            found += _triggers(port, key, clients, count)
        stage.clear()
        runs = on.pick(on.runs, quick=10_000)
        on.say(f"{runs:,} runs are loaded")
        _load(runs)
        on.say(f"the list among {runs:,} runs")
        found += _list(port, key, runs, on.pick(400, quick=40))
    stage.clear()
    return found


def _engine(on: Stage, count: int) -> list[Figure]:
    on.say("triggers, the engine alone")
    environment, call = environments.by_slug("dev"), Call(task=tasks.durable_noop.name)

    def trigger() -> None:
        calls.trigger([call], environment=environment, actor="bench")

    times = [_timed(trigger) for _ in range(count + 20)][20:]
    rate = Figure(name="engine call, rate", value=count / sum(times), unit="/s")
    return [*report.latency("engine call", times), rate]


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _triggers(port: int, key: str, clients: int, count: int) -> list[Figure]:
    started = time.perf_counter()
    times = _spread(port, key, clients=clients, count=count, path=_TASK, body="{}")
    rate = len(times) / (time.perf_counter() - started)
    name = f"trigger, {clients} client{'s' if clients > 1 else ''}"
    return [*report.latency(name, times), Figure(name=f"{name}, rate", value=rate, unit="/s")]


def _list(port: int, key: str, runs: int, count: int) -> list[Figure]:
    times: list[float] = []
    for params in _LISTS:
        path = f"/api/v1/runs?{urlencode(params)}"
        times += _spread(port, key, clients=1, count=count // len(_LISTS), path=path, body=None)
    p95 = statistics.quantiles(times, n=20)[-1]
    name = f"list among {runs:,} runs"
    return [
        *report.latency(name, times),
        Figure(name=f"{name}, p95", value=1000 * p95, unit="ms", target=200, lower_is_better=True),
    ]


def _spread(port: int, key: str, *, clients: int, count: int, path: str, body: str | None) -> list[float]:
    """So many requests by so many clients; how long each took."""
    share = max(1, count // clients)
    with ThreadPoolExecutor(clients) as pool:
        each = [pool.submit(_ask, port, key, share, path, body) for _ in range(clients)]
        return [taken for one in each for taken in one.result()]


def _ask(port: int, key: str, count: int, path: str, body: str | None) -> list[float]:
    server = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask() -> None:
        server.request("GET" if body is None else "POST", path, body, headers)
        answer = server.getresponse()
        text = answer.read()
        if answer.status != http.client.OK:
            raise BenchError(f"{path} was answered with {answer.status}: {text[:300]!r}")

    try:
        return [_timed(ask) for _ in range(count)]
    finally:
        server.close()


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


_COLUMNS = (
    "id task_id environment_id queue_id task status message payload tags created_at started_at finished_at delivered"
).split()


def _status(number: int) -> str:
    return "failed" if number % 1000 == 0 else "canceled" if number % 1777 == 0 else "completed"


def _load(count: int) -> None:
    """So many runs, one a second up to now, most of them completed."""
    environment = environments.by_slug("dev")
    queue, end = queues.identify(environment, "orders"), now()
    with connection.cursor() as cursor, cursor.copy(f"COPY triggerapp_run ({', '.join(_COLUMNS)}) FROM STDIN") as copy:
        for number in range(count):
            at = end - timedelta(seconds=count - number)
            own = (new_id(), f"bench-{number}", environment, queue, f"shop.task{number % 50}", _status(number))
            copy.write_row((*own, "{}", b"x", [f"user_{random.randrange(1000)}"], at, at, at, True))
    sql.run("ANALYZE triggerapp_run")

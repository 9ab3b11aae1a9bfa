"""Requests to a server, and how long each took. Clients keep their connections."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from workers.bench.stage import BenchError

Headers = Mapping[str, str]


def timed(call: Callable[[], object]) -> float:
    """How many seconds it took."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def spread(
    port: int, path: str, headers: Headers, *, clients: int = 1, count: int, body: str | None = None
) -> list[float]:
    """So many requests by so many clients; how long each took."""
    share = max(1, count // clients)
    with ThreadPoolExecutor(clients) as pool:
        each = [pool.submit(_ask, port, path, headers=headers, count=share, body=body) for _ in range(clients)]
        return [taken for one in each for taken in one.result()]


def _ask(port: int, path: str, *, headers: Headers, count: int, body: str | None) -> list[float]:
    server = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask() -> None:
        server.request("GET" if body is None else "POST", path, body, dict(headers))
        answer = server.getresponse()
        text = answer.read()
        if answer.status != http.client.OK:
            raise BenchError(f"{path} was answered with {answer.status}: {text[:300]!r}")

    try:
        return [timed(ask) for _ in range(count)]
    finally:
        server.close()

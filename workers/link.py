"""The pipe from a worker's main process to its ticker: the app's name, then one JSON object a line.

The ticker talks to the database, so that the main process need not. A line that is lost (the ticker
died) is found by a later tick.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
from threading import Lock
from typing import IO, Any

from celery.app import app_or_default

from triggerapp.failpoints import point
from workers import identity

log = logging.getLogger(__name__)

_PIPE_BYTES = 1 << 20
"""Room for some ten thousand reports: the worker's main process must not wait for its ticker."""

_PATIENCE = 1.0
"""Seconds; then a tick has to find it. The handler of a signal may have interrupted another report, and wait for it."""

_lock = Lock()
_pipe: IO[str] | None = None


def tell(what: str, **fields: Any) -> None:
    """Send the ticker word of what became of a run."""
    point("report.before_send")
    if not _lock.acquire(timeout=_PATIENCE):
        return
    try:
        if _pipe is None:
            return
        _pipe.write(json.dumps({"what": what, **fields}) + "\n")
        _pipe.flush()
    except (OSError, ValueError) as error:
        log.debug("the ticker is gone (%s); a tick finds what it was not told", error)
    finally:
        _lock.release()
    point("report.after_send")


def start(app: str, *, hostname: str, wait: bool) -> subprocess.Popen[str]:
    """Start a ticker for this worker; with `wait`, until it has beaten once or given up."""
    global _pipe
    board = identity.board().fd
    assert board is not None  # made by `identity.renew`
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.ticker", str(identity.worker()), hostname, str(os.getpid()), str(board)],
        pass_fds=[board],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(TRIGGERAPP_TICKER="1"),
    )
    assert process.stdin is not None and process.stdout is not None
    fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    with _lock:
        _pipe = process.stdin
    greet(process.stdin, app)
    if wait:
        process.stdout.readline()
    return process


def environment(**more: str) -> dict[str, str]:
    """That of a process beside the pool: this one's, where Python looks for modules, and where the tasks are."""
    from triggerapp.engine import catalog  # noqa: PLC0415  (whoever imports `workers` needs no engine yet)

    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "PYTHONPATH": path, **catalog.task_modules(app_or_default()), **more}


def greet(pipe: IO[str], app: str) -> None:
    """Name the app to a ticker, in its first line."""
    try:
        pipe.write(f"{app}\n")
        pipe.flush()
    except OSError as error:
        log.warning("the ticker ended as soon as it began (%s)", error)


def stop(process: subprocess.Popen[str]) -> None:
    """Have the ticker give its worker's runs away and end."""
    global _pipe
    with _lock:
        _pipe = None
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""What is thrown into a task's function from outside: it ends a process, a greenlet or a worker, and no attempt.

Everything else that leaves the function is the attempt's failure, also a `BaseException` such as asyncio's
`CancelledError`, or `KeyboardInterrupt`, which no worker raises in a task.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from celery.exceptions import WorkerShutdown, WorkerTerminate


def is_one(error: BaseException) -> bool:
    """Whether the attempt has not ended by it: the process does, or the run is stopped by who threw it.

    `SystemExit` is how a pool process is terminated. In a thread or greenlet it ends nothing: there it is the task's.
    """
    if isinstance(error, WorkerShutdown | WorkerTerminate) or _is_kill(error):
        return True
    return isinstance(error, SystemExit) and threading.current_thread() is threading.main_thread()


def is_hard_limit(error: BaseException, task: Any, request: Any) -> bool:
    """Whether it is the `Timeout` by which a pool of greenlets keeps a hard time limit; the function's own is not."""
    limits = ((request.timelimit or (None,))[0], task.time_limit, task.app.conf.task_time_limit)
    seconds = getattr(error, "seconds", None)
    return not isinstance(error, Exception) and any(limit and limit == seconds for limit in limits)


def _is_kill(error: BaseException) -> bool:
    greenlet = sys.modules.get("greenlet")
    return greenlet is not None and isinstance(error, greenlet.GreenletExit)

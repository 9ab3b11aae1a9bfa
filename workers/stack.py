"""Where a run process is: in the task's own code, or in something that must not be torn apart.

A process can be dumped at any instruction. But a query whose connection is closed under it fails, and a step that is
being recorded must not change its lease half-way: so a process that has to move out stands still only in code of the
user's that talks to nobody just now.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Final

from workers import loops
from workers.attempt import Attempt
from workers.durable import DurableTask

_OURS: Final = ("workers.", "triggerapp.", "checkpoint.")
_TALKING: Final = (
    "django.db. psycopg redis. kombu. amqp. vine. celery.backends. celery.app.amqp socket. ssl. http.client urllib. "
    "urllib3. requests. httpx httpcore logging. smtplib ftplib paramiko boto3. botocore. grpc. subprocess. "
    "importlib. multiprocessing. asyncio.sslproto"
).split()
"""Modules whose calls speak with somebody, or hold a lock that the way out needs."""
_THROUGH: Final[frozenset[CodeType]] = frozenset(
    {Attempt._call.__code__, DurableTask.call_body.__code__, loops.finished.__code__}
)
"""Our own frames that have called the user's code."""


def is_in_users_code(frame: FrameType | None) -> bool:
    """Whether this thread is in the task's code and speaks with nobody; nor does any other thread."""
    return _is_users(frame) and not any(map(_is_talking, _others()))


def _is_users(frame: FrameType | None) -> bool:
    for each in _walk(frame):
        if each.f_code in _THROUGH:
            return True
        if _is_of(each, _OURS) or _is_of(each, _TALKING):
            return False
    return False


def _is_talking(frame: FrameType) -> bool:
    return any(_is_of(each, _OURS) or _is_of(each, _TALKING) for each in _walk(frame))


def _others() -> Iterator[FrameType]:
    me = threading.get_ident()
    return (frame for thread, frame in sys._current_frames().items() if thread != me)


def _walk(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_of(frame: FrameType, packages: tuple[str, ...] | list[str]) -> bool:
    name = frame.f_globals.get("__name__", "") + "."
    return any(name.startswith(package) for package in packages)

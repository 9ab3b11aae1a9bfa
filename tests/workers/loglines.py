"""The lines that are kept, and whether more of them are to come."""

from __future__ import annotations

import threading
import time

from triggerapp.models import LogLine


def lines():
    return list(LogLine.objects.order_by("id").values_list("level", "step", "text"))


def texts():
    return [text for _, _, text in lines()]


def is_writing():
    return "triggerapp-logs" in [thread.name for thread in threading.enumerate()]


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)

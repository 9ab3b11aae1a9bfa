"""The tasks of a worker's app, as a process that it starts beside its pool is told of them."""

from __future__ import annotations

import os
import subprocess
import sys

from celery import Celery

from triggerapp.engine import catalog

NAME = "TRIGGERAPP_TASK_MODULES"
MOST = 131_072
"""What Linux takes as one string of a process's environment, its NUL included, where pages have 4 KB."""


def handed(module: str) -> dict[str, str]:
    """What is handed over by a worker whose app has a task in this module."""
    app = Celery("many", set_as_current=False)

    def work() -> None: ...

    work.__module__ = module
    app.task(name="work", lazy=False, shared=False)(work)
    return catalog.task_modules(app)


def as_long_as_may_be() -> str:
    """The name of a module with which the string is as long as Linux takes it."""
    return "m" * (MOST - len(f"{NAME}={handed('m')[NAME]}\0") + 1)


def test_a_process_is_handed_the_modules_of_the_tasks_as_long_as_linux_takes_their_names():
    longest = as_long_as_may_be()
    modules = handed(longest)
    assert longest in modules[NAME].split()
    length = f"import os; print(len(os.environ[{NAME!r}]))"
    told = subprocess.check_output([sys.executable, "-c", length], env={**os.environ, **modules}, timeout=60)
    assert int(told) == MOST - len(f"{NAME}=\0")


def test_more_modules_than_linux_hands_over_are_left_for_the_process_to_find():
    assert handed(as_long_as_may_be() + "m") == {}


def test_names_count_as_the_bytes_that_they_are():
    assert handed(as_long_as_may_be()[:-1] + "é") == {}

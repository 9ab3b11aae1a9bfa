"""Failpoints that kill: of a worker that is to go nothing is left, whatever its processes are at."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from checkpoint import processes
from triggerapp import failpoints

WORKER = """
import os, sys, time
from itertools import chain, repeat
from checkpoint import processes
from triggerapp import failpoints

def forked(live):
    pid = os.fork()
    if pid == 0:
        live()
        time.sleep(600)
        os._exit(0)
    return pid

def zygote():
    forked(run)

def run():
    processes.die_with(os.getppid())
    see_one_that_is_gone()
    print("ready", flush=True)
    sys.stdin.read()
    failpoints.point("here")

def see_one_that_is_gone():
    gone = forked(lambda: os._exit(0))
    os.waitpid(gone, 0)
    look = failpoints._processes
    looks = chain([{**look(), gone: failpoints._Process("R", os.getppid())}], repeat(None))
    failpoints._processes = lambda: next(looks) or look()

failpoints.load("here:kill9worker")
forked(zygote)
forked(lambda: None)
time.sleep(600)
"""
"""A main process, a zygote with a run process that dies with it, and a pool process."""


def test_a_worker_is_killed_whole_though_one_of_its_processes_ends_just_then() -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdin and worker.stdout
    family: list[processes.Task] = []
    try:
        assert worker.stdout.readline() == b"ready\n"
        until(lambda: len(failpoints._family(worker.pid)) == 4)
        family = processes.family([worker.pid])
        worker.stdin.close()
        until(lambda: not any(each.alive() for each in family))
    finally:
        worker.stdout.close()
        for each in family:
            each.send(signal.SIGKILL)
        worker.kill()
        worker.wait()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("text", "fires"), [("here:raise@3", True), ("here:raise@3;seed=1", False)])
def test_a_restored_process_goes_on_counting_if_its_new_worker_has_the_same_plan(text: str, fires: bool) -> None:
    failpoints.load("here:raise@3")
    try:
        for _ in range(2):
            failpoints.point("here")
        failpoints.load_again(text)
        with pytest.raises(failpoints.FailpointError) if fires else nullcontext():
            failpoints.point("here")
    finally:
        failpoints.load("")

"""How the runs of a worker wait is said once: in its log, and in its row, which the workers page shows."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings

import checkpoint
from checkpoint import Reason, Verdict
from tests.inprocess import Worker
from triggerapp import models
from workers import bootsteps, identity, keeper, link

NO = Verdict(
    ok=False,
    reasons=(
        Reason(code="criu", message="no CRIU was found", remedy="install it", blocking=True),
        Reason(code="run", message="/run is no tmpfs", remedy="mount one"),
    ),
)
YES = Verdict(ok=True, version="4.2.1", path="/bin/criu", mode="privileged")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the ticker was told."""
    said: list[str] = []
    monkeypatch.setattr(link, "tell", lambda what, *, how: said.append(how))
    yield said


def celery_worker(pool: str) -> Any:
    return SimpleNamespace(pool_cls=SimpleNamespace(__module__=f"celery.concurrency.{pool}"), app=None, timer=None)


@pytest.mark.parametrize(("wanted", "level"), [("auto", logging.INFO), ("on", logging.ERROR)])
def test_a_host_that_cannot_dump_means_re_entry_and_the_reason_is_said(
    told: list[str], caplog: pytest.LogCaptureFixture, wanted: str, level: int
):
    with override_settings(TRIGGERAPP={"CHECKPOINT": wanted}), caplog.at_level(logging.INFO):
        keeper._report(NO)
    assert told == ["by re-entry: no CRIU was found"]
    (record,) = caplog.records
    assert record.levelno == level and "install it" in record.getMessage()


def test_a_host_that_can_says_with_what(told: list[str]):
    keeper._report(YES)
    assert told == ["as images: CRIU 4.2.1, privileged"]


def test_a_worker_that_cannot_start_its_zygote_works_all_the_same(told: list[str], monkeypatch: pytest.MonkeyPatch):
    def fill() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "check", lambda: YES)
    monkeypatch.setattr(keeper, "_settle", fill)
    assert keeper.Keeper.make("an.app:app") is None
    assert told[-1] == "by re-entry: no zygote could be started: [Errno 28] No space left on device"


@pytest.mark.parametrize("pool", ["thread", "solo", "gevent"])
def test_other_pools_re_enter_and_say_so(told: list[str], pool: str):
    with override_settings(TRIGGERAPP={"CHECKPOINT": "auto"}):
        bootsteps.Zygote(celery_worker(pool)).start(celery_worker(pool))
    assert told == [f"by re-entry: only runs of the prefork pool have a process that can be dumped, and this is {pool}"]


def test_where_it_is_off_that_is_the_reason(told: list[str]):
    with override_settings(TRIGGERAPP={"CHECKPOINT": "off"}):
        bootsteps.Zygote(celery_worker("prefork")).start(celery_worker("prefork"))
    assert told == ["by re-entry: TRIGGERAPP['CHECKPOINT'] is off"]


def test_the_ticker_writes_it_into_the_workers_row(worker: Worker):
    link.tell("waiting", how="as images: CRIU 4.2.1, privileged")
    worker.tick()
    assert models.Worker.objects.get(pk=identity.worker()).waiting == "as images: CRIU 4.2.1, privileged"

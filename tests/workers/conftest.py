"""A worker that hears what its runs log and print."""

from __future__ import annotations

import logging

import pytest

from workers import hearing


@pytest.fixture
def heard(worker, monkeypatch):
    """This process hears its runs, as a worker's does."""
    celerys, work = logging.getLogger("celery.task"), worker.work
    monkeypatch.setattr(celerys, "propagate", False)
    level = logging.root.level
    logging.root.setLevel(logging.INFO)

    def listen_and_work():  # only now: pytest has other streams for a test than for its fixtures
        hearing.listen()
        hearing.listen()
        return work()

    monkeypatch.setattr(worker, "work", listen_and_work)
    yield
    logging.root.setLevel(level)
    for logger in (logging.root, celerys):
        logger.handlers[:] = [handler for handler in logger.handlers if not isinstance(handler, hearing.Ear)]

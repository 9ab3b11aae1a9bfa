"""Fixtures of the acceptance tests: a cluster per test process, its shared workers, and workers for one test.

`on` runs a test on the shared prefork worker and on the shared threads worker; `worker(pool=…)` is a context
manager for a test that ends its worker, or needs other settings. With `ACCEPTANCE_CHECKPOINT=on` in the environment
the runs of prefork workers wait by checkpoint, all of them at every wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from tests import criu
from tests.acceptance import app as acceptance
from tests.acceptance import watch
from tests.acceptance.cluster import Cluster, Connected, Worker, wait_until
from tests.acceptance.frozen import Start, left

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.worker)


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Iterator[Cluster]:
    """This test process's own database and broker databases."""
    if not os.environ["CELERY_BROKER_URL"].startswith("redis://"):
        pytest.skip("these tests divide a Redis by its databases")
    name = os.environ.get("PYTEST_XDIST_WORKER", "main")
    number = 32 + 3 * int(name.removeprefix("gw") if name.startswith("gw") else 8)
    cluster = Cluster(name, number, tmp_path_factory.mktemp("workers"))
    os.environ["ACCEPTANCE_LEDGER"] = cluster.ledger_url
    cluster.create()
    with django_db_blocker.unblock(), Connected(cluster):
        call_command("migrate", verbosity=0)
        watching = watch.watching(acceptance.app)
        watching.__enter__()
    yield cluster
    watching.__exit__(None, None, None)
    cluster.drop()


@pytest.fixture(autouse=True)
def in_cluster(cluster: Cluster, django_db_blocker: Any) -> Iterator[None]:
    """Every test here is a client of the cluster; the rows stay, workers are at work on them."""
    from celery import _state

    current, default = _state._tls.current_app, _state.default_app
    acceptance.app.set_current()
    acceptance.app.set_default()
    with django_db_blocker.unblock(), Connected(cluster):
        yield
    _state._set_current_app(current)
    _state.set_default_app(default)


@pytest.fixture(scope="session")
def needs_criu() -> None:
    """Skip where nothing can be dumped; where it must be possible, fail."""
    criu.require()


@pytest.fixture(params=["prefork", "threads"])
def on(request: pytest.FixtureRequest, cluster: Cluster) -> Worker:
    """The shared worker of each pool in turn; the tests' tasks go to it."""
    return _chosen(cluster, request.param)


@pytest.fixture
def prefork(cluster: Cluster) -> Worker:
    """The shared prefork worker."""
    return _chosen(cluster, "prefork")


@pytest.fixture
def threads(cluster: Cluster) -> Worker:
    """The shared threads worker."""
    return _chosen(cluster, "threads")


@pytest.fixture
def frozen(needs_criu: None, cluster: Cluster) -> Worker:
    """The shared prefork worker whose runs wait by checkpoint."""
    return _chosen(cluster, "frozen")


def _chosen(cluster: Cluster, pool: str) -> Worker:
    worker = cluster.shared(pool)
    acceptance.route_to(worker.queue)
    return worker


@pytest.fixture
def worker(cluster: Cluster) -> Callable[..., AbstractContextManager[Worker]]:
    """A worker of the test's own: `with worker(pool="threads", conf={…}) as mine:`; the tests' tasks go to it."""

    def start(pool: str = "prefork", **options: Any) -> AbstractContextManager[Worker]:
        return _Routed(cluster.worker(pool, **options))

    return start


class _Routed:
    def __init__(self, inner: AbstractContextManager[Worker]) -> None:
        self.inner = inner

    def __enter__(self) -> Worker:
        worker = self.inner.__enter__()
        acceptance.route_to(worker.queue)
        return worker

    def __exit__(self, *exc: Any) -> bool | None:
        return self.inner.__exit__(*exc)


@pytest.fixture
def here(needs_criu: None, worker: Start) -> Iterator[Start]:
    """A worker whose runs wait by checkpoint; after the test none of its processes is left."""
    queues: list[str] = []

    def start(**given: Any) -> AbstractContextManager[Worker]:
        queues.append(queue := f"acceptance-{os.urandom(3).hex()}")
        return worker("prefork", queue=queue, **{"ACCEPTANCE_CHECKPOINT": "on", **given})

    yield start
    wait_until(lambda: not any(map(left, queues)), reason=f"left: {[left(queue) for queue in queues]}")

"""What a Celery worker starts besides its pool: the ticker, and the zygote of its run processes.

Started before the pool is forked and stopped after its last task, so that the worker's leases are
alive as long as anything of it runs.
"""

from __future__ import annotations

import base64
import gc
import logging
import pickle
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from celery import Celery, _state, bootsteps, signals
from celery.worker import state
from django.core.exceptions import ImproperlyConfigured

from workers import identity, link, reentry

log = logging.getLogger(__name__)

_INSTALLED = "_triggerapp_installed"


def install(app: Celery) -> None:
    """Add the steps to the app's workers; once per app."""
    if getattr(app, _INSTALLED, False):
        return
    setattr(app, _INSTALLED, True)
    from workers import outbound  # noqa: F401, PLC0415  (a task of our own: it needs the task class, which needs us)

    app.steps["worker"].update((Ticker, Zygote))
    # Threads of web processes have no current app; theirs must be one with a broker.
    if getattr(_state, "default_app", None) is None:
        app.set_default()
    if app.control_cls == "celery.app.control:Control":
        app.control_cls = "workers.control:DurableControl"
        app.__dict__.pop("control", None)


class Ticker(bootsteps.StartStopStep):
    """Runs `workers.ticker` beside the pool, and starts it again if it dies."""

    requires = ("celery.worker.components:Timer",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.process: subprocess.Popen[str] | None = None
        self.timer: Any = None

    def include_if(self, worker: Any) -> bool:
        """Only in workers whose app has durable tasks."""
        return bool(getattr(worker.app, _INSTALLED, False))

    def start(self, worker: Any) -> None:
        """Become a worker of the database's, with a heartbeat."""
        from workers import connections, control, hearing, shutdown  # noqa: PLC0415  (they need Django; all only in workers)

        _check_settings()
        control.register()
        connections.without_pool()
        connections.keep(worker)
        hearing.listen()
        signals.worker_process_init.connect(hearing.listen)
        _freeze()
        identity.renew()
        shutdown.prepare(worker)
        self.process = link.start(app_path(worker.app), hostname=worker.hostname, wait=True)
        self.timer = worker.timer.call_repeatedly(1.0, self._look_after, (worker,), priority=10)

    def _look_after(self, worker: Any) -> None:
        self._revive(worker)
        with suppress(RuntimeError):  # the set changed meanwhile, in a pool of threads; the next call is near
            link.tell("at_work", at=time.monotonic(), tasks=[each.id for each in tuple(state.reserved_requests)])

    def _revive(self, worker: Any) -> None:
        if self.process is not None and self.process.poll() is not None:
            log.warning("the ticker ended with status %s; starting another", self.process.returncode)
            self.process = link.start(app_path(worker.app), hostname=worker.hostname, wait=False)

    def stop(self, worker: Any) -> None:
        """Give the runs away that are still ours, and leave."""
        if self.timer is not None:
            self.timer.cancel()
        if self.process is not None:
            process, self.process = self.process, None
            link.stop(process)

    def terminate(self, worker: Any) -> None:
        """The same in a cold shutdown."""
        self.stop(worker)


class Zygote(bootsteps.StartStopStep):
    """Runs `workers.zygote` beside the pool where processes can be dumped, and starts it again if it dies."""

    requires = (Ticker,)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.keeper: Any = None
        self.timer: Any = None

    def include_if(self, worker: Any) -> bool:
        """Only in workers whose app has durable tasks."""
        return bool(getattr(worker.app, _INSTALLED, False))

    def start(self, worker: Any) -> None:
        """Try whether a process can be dumped here; if so, have one to fork others from. Else say once why not."""
        objection = _objection(worker)
        if objection:
            reentry.say_why(objection)
            return
        from workers.keeper import Keeper  # noqa: PLC0415  (loads CRIU's driver)

        self.keeper = Keeper.make(app_path(worker.app))
        if self.keeper is not None:
            self.timer = worker.timer.call_repeatedly(1.0, self.keeper.look_after, priority=10)

    def stop(self, worker: Any) -> None:
        """End it, and with it what is left of its processes."""
        if self.timer is not None:
            self.timer.cancel()
        if self.keeper is not None:
            keeper, self.keeper = self.keeper, None
            keeper.stop()

    def terminate(self, worker: Any) -> None:
        """The same in a cold shutdown."""
        self.stop(worker)


def _check_settings() -> None:
    """A worker that cannot read its settings says so and ends: nothing of ours would run in it."""
    from triggerapp import conf  # noqa: PLC0415  (needs Django)

    try:
        conf.get()
    except ImproperlyConfigured as error:
        log.critical("the worker does not start: %s", error)
        raise SystemExit(1) from error


def _objection(worker: Any) -> str:
    """Why this worker keeps no images whatever its host can do; empty if it may."""
    from triggerapp import conf  # noqa: PLC0415  (needs Django)

    if conf.get().CHECKPOINT == "off":
        return "TRIGGERAPP['CHECKPOINT'] is off"
    pool = worker.pool_cls.__module__.rpartition(".")[2]
    if pool != "prefork":
        return f"only runs of the prefork pool have a process that can be dumped, and this is {pool}"
    return ""


def _freeze() -> None:
    """Spare what is loaded by now from garbage collection, in the pool processes too.

    Celery's tracer leaves a cycle of several hundred kilobytes behind for each `Ignore`, which is how a
    run suspends. Full collections come when garbage outgrows a quarter of what is alive: of the code of
    a Django project, that is hundreds of megabytes a process.
    """
    gc.collect()
    gc.freeze()


def app_path(app: Celery) -> str:
    """How another process gets this app: `module:name`, or the app itself, pickled."""
    for name, module in list(sys.modules.items()):
        if name in ("__main__", "__mp_main__") or module is None or name.startswith("celery"):
            continue
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is app:
                return f"{name}:{attribute}"
    return "pickle:" + base64.b64encode(pickle.dumps(app)).decode()


def load_app(path: str) -> Celery:
    """The app that `app_path` named."""
    module, _, name = path.partition(":")
    if module == "pickle":
        app: Celery = pickle.loads(base64.b64decode(name))
        return app
    __import__(module)
    found: Celery = getattr(sys.modules[module], name)
    return found


def _start_before_pool() -> None:
    """Celery orders steps by what they require; nothing but the pool itself can say that we come first."""
    from celery.worker.components import Pool  # noqa: PLC0415  (only in processes that are workers)

    required = tuple(Pool.requires or ())
    if Ticker not in required:
        Pool.requires = (*required, Ticker, Zygote)


signals.celeryd_init.connect(lambda **_: _start_before_pool(), weak=False)

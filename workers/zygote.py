"""The program that run processes are forked from: `python -m workers.zygote APP HOME LISTENER`.

Executed anew, so that nothing of the worker's main process is in it; it imports the app once, as a pool process does,
and then only forks (`checkpoint.zygote`). It ends with its standard input, which the worker holds.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from checkpoint import interned, tracing, zygote
from triggerapp.errors import TriggerError

log = logging.getLogger("triggerapp.zygote")


def main(path: str, home: str, listener: str) -> None:
    """Import everything, then fork on request until the worker ends."""
    asked = socket.socket(fileno=int(listener))
    asked.set_inheritable(False)
    zygote.reserve()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(format="[%(asctime)s: %(levelname)s/zygote] %(message)s", level=logging.INFO)
    life = _load(path)
    _warn(keeping=asked.fileno())
    interned.make_room()
    gc.collect()
    gc.freeze()
    _fork_base_maker(Path(home))
    zygote.serve(asked, life, keeper=0)


def _load(path: str) -> zygote.Main:
    """What a forked process does: everything that it needs is imported and made now, and connected then."""
    import django  # noqa: PLC0415  (what is imported before `reserve` may open a file)
    from celery import _state  # noqa: PLC0415

    django.setup()
    from triggerapp.engine import catalog  # noqa: PLC0415
    from workers import connections, resources, runprocess  # noqa: PLC0415  (they need Django)
    from workers.bootsteps import load_app  # noqa: PLC0415

    app = load_app(path)
    app.set_current()
    app.set_default()
    catalog.load_tasks(app.loader.init_worker)
    app.finalize()
    _state._set_task_join_will_block(True)  # type: ignore[attr-defined]
    assert app.amqp and app.backend
    connections.without_pool()
    resources.run_warm_ups()
    resources.close_everything(app)
    return runprocess.main(app)


def _fork_base_maker(home: Path) -> None:
    """Have what run processes share with this one dumped once, so that their images can leave it out.

    By a process of its own, which asks for a run process as every supervisor does. Images that are made before it is
    done are whole.
    """
    zygote_pid = os.getpid()
    if maker := os.fork():
        tracing.allow(maker)
        return
    status = 1
    try:
        from workers import base  # noqa: PLC0415  (nothing of it is needed in the zygote)

        base.make(home, zygote_pid)
        status = 0
    except TriggerError as error:  # such as a database without our tables
        log.warning("images are stored whole: %s", error)
    except Exception:
        log.exception("images are stored whole")
    finally:
        os._exit(status)


def _warn(*, keeping: int) -> None:
    """Of what imports have opened and started, run processes have the files alone."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            log.warning("a thread that was started at import will not be in run processes: %s", thread.name)
    for number, is_file in zygote.opened():
        target = os.readlink(f"/proc/self/fd/{number}") if os.path.exists(f"/proc/self/fd/{number}") else ""
        if not is_file and number != keeping and target not in ("", os.devnull, f"/proc/{os.getpid()}/fd"):
            log.warning("what was opened at import is closed in run processes: descriptor %s (%s)", number, target)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The ticker: a small process beside each worker that finds what is due and what was missed.

A process of its own, because a thread with a database handle in the worker's main process
deadlocks children forked later. All workers' tickers work side by side (SKIP LOCKED). It ends with
its worker: at the end of its standard input, or when its parent is another process.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import FileIO
from typing import Any
from uuid import UUID

import django
import psycopg
from django.db import connection

from triggerapp.engine import sql
from triggerapp.errors import DatabaseNotReady
from workers import identity
from workers.patience import UNANSWERED

log = logging.getLogger("triggerapp.ticker")

_BATCH = 500
_STARTS = 100
_PRUNED = 1000
_RARELY = 60.0
_OFTEN = 1.0
_GATHER = 0.2
_AGAIN = 30.0


class Ticker:
    """Ticks until its worker ends."""

    def __init__(self, worker: UUID, *, hostname: str, parent: int, announce: Callable[[bytes], object]) -> None:
        from triggerapp import conf  # noqa: PLC0415  (Django is set up by `main`)
        from workers.reports import Reports  # noqa: PLC0415  (Django is set up by `main`)

        self.worker = worker
        self.hostname = hostname
        self.announce = announce
        self.parent = parent
        self.settings = conf.get()
        self.reports = Reports(worker)
        self.buffer = b""
        self.ended = False
        self._due: dict[str, float] = {}
        self._lenient_until = 0.0
        self._unfinished: set[str] = set()
        self._told: set[UUID] = set()
        self._complained: dict[str, float] = {}
        self._said_away = False
        self._began = time.monotonic()

    def run(self) -> None:
        """Tick until the worker is gone, then give its runs away."""
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "ended", True))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.announce(b"ready\n" if self._safely(self._beat) else b"no database\n")
        os.set_blocking(sys.stdin.fileno(), False)
        while not self.ended and os.getppid() == self.parent:
            self._read()
            busy = self._safely(self.tick)
            if not busy:
                self._safely(self._sleep)
        self._safely(self._leave)

    def _safely(self, action: Callable[[], Any]) -> Any:
        """A database that is away for a while ends no ticker; a bug in one tick ends no other."""
        try:
            return action()
        except (*UNANSWERED, psycopg.OperationalError) as error:  # the driver's own, of what waits for notifications
            if self._complain("the database did not answer: " + str(error).partition("\n")[0]):
                self._said_away = True
            connection.close()
        except DatabaseNotReady as error:
            self._complain(str(error))
        except Exception as error:
            if sql.lacks_tables(error):
                self._complain(sql.NO_TABLES)
            else:
                log.exception("a tick failed")
        time.sleep(0.5)
        return False

    def _complain(self, trouble: str) -> bool:
        """Say it, and again now and then: it is tried twice a second. Whether it was said."""
        now = time.monotonic()
        if now < self._complained.get(trouble, -_AGAIN) + _AGAIN:
            return False
        log.warning("%s", trouble)
        self._complained[trouble] = now
        return True

    def _take_back(self) -> None:
        """Whoever read that the database is away reads that it is back."""
        if self._said_away:
            log.info("the database answers again")
            self._said_away = False

    def tick(self) -> bool:
        """Do what is due; whether there may be more of it."""
        self._every("beat", self.settings.HEARTBEAT.total_seconds(), self._beat)
        _apart(self.reports.settle)
        _apart(self._spread_word)
        self._every("subscribe", _RARELY, partial(_apart, self._subscribe))
        is_busy = self._go_on()
        self._every("sweep", _RARELY, partial(_apart, partial(self._delete_images, "sweep")))
        self._prune()
        self._plan()
        for name in self._unfinished:
            self._due.pop(name, None)
        self._take_back()
        return is_busy or bool(self._unfinished)

    def _go_on(self) -> bool:
        """Let runs begin and go on for which it is time; whether there may be more of them."""
        from triggerapp.engine import (  # noqa: PLC0415  (Django is set up by `main`)
            events,
            notices,
            queues,
            subscriptions,
            wakes,
        )

        due = _apart(partial(wakes.expire_due, _BATCH)) or []
        woken = _apart(partial(wakes.wake, due)) if due else 0
        started = sum(_apart(partial(start, _STARTS)) for start in (subscriptions.start_due, notices.start_due))
        delivered = _apart(partial(events.deliver_due, _BATCH))
        self._every("catch up", _OFTEN, self._catch_up)
        admitted = _apart(partial(queues.admit, _BATCH))
        return started >= _STARTS or _BATCH in (len(due), woken, delivered, admitted)

    def _plan(self) -> None:
        """What people asked for: of many runs at once, or by the clock."""
        from triggerapp.engine import bulk, schedules  # noqa: PLC0415  (Django is set up by `main`)

        self._in_parts("bulk", _OFTEN, bulk.advance)
        self._in_parts("schedules", _OFTEN, schedules.fire)

    def _prune(self) -> None:
        """Delete what is too old; where there may be more of it, the next tick goes on."""
        from triggerapp.engine import retention  # noqa: PLC0415  (Django is set up by `main`)

        for name, kind in retention.KINDS.items():
            self._in_parts(f"prune {name}", _RARELY, partial(_is_full, kind.prune))

    def _subscribe(self) -> None:
        """Keep the rows of subscriptions as the code has them; what older code had goes after a while."""
        from triggerapp.engine import subscriptions  # noqa: PLC0415  (Django is set up by `main`)

        app, wanted = subscriptions.of_code()
        subscriptions.renew(app, wanted)
        if time.monotonic() - self._began > subscriptions.GRACE.total_seconds():  # all others have been here meanwhile
            subscriptions.take_back(app)

    def _in_parts(self, name: str, seconds: float, action: Callable[[], bool]) -> None:
        """A little of it in each tick: the heart beats on meanwhile."""
        self._every(name, seconds, partial(_apart, partial(self._some, name, action)))

    def _some(self, name: str, action: Callable[[], bool]) -> None:
        self._unfinished.discard(name)  # what fails is not tried again at once
        if action():
            self._unfinished.add(name)

    def _spread_word(self) -> None:
        """Tell the pool of the runs that were canceled under it, or are to move: it begins no further step of them."""
        from triggerapp.engine import checkpoints, verbs  # noqa: PLC0415  (Django is set up by `main`)

        news = {*verbs.canceled_under(self.worker), *checkpoints.moving_under(self.worker)}
        for run_id in news - self._told:
            identity.board().tell(run_id)
        self._told = news

    def _delete_images(self, how: str) -> None:
        """Of runs that are over ("tidy"), or of no run at all ("sweep"); only where there are any."""
        if self.settings.CHECKPOINT != "off":
            from workers import images  # noqa: PLC0415  (loads CRIU's driver)

            getattr(images, how)()

    def _catch_up(self) -> None:
        from triggerapp.engine import rescue, verbs, wakes  # noqa: PLC0415  (Django is set up by `main`)

        for action in (
            wakes.wake,
            wakes.forget_unwaited,
            rescue.expire,
            self._rescue,
            rescue.resend,
            rescue.redeliver,
            verbs.cancel_orphans,
            partial(self._delete_images, "tidy"),
        ):
            _apart(action)

    def _rescue(self) -> None:
        from triggerapp.engine import rescue  # noqa: PLC0415  (Django is set up by `main`)

        if time.monotonic() >= self._lenient_until:
            rescue.rescue(sparing=self.worker)

    def _every(self, name: str, seconds: float, action: Callable[[], object]) -> None:
        now = time.monotonic()
        if now >= self._due.get(name, 0.0):
            action()
            self._due[name] = now + seconds  # only now: what failed is due at once

    def _beat(self) -> bool:
        """Beat; a beat that comes late gives all other workers a lease's time to beat too before they are dead."""
        from triggerapp.engine import workers  # noqa: PLC0415  (Django is set up by `main`)

        if _is_stopped(self.parent):
            return True
        before = time.monotonic()
        in_time = workers.beat(self.worker, hostname=self.hostname, pid=self.parent)
        identity.board().beat(before)
        if not in_time:
            self._lenient_until = time.monotonic() + self.settings.LEASE.total_seconds()
        return True

    def _leave(self) -> None:
        from triggerapp.engine import rescue, workers  # noqa: PLC0415  (Django is set up by `main`)

        self.reports.settle()
        workers.leave(self.worker)
        rescue.rescue()

    def _sleep(self) -> bool:
        """Until the next deadline, a notification, or word from the worker."""
        from triggerapp.engine import wakes  # noqa: PLC0415  (Django is set up by `main`)

        listening = _listen()
        deadline = wakes.next_deadline()
        longest = self.settings.TICK.total_seconds()
        pause = longest if deadline is None else min(longest, max(0.0, deadline))
        end = time.monotonic() + pause
        ready, _, _ = select.select([sys.stdin.fileno(), listening], [], [], pause)
        if listening not in ready:
            self._gather(listening, within=max(0.0, end - time.monotonic()))
        list(listening.notifies(timeout=0))
        return True

    def _gather(self, listening: Any, *, within: float) -> None:
        """Reports that can wait are settled together: a tick for each of them would cost more than its run."""
        self._read()
        if not self.ended and not self.reports.is_urgent:
            select.select([listening], [], [], min(within, _GATHER))

    def _read(self) -> None:
        """Take all that the worker wrote: it must never wait for us."""
        while True:
            try:
                data = os.read(sys.stdin.fileno(), 1 << 16)
            except BlockingIOError:
                return
            if not data:
                self.ended = True
                return
            *lines, self.buffer = (self.buffer + data).split(b"\n")
            for line in lines:
                self.reports.add(json.loads(line))


def _apart(action: Callable[[], Any]) -> Any:
    """A bug in one part of a tick ends no other: what the part returns, or 0. A database that is away ends the tick.

    The next tick begins with a beat: nothing is rescued after an outage by one that has not beaten.
    """
    try:
        return action()
    except UNANSWERED:
        raise
    except Exception:
        log.exception("a part of a tick failed")
        return 0


def _is_full(prune: Callable[[int], int]) -> bool:
    """Whether this much was there to delete."""
    return prune(_PRUNED) >= _PRUNED


def _listen() -> Any:
    """The database connection, listening."""
    connection.ensure_connection()
    raw: Any = connection.connection
    if not getattr(raw, "_triggerapp_listens", False):
        raw.execute("LISTEN triggerapp_tick")
        raw._triggerapp_listens = True
    return raw


def _is_stopped(pid: int) -> bool:
    """Whether the worker was stopped (SIGSTOP): then its runs are better off elsewhere."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] in ("T", "t")
    except OSError:
        return False


def main(worker: str, hostname: str, parent: str, board: str) -> None:
    """The process: `python -m workers.ticker WORKER HOSTNAME PID BOARD`, with the app as its first line of input.

    An app may be given as a pickle with its passwords, which are not for the list of processes.
    """
    announce = _take_stdout()
    logging.basicConfig(format="[%(asctime)s: %(levelname)s/ticker] %(message)s", level=logging.INFO)
    django.setup()
    from workers import connections  # noqa: PLC0415  (needs Django)
    from workers.bootsteps import load_app  # noqa: PLC0415  (the app may need Django)

    connections.without_pool()
    app = FileIO(0, closefd=False).readline().decode().strip()  # unbuffered: what follows is for `_read`
    load_app(app).set_default()
    identity.join(UUID(worker), int(board))
    Ticker(UUID(worker), hostname=hostname, parent=int(parent), announce=announce).run()


def _take_stdout() -> Callable[[bytes], object]:
    """The worker reads one word there and no more: what the project's code prints goes to standard error.

    Else the pipe would fill some day, and the ticker stand still for ever.
    """
    pipe = os.dup(1)
    os.dup2(2, 1)

    def announce(word: bytes) -> None:
        with suppress(OSError):  # nobody waits for it any more
            os.write(pipe, word)
        os.close(pipe)

    return announce


if __name__ == "__main__":
    main(*sys.argv[1:])

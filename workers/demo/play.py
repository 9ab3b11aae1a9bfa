"""The play: seven purchases and a hall by one worker, which is killed in the middle of one, and by the next.

Every wait is for something seen to have happened: a run's status, a line in the payment server's books. Needs Django
set up, the tables migrated and the environment of the shop in place.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Final

from workers import events
from workers.demo import hosts, observing
from workers.demo.display import Row
from workers.demo.errors import DemoFailed
from workers.demo.hall import HALL, PAUSE_IS_OVER, call_guests
from workers.demo.processes import Worker
from workers.demo.shop import purchase_ticket
from workers.demo.stage import Stage
from workers.demo.story import FIRST, FORGETFUL, KILLED, PATIENT, PURCHASES, SECOND, Purchase
from workers.demo.verdict import Observed

EVENT: Final = "cart/checked-out"
SETTLED: Final = frozenset({"COMPLETED", "CANCELED", "FAILED", "CRASHED", "SYSTEM_FAILURE", "EXPIRED", "TIMED_OUT"})
PERIOD: Final = 0.1
"""Seconds between two looks."""

PATIENCE: Final = 120.0
"""Seconds until the process of a run that waits is gone, at most."""


def perform(stage: Stage) -> Observed:
    """Play it all; what the world looks like at the end."""
    with ExitStack() as stack:
        _start_worker(stage, stack)
        _open_shop(stage)
        _sell_until_one_is_paying(stage)
        _kill_worker(stage)
        _check_out(stage, PATIENT)
        _end_pause(stage)
        _start_elsewhere(stage, stack)
        stage.display.say(f"It may take {KILLED.ticket} over when the dead worker's lease has run out.")
        _until(stage, lambda: _statuses(stage, stage.handles) <= SETTLED, "every run to end")
        seen = observing.observe(stage)
        if seen.suspended:
            restored = [name for name, problem in seen.suspended.restores.items() if problem == ""]
            stage.display.say(f"{SECOND} restored the processes of {' and '.join(restored) or 'none'}.")
        asked = stage.payments.requests(KILLED.cart)
        stage.display.say(f"Every run has ended. For {KILLED.ticket} the card was asked {asked} times.")
    return seen


def _open_shop(stage: Stage) -> None:
    """Every purchase reserves its seat and waits; the hall calls half of its guests and waits."""
    for purchase in PURCHASES:
        stage.handles[purchase.ticket] = purchase_ticket.trigger(purchase.ticket, purchase.user, purchase.hold_seconds)
    stage.handles[HALL] = call_guests.trigger()
    _until(stage, lambda: _statuses(stage, stage.handles) <= SETTLED | {"WAITING"}, "every run to wait")
    called = ", ".join(entry.what for entry in stage.ledger.entries() if entry.who == HALL)
    stage.display.say(
        f"{len(PURCHASES)} customers shop. In the hall a generator calls, in a voice of its own: {called}."
    )
    stage.display.say(f"All of them wait, and both slots of the worker are free. {_what_is_left(stage)}")


def _what_is_left(stage: Stage) -> str:
    """Of the processes of the runs that wait."""
    if not stage.keeps_images:
        return "Their journals are all that is kept."
    worker, deadline = stage.workers[-1], time.monotonic() + PATIENCE

    def is_over() -> bool:
        stage.held = worker.of_runs()
        return not stage.held or time.monotonic() > deadline

    _until(stage, is_over, "the processes of the waiting runs to go")
    sizes = observing.sizes_of_images()
    return f"Their processes: {len(stage.held)}; their images: {len(sizes)}, of {sum(sizes) / 1e6:.1f} MB together."


def _sell_until_one_is_paying(stage: Stage) -> None:
    """All check out but the forgetful and the patient one, and end; the one to be killed is left paying."""
    now = [purchase for purchase in PURCHASES if purchase not in (FORGETFUL, PATIENT)]
    for purchase in now:
        _check_out(stage, purchase)
    others = {purchase.ticket for purchase in (*now, FORGETFUL) if purchase != KILLED}
    _until(stage, lambda: _statuses(stage, others) <= SETTLED, "the purchases that need no second worker")
    _until(stage, lambda: _has_paid(stage, KILLED), f"{KILLED.ticket} to pay")


def _kill_worker(stage: Stage) -> None:
    worker = stage.workers[-1]
    stage.at_work = worker.of_runs()
    stage.display.say(
        f"{KILLED.ticket} has paid, its answer is on the way: kill -9 of {worker.name} (pid {worker.pid})."
    )
    worker.kill9()
    stage.kills += 1
    stage.payments.answer()


def _check_out(stage: Stage, purchase: Purchase) -> None:
    """The customer checks out: the shop's web site would send this event."""
    cart = {
        "cartId": purchase.cart,
        "items": [purchase.ticket],
        "userId": purchase.user,
        "email": purchase.email,
    }
    events.send(EVENT, cart)
    stage.display.say(f"{purchase.user} checks out ({purchase.plot}).")


def _end_pause(stage: Stage) -> None:
    events.send(PAUSE_IS_OVER)
    stage.display.say("The pause in the hall is over.")


def _start_worker(stage: Stage, stack: ExitStack) -> None:
    worker = stack.enter_context(Worker(FIRST, stage.folder))
    stage.workers.append(worker)
    stage.display.say(f"Started {worker.name} (pid {worker.pid}) with two slots.")


def _start_elsewhere(stage: Stage, stack: ExitStack) -> None:
    """The second worker, as far from the first as this machine allows."""
    refusal = hosts.why_not_elsewhere(stage.folder, stage.needed)
    stage.elsewhere = not refusal
    if refusal:
        directory = hosts.another_directory(stage.folder)
        worker = stack.enter_context(Worker(SECOND, stage.folder, directory=directory))
        where = f"another directory; it has no network and /tmp of its own here ({refusal})"
    else:
        worker = stack.enter_context(
            hosts.worker_elsewhere(SECOND, stage.folder, ports=stage.ports, needed=stage.needed)
        )
        where = "another directory, network and /tmp, as on another host"
    stage.workers.append(worker)
    stage.display.say(f"Started {worker.name} (pid {worker.pid}) in {where}.")


def _until(stage: Stage, done: Callable[[], bool], what: str) -> None:
    """Show the purchases until `done`; fail if the worker leaves before."""
    worker, stage.goal = stage.workers[-1], what
    while True:
        stage.statuses = {name: handle.status for name, handle in stage.handles.items()}
        stage.display.show(_rows(stage))
        if done():
            return
        if not worker.alive:
            raise DemoFailed(f"{worker.name} ended by itself; the end of its log, above, says why.")
        time.sleep(PERIOD)


def _rows(stage: Stage) -> list[Row]:
    entries = stage.ledger.entries()
    return [
        Row(
            purchase=purchase,
            status=stage.statuses[purchase.ticket],
            done=tuple(entry.what for entry in entries if entry.who == purchase.ticket),
        )
        for purchase in PURCHASES
    ]


def _statuses(stage: Stage, names: Iterable[str]) -> set[str]:
    return {stage.statuses[name] for name in names}


def _has_paid(stage: Stage, purchase: Purchase) -> bool:
    return any(charge.cart == purchase.cart for charge in stage.payments.charges)

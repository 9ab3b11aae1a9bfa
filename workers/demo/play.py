"""The play: seven purchases by one worker, which is killed in the middle of one, and by the next.

Every wait is for something seen to have happened: a run's status, a line in the payment server's books. Needs Django
set up, the tables migrated and the environment of the shop in place.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from workers import RunHandle, events
from workers.demo.display import Display, Row
from workers.demo.errors import DemoFailed
from workers.demo.ledger import Ledger
from workers.demo.mail import TICKET, MailServer
from workers.demo.payments import PaymentServer
from workers.demo.processes import Worker
from workers.demo.shop import purchase_ticket
from workers.demo.story import FORGETFUL, KILLED, PATIENT, PURCHASES, Purchase
from workers.demo.verdict import Observed, Outcome

EVENT: Final = "cart/checked-out"
SETTLED: Final = frozenset({"COMPLETED", "CANCELED", "FAILED", "CRASHED", "SYSTEM_FAILURE", "EXPIRED", "TIMED_OUT"})
PERIOD: Final = 0.1
"""Seconds between two looks."""


@dataclass(slots=True, kw_only=True)
class Stage:
    """What the play is played on."""

    folder: Path
    display: Display
    ledger: Ledger
    payments: PaymentServer
    mail: MailServer
    workers: list[Worker] = field(default_factory=list)
    """Every worker started, in order; the last is the one that should be alive."""
    handles: dict[str, RunHandle[str]] = field(default_factory=dict)
    """The runs, by ticket."""
    statuses: dict[str, str] = field(default_factory=dict)
    """The runs' statuses when last looked at, by ticket."""
    goal: str = "the first worker"
    """What the play waits for, to be told if it waits in vain."""
    kills: int = 0


def perform(stage: Stage) -> Observed:
    """Play it all; what the world looks like at the end."""
    with ExitStack() as stack:
        _open_shop(stage, stack)
        _sell_until_one_is_paying(stage)
        _kill_worker(stage)
        _check_out(stage, PATIENT)
        _start_worker(stage, stack)
        stage.display.say(f"It may take {KILLED.ticket} over when the dead worker's lease has run out.")
        _until(stage, lambda: _statuses(stage, PURCHASES) <= SETTLED, "every purchase to end")
        seen = observe(stage)
        asked = stage.payments.requests(KILLED.cart)
        stage.display.say(f"Every purchase has ended. For {KILLED.ticket} the card was asked {asked} times.")
    return seen


def _open_shop(stage: Stage, stack: ExitStack) -> None:
    """Start the first worker; every purchase reserves its seat and waits."""
    _start_worker(stage, stack)
    for purchase in PURCHASES:
        stage.handles[purchase.ticket] = purchase_ticket.trigger(purchase.ticket, purchase.user, purchase.hold_seconds)
    _until(stage, lambda: _statuses(stage, PURCHASES) <= SETTLED | {"WAITING"}, "every purchase to reserve its seat")
    stage.display.say(f"{len(PURCHASES)} customers shop. Their purchases wait, and both slots of the worker are free.")


def _sell_until_one_is_paying(stage: Stage) -> None:
    """All check out but the forgetful and the patient one, and end; the one to be killed is left paying."""
    now = [purchase for purchase in PURCHASES if purchase not in (FORGETFUL, PATIENT)]
    for purchase in now:
        _check_out(stage, purchase)
    others = {*now, FORGETFUL} - {KILLED}
    _until(stage, lambda: _statuses(stage, others) <= SETTLED, "the purchases that need no second worker")
    _until(stage, lambda: _has_paid(stage, KILLED), f"{KILLED.ticket} to pay")


def _kill_worker(stage: Stage) -> None:
    worker = stage.workers[-1]
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


def _start_worker(stage: Stage, stack: ExitStack) -> None:
    worker = stack.enter_context(Worker(f"worker {len(stage.workers) + 1}", stage.folder))
    stage.workers.append(worker)
    stage.display.say(f"Started {worker.name} (pid {worker.pid}) with two slots.")


def _until(stage: Stage, done: Callable[[], bool], what: str) -> None:
    """Show the purchases until `done`; fail if the worker leaves before."""
    worker, stage.goal = stage.workers[-1], what
    while True:
        stage.statuses = {ticket: handle.status for ticket, handle in stage.handles.items()}
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


def _statuses(stage: Stage, purchases: Iterable[Purchase]) -> set[str]:
    return {stage.statuses[purchase.ticket] for purchase in purchases}


def _has_paid(stage: Stage, purchase: Purchase) -> bool:
    return any(charge.cart == purchase.cart for charge in stage.payments.charges)


def observe(stage: Stage) -> Observed:
    """What the runs, the ledger, the payment server and the mail server say now."""
    return Observed(
        outcomes={purchase.ticket: _outcome(stage, purchase) for purchase in PURCHASES},
        entries=stage.ledger.entries(),
        charges=stage.payments.charges,
        refunds=stage.payments.refunds,
        mails=[str(message[TICKET]) for message in stage.mail.messages],
        killed_while_paying=stage.kills == 1 and stage.payments.requests(KILLED.cart) > 1,
    )


def _outcome(stage: Stage, purchase: Purchase) -> Outcome:
    status = stage.statuses[purchase.ticket]
    result = stage.handles[purchase.ticket].get(timeout=60) if status == "COMPLETED" else None
    return Outcome(status=status, result=result)

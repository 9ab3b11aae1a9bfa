"""What is triggered from the pages."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from workers import RetryPolicy, durable_task, step, wait

ONCE = RetryPolicy(max_attempts=1)
_FOLDER = Path(os.environ["LIVE_FOLDER"])


def note(name: str, what: str) -> str:
    """Write down that something was done."""
    with (_FOLDER / name).open("a") as file:
        file.write(f"{what}\n")
    return what


def ship(order: str) -> str:
    if not (_FOLDER / f"{order}.stock").exists():
        raise LookupError(f"nothing of {order} is in stock")
    return note(order, "ship")


@durable_task(name="shop.purchase", retry=ONCE)
def purchase(ticket: str, seats: int = 1) -> dict[str, Any]:
    """Waits for the customer in the middle of it."""
    step(note, ticket, "reserve")
    cart = wait.for_event("cart/checked-out", filter={"ticket": [ticket]}, timeout=timedelta(hours=1))
    step(note, ticket, "charge")
    return {"ticket": ticket, "seats": seats, "paid": cart.payload.get("total")}


@durable_task(name="shop.order", retry=ONCE)
def order(order: str) -> str:
    """Fails until there is something in stock."""
    step(note, order, "charge")
    return step(ship, order)


@durable_task(name="shop.nap", retry=ONCE, queue="naps")
def nap(number: int) -> None:
    """Waits for a long time."""
    wait.sleep(3600)


@durable_task(name="shop.echo", retry=ONCE, queue="echoes")
def echo(value: Any = None) -> Any:
    """Gives back what it is given."""
    return value

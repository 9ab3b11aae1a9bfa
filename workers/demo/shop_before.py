"""The ticket shop as it was: a plain Celery task.

It holds a worker while the customer shops. A worker killed after `charge_card` takes the money and sends no ticket;
a task tried again charges again. `shop.py` is this file made durable.
"""

import time
from typing import Any
from uuid import uuid4

from celery import shared_task

from workers.demo import ledger, outside


class NotSold(Exception):
    """The ticket cannot be sold; trying again will not help."""


def effect_key() -> str:
    """Under which one effect is asked for; a new one for each try, alas."""
    return uuid4().hex


def reserve_ticket(ticket_id: str, user_id: str) -> str:
    ledger.record(ticket_id, "reserved", key=effect_key())
    return f"seat {ticket_id[-1]} for {user_id}"


def release_ticket(ticket_id: str, user_id: str) -> None:
    ledger.record(ticket_id, "released", key=effect_key())


def charge_card(cart_id: str, ticket_id: str) -> str:
    try:
        return outside.charge(cart_id, ticket_id, key=effect_key())
    except outside.CardDeclined as error:
        raise NotSold(str(error)) from error


def refund(charge_id: str) -> None:
    outside.refund(charge_id, key=effect_key())


def finalize_order(ticket_id: str, email: str) -> str:
    if not email:
        raise NotSold("there is no address to send the ticket to")
    ledger.record(ticket_id, "finalized", key=effect_key())
    return f"order of {ticket_id}"


def email_ticket(ticket_id: str, email: str, seat: str) -> None:
    outside.send_mail(email, f"Your ticket: {seat}", ticket_id=ticket_id, key=effect_key())


def wait_for_cart(ticket_id: str, timeout: float) -> dict[str, Any]:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if cart := outside.find_cart(ticket_id):
            return cart
        time.sleep(0.1)
    raise NotSold("the customer never checked out")


@shared_task
def purchase_ticket(ticket_id: str, user_id: str, hold_seconds: float = 300) -> str:
    """Sell one ticket: reserve, wait for the customer, charge, finalize, e-mail."""
    charge = None
    seat = reserve_ticket(ticket_id, user_id)
    try:
        cart = wait_for_cart(ticket_id, hold_seconds)
        charge = charge_card(cart["cartId"], ticket_id)
        order = finalize_order(ticket_id, cart["email"])
    except Exception:
        if charge:
            refund(charge)
        release_ticket(ticket_id, user_id)
        raise
    email_ticket(ticket_id, cart["email"], seat)
    return order

"""The ticket shop as it is: the same file as `shop_before.py`, with durable steps.

While the customer shops no worker is held. A worker may be killed between any two lines: another goes on there, the
steps done stay done, and a step cut short is tried again under the same idempotency key.
"""

from datetime import timedelta

from celery import shared_task

from workers import RetryPolicy, current_run, durable_task, rollback, step, wait
from workers.demo import ledger, outside
from workers.errors import AbortRun, WaitTimeout


class NotSold(AbortRun):
    """The ticket cannot be sold; trying again will not help."""


def effect_key() -> str:
    """Under which one effect is asked for: the step's own, the same for each try of it."""
    return current_run().idempotency_key


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


@durable_task(retry=RetryPolicy(max_attempts=3))
@shared_task
def purchase_ticket(ticket_id: str, user_id: str, hold_seconds: float = 300) -> str:
    """Sell one ticket: reserve, wait for the customer, charge, finalize, e-mail."""
    seat = step(reserve_ticket, ticket_id, user_id, rollback=release_ticket)
    try:
        cart = wait.for_event(
            "cart/checked-out",
            filter={"items": [ticket_id], "userId": [user_id]},
            timeout=timedelta(seconds=hold_seconds),
        )
    except WaitTimeout as error:
        raise NotSold("the customer never checked out") from error
    charge = step(charge_card, cart.payload["cartId"], ticket_id)
    rollback(refund, charge)
    order = step(finalize_order, ticket_id, cart.payload["email"])
    step(email_ticket, ticket_id, cart.payload["email"], seat)
    return order

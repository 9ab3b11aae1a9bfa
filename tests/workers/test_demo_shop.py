"""The demo's shop, in a worker in this process: each of its stories, with the clock moved."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.inprocess import Killed, Worker, forward
from workers import RunHandle, events
from workers.demo import hall, ledger, outside, shop
from workers.demo.ledger import Ledger
from workers.demo.mail import MailServer
from workers.demo.payments import PaymentServer
from workers.demo.play import EVENT
from workers.demo.story import DECLINED, FORGETFUL, HAPPY, KILLED, MOODS, PATIENT, SHAKY, UNREACHABLE, Purchase


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """The ledger; the shop's servers write to it."""
    book = Ledger(tmp_path / "ledger.jsonl")
    with PaymentServer(book, MOODS) as payments, MailServer(book) as mail:
        payments.answer()  # nobody is kept waiting in this process
        monkeypatch.setenv(ledger.PATH, str(book.path))
        monkeypatch.setenv(outside.PAYMENTS, payments.url)
        monkeypatch.setenv(outside.MAIL, mail.address)
        yield book


def bought(purchase: Purchase, worker: Worker) -> RunHandle[str]:
    """The run of a purchase that waits for its customer."""
    handle = shop.purchase_ticket.trigger(purchase.ticket, purchase.user, purchase.hold_seconds)
    worker.work()
    assert handle.status == "WAITING"
    return handle


def check_out(purchase: Purchase) -> None:
    cart = {"cartId": purchase.cart, "items": [purchase.ticket], "userId": purchase.user, "email": purchase.email}
    events.send(EVENT, cart)


def done(book: Ledger) -> tuple[str, ...]:
    return tuple(entry.what for entry in book.entries())


@pytest.mark.parametrize("purchase", [HAPPY, SHAKY])
def test_a_ticket_is_sold(purchase: Purchase, worker: Worker, book: Ledger) -> None:
    handle = bought(purchase, worker)
    check_out(purchase)
    assert worker.until(handle) == purchase.result
    assert done(book) == purchase.lines


@pytest.mark.parametrize("purchase", [DECLINED, UNREACHABLE])
def test_a_ticket_that_cannot_be_sold_is_undone_newest_first(purchase: Purchase, worker: Worker, book: Ledger) -> None:
    handle = bought(purchase, worker)
    check_out(purchase)
    with pytest.raises(shop.NotSold):
        worker.until(handle)
    assert handle.status == purchase.status
    assert done(book) == purchase.lines


def test_the_seat_of_a_customer_who_forgets_is_released(worker: Worker, book: Ledger) -> None:
    handle = bought(FORGETFUL, worker)
    forward(seconds=FORGETFUL.hold_seconds)
    worker.beat()
    worker.tick()
    assert handle.status == FORGETFUL.status
    assert done(book) == FORGETFUL.lines


def test_the_customer_of_one_ticket_checks_nobody_else_out(worker: Worker, book: Ledger) -> None:
    waiting, handle = bought(PATIENT, worker), bought(HAPPY, worker)
    check_out(HAPPY)
    worker.until(handle, ticks=0)
    assert waiting.status == "WAITING"
    assert done(book) == ("reserved", *HAPPY.lines)


def test_who_is_killed_between_paying_and_knowing_it_pays_once(
    worker: Worker, book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = bought(KILLED, worker)
    check_out(KILLED)
    with monkeypatch.context() as patched:
        patched.setattr(outside, "charge", paid_and_killed)
        worker.work()
    assert done(book) == ("reserved", "charged")
    worker.die()
    assert worker.until(handle) == KILLED.result
    assert done(book) == KILLED.lines


charge = outside.charge


def paid_and_killed(cart_id: str, ticket_id: str, *, key: str) -> str:
    charge(cart_id, ticket_id, key=key)
    raise Killed


def test_each_guest_is_called_once_though_the_generator_begins_anew(
    worker: Worker, book: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices = count(1)
    monkeypatch.setattr(hall, "draw_voice", lambda: next(voices))
    handle = hall.call_guests.trigger()
    worker.work()
    assert handle.status == "WAITING" and len(done(book)) == hall.HALF
    events.send(hall.PAUSE_IS_OVER)
    assert worker.until(handle) == list(hall.GUESTS)
    assert done(book) == ("Ada 1", "Ben 1", "Cleo 2", "Dan 2")

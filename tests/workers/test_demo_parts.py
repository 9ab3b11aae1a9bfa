"""The parts of the demo, each alone: ledger, servers, the shop of old, processes, display."""

import io
import os
import signal
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from workers.demo import display, ledger, outside, processes, shop_before
from workers.demo.ledger import Entry, Ledger
from workers.demo.mail import MailServer
from workers.demo.payments import Moods, PaymentServer, twice_charged
from workers.demo.story import DECLINED, HAPPY, PURCHASES, UNREACHABLE, Purchase
from workers.demo.verdict import Finding

SLEEPER = (sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)")
FAMILY = (
    sys.executable,
    "-c",
    """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("ready", flush=True)
time.sleep(600)
""",
)
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)",
)


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The ledger the environment names."""
    monkeypatch.setenv(ledger.PATH, str(tmp_path / "ledger.jsonl"))
    return Ledger(tmp_path / "ledger.jsonl")


@pytest.fixture
def payments(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[PaymentServer]:
    moods = Moods(declined=frozenset({"broke"}), shaky=frozenset({"shaky"}), silent=frozenset({"silent"}))
    with PaymentServer(book, moods) as server:
        monkeypatch.setenv(outside.PAYMENTS, server.url)
        yield server


@pytest.fixture
def mail(book: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    with MailServer(book) as server:
        monkeypatch.setenv(outside.MAIL, server.address)
        yield server


def eventually(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not is_true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def lines(book: Ledger) -> list[tuple[str, str, str]]:
    return [(entry.who, entry.what, entry.key) for entry in book.entries()]


# The ledger


def test_a_ledger_nobody_wrote_is_empty(book: Ledger) -> None:
    assert book.entries() == []


def test_lines_of_processes_that_write_at_once_are_all_there_and_whole(book: Ledger) -> None:
    script = "from workers.demo import ledger\nfor n in range(200): ledger.record('tkt', 'reserved', key='k' * 200)"
    writers = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert [entry.key for entry in book.entries()] == ["k" * 200] * 800


def test_a_line_cut_short_is_not_read(book: Ledger) -> None:
    book.append("tkt", "reserved", key="k", by="me")
    with book.path.open("a") as file:
        file.write('{"who": "tk')
    assert lines(book) == [("tkt", "reserved", "k")]


# The payment server


def test_a_charge_is_made_once_per_key(book: Ledger, payments: PaymentServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: outside.charge("cart", "tkt", key="k"), range(8)))
    assert len(set(ids)) == 1
    assert payments.requests("cart") == 8
    assert lines(book) == [("tkt", "charged", "k")]


def test_another_key_is_another_charge_and_the_books_show_it(payments: PaymentServer) -> None:
    outside.charge("cart", "tkt", key="k1")
    outside.charge("cart", "tkt", key="k2")
    assert twice_charged(payments.charges) == ["cart"]


def test_a_declined_card_is_declined_each_time_and_takes_no_money(book: Ledger, payments: PaymentServer) -> None:
    for _ in range(2):
        with pytest.raises(outside.CardDeclined):
            outside.charge("broke", "tkt", key="k")
    assert payments.charges == [] and book.entries() == []


def test_a_shaky_server_takes_the_money_at_the_second_request(payments: PaymentServer) -> None:
    with pytest.raises(outside.PaymentUnavailable):
        outside.charge("shaky", "tkt", key="k")
    assert payments.charges == []
    assert outside.charge("shaky", "tkt", key="k") == payments.charges[0].id


def test_a_silent_server_takes_the_money_and_answers_only_the_next_who_asks(payments: PaymentServer) -> None:
    answered = threading.Event()

    def first() -> None:
        outside.charge("silent", "tkt", key="k")
        answered.set()

    customer = threading.Thread(target=first)
    customer.start()
    eventually(lambda: len(payments.charges) == 1)
    assert outside.charge("silent", "tkt", key="k") == payments.charges[0].id
    assert not answered.is_set()
    payments.answer()
    customer.join(60)
    assert answered.is_set() and len(payments.charges) == 1


def test_a_charge_is_refunded_once_per_key(book: Ledger, payments: PaymentServer) -> None:
    charge = outside.charge("cart", "tkt", key="k1")
    assert outside.refund(charge, key="k2") == outside.refund(charge, key="k2")
    assert payments.refunds == [charge]
    assert lines(book) == [("tkt", "charged", "k1"), ("tkt", "refunded", "k2")]


@pytest.mark.usefixtures("payments")
def test_what_was_never_charged_is_not_refunded() -> None:
    with pytest.raises(outside.PaymentUnavailable, match="404"):
        outside.refund("ch_nothing", key="k")


def test_a_payment_server_that_is_away_is_a_reason_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(outside.PAYMENTS, "http://127.0.0.1:9")
    with pytest.raises(outside.PaymentUnavailable, match="away"):
        outside.charge("cart", "tkt", key="k")


# The mail server


def test_a_message_arrives_and_is_entered(book: Ledger, mail: MailServer) -> None:
    outside.send_mail("you@example.org", "Your ticket: seat 1 for Zoë", ticket_id="tkt", key="k")
    (message,) = mail.messages
    assert message["Subject"] == "Your ticket: seat 1 for Zoë"
    assert lines(book) == [("tkt", "e-mailed", "k")]


def test_a_message_cut_short_never_arrived(mail: MailServer) -> None:
    host, _, port = mail.address.partition(":")
    smtp = smtplib.SMTP(host, int(port))
    smtp.docmd("MAIL", "FROM:<shop@example.org>")
    smtp.docmd("DATA")
    smtp.send("X-Ticket: tkt\r\n")
    smtp.close()
    outside.send_mail("you@example.org", "another", ticket_id="tkt", key="k")
    assert [message["Subject"] for message in mail.messages] == ["another"]


def test_a_line_of_one_dot_does_not_end_a_message(mail: MailServer) -> None:
    host, _, port = mail.address.partition(":")
    with smtplib.SMTP(host, int(port)) as smtp:
        smtp.sendmail("a@example.org", "b@example.org", "Subject: dots\r\n\r\n.\r\n..\r\nend")
    assert mail.messages[0].get_content().splitlines() == [".", "..", "end"]


# The shop of old


@pytest.fixture
def carts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(outside.CARTS, str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("payments", "mail")
def test_the_shop_of_old_sells_a_ticket(book: Ledger, carts: Path) -> None:
    (carts / "tkt_1.json").write_text('{"cartId": "cart", "email": "you@example.org"}')
    assert shop_before.purchase_ticket("tkt_1", "usr_1") == HAPPY.result
    assert tuple(entry.what for entry in book.entries()) == HAPPY.lines


@pytest.mark.usefixtures("payments", "mail")
@pytest.mark.parametrize(
    ("cart", "purchase"),
    [('{"cartId": "broke", "email": "you@example.org"}', DECLINED), ('{"cartId": "cart", "email": ""}', UNREACHABLE)],
)
def test_the_shop_of_old_undoes_what_it_did(book: Ledger, carts: Path, cart: str, purchase: Purchase) -> None:
    (carts / "tkt_1.json").write_text(cart)
    with pytest.raises(shop_before.NotSold):
        shop_before.purchase_ticket("tkt_1", "usr_1")
    assert tuple(entry.what for entry in book.entries()) == purchase.lines


@pytest.mark.usefixtures("carts")
def test_the_shop_of_old_holds_its_worker_until_the_customer_is_too_late(book: Ledger) -> None:
    with pytest.raises(shop_before.NotSold, match="never checked out"):
        shop_before.purchase_ticket("tkt_1", "usr_1", 0.2)
    assert [entry.what for entry in book.entries()] == ["reserved", "released"]


# Processes


def started(worker: processes.Worker) -> None:
    eventually(lambda: "ready" in worker.log.read_text())


@pytest.mark.usefixtures("book")
def test_kill9_takes_the_worker_and_those_that_left_its_group(tmp_path: Path) -> None:
    with processes.Worker("worker 1", tmp_path, FAMILY) as worker:
        started(worker)
        assert len(processes.owned("worker 1")) == 2
        worker.kill9()
        assert not worker.alive
        eventually(lambda: processes.owned() == [])


@pytest.mark.usefixtures("book")
def test_kill9_spares_the_other_workers(tmp_path: Path) -> None:
    with (
        processes.Worker("worker 1", tmp_path, SLEEPER) as first,
        processes.Worker("worker 2", tmp_path, SLEEPER) as second,
    ):
        started(first)
        started(second)
        first.kill9()
        assert [one.pid for one in processes.owned()] == [second.pid]


@pytest.mark.usefixtures("book")
@pytest.mark.parametrize("command", [SLEEPER, STUBBORN])
def test_a_worker_is_gone_when_it_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.5)
    with processes.Worker("worker 1", tmp_path, command) as worker:
        started(worker)
    assert processes.owned() == []


@pytest.mark.usefixtures("book")
def test_a_worker_is_killed_at_once_when_the_demo_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), processes.Worker("worker 1", tmp_path, STUBBORN) as worker:
        started(worker)
        raise ZeroDivisionError
    assert processes.owned() == []


@pytest.mark.usefixtures("book")
def test_what_is_left_behind_is_named_and_ended(tmp_path: Path) -> None:
    with processes.Worker("worker 1", tmp_path, FAMILY) as worker:
        started(worker)
    (command,) = processes.left_behind(patience=0.1)
    assert "time.sleep(600)" in command
    eventually(lambda: processes.owned() == [])


@pytest.mark.usefixtures("book")
def test_workers_go_with_a_demo_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import pathlib, sys, time
from workers.demo.processes import Worker
with Worker("worker 1", pathlib.Path(sys.argv[1]), {SLEEPER!r}): time.sleep(600)
"""
    demo = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    log = tmp_path / "worker-1.log"
    eventually(lambda: log.exists() and "ready" in log.read_text())
    os.kill(demo.pid, signal.SIGKILL)
    demo.wait()
    eventually(lambda: processes.owned() == [])


@pytest.mark.usefixtures("book")
def test_the_tail_of_a_log_is_its_end(tmp_path: Path) -> None:
    with processes.Worker("worker 1", tmp_path, (sys.executable, "-c", "for n in range(100): print(n)")) as worker:
        eventually(lambda: not worker.alive)
    assert worker.tail(2) == "98\n99"


# The display


def test_without_a_terminal_each_change_is_one_line() -> None:
    output = io.StringIO()
    row = display.Row(purchase=HAPPY, status="WAITING", done=("reserved",))
    with display.open_display(Console(file=output)) as shown:
        shown.say("Started.")
        shown.show([row])
        shown.show([row])
        shown.show([replace(row, status="COMPLETED", done=HAPPY.lines)])
    said, waiting, sold = output.getvalue().splitlines()
    assert said.endswith("Started.")
    assert waiting.endswith("tkt_1  WAITING    waiting, holds no worker: reserved")
    assert sold.endswith("tkt_1  COMPLETED  sold: reserved charged finalized e-mailed")


def test_on_a_terminal_the_table_holds_every_purchase() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=160)
    with display.open_display(console) as shown:
        shown.say("Started.")
        shown.show([display.Row(purchase=purchase, status="QUEUED", done=()) for purchase in PURCHASES])
    assert all(purchase.plot in output.getvalue() for purchase in PURCHASES)


def test_ledger_and_faults_are_printed_as_they_are() -> None:
    output = io.StringIO()
    console = Console(file=output, width=160)
    console.print(
        display.ledger_table([Entry(who="tkt", what="reserved", key="12345678:[step]#1", by="worker 1", at=5.0)])
    )
    console.print(display.verdict_table([Finding(question="well?", faults=("not ['a']",))]))
    assert "…345678:[step]#1" in output.getvalue() and "not ['a']" in output.getvalue()

"""The verdict of the demo can say no: each way a demo can go wrong is named."""

import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from checkpoint import PID_IN_USE
from workers.demo import __main__ as demo
from workers.demo import display, verdict
from workers.demo.hall import GUESTS, HALF, HALL
from workers.demo.ledger import Entry
from workers.demo.payments import Charge
from workers.demo.story import DECLINED, FIRST, HAPPY, KILLED, PATIENT, PURCHASES, SECOND, UNREACHABLE, Purchase
from workers.demo.verdict import Observed, Outcome, Suspended

SUSPENDED = Suspended(held=(), at_work=["31 python -m workers.zygote"], restores={PATIENT.ticket: "", HALL: ""})
TAKEN = f"pid 4711 {PID_IN_USE}: restore elsewhere"


def perfect() -> Observed:
    """What a demo leaves that went as it must."""
    entries = [
        Entry(who=purchase.ticket, what=what, key=f"{purchase.ticket} {what}", by="somebody", at=0.0)
        for purchase in PURCHASES
        for what in purchase.lines
    ]
    calls = [
        Entry(who=HALL, what=f"{guest} 123", key=f"{HALL} {guest}", by=FIRST if number < HALF else SECOND, at=0.0)
        for number, guest in enumerate(GUESTS)
    ]
    charged = [purchase for purchase in PURCHASES if "charged" in purchase.lines]
    return Observed(
        outcomes={purchase.ticket: Outcome(status=purchase.status, result=purchase.result) for purchase in PURCHASES}
        | {HALL: Outcome(status="COMPLETED", result=list(GUESTS))},
        entries=[*entries, *calls],
        charges=[charge_of(purchase) for purchase in charged],
        refunds=[charge_of(UNREACHABLE).id],
        mails=[purchase.ticket for purchase in PURCHASES if purchase.result],
        killed_while_paying=True,
        suspended=SUSPENDED,
        shared=(),
        left_behind=(),
    )


def charge_of(purchase: Purchase) -> Charge:
    return Charge(id=f"ch_{purchase.number}", cart=purchase.cart, ticket=purchase.ticket, key=purchase.cart)


def faults(seen: Observed) -> str:
    return "; ".join(fault for finding in verdict.judge(PURCHASES, seen) for fault in finding.faults)


def test_a_demo_that_went_as_it_must_has_no_faults() -> None:
    assert faults(perfect()) == ""


def in_another_voice(seen: Observed) -> Observed:
    """As after a run was entered again from its journal."""
    *others, last = seen.entries
    return replace(seen, entries=[*others, replace(last, what=f"{GUESTS[-1]} 456")])


SPOILED: dict[str, Callable[[Observed], Observed]] = {
    "tkt_1: FAILED with None": lambda seen: replace(
        seen, outcomes={**seen.outcomes, HAPPY.ticket: Outcome(status="FAILED", result=None)}
    ),
    "tkt_1: COMPLETED with 'nothing'": lambda seen: replace(
        seen, outcomes={**seen.outcomes, HAPPY.ticket: Outcome(status="COMPLETED", result="nothing")}
    ),
    "tkt_1: reserved reserved charged": lambda seen: replace(seen, entries=[seen.entries[0], *seen.entries]),
    "tkt_1: charged finalized e-mailed, not": lambda seen: replace(seen, entries=seen.entries[1:]),
    "tkt_9: not a purchase": lambda seen: replace(seen, entries=[*seen.entries, replace(seen.entries[0], who="tkt_9")]),
    "tkt_1 charged: tkt_1 charged tkt_1 finalized": lambda seen: replace(
        seen, entries=[replace(entry, key=entry.key.replace("finalized", "charged")) for entry in seen.entries]
    ),
    "cart_7: charged twice": lambda seen: replace(seen, charges=[*seen.charges, charge_of(KILLED)]),
    "cart_1: not charged": lambda seen: replace(seen, charges=seen.charges[1:]),
    "cart_4: charged": lambda seen: replace(seen, charges=[*seen.charges, charge_of(DECLINED)]),
    "refunded {}": lambda seen: replace(seen, refunds=[]),
    "refunded {'cart_6': 2}": lambda seen: replace(seen, refunds=[*seen.refunds, *seen.refunds]),
    "tkt_1: 2 e-mails, not 1": lambda seen: replace(seen, mails=[*seen.mails, HAPPY.ticket]),
    "tkt_4: 1 e-mails, not 0": lambda seen: replace(seen, mails=[*seen.mails, DECLINED.ticket]),
    "this demo shows nothing": lambda seen: replace(seen, killed_while_paying=False),
    "called were Ada Ben Cleo, not Ada Ben Cleo Dan": lambda seen: replace(seen, entries=seen.entries[:-1]),
    "FAILED with None, not with ['Ada'": lambda seen: replace(
        seen, outcomes={**seen.outcomes, HALL: Outcome(status="FAILED", result=None)}
    ),
    "by 2 voices: 123 456": in_another_voice,
    "the pause was not in the middle": lambda seen: replace(
        seen, entries=[replace(entry, by=FIRST) for entry in seen.entries]
    ),
    "no process was seen of the run that paid either": lambda seen: replace(
        seen, suspended=replace(SUSPENDED, at_work=())
    ),
    "31 python -m workers.zygote": lambda seen: replace(
        seen, suspended=replace(SUSPENDED, held=["31 python -m workers.zygote"])
    ),
    "tkt_3: nobody tried": lambda seen: replace(
        seen, suspended=replace(SUSPENDED, restores={**SUSPENDED.restores, PATIENT.ticket: None})
    ),
    "hall: the image is gone": lambda seen: replace(
        seen, suspended=replace(SUSPENDED, restores={**SUSPENDED.restores, HALL: "the image is gone"})
    ),
    "the same network": lambda seen: replace(seen, shared=("network",)),
    "4711 celery": lambda seen: replace(seen, left_behind=("4711 celery",)),
}


def test_where_another_process_has_the_pid_a_run_may_be_entered_again_and_the_answer_is_not_yes() -> None:
    taken = replace(SUSPENDED, restores=dict.fromkeys(SUSPENDED.restores, TAKEN))
    seen = replace(in_another_voice(perfect()), suspended=taken)
    assert faults(seen) == ""
    excused = [finding for finding in verdict.judge(PURCHASES, seen) if finding.excuses]
    assert [finding.question for finding in excused] == [
        "the second worker restored what the first one left",
        "a generator went on in the middle of its loop",
    ]
    output = io.StringIO()
    Console(file=output, width=160).print(display.verdict_table(excused))
    assert output.getvalue().count("not seen") == 2 and "pid 4711" in output.getvalue()


def test_where_no_images_are_kept_nothing_is_asked_of_them() -> None:
    assert faults(replace(in_another_voice(perfect()), suspended=None, shared=None)) == ""


@pytest.mark.parametrize("fault", SPOILED)
def test_the_verdict_names_what_is_wrong(fault: str) -> None:
    assert fault in faults(SPOILED[fault](perfect()))


@pytest.mark.parametrize(
    ("spoil", "status"), [(lambda seen: seen, 0), (SPOILED["tkt_1: reserved reserved charged"], 1)]
)
def test_the_verdict_is_the_exit_status(
    spoil: Callable[[Observed], Observed],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "_play", lambda console: spoil(perfect()))
    monkeypatch.setattr(demo.signal, "signal", lambda *_: None)
    assert demo.main() == status
    assert ("NO" in capsys.readouterr().out) is bool(status)

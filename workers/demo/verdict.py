"""The verdict: did every purchase end as it must, and did everything happen exactly once?

Pure functions from what was observed to a list of findings; each says what was looked at, and what was wrong with it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from workers.demo.ledger import Entry
from workers.demo.payments import Charge, twice_charged
from workers.demo.story import Purchase


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one run ended."""

    status: str
    result: object
    """What it returned; None if it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the world looks like at the end."""

    outcomes: Mapping[str, Outcome]
    """By ticket."""
    entries: Sequence[Entry]
    charges: Sequence[Charge]
    refunds: Sequence[str]
    """The ids of the charges given back."""
    mails: Sequence[str]
    """The ticket of each message that arrived."""
    killed_while_paying: bool
    """Whether one worker was killed, and what it was paying was asked for again."""
    left_behind: Sequence[str] = ()
    """The command lines of processes that outlived the demo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    question: str
    faults: tuple[str, ...]
    """What is wrong; nothing, if all is well."""


def judge(purchases: Sequence[Purchase], seen: Observed) -> list[Finding]:
    """Every question asked, with its faults."""
    return [
        _finding("every purchase ended as it must", _wrong_ends(purchases, seen.outcomes)),
        _finding("every ledger line is there exactly once, in order", _wrong_lines(purchases, seen.entries)),
        _finding("no two steps shared an idempotency key", _shared_keys(seen.entries)),
        _finding("no charge happened twice", _wrong_charges(purchases, seen)),
        _finding("every buyer got one e-mail, and nobody else did", _wrong_mails(purchases, seen.mails)),
        _finding("one worker was killed, in the middle of a payment", _wrong_kills(seen)),
        _finding("no process was left behind", iter(seen.left_behind)),
    ]


def _finding(question: str, faults: Iterator[str]) -> Finding:
    return Finding(question=question, faults=tuple(faults))


def _wrong_ends(purchases: Sequence[Purchase], outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    for purchase in purchases:
        wanted = Outcome(status=purchase.status, result=purchase.result)
        got = outcomes[purchase.ticket]
        if got != wanted:
            yield f"{purchase.ticket}: {got.status} with {got.result!r}, not {wanted.status} with {wanted.result!r}"


def _wrong_lines(purchases: Sequence[Purchase], entries: Sequence[Entry]) -> Iterator[str]:
    for purchase in purchases:
        lines = tuple(entry.what for entry in entries if entry.who == purchase.ticket)
        if lines != purchase.lines:
            yield f"{purchase.ticket}: {' '.join(lines) or 'nothing'}, not {' '.join(purchase.lines)}"
    strangers = {entry.who for entry in entries} - {purchase.ticket for purchase in purchases}
    yield from (f"{who}: not a purchase of this demo" for who in sorted(strangers))


def _shared_keys(entries: Sequence[Entry]) -> Iterator[str]:
    for key, count in Counter(entry.key for entry in entries).items():
        if count > 1:
            yield f"{key}: {' '.join(f'{entry.who} {entry.what}' for entry in entries if entry.key == key)}"


def _wrong_charges(purchases: Sequence[Purchase], seen: Observed) -> Iterator[str]:
    """By the payment server's own books."""
    yield from (f"{cart}: charged twice" for cart in twice_charged(seen.charges))
    wanted = {purchase.cart for purchase in purchases if "charged" in purchase.lines}
    charged = {charge.cart for charge in seen.charges}
    yield from (f"{cart}: {'charged' if cart in charged else 'not charged'}" for cart in sorted(wanted ^ charged))
    kept = Counter(purchase.cart for purchase in purchases if "refunded" in purchase.lines)
    given = Counter(charge.cart for charge in seen.charges for refund in seen.refunds if refund == charge.id)
    if given != kept:
        yield f"refunded {dict(given)}, not {dict(kept)}"


def _wrong_mails(purchases: Sequence[Purchase], mails: Sequence[str]) -> Iterator[str]:
    wanted = Counter(purchase.ticket for purchase in purchases if "e-mailed" in purchase.lines)
    for ticket in sorted(wanted.keys() | set(mails)):
        if mails.count(ticket) != wanted[ticket]:
            yield f"{ticket}: {mails.count(ticket)} e-mails, not {wanted[ticket]}"


def _wrong_kills(seen: Observed) -> Iterator[str]:
    if not seen.killed_while_paying:
        yield "this demo shows nothing about it"

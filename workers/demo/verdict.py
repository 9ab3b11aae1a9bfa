"""The verdict: did every purchase end as it must, and did everything happen exactly once?

Pure functions from what was observed to a list of findings; each says what was looked at, and what was wrong with it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from checkpoint import PID_IN_USE
from workers.demo.hall import GUESTS, HALF, HALL
from workers.demo.ledger import Entry
from workers.demo.payments import Charge, twice_charged
from workers.demo.story import FIRST, SECOND, Purchase


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one run ended."""

    status: str
    result: object
    """What it returned; None if it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """What was seen of runs that waited without a process, where images of them are kept."""

    held: Sequence[str]
    """The processes of runs that were there although all runs waited."""
    at_work: Sequence[str]
    """Those that were there when a run was paying."""
    restores: Mapping[str, str | None]
    """What was in the way of restoring what the killed worker left, by name: empty if nothing, None if nobody tried."""

    @property
    def hindered(self) -> dict[str, str]:
        """Those whose pid was taken meanwhile: such a run is entered again, as it must be."""
        return {name: problem for name, problem in self.restores.items() if problem and PID_IN_USE in problem}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the world looks like at the end."""

    outcomes: Mapping[str, Outcome]
    """By ticket; and the hall's."""
    entries: Sequence[Entry]
    charges: Sequence[Charge]
    refunds: Sequence[str]
    """The ids of the charges given back."""
    mails: Sequence[str]
    """The ticket of each message that arrived."""
    killed_while_paying: bool
    """Whether one worker was killed, and what it was paying was asked for again."""
    suspended: Suspended | None
    """None where runs are entered again."""
    shared: Sequence[str] | None
    """What of its place the second worker had in common with the first; None if it could not be started elsewhere."""
    left_behind: Sequence[str] = ()
    """The command lines of processes that outlived the demo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One question, and its answer: yes, if there is neither fault nor excuse."""

    question: str
    faults: tuple[str, ...]
    """What is wrong; nothing, if all is well."""
    excuses: tuple[str, ...] = ()
    """Why it could not be seen this time."""


def judge(purchases: Sequence[Purchase], seen: Observed) -> list[Finding]:
    """Every question asked, with its faults."""
    return [
        _finding("every purchase ended as it must", _wrong_ends(purchases, seen.outcomes)),
        _finding("every ledger line is there exactly once, in order", _wrong_lines(purchases, seen.entries)),
        _finding("no two steps shared an idempotency key", _shared_keys(seen.entries)),
        _finding("no charge happened twice", _wrong_charges(purchases, seen)),
        _finding("every buyer got one e-mail, and nobody else did", _wrong_mails(purchases, seen.mails)),
        _finding("every guest was called once", _wrong_calls(seen)),
        _finding("one worker was killed, in the middle of a payment", _wrong_kills(seen)),
        *(_judge_images(seen.suspended, seen) if seen.suspended else ()),
        *(_judge_place(seen.shared) if seen.shared is not None else ()),
        _finding("no process was left behind", iter(seen.left_behind)),
    ]


def _judge_images(suspended: Suspended, seen: Observed) -> Iterator[Finding]:
    excuses = tuple(f"{name}: {problem}" for name, problem in suspended.hindered.items())
    yield _finding("while they waited no run had a process", _wrong_processes(suspended))
    restored = _finding("the second worker restored what the first one left", _wrong_restores(suspended))
    yield replace(restored, excuses=excuses)
    went_on = _finding("a generator went on in the middle of its loop", _wrong_voices(seen))
    hindered = suspended.hindered.get(HALL)
    yield replace(went_on, faults=(), excuses=(hindered,)) if hindered else went_on


def _judge_place(shared: Sequence[str]) -> Iterator[Finding]:
    yield _finding(
        "the second worker stood in another directory, network and /tmp", (f"the same {what}" for what in shared)
    )


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
    strangers = {entry.who for entry in entries} - {purchase.ticket for purchase in purchases} - {HALL}
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


def _wrong_processes(suspended: Suspended) -> Iterator[str]:
    yield from suspended.held
    if not suspended.at_work:
        yield "no process was seen of the run that paid either: this demo shows nothing about it"


def _wrong_calls(seen: Observed) -> Iterator[str]:
    """By the ledger, and by the run's own result."""
    outcome = seen.outcomes[HALL]
    if outcome != Outcome(status="COMPLETED", result=list(GUESTS)):
        yield f"{outcome.status} with {outcome.result!r}, not with {list(GUESTS)!r}"
    guests = [call.what.partition(" ")[0] for call in _calls(seen)]
    if guests != list(GUESTS):
        yield f"called were {' '.join(guests) or 'none'}, not {' '.join(GUESTS)}"
    by = [call.by for call in _calls(seen)]
    if by != [FIRST] * HALF + [SECOND] * (len(GUESTS) - HALF):
        yield f"called by {', '.join(by)}: the pause was not in the middle"


def _wrong_restores(suspended: Suspended) -> Iterator[str]:
    for name, problem in suspended.restores.items():
        if problem != "" and name not in suspended.hindered:
            yield f"{name}: {problem or 'nobody tried'}"


def _wrong_voices(seen: Observed) -> Iterator[str]:
    """Only the generator knew its voice: one that began anew would have another."""
    voices = {call.what.partition(" ")[2] for call in _calls(seen)}
    if len(voices) != 1:
        yield f"the guests were called by {len(voices)} voices: {' '.join(sorted(voices))}"


def _calls(seen: Observed) -> list[Entry]:
    return [entry for entry in seen.entries if entry.who == HALL]

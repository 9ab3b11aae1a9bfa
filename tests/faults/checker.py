"""The checker: what must never be seen, whatever was killed.

It judges by two records that nothing takes back: the database's notes of every change (`database`) and the
ledger of what step code did. It returns violations as sentences; none means that the contract held.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from tests.faults.database import Note, Row
from tests.faults.ledger import Execution
from triggerapp.models.moves import FINAL, MOVES, Status


def check(notes: Sequence[Note], executions: Sequence[Execution], *, kills: int) -> list[str]:
    """Everything that is wrong with this history, in which processes were killed `kills` times."""
    by_kind: dict[str, list[Note]] = defaultdict(list)
    for note in notes:
        by_kind[note.kind].append(note)
    return [
        *_runs(by_kind["run"]),
        *_steps(by_kind["step"]),
        *_waits(by_kind["wait"]),
        *_executions(by_kind["step"], executions, kills=kills),
    ]


def _runs(notes: Sequence[Note]) -> Iterator[str]:
    """I1, I2, I6: no run is lost, ends change no more, status moves by the table, leases only rise."""
    last: dict[str, Row] = {}
    for note in notes:
        if note.after is None or note.before is None:
            if note.operation == "DELETE":
                yield f"run {note.row_id} was deleted"
            last[note.row_id] = note.after or {}
            continue
        last[note.row_id] = note.after
        was, now = Status(note.before["status"]), Status(note.after["status"])
        if was != now and was not in MOVES[now]:
            yield f"run {note.row_id} went from {was} to {now}"
        if was in FINAL and note.changed("status", "result", "error", "lease", "finished_at"):
            yield f"run {note.row_id} changed after its end: {note.changed('status', 'result', 'error', 'lease')}"
        claimed = now == Status.RUNNING and was == Status.QUEUED
        rise = note.after["lease"] - note.before["lease"]
        if rise < 0 or bool(rise) != claimed:
            yield f"run {note.row_id} went from lease {note.before['lease']} to {note.after['lease']} at {was} -> {now}"
    for run, row in last.items():
        if row.get("status") not in FINAL:
            yield f"run {run} never ended: it is {row.get('status')}"


def _steps(notes: Sequence[Note]) -> Iterator[str]:
    """I3, I6: recorded once, by the lease's holder, never changed."""
    recorded: set[tuple[str | None, str]] = set()
    for note in notes:
        row = note.after or note.before or {}
        name = f"step {row['key']} of run {note.run}"
        if note.operation == "DELETE":
            yield f"{name} was deleted"
        elif note.before is not None:
            changed = note.changed("run_id", "key", "digest", "lease", "value", "error", "attempt", "finished_at")
            if changed:
                yield f"{name} changed its {', '.join(changed)} after it was recorded"
            if note.changed("superseded"):
                recorded.discard((note.run, row["key"]))
        else:
            if (note.run, row["key"]) in recorded:
                yield f"{name} was recorded twice"
            recorded.add((note.run, row["key"]))
            if (row["lease"], "running") != (note.held_lease, note.held_status):
                yield f"{name} was recorded under lease {row['lease']}; held is {note.held_lease}, {note.held_status}"


def _waits(notes: Sequence[Note]) -> Iterator[str]:
    """I7: a wait resolves once."""
    for note in notes:
        if note.before is None or note.after is None or note.before["status"] == "pending":
            continue
        changed = note.changed("status", "value", "event", "resolved_at", "resolved_by")
        if changed:
            yield f"wait {note.after['key']} of run {note.run} changed its {', '.join(changed)} after it was resolved"
        if note.before["woken"] and not note.after["woken"]:
            yield f"wait {note.after['key']} of run {note.run} forgot that its run was woken"


def _executions(notes: Sequence[Note], executions: Sequence[Execution], *, kills: int) -> Iterator[str]:
    """I4: recorded step code never runs again; unrecorded code runs again only after a kill."""
    records: dict[tuple[str, str], list[Note]] = defaultdict(list)
    superseded: dict[tuple[str, str], int] = defaultdict(int)
    for note in notes:
        row = note.after or {}
        key = (str(note.run), str(row.get("key")))
        if note.operation == "INSERT":
            records[key].append(note)
        elif note.changed("superseded"):
            superseded[key] += 1
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for each in executions:
        times[each.run, each.key].append(each.at)
    for key, ran in times.items():
        extra = len(ran) - 1 - superseded[key]
        if extra > kills:
            yield f"step {key[1]} of run {key[0]} ran {len(ran)} times with {kills} kills"
        current = records[key][-1:] if len(records[key]) > superseded[key] else []
        for note in current:
            late = [at for at in ran if at > note.at.timestamp()]
            if late:
                yield f"step {key[1]} of run {key[0]} ran again after it was recorded"


def longest_pause(notes: Sequence[Note], *, since: datetime | None = None) -> timedelta:
    """The longest time in which nothing happened to any run, from `since` on."""
    moments = [note.at for note in notes if since is None or note.at >= since]
    if since is not None:
        moments.insert(0, since)
    return max((b - a for a, b in pairwise(moments)), default=timedelta())

"""A run changes status through one UPDATE only, against the table of moves."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

import triggerapp
import workers
from tests.factories import fresh, make_run
from triggerapp.errors import StaleRun
from triggerapp.models import FINAL, LIVE, Status
from triggerapp.models.moves import MOVES, public_name

ROOTS = [Path(package.__file__).parent for package in (triggerapp, workers)]
SOURCES = [path for root in ROOTS for path in root.rglob("*.py") if "migrations" not in path.parts]
PAIRS = list(product(Status, Status))
CHANGES_A_STATUS = (
    r"(?s)UPDATE\s+triggerapp_run\b(?:(?!WHERE).){0,400}?(?<![\w.])status\s*=",
    r"Run\.objects[^\n]*\.update\([^)]*\bstatus=",
    r"\brun\.status\s*=[^=]",
    r"bulk_update\([^)]*status",
)


def test_there_is_no_other_door_than_move_sql():
    found = [
        f"{path.name}: {match.group(0)[:80]}"
        for path in SOURCES
        for pattern in CHANGES_A_STATUS
        for match in re.finditer(pattern, path.read_text())
        if path.name != "moves.py"
    ]
    assert found == []


def test_the_search_for_other_doors_finds_the_one_there_is():
    (moves,) = [path for path in SOURCES if path.name == "moves.py"]
    assert re.search(CHANGES_A_STATUS[0], moves.read_text())


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(("start", "to"), PAIRS, ids=[f"{start}-{to}" for start, to in PAIRS])
def test_a_move_happens_exactly_if_the_table_has_it(start: Status, to: Status):
    run = make_run(start)
    if start in MOVES[to]:
        assert run.move(to).status == to
    else:
        with pytest.raises(StaleRun):
            run.move(to)
        assert fresh(run).status == start


def test_a_run_that_has_ended_moves_only_by_a_retry_of_what_went_wrong():
    moves = {(start, to) for to, starts in MOVES.items() for start in starts if start in FINAL}
    assert moves == {(start, Status.PENDING) for start in (Status.FAILED, Status.CRASHED, Status.TIMED_OUT)}


def test_every_status_is_either_live_or_final():
    assert {*LIVE, *FINAL} == set(Status)
    assert not {*LIVE} & {*FINAL}


@pytest.mark.usefixtures("database")
def test_a_move_with_the_wrong_lease_changes_nothing():
    run = make_run(Status.RUNNING, lease=3)
    for lease in (2, 4):
        with pytest.raises(StaleRun, match=f"lease {lease}"):
            run.move(Status.FAILED, lease=lease)
    assert fresh(run).status == Status.RUNNING


@pytest.mark.usefixtures("database")
def test_a_move_takes_other_fields_along():
    run = make_run(Status.RUNNING).move(Status.FAILED, lease=1, error={"message": "no"}, attempt=2)
    assert (fresh(run).error, fresh(run).attempt) == ({"message": "no"}, 2)


def test_each_status_has_the_name_that_trigger_dev_gives_it():
    assert [public_name(status, delayed=False) for status in Status] == [
        "QUEUED",
        "QUEUED",
        "EXECUTING",
        "WAITING",
        "COMPLETED",
        "FAILED",
        "CRASHED",
        "TIMED_OUT",
        "CANCELED",
        "EXPIRED",
    ]
    assert public_name(Status.PENDING) == "DELAYED"

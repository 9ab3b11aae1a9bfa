"""Canvas of durable tasks: each part is suspended in its middle, and Celery sees tasks that took a while."""

from __future__ import annotations

from typing import Any

import pytest
from celery import chain, chord, group

from tests.acceptance.cluster import wait_until
from tests.acceptance.ledger import fresh, notes
from tests.acceptance.tasks import (
    add,
    boom,
    echo,
    late,
    noted,
    plain_add,
    plain_errback,
    plain_note,
    plain_total,
    total,
)
from triggerapp.models import Run

pytestmark = pytest.mark.usefixtures("on")


def test_a_chain_of_durable_tasks():
    result = chain(add.s(1, 1), add.s(2), add.s(3)).delay()
    assert result.get(timeout=120) == 7
    assert [result.parent.get(), result.parent.parent.get()] == [4, 2]


def test_a_durable_task_anywhere_in_a_chain_of_plain_ones():
    places = [[add if n == place else plain_add for n in range(3)] for place in range(3)]
    chains = [chain(first.s(1, 1), middle.s(2), last.s(3)).delay() for first, middle, last in places]
    assert [result.get(timeout=120) for result in chains] == [7, 7, 7]


def test_a_group_in_order():
    assert group(add.s(n, n, pause=0.3 - n / 10) for n in range(3)).delay().get(timeout=120) == [0, 2, 4]


def test_a_chord_with_a_durable_header():
    assert chord([add.s(n, n) for n in range(3)], plain_total.s()).delay().get(timeout=120) == 6


def test_a_chord_with_a_durable_body():
    assert chord([plain_add.s(n, n) for n in range(3)], total.s(more=1)).delay().get(timeout=120) == 7


def test_a_chord_durable_in_all_its_parts_beside_plain_ones():
    assert chord([add.s(1, 1), plain_add.s(2, 2), add.s(3, 3)], total.s()).delay().get(timeout=120) == 12


def test_a_chord_within_a_chord():
    inner = chord([add.s(1, 1), add.s(2, 2)], total.s())
    assert chord([inner, add.s(3, 3)], total.s(more=100)).delay().get(timeout=120) == 112


def test_a_chord_of_chains():
    header = [chain(add.s(n, 1), add.s(10)) for n in range(2)]
    assert chord(header, total.s()).delay().get(timeout=120) == 23


def test_groups_between_tasks():
    flow = group(add.s(1, 1), add.s(2, 2)) | total.s() | group(add.s(10), add.s(20)) | total.s()
    assert flow.delay().get(timeout=120) == 42


def test_a_chord_whose_header_fails_calls_the_errback_of_its_body():
    tag = fresh()
    result = chord([add.s(1, 1), boom.s("header")], total.s().on_error(plain_errback.s(tag))).delay()
    with pytest.raises(Exception, match="header"):
        result.get(timeout=120)
    assert len(wait_until(lambda: notes(tag))) == 1


@pytest.mark.parametrize("task", [add, plain_add], ids=["durable", "plain"])
def test_map_starmap_and_chunks(task: Any):
    assert task.starmap([(1, 1), (2, 2)]).delay().get(timeout=120) == [2, 4]
    assert task.chunks([(n, n) for n in range(4)], 2).delay().get(timeout=120) == [[0, 2], [4, 6]]
    assert task.chunks([(n, n) for n in range(3)], 2).group().apply_async().get(timeout=120) == [[0, 2], [4]]
    assert chain(task.starmap([(1, 1), (2, 2)]), total.s()).delay().get(timeout=120) == 6
    assert chord([task.starmap([(1, 1)]), task.starmap([(2, 2)])], echo.s()).delay().get(timeout=120) == [[2], [4]]


def test_a_map_is_one_run_that_waits_in_each_of_its_calls():
    result = late.map(tags := [fresh(), fresh()]).delay()
    assert result.get(timeout=120) == ["late", "late"]
    assert [notes(tag) for tag in tags] == [["before", "after"]] * 2
    run = Run.objects.get(task_id=result.id)
    assert (run.task, run.status, run.waits.count()) == ("celery.map", "completed", 2)


def test_a_map_of_a_plain_task_is_no_run():
    result = plain_add.starmap([(1, 1)]).delay()
    assert result.get(timeout=120) == [2]
    assert not Run.objects.filter(task_id=result.id).exists()


def test_a_map_that_fails_fails_once():
    result = boom.map(["mapped", "never"]).apply_async(link_error=[plain_errback.s(tag := fresh())])
    with pytest.raises(ValueError, match="mapped"):
        result.get(timeout=120)
    wait_until(lambda: notes(tag))
    assert notes(tag) == [[result.id, "mapped"]] and Run.objects.get(task_id=result.id).status == "failed"


def test_each_link_is_called_once_at_the_real_end():
    tag = fresh()
    result = add.apply_async((1, 1), link=[plain_note.s(tag), noted.s(tag), noted.s(tag)])
    assert result.get(timeout=120) == 2
    wait_until(lambda: len(notes(tag)) >= 3)
    assert notes(tag) == [2, 2, 2]


def test_link_error_is_called_once():
    tag = fresh()
    result = boom.apply_async(("linked",), link_error=[plain_errback.s(tag)])
    with pytest.raises(ValueError, match="linked"):
        result.get(timeout=120)
    wait_until(lambda: notes(tag))
    assert notes(tag) == [[result.id, "linked"]]


def test_a_chain_ends_where_a_link_of_it_fails():
    tag = fresh()
    result = chain(boom.s("early"), noted.si(1, tag)).delay()
    with pytest.raises(ValueError, match="early"):
        result.parent.get(timeout=120)
    assert notes(tag) == []


def test_many_at_once():
    """Forty chords of five with waits of a millisecond: nothing is lost between suspending and waking."""
    chords = [chord([echo.s(n, pause=0.001) for n in range(5)], plain_total.s()).delay() for _ in range(10)]
    assert [result.get(timeout=300) for result in chords] == [10] * 10

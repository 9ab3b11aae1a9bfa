"""What Celery's backend reads before it stores the result of a run: nothing, and only then."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import uuid4

import pytest
from celery import Celery

from workers import results


@pytest.fixture
def backend():
    return Celery("results", backend="cache+memory://", set_as_current=False).backend


@pytest.fixture
def mine():
    """A task id that no other test stores anything under: the backend's memory is the process's."""
    return str(uuid4())


def task(backend, *, ignore_result=False):
    return SimpleNamespace(backend=backend, ignore_result=ignore_result)


def request(task_id, *, ignore_result=False, nesting=0):
    return SimpleNamespace(id=task_id, ignore_result=ignore_result, replaced_task_nesting=nesting)


def looks(backend, monkeypatch):
    """The task ids whose results are read from now on."""
    found = []
    read = backend.get

    def get(key):
        found.append(key)
        return read(key)

    monkeypatch.setattr(backend, "get", get)
    return found


def test_a_result_is_stored_without_a_look_at_what_is_there(backend, mine, monkeypatch):
    read = looks(backend, monkeypatch)
    results.will_be_first(task(backend), request(mine))
    backend.mark_as_done(mine, 42)
    assert not read
    assert backend.get_result(mine) == 42


def test_what_is_stored_after_it_does_not_overwrite_it(backend, mine):
    results.will_be_first(task(backend), request(mine))
    backend.mark_as_done(mine, 42)
    backend.mark_as_failure(mine, ValueError("late"), call_errbacks=False)
    assert backend.get_result(mine) == 42


def test_of_a_task_id_that_is_used_again_what_was_stored_first_stays(backend, mine):
    backend.mark_as_done(mine, 7)
    results.will_be_first(task(backend), request(mine, nesting=1))
    backend.mark_as_done(mine, 42)
    assert backend.get_result(mine) == 7


def test_other_results_are_read_as_ever_meanwhile(backend, mine):
    backend.mark_as_done("other", 7)
    results.will_be_first(task(backend), request(mine))
    assert backend.get_result("other") == 7
    backend.mark_as_failure("other", ValueError("late"), call_errbacks=False)
    assert backend.get_result("other") == 7


@pytest.mark.parametrize(("of_task", "of_request"), [(True, False), (False, True)])
def test_where_nothing_will_be_stored_the_next_look_is_a_real_one(backend, mine, of_task, of_request):
    results.will_be_first(task(backend, ignore_result=of_task), request(mine, ignore_result=of_request))
    backend.mark_as_done(mine, 42)
    assert backend.get_result(mine) == 42


def test_a_run_whose_result_was_not_stored_leaves_nothing_for_the_next_one(backend, mine):
    backend.mark_as_done(mine, 7)
    results.will_be_first(task(backend), request(mine))
    results.will_be_first(task(backend), request("next"))
    assert backend.get_result(mine) == 7


def test_a_backend_that_stores_in_its_own_way_is_left_alone(mine):
    own = SimpleNamespace()
    results.will_be_first(task(own), request(mine))
    assert not vars(own)

"""A run's process as its supervisor knows it: what may follow on what, and when it is signaled."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from checkpoint import Sandbox
from checkpoint.line import Hung, Line
from workers.messages import MOVE_OUT, SOFT_LIMIT
from workers.supervision.life import AWAKE, MOVES, Life, State

Told = list[tuple[int, signal.Signals]]


@pytest.fixture
def process() -> Iterator[Sandbox]:
    """A line and a pipe; whose pid it is does not matter where nothing is sent."""
    line, other = Line.pair()
    output, printed = os.pipe()
    yield Sandbox(os.getpid(), line, 0, output)
    line.close()
    other.close()
    os.close(printed)
    os.close(output)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """The signals that were sent."""
    sent: Told = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def at(process: Sandbox, *states: State) -> Life:
    life = Life()
    life.begin(process, states[0])
    for state in states[1:]:
        life.move(state)
    return life


def test_each_state_says_what_may_follow_and_all_of_them_end():
    assert set(MOVES) == set(State)
    assert all(State.OVER in MOVES[state] for state in State if state is not State.OVER)
    assert not MOVES[State.OVER]


@pytest.mark.parametrize("state", [state for state in State if state is not State.UNBORN])
@pytest.mark.parametrize("to", State)
def test_what_is_not_in_the_table_cannot_happen(process: Sandbox, told: Told, state: State, to: State):
    life = at(process, State.BORN)
    life.state = state
    if to in MOVES[state]:
        life.move(to)
        assert life.state is to
    else:
        with pytest.raises(Hung, match=f"that is {state.value} cannot be {to.value}"):
            life.move(to)
        assert life.state is state


@pytest.mark.parametrize(("first", "then"), [(State.BORN, State.AT_WORK), (State.WOKEN, State.WOKEN)])
def test_a_soft_limit_that_comes_before_the_function_runs_is_told_when_it_does(
    process: Sandbox, told: Told, first: State, then: State
):
    life = Life()
    life.tell(SOFT_LIMIT)
    life.begin(process, first)
    if first is not then:
        assert told == []
        life.move(then)
    assert told == [(process.pid, SOFT_LIMIT)]


def test_a_soft_limit_that_comes_while_it_stands_is_told_once_when_it_goes_on(process: Sandbox, told: Told):
    life = at(process, State.BORN, State.AT_WORK, State.STANDING)
    life.tell(SOFT_LIMIT)
    life.tell(SOFT_LIMIT)
    assert told == []
    life.move(State.WOKEN)
    assert told == [(process.pid, SOFT_LIMIT)]
    life.move(State.STANDING)
    life.move(State.WOKEN)
    assert len(told) == 1


@pytest.mark.parametrize("state", [state for state in State if state in AWAKE])
def test_a_process_at_work_is_told_at_once(process: Sandbox, told: Told, state: State):
    life = at(process, State.BORN)
    life.state = state
    life.tell(MOVE_OUT)
    assert told == [(process.pid, MOVE_OUT)]


def test_nobody_is_signaled_by_the_pid_of_a_process_that_is_over(process: Sandbox, told: Told):
    life = at(process, State.BORN)
    life.tell(MOVE_OUT)
    assert life.let_go() is process
    life.tell(SOFT_LIMIT)
    life.end()
    assert told == []

"""The table of interned strings, of a process that is a few strings before its end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from checkpoint import interned

SCRIPT = """
import sys, tracemalloc
from checkpoint import interned

def intern_until_replaced(name, most):
    tracemalloc.start()
    for number in range(most):
        before, _ = tracemalloc.get_traced_memory()
        sys.intern(f"{name} {number}")
        if tracemalloc.get_traced_memory()[0] - before > interned._REPLACED:
            break
    tracemalloc.stop()
    return number + 1

for _ in range(2):
    interned.make_room()
print(intern_until_replaced("before", int(sys.argv[1])))
if sys.argv[2:]:
    interned.make_room()
print(intern_until_replaced("a run process", 1000))
"""
"""Its table is large enough to be told from a string, and has as much room each time."""


def replaced_after(*arguments: object) -> list[int]:
    """How many strings were interned until the table was replaced, at first and at the end; or all that were to be."""
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "0"})
    return [int(line) for line in done.stdout.split()]


@pytest.mark.parametrize(("how", "interned_then"), [((), range(1000)), (("with room",), range(1000, 1001))])
def test_a_table_with_room_is_not_replaced_by_the_next_strings(how: tuple[str, ...], interned_then: range) -> None:
    room, _ = replaced_after(interned._MOST)
    some, then = replaced_after(room - 100, *how)
    assert some == room - 100
    assert then in interned_then

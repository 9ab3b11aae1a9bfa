"""The table of interned strings, of a process that is a few strings before its end."""

from __future__ import annotations

import subprocess
import sys

import pytest

_AT_THE_EDGE = """
import sys, tracemalloc
from checkpoint import interned

def intern_until_replaced(name, most):
    tracemalloc.start()
    for number in range(most):
        before, _ = tracemalloc.get_traced_memory()
        sys.intern(f"{name} {number}")
        if tracemalloc.get_traced_memory()[0] - before > 1 << 16:
            break
    tracemalloc.stop()
    return number + 1

for name in ("first", "second"):
    intern_until_replaced(name, 1 << 20)
room = intern_until_replaced("third", 1 << 20)
intern_until_replaced("some", room - 10)
if sys.argv[1] == "with room":
    interned.make_room()
print(intern_until_replaced("a run process", 1000))
"""


@pytest.mark.parametrize(("how", "interned"), [("as it is", range(1000)), ("with room", range(1000, 1001))])
def test_a_table_with_room_is_not_replaced_by_the_next_strings(how: str, interned: range) -> None:
    done = subprocess.run([sys.executable, "-c", _AT_THE_EDGE, how], capture_output=True, text=True, check=True)
    assert int(done.stdout) in interned

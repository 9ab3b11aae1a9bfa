"""Room in Python's table of interned strings, made before processes are forked that would each make it for themselves.

The table is one block of memory, and the string that fills it has it replaced by a larger one. That may be any string:
in a run process hundreds of kilobytes are its own then, and in each of its images.
"""

from __future__ import annotations

import sys
import tracemalloc
from typing import Final

_REPLACED: Final = 1 << 16
"""Bytes that no string takes, and any table of a program with some libraries does."""
_MOST: Final = 1 << 20
"""Strings that are interned in vain; the table of a program with a million of them is left as it is."""


def make_room() -> None:
    """Intern strings that nobody keeps until the table has been replaced: a third of it, or more, is free then.

    Python 3.12 keeps whatever was interned: a few megabytes, which all forked processes share.
    """
    if tracemalloc.is_tracing():  # the program's own: its figures are not to be disturbed
        return
    tracemalloc.start()
    try:
        for number in range(_MOST):
            before, _ = tracemalloc.get_traced_memory()
            sys.intern(f"{__name__} {number}")
            after, _ = tracemalloc.get_traced_memory()
            if after - before > _REPLACED:
                return
    finally:
        tracemalloc.stop()

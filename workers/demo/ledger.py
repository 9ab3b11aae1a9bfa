"""The ledger: one line for each thing that happened to the world, and never a line changed or taken back.

The shop writes what it does itself, the payment and mail servers what they were made to do. Several processes
append at once, so a line is one `write` to a file opened with O_APPEND.
"""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

PATH: Final = "SHOP_LEDGER"
"""The environment variable that names the file."""

AUTHOR: Final = "SHOP_PROCESS"
"""The environment variable that says who writes: `worker 1`, `worker 2`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    who: str
    """The ticket it was done for."""
    what: str
    """What was done: `reserved`, `charged`, `e-mailed`, ..."""
    key: str
    """The idempotency key it was done under; the same for each try of one step."""
    by: str
    """The process that did it."""
    at: float
    """Seconds since the epoch, for reading in order; nothing is decided by it."""


class Ledger:
    """An append-only file of entries."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, who: str, what: str, *, key: str, by: str) -> None:
        entry = Entry(who=who, what=what, key=key, by=by, at=time.time())
        line = json.dumps(asdict(entry)) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, line.encode())  # one write: lines of other processes cannot come between
        finally:
            os.close(file)

    def entries(self) -> list[Entry]:
        """Every entry so far, in the order written."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().splitlines(keepends=True)
        return [Entry(**json.loads(line)) for line in lines if line.endswith("\n")]


def record(who: str, what: str, *, key: str) -> None:
    """Append to the ledger the environment names: how a shop's task does something that cannot be undone."""
    Ledger(Path(os.environ[PATH])).append(who, what, key=key, by=os.environ.get(AUTHOR, "the shop"))

"""A command by somebody without capabilities, beside a helper: `python -m tests.helped [OPTIONS] COMMAND...`. For root.

The helper ends with the command; what it says goes where the command's errors go.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from checkpoint import __main__ as command
from checkpoint import processes
from checkpoint.helper import find
from tests.box import NOBODY, box

_PATIENCE: Final = 60.0


def helped(group: str, *options: str, user: int = NOBODY) -> tuple[str, ...]:
    """What to put before a command, for a member of `group`; the options are a box's."""
    return (*box(*options), *beside(group, user=user))


def beside(group: str, *, user: int = NOBODY) -> tuple[str, ...]:
    """The same within a box: others reach Python there, and the helper and its peers see the same."""
    return (sys.executable, "-m", "tests.helped", "--group", group, "--user", str(user), "--")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    parser = argparse.ArgumentParser(prog="python -m tests.helped", description=__doc__)
    parser.add_argument("--group", required=True, help="whose members are served; the command is one")
    parser.add_argument("--user", type=int, default=NOBODY)
    parser.add_argument("command", nargs="+")
    chosen = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    os.environ[find.VARIABLE] = str(start(folder, chosen.group))
    rights = [f"--reuid={chosen.user}", f"--regid={chosen.user}", f"--groups={chosen.group}"]
    os.execvp("setpriv", ["setpriv", *rights, "--inh-caps=-all", "--ambient-caps=-all", *chosen.command])


def start(folder: Path, group: str) -> Path:
    """A helper for this group, which ends with this process; the address at which it listens."""
    address = folder / "checkpoint.sock"
    key = folder.parent / "helper.key"  # the next one restores what this one dumped
    parent = os.pidfd_open(os.getpid())
    between = os.fork()
    if between == 0:
        if os.fork():
            os._exit(0)  # a worker looks into all that are below it, and may not into root's
        _watch(parent, ["helper", "--socket", str(address), "--group", group, "--key", str(key)])
    os.waitpid(between, 0)
    deadline = time.monotonic() + _PATIENCE
    while not address.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return address


def _watch(parent: int, helper: Sequence[str]) -> NoReturn:
    """A death signal would not do: who ends is no root by then, and may not signal one."""
    os.setsid()
    me = os.getpid()
    if os.fork() == 0:
        processes.die_with(me)
        os._exit(command.main(helper))
    select.select([parent], [], [])
    os._exit(0)


if __name__ == "__main__":
    main()

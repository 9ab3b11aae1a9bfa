"""`python -m checkpoint check` says whether processes can be frozen here; `install` brings CRIU to Debian.

`key` makes a key to seal checkpoints with, `helper` serves workers that hold no capability."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from checkpoint import binary, capability, install
from checkpoint.errors import CheckpointError
from checkpoint.helper import find, server
from checkpoint.seal import Keyring

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    if chosen.command == "check":
        return _check(as_json=chosen.json)
    if chosen.command == "key":
        return _key(chosen.id)
    if chosen.command == "helper":
        return _help(chosen.socket, chosen.group, chosen.key)
    return _install(chosen.prefix, chosen.file_capabilities)


def _check(*, as_json: bool) -> int:
    verdict = capability.check()
    _say(json.dumps(verdict.describe(), indent=2) if as_json else str(verdict))
    return 0 if verdict.ok else 1


def _key(name: str) -> int:
    try:
        _say(Keyring.make(name))
    except ValueError as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


def _install(prefix: Path | None, group: str | None) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` ends it as ctrl-C does: nothing half made stays
    try:
        made = install.install(prefix, group=group, say=_say)
    except CheckpointError as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: run it again\n")
        return 128 + signal.SIGINT
    if made.path not in binary.candidates():
        _say(f"export {binary.VARIABLE}={made.path}")
    return 0


def _help(address: Path, group: str, key: Path) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        server.run(address, group=group, key_file=key)
    except (CheckpointError, OSError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m checkpoint", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="say whether processes can be frozen here; 0 if so, 1 if not")
    check.add_argument("--json", action="store_true", help="for machines")
    key = commands.add_parser("key", help="print a new key for checkpoints")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    key.add_argument("id", nargs="?", default=today, help="what it is called; today's date unless given")
    install_ = commands.add_parser("install", help="bring CRIU to Debian 12 or 13, beside the system's packages")
    install_.add_argument("--prefix", type=Path, help=f"where to; {binary.default_prefix()} unless given")
    install_.add_argument(
        "--file-capabilities",
        metavar="GROUP",
        help="give CRIU the capabilities CHECKPOINT_RESTORE and SETPCAP, and let only GROUP execute it: its members' "
        "workers dump and restore without any capability of their own. Whatever such a member runs can make use of "
        "both. As root",
    )
    _add_helper(commands)
    return parser


def _add_helper(commands: Commands) -> None:
    helper = commands.add_parser("helper", help="dump and restore for workers without capabilities, as root")
    helper.add_argument(
        "--socket", type=Path, default=find.DEFAULT, help=f"where it listens; {find.DEFAULT} unless given"
    )
    helper.add_argument("--group", required=True, help="whose members it works for")
    helper.add_argument(
        "--key",
        type=Path,
        default=server.KEY,
        help=f"the file with its key, which is made if there is none; {server.KEY} unless given. Hosts that restore "
        "each other's images need the same",
    )


if __name__ == "__main__":
    sys.exit(main())

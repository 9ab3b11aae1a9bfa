"""`python -m checkpoint check` says whether processes can be frozen here; `install` brings CRIU to Debian.

`key` makes a key to seal checkpoints with."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from checkpoint import binary, capability, install
from checkpoint.errors import CheckpointError
from checkpoint.seal import Keyring


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    if chosen.command == "check":
        return _check(as_json=chosen.json)
    if chosen.command == "key":
        _say(Keyring.make(chosen.id))
        return 0
    return _install(chosen.prefix, chosen.file_capabilities)


def _check(*, as_json: bool) -> int:
    verdict = capability.check()
    _say(json.dumps(verdict.describe(), indent=2) if as_json else str(verdict))
    return 0 if verdict.ok else 1


def _install(prefix: Path | None, group: str | None) -> int:
    try:
        made = install.install(prefix, group=group, say=_say)
    except CheckpointError as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    if made.path not in binary.candidates():
        _say(f"export {binary.VARIABLE}={made.path}")
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
    return parser


if __name__ == "__main__":
    sys.exit(main())

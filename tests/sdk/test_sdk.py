"""Trigger.dev's own SDK for Node triggers and manages Python tasks: no patched client, no relaxed schema."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.sdk.conftest import Node

pytestmark = pytest.mark.slow
_TEXT = "".join(program.read_text() for program in sorted(Path(__file__).parent.glob("*.mjs")))
SCENARIOS = re.findall(r"^  async (\w+)\(\) \{$", _TEXT, re.MULTILINE)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_a_node_program_does_with_the_sdk(scenario: str, node: Node) -> None:
    node.run(scenario)


def test_every_scenario_is_found() -> None:
    assert len(SCENARIOS) == _TEXT.count("\n  async ") >= 13

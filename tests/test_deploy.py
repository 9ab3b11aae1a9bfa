"""The files under docs/deploy say what the code needs, and nothing that it does not know."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from checkpoint import __main__ as command
from checkpoint.helper import find

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "docs" / "deploy"
NEEDED = {"CHECKPOINT_RESTORE", "SETPCAP"}
FILTERS = ("SystemCall", "Restrict", "LockPersonality", "MemoryDenyWriteExecute", "ProtectKernelTunables")
"""Directives of systemd that are seccomp filters, under which CRIU cannot work, or hide ns_last_pid."""


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return found


def test_what_compose_builds_is_there(services: dict[str, Any]):
    built = [service["build"] for service in services.values() if "build" in service]
    assert len(built) == 3
    for build in built:
        context = (DEPLOY / build["context"]).resolve()
        assert context == ROOT and (context / build["dockerfile"]).is_file()


def test_the_worker_may_dump_and_restore_and_no_more(services: dict[str, Any]):
    worker = services["worker"]
    assert worker["cap_drop"] == ["ALL"] and NEEDED <= set(worker["cap_add"])
    assert not {"SYS_ADMIN", "ALL"} & set(worker["cap_add"])
    assert "seccomp=unconfined" in worker["security_opt"]
    assert any(mount.startswith("/run") for mount in worker["tmpfs"])
    assert worker["environment"]["TMPDIR"] == "/run"
    store = worker["environment"]["TRIGGERAPP_CHECKPOINT_STORE"]
    assert any(volume.endswith(f":{store}") for volume in worker["volumes"])
    assert all("cap_add" not in service for name, service in services.items() if name != "worker")


def test_every_variable_is_one_that_the_settings_read(services: dict[str, Any]):
    read = (ROOT / "triggerapp" / "settings.py").read_text() + (
        ROOT / "triggerapp" / "services" / "process.py"
    ).read_text()
    for name in services["worker"]["environment"]:
        assert name == "TMPDIR" or f'"{name}"' in read, name


def test_the_unit_grants_the_capabilities_and_filters_no_system_call():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "triggerapp-worker@.service")
    service = unit["Service"]
    assert {f"CAP_{name}" for name in NEEDED} == set(service["AmbientCapabilities"].split())
    assert not [name for name in service if name.startswith(FILTERS)]
    assert service["KillMode"] == "mixed"


def test_the_helper_s_unit_keeps_what_it_restored_and_the_namespaces_of_the_workers():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "triggerapp-checkpoint-helper.service")
    service = unit["Service"]
    assert {f"CAP_{name}" for name in NEEDED} < set(service["CapabilityBoundingSet"].split())
    assert not [name for name in service if name.startswith((*FILTERS, "Private", "Protect"))]
    assert service["KillMode"] == "process"
    assert find.DEFAULT.parent.name == service["RuntimeDirectory"]
    _, isolated, _, module, name, *options = service["ExecStart"].split()
    assert (isolated, module, name) == ("-I", "checkpoint", "helper")
    assert command._parser().parse_args([name, *options]).group == "triggerapp"


def test_docker_and_systemd_wait_longer_than_they_do_by_themselves(services: dict[str, Any]):
    text = (DEPLOY / "triggerapp-worker@.service").read_text()
    (unit,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(services["worker"]["stop_grace_period"].removesuffix("s")) >= 60 and int(unit) >= 60

"""Whether processes can be dumped here, and what is said where they cannot."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import checkpoint
from checkpoint import __main__ as command
from checkpoint import binary, capability, rights
from checkpoint.errors import Unsupported


def fake(folder: Path, script: str) -> Path:
    program = folder / "criu"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Makes a script the CRIU to be used."""

    def set_script(script: str) -> Path:
        program = fake(tmp_path, script)
        monkeypatch.setenv(binary.VARIABLE, str(program))
        return program

    return set_script


@pytest.mark.parametrize("version", ["3.17.1", "4.1.1", "4.1"])
def test_an_old_criu_is_refused_and_told_why(use, version: str) -> None:  # type: ignore[no-untyped-def]
    use(f"echo Version: {version}")
    verdict = checkpoint.check()
    assert not verdict.ok
    assert f"CRIU {version}" in str(verdict)
    assert "os.urandom()" in str(verdict)
    assert "python -m checkpoint install" in str(verdict)


@pytest.mark.parametrize(("version", "expected"), [("4.2", (4, 2)), ("4.2.1", (4, 2, 1)), ("5.0", (5, 0))])
def test_a_new_criu_is_taken(use, version: str, expected: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    path = use(f"echo Version: {version}; echo GitID: v{version}")
    assert binary.find() == binary.Binary(path=path, version=expected)


def test_without_criu_the_verdict_is_no_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "candidates", lambda: iter(()))
    verdict = checkpoint.check()
    assert (verdict.ok, verdict.reasons[0].code, verdict.reasons[0].remedy) == (False, "criu", binary.INSTALL)
    with pytest.raises(Unsupported):
        checkpoint.driver()


@pytest.mark.criu
def test_a_network_namespace_whose_loopback_is_down_is_told_with_its_remedy() -> None:
    anew = 'mount -t tmpfs none /run; exec "$@"'  # where CRIU has learned nothing yet
    command = ["unshare", "-n", "-m", "sh", "-c", anew, "sh", sys.executable, "-m", "checkpoint", "check"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    if "unshare" in said.stderr:
        pytest.skip(said.stderr.strip())
    assert said.returncode == 1
    assert "ip link set lo up" in said.stdout


def test_a_home_that_cannot_be_entered_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(binary.os, "geteuid", lambda: 1000)
    monkeypatch.delenv(binary.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(binary, "_SYSTEM", tmp_path / "absent")
    monkeypatch.setattr(binary, "_FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(binary.candidates()) == []


@pytest.mark.parametrize("script", ["exit 1", "echo hello", "kill -9 $$"])
def test_a_program_that_is_no_criu_is_told(use, script: str) -> None:  # type: ignore[no-untyped-def]
    use(script)
    assert not checkpoint.check().ok


def test_a_criu_that_hangs_is_ended_with_all_it_started(use, no_process_left: None) -> None:  # type: ignore[no-untyped-def]
    use('case "$1" in --version) echo Version: 4.2;; *) sleep 1000 & sleep 1000;; esac')
    verdict = capability.check(timeout=timedelta(seconds=3))
    assert not verdict.ok
    assert "more than 3 s" in verdict.reasons[0].message


def test_a_criu_that_dies_is_told(use, no_process_left: None) -> None:  # type: ignore[no-untyped-def]
    use('case "$1" in --version) echo Version: 4.2;; *) kill -11 $$;; esac')
    verdict = checkpoint.check()
    assert "killed by signal 11" in verdict.reasons[0].message


def test_a_broken_check_is_a_no_and_never_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(capability, "_look_around", break_down)
    verdict = checkpoint.check()
    assert not verdict.ok
    assert "RuntimeError: unforeseen" in str(verdict)


def test_a_seccomp_filter_missing_rights_and_a_plain_run_folder_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "_status", {"Seccomp": "2", "CapEff": "0"}.__getitem__)
    monkeypatch.setattr(capability, "file_system", lambda path: "overlay")
    monkeypatch.setattr(capability.pids, "can_leap", lambda: False)
    codes = {reason.code for reason in capability._look_around()}
    assert {"seccomp", "capabilities", "run", "ns_last_pid"} <= codes


def test_the_command_prints_the_verdict_for_people_and_for_machines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(binary, "candidates", lambda: iter(()))
    assert command.main(["check"]) == 1
    assert "checkpoints do not work here" in capsys.readouterr().out
    assert command.main(["check", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert said["reasons"][0]["code"] == "criu"


@pytest.mark.criu
def test_here_it_works(no_process_left: None) -> None:
    verdict = checkpoint.check()
    assert verdict.ok
    assert verdict.version is not None


def test_who_has_rights_of_its_own_asks_no_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability.rights, "has_own", lambda: True)
    monkeypatch.setattr(capability.find, "find", lambda: pytest.fail("asked"))
    assert capability._helper() is None


def test_a_helper_that_should_be_there_and_is_not_is_told_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(capability.rights, "has_own", lambda: False)
    monkeypatch.setattr(binary, "candidates", lambda: iter(()))
    monkeypatch.setenv("CHECKPOINT_HELPER", str(tmp_path / "absent.sock"))
    first = checkpoint.check().reasons[0]
    assert (first.code, first.blocking) == ("helper_down", True)
    assert "absent.sock" in first.message and "python -m checkpoint helper" in first.remedy
    with pytest.raises(Unsupported):
        checkpoint.driver()

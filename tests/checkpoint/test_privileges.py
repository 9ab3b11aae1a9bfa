"""What CRIU may do, in places that are made for it: the verdict there, with the reason and the remedy."""

from __future__ import annotations

import grp
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpoint import __main__ as command
from checkpoint import binary, elf, filecaps, grant
from checkpoint.errors import InstallFailed
from checkpoint.filecaps import NEEDED
from tests import criu
from tests.box import DOCKERS, NOBODY, ROOT, box
from tests.checkpoint import again

pytestmark = pytest.mark.criu


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that every user may enter and write to."""
    criu.require_root()
    made = Path(tempfile.mkdtemp())
    made.chmod(0o1777)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def start(folder: Path) -> Path:
    """A CRIU with capabilities of its own."""
    return criu.with_capabilities(folder)


def verdict(folder: Path, *options: str, use: Path | None = None) -> dict[str, Any]:
    """What `python -m checkpoint check` says in a box."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    if use is not None:
        env[binary.VARIABLE] = str(use)
    asking = [*box(*options), sys.executable, "-m", "checkpoint", "check", "--json"]
    done = subprocess.run(asking, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if said["ok"] else 1)
    return said


def codes(said: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in said["reasons"]]


def test_a_member_of_the_group_dumps_and_restores_without_any_capability(folder: Path, start: Path) -> None:
    said = verdict(folder, *criu.member(), use=start)
    assert said["ok"] and said["mode"] == "unprivileged", said
    assert "pids" in codes(said)


def test_root_uses_the_same_one(folder: Path, start: Path) -> None:
    assert verdict(folder, use=start)["ok"]


@pytest.mark.parametrize(
    ("options", "code", "remedy"),
    [
        (f"--user {NOBODY}", "not_in_group", "group {group}"),
        ("{member} --no-new-privs", "no_new_privs", "NoNewPrivileges=no"),
        ("{member} --nosuid {folder}", "nosuid", "--prefix"),
        ("{member} --capabilities setpcap", "bounding_set", "CapabilityBoundingSet="),
        ("{member} --filter", "seccomp", "seccomp=unconfined"),
    ],
)
def test_what_keeps_a_files_capabilities_from_working_is_named(
    folder: Path, start: Path, options: str, code: str, remedy: str
) -> None:
    said = verdict(folder, *options.format(member=" ".join(criu.member()), folder=folder).split(), use=start)
    first = said["reasons"][0]
    assert (said["ok"], first["code"], first["blocking"]) == (False, code, True), said
    assert remedy.format(group=criu.group()) in first["remedy"]


@pytest.mark.parametrize("options", [("--user", str(NOBODY)), ("--capabilities", DOCKERS)])
def test_without_any_capability_both_ways_to_them_are_named(folder: Path, options: tuple[str, ...]) -> None:
    said = verdict(folder, *options)
    first = said["reasons"][0]
    assert (said["ok"], first["code"]) == (False, "capabilities"), said
    assert "AmbientCapabilities=" in first["remedy"] and "--file-capabilities GROUP" in first["remedy"]


def test_another_user_with_all_the_capabilities_of_root_works_as_other_users_do(folder: Path) -> None:
    """CRIU refuses to work for such a one as it does for root."""
    said = verdict(folder, "--user", str(NOBODY), "--ambient", "sys_admin,sys_time,net_admin,sys_chroot,setpcap")
    assert said["ok"] and said["mode"] == "unprivileged", said
    assert "time_namespace" in codes(said)


CONTAINER = ("--container", "--capabilities", f"{DOCKERS},checkpoint_restore")


LOOK_AROUND = """
import os, pathlib, socket
mounts = [line.split() for line in open("/proc/mounts")]
(root,) = {kind for _, at, kind, *_ in mounts if at == "/"}
pathlib.Path("outside-of-the-box").touch()
system = next(options for _, at, _, options, *_ in mounts if at == "/proc/sys")
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(root, system.split(",")[0], socket.gethostname(), os.getpid() < 100, status["CapEff"] == status["CapBnd"])
print(status["CapBnd"].strip())
"""


def test_the_container_is_like_dockers(folder: Path) -> None:
    """Else what works in it would prove nothing."""
    asking = [*box(*CONTAINER), sys.executable, "-c", LOOK_AROUND]
    done = subprocess.run(asking, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.splitlines() == ["overlay ro box True True", "00000100a80425fb"], done.stderr
    assert not (ROOT / "outside-of-the-box").exists()


def test_in_a_container_one_more_capability_than_dockers_is_enough(folder: Path) -> None:
    said = verdict(folder, *CONTAINER)
    assert said["ok"] and said["mode"] == "unprivileged", said
    assert "ns_last_pid" in codes(said) and "run" not in codes(said)


def test_what_criu_learned_about_the_kernel_is_kept_in_memory_for_root_and_for_others(folder: Path) -> None:
    kept = ["sh", "-c", f'"{sys.executable}" -m checkpoint check >/dev/null; ls -lnd "$XDG_RUNTIME_DIR"/criu.kdat']
    two = ("--ambient", "checkpoint_restore,setpcap")
    for options, where in (((), "/run"), ((*two, "--user", str(NOBODY)), "/dev/shm")):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": "/tmp", "XDG_RUNTIME_DIR": where}
        done = subprocess.run(
            [*box(*CONTAINER, *options), *kept], env=env, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert f"{where}/criu.kdat" in done.stdout, done.stderr


def test_in_a_container_another_user_needs_no_more_with_file_capabilities(folder: Path, start: Path) -> None:
    said = verdict(folder, *CONTAINER, *criu.member(), "--volume", str(folder), use=start)
    assert said["ok"], said


def test_in_a_container_the_filter_that_docker_sets_is_named(folder: Path) -> None:
    said = verdict(folder, *CONTAINER, "--filter")
    assert (said["ok"], codes(said)[:2]) == (False, ["seccomp", "selftest"]), said


@pytest.mark.slow
@pytest.mark.parametrize("in_container", [False, True], ids=["by file capabilities", "in a container"])
def test_what_goes_on_after_a_wait_of_roots_does_so_with_less(folder: Path, start: Path, in_container: bool) -> None:
    """In a container nobody chooses where pids go on, so processes are forked another way."""
    if in_container:
        again.passes(box(*CONTAINER), folder, {"TMPDIR": "/run"})
    else:
        env = {binary.VARIABLE: str(start), "TRIGGERAPP_REQUIRE_CRIU": "1"}
        again.passes(box(*criu.member()), folder, env)


def test_what_is_granted_is_one_groups_and_roots(start: Path) -> None:
    program = binary.program_of(start)
    found = program.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, grp.getgrnam(criu.group()).gr_gid, 0o750)
    assert filecaps.read(program) == NEEDED
    own_loader = Path(elf.loader(program.read_bytes()))
    assert own_loader.is_relative_to(start.parent.parent) and not filecaps.read(own_loader)


def test_granting_again_moves_it_to_another_group(start: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = ["install", "--prefix", str(start.parent.parent), "--file-capabilities"]
    assert command.main([*again, criu.another_group()]) == 0
    assert f"the group {criu.another_group()} and root alone" in capsys.readouterr().out
    assert filecaps.group(binary.program_of(start)) == criu.another_group()
    assert filecaps.read(binary.program_of(start)) == NEEDED
    assert command.main([*again, criu.group()]) == 0


def refused(prefix: Path, group: str | None = None) -> str:
    criu.require_root()
    with pytest.raises(InstallFailed) as caught:
        grant.grant(prefix, group or criu.group(), loader="loader", libraries="libraries")
    return caught.value.message


def test_nothing_is_granted_that_others_could_change(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    library = prefix / "usr/lib/library.so"
    library.parent.mkdir(parents=True)
    library.touch()
    for mode in (0o666, 0o1666):
        library.chmod(mode)
        assert f"{library} can be changed by others" in refused(prefix)
    library.chmod(0o644)
    os.chown(library.parent, NOBODY, NOBODY)
    assert f"{library.parent} can be changed by others" in refused(prefix)
    assert "a colon" in refused(tmp_path / "a:b")


def test_in_a_sticky_folder_others_can_only_add(tmp_path: Path) -> None:
    sticky = tmp_path / "sticky"
    (sticky / "prefix").mkdir(parents=True)
    sticky.chmod(0o1777)
    assert "not brought by the installer" in refused(sticky / "prefix")
    assert f"{sticky} can be changed by others" in refused(sticky / "another")
    (sticky / "prefix").chmod(0o1777)
    assert f"{sticky / 'prefix'} can be changed by others" in refused(sticky / "prefix")


def test_a_link_in_a_folder_of_somebody_is_followed_once_and_never_again(tmp_path: Path, start: Path) -> None:
    """He could have it lead elsewhere later."""
    link = tmp_path / "link"
    link.symlink_to(start.parent.parent)
    os.chown(tmp_path, NOBODY, NOBODY)
    assert command.main(["install", "--prefix", str(link), "--file-capabilities", criu.group()]) == 0
    named = [start.read_text(), elf.loader(binary.program_of(start).read_bytes())]
    assert all(str(start.parent.parent) in text and str(link) not in text for text in named)


def test_what_others_put_there_is_refused_and_never_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    criu.require_root()
    planted, executed = binary.start_of(tmp_path / "prefix"), tmp_path / "executed"
    planted.parent.mkdir(parents=True)
    planted.write_text(f"#!/bin/sh\ntouch {executed}\necho Version: 4.2.1\n")
    planted.chmod(0o755)
    install = ["install", "--prefix", str(tmp_path / "prefix"), "--file-capabilities", criu.group()]
    os.chown(planted, NOBODY, NOBODY)
    assert command.main(install) == 1
    assert f"{planted} can be changed by others" in capsys.readouterr().err
    assert not executed.exists()
    os.chown(planted, 0, 0)
    assert command.main(install) == 1
    assert executed.exists()


def test_where_nothing_can_be_granted_nothing_is_changed(start: Path) -> None:
    program, in_the_way = binary.program_of(start), start.with_name(f"{start.name}.new")
    before = (program.stat(), start.read_text())
    in_the_way.mkdir()
    try:
        assert "cannot be given capabilities" in refused(start.parent.parent)
    finally:
        in_the_way.rmdir()
    assert (program.stat(), start.read_text()) == before
    assert not program.with_name(f"{program.name}.new").exists()


def test_a_program_that_is_cut_off_is_told(tmp_path: Path) -> None:
    program = tmp_path / binary.PROGRAMS[0]
    program.parent.mkdir(parents=True)
    program.write_bytes(Path("/bin/cat").read_bytes()[:100])
    assert f"{program} cannot be given capabilities: it is cut off" in refused(tmp_path)


def test_nothing_is_granted_to_a_group_that_is_not_there_or_by_others_than_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "groupadd" in refused(tmp_path, "absent-group")
    monkeypatch.setattr(grant.os, "geteuid", lambda: 1000)
    with pytest.raises(InstallFailed, match="by root alone"):
        grant.guarded(tmp_path, criu.group())

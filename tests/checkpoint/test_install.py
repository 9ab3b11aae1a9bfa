"""The installer: what it fetches, makes and refuses; Debian itself is played."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpoint import __main__ as command
from checkpoint import binary, install
from checkpoint.errors import InstallFailed

DEBIAN = {"ID": "debian", "VERSION_ID": "12", "VERSION_CODENAME": "bookworm", "PRETTY_NAME": "Debian 12"}


@pytest.fixture(autouse=True)
def _on_debian(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keyring.gpg").touch()
    (tmp_path / "tools").mkdir()
    monkeypatch.setattr(install, "_KEYRING", tmp_path / "keyring.gpg")
    monkeypatch.setattr(install.platform, "freedesktop_os_release", lambda: DEBIAN)
    monkeypatch.setattr(install.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", f"{tmp_path}/tools:/usr/bin:/bin")
    for name in ("apt-get", "apt-cache", "dpkg-deb"):
        make_tool(tmp_path, name, "exit 0")


def make_tool(tmp_path: Path, name: str, script: str) -> None:
    write_program(tmp_path / "tools" / name, script)


def write_program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def make_mirror(tmp_path: Path) -> None:
    """An apt whose mirror has a CRIU of two packages."""
    make_tool(
        tmp_path,
        "apt-get",
        f"""echo "$@" >> {tmp_path}/calls
        case "$*" in
            *indextargets*) echo "contrib bookworm http://other"; echo "main bookworm mirror://of-this-host";;
            *download*) touch criu_4.deb libc6_2.deb;;
            *update*) cat "$(echo "$*" | sed 's/.*sourcelist=\\([^ ]*\\).*/\\1/')" > {tmp_path}/sources;;
        esac""",
    )
    make_tool(tmp_path, "apt-cache", "echo criu; echo '  Depends: libc6'; echo '<virtual>'; echo libc6")
    make_tool(
        tmp_path,
        "dpkg-deb",
        f"""mkdir -p "$3/usr/sbin" "$3/{install._LIBRARIES}"
        printf '#!/bin/sh\\necho Version: 4.2.1\\n' > "$3/usr/sbin/criu"
        printf '#!/bin/sh\\nshift 2\\nexec /bin/sh "$@"\\n' > "$3/{install._LOADER}"
        chmod +x "$3/usr/sbin/criu" "$3/{install._LOADER}" """,
    )


def test_it_is_fetched_from_the_mirror_of_this_host_and_started_by_its_own_loader(tmp_path: Path) -> None:
    make_mirror(tmp_path)
    said: list[str] = []
    made = install.install(tmp_path / "prefix", say=said.append)
    assert made == binary.Binary(path=tmp_path / "prefix/bin/criu", version=(4, 2, 1))
    assert (
        (tmp_path / "sources").read_text().startswith(f"deb [signed-by={tmp_path}/keyring.gpg] mirror://of-this-host")
    )
    assert "ld-linux-x86-64.so.2' --library-path" in made.path.read_text()
    assert len(said) == 3


@pytest.fixture
def _ends_by_term() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_ends_by_term")
def test_one_that_is_ended_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_mirror(tmp_path)
    make_tool(tmp_path, "dpkg-deb", f"kill -TERM {os.getpid()}; exec sleep 60")
    assert command.main(["install", "--prefix", str(tmp_path / "there/prefix")]) == 130
    assert [path.name for path in (tmp_path / "there").iterdir()] == [".prefix.lock"]
    assert "interrupted: run it again" in capsys.readouterr().err


def test_a_second_time_nothing_is_fetched(tmp_path: Path) -> None:
    make_mirror(tmp_path)
    first = install.install(tmp_path / "prefix")
    (tmp_path / "calls").unlink()
    assert install.install(tmp_path / "prefix") == first
    assert not (tmp_path / "calls").exists()


def test_a_broken_one_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    make_mirror(tmp_path)
    write_program(tmp_path / "here/prefix/bin/criu", "exit 1")
    assert install.install(tmp_path / "here/prefix").version == (4, 2, 1)
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [".prefix.lock", "prefix"]


def test_what_apt_says_is_in_the_error(tmp_path: Path) -> None:
    make_mirror(tmp_path)
    make_tool(
        tmp_path,
        "apt-get",
        'case "$*" in *indextargets*) echo "main bookworm x";; *) echo NO_PUBKEY >&2; exit 100;; esac',
    )
    with pytest.raises(InstallFailed, match="NO_PUBKEY"):
        install.install(tmp_path / "prefix")
    assert not (tmp_path / "prefix").exists()


def test_a_host_without_a_debian_source_is_told_to_add_one(tmp_path: Path) -> None:
    with pytest.raises(InstallFailed, match="its mirror is not known"):
        install.install(tmp_path / "prefix")


@pytest.mark.parametrize(
    "release", [DEBIAN | {"VERSION_ID": "11"}, {"ID": "fedora", "VERSION_ID": "43", "PRETTY_NAME": "Fedora 43"}]
)
def test_elsewhere_it_says_what_to_do(release: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install.platform, "freedesktop_os_release", lambda: release)
    with pytest.raises(InstallFailed, match=r"dnf install criu.*CHECKPOINT_CRIU"):
        install.install(tmp_path / "prefix")


def test_a_missing_keyring_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install, "_KEYRING", tmp_path / "absent.gpg")
    with pytest.raises(InstallFailed, match="apt-get install debian-archive-keyring"):
        install.install(tmp_path / "prefix")


def test_the_command_tells_how_to_use_another_prefix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_mirror(tmp_path)
    assert command.main(["install", "--prefix", str(tmp_path / "prefix")]) == 0
    assert f"export CHECKPOINT_CRIU={tmp_path}/prefix/bin/criu" in capsys.readouterr().out


@pytest.mark.parametrize(("user", "says"), [(0, "groupadd"), (1000, "by root alone")])
def test_nothing_is_fetched_for_capabilities_that_cannot_be_given(
    user: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_mirror(tmp_path)
    monkeypatch.setattr(install.grant.os, "geteuid", lambda: user)
    prefix = tmp_path / "new/prefix"
    assert command.main(["install", "--prefix", str(prefix), "--file-capabilities", "absent-group"]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "calls").exists() and not prefix.parent.exists()


def test_the_command_fails_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["install", "--prefix", str(tmp_path / "prefix")]) == 1
    assert "its mirror is not known" in capsys.readouterr().err

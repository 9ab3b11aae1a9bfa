"""The helper: what it does for those who hold no capability, and that it lends them none."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from checkpoint import processes
from checkpoint.errors import DumpFailed, RestoreFailed
from checkpoint.helper import mac
from checkpoint.helper.client import Helper
from tests import criu
from tests.box import NOBODY, ROOT
from tests.checkpoint import again
from tests.checkpoint.asking import Daemon, ask, asking, become, forgo_new_rights, member, rights, sleeper
from tests.checkpoint.freezing import SOON, until
from tests.helped import helped

pytestmark = pytest.mark.criu

OTHER = NOBODY - 1


@pytest.fixture
def folder(place: Path) -> Path:
    """Empty, and that user's."""
    made = Path(tempfile.mkdtemp(dir=place))
    os.chown(made, NOBODY, NOBODY)
    return made


@pytest.fixture
def image(helper: Helper, folder: Path) -> tuple[Path, int, list[str]]:
    """Of a process that is gone: its folder, its pid and its rights."""
    with sleeper(f"--groups={criu.group()}", "--inh-caps=-all", "--ambient-caps=-all") as pid:
        before = rights(pid)
        member(lambda: helper.dump(pid, folder, timeout=SOON))
        assert until(lambda: processes.look(pid).state == "T")  # type: ignore[union-attr]
    return folder, pid, before


def end(pid: int) -> None:
    """Kill it; its pid is free then."""
    processes.end(lambda: processes.family([pid]))
    assert until(lambda: processes.look(pid) is None)


def test_a_process_goes_on_after_a_wait_with_the_rights_it_had(
    daemon: Daemon, helper: Helper, image: tuple[Path, int, list[str]]
) -> None:
    folder, pid, before = image
    with asking(lambda: helper.restore(folder, timeout=SOON), group=criu.group()) as (found, _):
        assert found == pid and Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
        assert rights(pid) == before
        assert "CapEff:\t0000000000000000" in before and "CapPrm:\t0000000000000000" in before
        stand_in = processes.look(processes.look(pid).parent)  # type: ignore[union-attr]
        assert stand_in is not None
        held = [line for line in rights(stand_in.pid) if line.startswith(("CapInh", "CapPrm", "CapEff", "CapAmb"))]
        assert {int(line.split()[1], 16) for line in held} == {0}
        os.kill(pid, signal.SIGKILL)
        assert until(lambda: processes.look(pid) is None)  # somebody waits for it
    assert daemon.is_idle()


def test_a_worker_under_no_new_privs_restores_nothing_without_it(
    helper: Helper, image: tuple[Path, int, list[str]]
) -> None:
    folder, pid, before = image
    assert "NoNewPrivs:\t0" in before

    def bound() -> int:
        forgo_new_rights()
        return helper.restore(folder, timeout=SOON)

    with asking(bound, group=criu.group()) as (found, _):
        assert found == pid and "NoNewPrivs:\t1" in rights(pid)
        end(pid)


def test_a_worker_under_no_new_privs_has_its_own_process_dumped_and_restored(helper: Helper, folder: Path) -> None:
    with sleeper(f"--groups={criu.group()}", "--no-new-privs") as pid:
        before = rights(pid)
        member(lambda: (forgo_new_rights(), helper.dump(pid, folder, timeout=SOON)))
    with asking(lambda: (forgo_new_rights(), helper.restore(folder, timeout=SOON)), group=criu.group()):
        assert rights(pid) == before and "NoNewPrivs:\t1" in before
        end(pid)


def test_what_was_restored_is_let_go_of_with_its_worker(
    daemon: Daemon, helper: Helper, image: tuple[Path, int, list[str]]
) -> None:
    folder, pid, _ = image
    with asking(lambda: helper.restore(folder, timeout=SOON), group=criu.group()):
        stand_in = processes.look(processes.look(pid).parent)  # type: ignore[union-attr]
    assert until(lambda: not stand_in.alive())  # type: ignore[union-attr]
    assert processes.look(pid).parent != stand_in.pid  # type: ignore[union-attr]  # this one has no death signal
    end(pid)
    assert daemon.is_idle()


def test_what_was_restored_goes_on_when_the_helper_is_killed_and_the_next_one_restores_it_again(
    daemon: Daemon, helper: Helper, image: tuple[Path, int, list[str]]
) -> None:
    folder, pid, _ = image
    with asking(lambda: helper.restore(folder, timeout=SOON), group=criu.group()):
        daemon.stop(signal.SIGKILL)
        assert processes.look(pid).state == "S"  # type: ignore[union-attr]
        with pytest.raises(RestoreFailed, match="does not answer"):
            member(lambda: helper.restore(folder))
        daemon.start()
        end(pid)
    assert member(lambda: helper.restore(folder, timeout=SOON)) == pid
    end(pid)


def change(name: str, how: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        path = next(folder.glob(name))
        path.write_bytes(how(path.read_bytes()))

    return changed


CHANGES: dict[str, Callable[[Path], None]] = {
    "a bit of memory": change("pages-1.img", lambda raw: bytes([raw[0] ^ 1]) + raw[1:]),
    "rights": change("core-*.img", lambda raw: raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:]),
    "cut": change("files.img", lambda raw: raw[:-1]),
    "longer": change("files.img", lambda raw: raw + b"\0"),
    "one file less": lambda folder: next(folder.glob("fs-*.img")).unlink(),
    "one file more": lambda folder: (folder / "tty.img").write_bytes(b"") and None,
    "no seal": lambda folder: (folder / mac.NAME).unlink(),
    "a seal of nothing": change(mac.NAME, lambda raw: b""),
    "another seal": change(mac.NAME, lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])),
}


@pytest.mark.parametrize("what", CHANGES)
def test_an_image_that_was_changed_never_reaches_criu(
    helper: Helper, image: tuple[Path, int, list[str]], what: str
) -> None:
    folder, pid, _ = image
    CHANGES[what](folder)
    with pytest.raises(RestoreFailed, match=r"seal|was not dumped by a helper") as caught:
        member(lambda: helper.restore(folder))
    assert caught.value.log == () and processes.look(pid) is None


def test_the_capabilities_of_its_unit_are_enough(place: Path, folder: Path) -> None:
    unit = (ROOT / "docs/deploy/triggerapp-checkpoint-helper.service").read_text()
    (line,) = re.findall(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    bounds = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in line.split())
    (place / "bounded").mkdir()
    bounded = Daemon(place / "bounded", criu.group(), under=("setpriv", f"--bounding-set=-all,{bounds}"))
    try:
        there = bounded.helper()
        with sleeper() as pid:
            member(lambda: there.dump(pid, folder, timeout=SOON))
        assert member(lambda: there.restore(folder, timeout=SOON)) == pid
        end(pid)
        assert bounded.is_idle()
    finally:
        bounded.stop()


def test_an_image_of_another_user_or_by_another_key_is_refused(
    daemon: Daemon, helper: Helper, image: tuple[Path, int, list[str]], place: Path
) -> None:
    folder, pid, _ = image
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
    with pytest.raises(RestoreFailed, match="for this user"):
        ask(lambda: helper.restore(folder), user=OTHER, group=criu.group())
    (place / "elsewhere").mkdir()
    elsewhere = Daemon(place / "elsewhere", criu.group())
    try:
        there = elsewhere.helper()
        with pytest.raises(RestoreFailed, match="the same key file"):
            member(lambda: there.restore(folder))
    finally:
        elsewhere.stop()
    assert processes.look(pid) is None


def test_whole_images_that_somebody_else_dumped_are_refused(helper: Helper, place: Path, folder: Path) -> None:
    """By CRIU itself, as root: whatever is in it would come to life."""
    import checkpoint

    with sleeper(user=0) as pid:
        checkpoint.driver().dump(pid, folder, timeout=SOON)
    for path in folder.iterdir():
        os.chown(path, NOBODY, NOBODY)
    with pytest.raises(RestoreFailed, match="no seal of the helper"):
        member(lambda: helper.restore(folder))
    assert processes.look(pid) is None


@pytest.mark.parametrize("user", [0, OTHER])
def test_a_process_of_another_user_is_not_dumped(helper: Helper, folder: Path, user: int) -> None:
    with sleeper(user=user) as pid:
        with pytest.raises(DumpFailed, match=f"is not of user {NOBODY}"):
            member(lambda: helper.dump(pid, folder))
        assert processes.look(pid).state == "S"  # type: ignore[union-attr]
    assert not list(folder.iterdir())


def test_the_kernel_says_no_as_well(helper: Helper, folder: Path) -> None:
    """Its user is the same, its group is not: /proc shows no difference, and the hand has no right to trace it."""
    with sleeper(own_group=OTHER) as pid:
        with pytest.raises(DumpFailed, match=f": process {pid} was not dumped: "):  # so CRIU was told
            member(lambda: helper.dump(pid, folder))
        assert until(lambda: processes.look(pid).state == "S")  # type: ignore[union-attr]
    assert not list(folder.iterdir())


def test_a_process_that_holds_the_same_capabilities_as_the_hand_is_not_given_out(helper: Helper, folder: Path) -> None:
    two = "+checkpoint_restore,+setpcap"
    with sleeper("--clear-groups", f"--inh-caps={two}", f"--ambient-caps={two}") as pid:
        with pytest.raises(DumpFailed, match="holds capabilities"):
            member(lambda: helper.dump(pid, folder, timeout=SOON))
        assert until(lambda: processes.look(pid).state == "S")  # type: ignore[union-attr]
    assert not list(folder.iterdir())


def test_a_process_under_a_filter_is_not_dumped_without_it(helper: Helper, folder: Path) -> None:
    with sleeper(filtered=True) as pid:
        assert "Seccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text()
        with pytest.raises(DumpFailed, match="suspending seccomp failed"):
            member(lambda: helper.dump(pid, folder, timeout=SOON))
        assert until(lambda: processes.look(pid).state == "S")  # type: ignore[union-attr]


def test_a_process_that_is_not_there_cannot_be_dumped(helper: Helper, folder: Path) -> None:
    with pytest.raises(DumpFailed, match="there is no process"):
        member(lambda: helper.dump((1 << 22) - 1, folder))


MOMENTS = [0.0, 0.02, 0.05]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("killed", ["worker", "hand", "session"])
def test_of_a_restore_that_is_cut_off_nothing_stays(
    daemon: Daemon, helper: Helper, image: tuple[Path, int, list[str]], moment: float, killed: str
) -> None:
    folder, pid, _ = image
    was_cut = cut_off(daemon, lambda: helper.restore(folder, timeout=SOON), moment, killed)
    if processes.look(pid) is not None:  # restored before that: it belongs to nobody, as it has no death signal
        assert until(lambda: is_nobodys(pid))
        end(pid)
    assert daemon.is_idle() and daemon.answers() and until(lambda: not criu_at_work())
    assert member(lambda: helper.restore(folder, timeout=SOON)) == pid
    end(pid)
    skip_unless(was_cut)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("killed", ["worker", "hand", "session"])
def test_a_process_whose_dump_is_cut_off_is_not_held(
    daemon: Daemon, helper: Helper, folder: Path, moment: float, killed: str
) -> None:
    with sleeper() as pid:
        was_cut = cut_off(daemon, lambda: helper.dump(pid, folder, leave_stopped=False, timeout=SOON), moment, killed)
        assert daemon.is_idle() and daemon.answers() and until(lambda: not criu_at_work())
        now = processes.look(pid)
        assert now is None or now.state in "STZ"  # as with CRIU itself: seldom it is cut where it does not survive
        assert "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text()
    skip_unless(was_cut)


def is_nobodys(pid: int) -> bool:
    """Whether it is gone, or init's."""
    found = processes.look(pid)
    return found is None or found.parent == 1


def skip_unless(was_cut: bool) -> None:
    if not was_cut:
        pytest.skip("the order was done before anything could be killed")


def criu_at_work() -> list[int]:
    """CRIU, and what it tries the kernel with, of that user."""
    found = []
    for task in processes.everyone():
        with suppress(OSError):
            folder = Path(f"/proc/{task.pid}")
            if folder.stat().st_uid == NOBODY and b"swrk" in (folder / "cmdline").read_bytes() and task.alive():
                found.append(task.pid)
    return found


def cut_off(daemon: Daemon, what: Callable[[], object], moment: float, killed: str) -> bool:
    """Somebody asks for this, and one of those who are at work on it is killed; False if none was any more."""
    worker = os.fork()
    if worker == 0:
        status = 1
        try:
            become(NOBODY, criu.group())
            with suppress(DumpFailed, RestoreFailed):
                what()
            status = 0
        finally:
            os._exit(status)
    assert until(lambda: len(daemon.sessions()) > 1 or processes.look(worker).state == "Z")  # type: ignore[union-attr]
    time.sleep(moment)
    found = daemon.sessions()
    victims = {"worker": [worker], "session": [t.pid for t in found[:1]], "hand": [t.pid for t in found[1:2]]}
    at_work = bool(found)
    for pid in victims[killed]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            at_work = False
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) in (0, -signal.SIGKILL)
    return at_work and bool(victims[killed])


@pytest.mark.slow
def test_what_goes_on_after_a_wait_of_roots_does_so_through_the_helper(place: Path) -> None:
    """Reduced images, and twenty of them at once."""
    assert "Restore(" in again.passes(helped(criu.group()), place, {})

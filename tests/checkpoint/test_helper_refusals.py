"""The helper: whom it does not serve, and what it does not understand."""

from __future__ import annotations

import base64
import json
import os
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import timedelta
from operator import attrgetter
from pathlib import Path

import psutil
import pytest

from checkpoint import helper, zygote
from checkpoint.errors import CheckpointError, TooLarge, Unsupported
from checkpoint.helper import client, hand, protocol, turns, whole
from checkpoint.helper.client import Helper
from checkpoint.helper.peer import Peer
from checkpoint.helper.protocol import Answer, Dump, Greet, Restore
from checkpoint.pagemap import PAGE, PARENT, PRESENT, Pagemap, Stretch
from tests import criu
from tests.box import NOBODY, ROOT
from tests.checkpoint.asking import Daemon, asking, member
from tests.checkpoint.freezing import SOON, until

pytestmark = pytest.mark.criu


def test_who_is_in_no_group_of_it_is_told_which_one(daemon: Daemon) -> None:
    reason = daemon.found(group=criu.another_group())
    assert reason.code == "helper_group" and f"group {criu.group()} " in reason.remedy


def test_root_is_told_to_use_its_own_capabilities(daemon: Daemon) -> None:
    reason = daemon.found(user=0)
    assert reason.code == "helper_refuses" and "capabilities of their own" in reason.remedy


@pytest.mark.parametrize(("flag", "name"), [("--mount", "mount"), ("--net", "network"), ("--uts", "UTS")])
def test_who_is_in_another_namespace_is_told_which_one(daemon: Daemon, flag: str, name: str) -> None:
    script = "from checkpoint.helper import find; from tests.checkpoint.asking import become; import sys;"
    script += f"become({NOBODY}, {criu.group()!r}); print(find.find())"
    command = ["unshare", flag, sys.executable, "-c", script]
    env = {**os.environ, "CHECKPOINT_HELPER": str(daemon.address), "PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert f"in another {name} namespace" in said.stdout and "JoinsNamespaceOf=" in said.stdout, said


def connected(daemon: Daemon) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.connect(str(daemon.address))  # waits while too many do, as one with a time limit would not
    line.settimeout(SOON.total_seconds())
    return line


def say(daemon: Daemon, raw: bytes, descriptors: int = 0) -> Answer:
    """What the helper answers to this frame."""

    def saying() -> Answer:
        with connected(daemon) as line, open(os.devnull) as nothing:
            socket.send_fds(line, [raw], [nothing.fileno()] * descriptors)
            return protocol.receive_answer(line)

    return member(saying)


def frame(**fields: object) -> bytes:
    return json.dumps({"version": protocol.VERSION, **fields}).encode()


DUMP = {"order": "dump", "pid": 4000, "external": [], "leave_stopped": True, "seconds": 1}
UNCLEAR = {
    "no JSON": b"\xff\0hello",
    "nested": b"[" * 10_000,
    "no object": b"[1]",
    "oversized": b" " * 100_000,
    "truncated": frame(**DUMP)[:-3],
    "another order": frame(order="exec"),
    "no order": frame(),
    "a field more": frame(order="greet", path="/bin/sh"),
    "a field less": frame(order="dump", pid=4000),
    "an option of CRIU's": frame(**DUMP, options=["--action-script", "/bin/sh"]),
    "the first process": frame(**{**DUMP, "pid": 1}),
    "a negative pid": frame(**{**DUMP, "pid": -1}),
    "a pid that is true": frame(**{**DUMP, "pid": True}),
    "a pid that is a text": frame(**{**DUMP, "pid": "4000"}),
    "no time": frame(**{**DUMP, "seconds": 0}),
    "a time that is no number": frame(**{**DUMP, "seconds": float("nan")}),
    "all the time": frame(**{**DUMP, "seconds": 1e9}),
    "a path as a key": frame(order="restore", inherit=["/etc/passwd"], seconds=1),
    "a key twice": frame(order="restore", inherit=["pipe:[1]", "pipe:[1]"], seconds=1),
    "an inode that is a text": frame(**{**DUMP, "external": ["1]"]}),
    "no descriptor": frame(**DUMP),
}


@pytest.mark.parametrize("what", UNCLEAR)
def test_a_frame_that_is_no_order_is_refused_by_a_sentence(daemon: Daemon, what: str) -> None:
    answer = say(daemon, UNCLEAR[what])
    assert (answer.ok, answer.code) == (False, "unclear") and len(answer.message.split()) > 4
    assert daemon.process.poll() is None and daemon.is_idle()


def test_descriptors_that_are_too_many_or_no_folder_are_refused(daemon: Daemon) -> None:
    assert say(daemon, frame(**DUMP), descriptors=2).code == "unclear"
    assert say(daemon, frame(**DUMP), descriptors=40).code == "unclear"
    assert not say(daemon, frame(order="restore", inherit=[], seconds=1), descriptors=1).ok
    assert daemon.is_idle()


def test_another_version_of_the_protocol_is_told_as_that(daemon: Daemon) -> None:
    answer = say(daemon, json.dumps({"version": 99, "order": "greet"}).encode())
    assert not answer.ok and "speaks 99" in answer.message


@contextmanager
def silent(daemon: Daemon, many: int, user: int = NOBODY) -> Iterator[list[socket.socket]]:
    """So many connections of one user, who says nothing on them."""
    ours, theirs = socket.socketpair()

    def connect() -> None:
        lines = [connected(daemon) for _ in range(many)]
        for start in range(0, many, 100):  # the kernel takes no more than 253 at once
            socket.send_fds(theirs, [b"."], [line.fileno() for line in lines[start : start + 100]])
        for line in lines:
            line.close()

    with ours, theirs, ExitStack() as stack:
        stack.enter_context(asking(connect, user=user, group=criu.group()))
        lines: list[socket.socket] = []
        while len(lines) < many:
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 100)
            lines += [stack.enter_context(socket.socket(fileno=each)) for each in descriptors]
        yield lines


def are_open(lines: list[socket.socket]) -> bool:
    """Whether the helper has neither answered nor let go of any of these."""
    ready, _, _ = select.select(lines, [], [], 0)
    return not ready


def at_work(daemon: Daemon) -> int:
    """How many sessions there are."""
    return sum(task.parent == daemon.process.pid for task in daemon.sessions())


def test_one_user_who_says_nothing_is_in_no_others_way(daemon: Daemon) -> None:
    assert daemon.is_idle()
    with silent(daemon, turns.AT_ONCE) as lines:
        assert until(lambda: at_work(daemon) == turns.OF_A_USER)
        assert isinstance(daemon.found(user=NOBODY - 1), Helper)
        assert until(lambda: at_work(daemon) == turns.OF_A_USER) and are_open(lines)
        for line in lines[::2]:
            line.close()
        lines[1].send(frame(**DUMP)[:10])
    assert until(daemon.answers) and daemon.is_idle()


def test_who_has_a_line_full_of_orders_is_turned_away(daemon: Daemon) -> None:
    assert daemon.is_idle()
    with silent(daemon, turns.OF_A_USER + turns.IN_LINE) as lines:
        reason = daemon.found()
        assert reason.code == "helper_refuses" and "too many orders of this user" in reason.message
        assert isinstance(daemon.found(user=NOBODY - 1), Helper) and are_open(lines)
    assert until(daemon.answers) and daemon.is_idle()


@pytest.mark.parametrize("moment", ["client._connect", "protocol._send"])
def test_who_is_turned_away_before_he_is_heard_hears_why(
    place: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Turned away before the order is sent, or before it is read."""
    usual = attrgetter(moment)(helper)
    with zygote.listen(place / "quick") as listener:

        def then_turned_away(line: socket.socket, *args: object) -> None:
            usual(line, *args)
            with listener.accept()[0] as theirs:
                theirs.send(frame(**asdict(Answer(ok=False, code="busy", message="too many orders"))))

        monkeypatch.setattr(f"checkpoint.helper.{moment}", then_turned_away)
        answer = client.greet(place / "quick", timeout=SOON)
    assert (answer.ok, answer.code) == (False, "busy")


def test_a_helper_with_too_many_open_files_waits_for_better_times(daemon: Daemon) -> None:
    usual = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    said = len(daemon.said)
    resource.prlimit(
        daemon.process.pid, resource.RLIMIT_NOFILE, (psutil.Process(daemon.process.pid).num_fds(), usual[1])
    )
    with connected(daemon):
        time.sleep(0.5)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, usual)
    assert until(daemon.answers) and daemon.is_idle()
    assert 1 <= daemon.said[said:].count("Too many open files") <= 10


def test_a_helper_with_all_hands_full_heeds_its_end(place: Path) -> None:
    (place / "full").mkdir()
    full = Daemon(place / "full", criu.group())
    with ExitStack() as connections:
        users = range(NOBODY, NOBODY - turns.AT_ONCE // turns.OF_A_USER - 1, -1)
        found = [connections.enter_context(silent(full, turns.OF_A_USER, user)) for user in users]
        assert until(lambda: at_work(full) == turns.AT_ONCE)
        left = full.sessions()
        full.stop()
        assert full.process.returncode == 0 and are_open([line for lines in found[:-1] for line in lines])
    assert until(lambda: not any(task.alive() for task in left))


def test_no_process_at_work_for_somebody_has_the_key_in_its_memory(daemon: Daemon) -> None:
    assert daemon.answers() and daemon.is_idle()
    secret = (daemon.folder / "key").read_bytes().strip()
    with silent(daemon, 1):
        assert until(lambda: len(daemon.sessions()) == 2)
        for task in daemon.sessions():
            seen = memory(task.pid)
            assert b"stands in for the worker" in seen  # of its own text
            assert secret not in seen and base64.b64decode(secret) not in seen


def memory(pid: int) -> bytes:
    """What a process may write to."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, stop = (int(each, 16) for each in span.split("-"))
                file.seek(start)
                found.append(file.read(stop - start))
    return b"".join(found)


def test_what_would_let_others_in_is_refused_at_the_start(place: Path, daemon: Daemon) -> None:
    def refusal(*options: str) -> str:
        command = [sys.executable, "-m", "checkpoint", "helper", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        return done.stderr

    group, key, own = ("--group", criu.group()), str(place / "key"), str(place / "own" / "socket")
    assert "another helper listens" in refusal("--socket", str(daemon.address), "--key", key, *group)
    assert "can be changed by others" in refusal("--socket", str(place / "socket"), "--key", key, *group)
    absent = str(place / "absent" / "folder" / "socket")
    assert "make the one above it" in refusal("--socket", absent, "--key", key, *group)
    assert "groupadd" in refusal("--socket", own, "--group", "absent-group", "--key", key)
    (place / "open-key").write_text("text")
    assert "holds no key" in refusal("--socket", own, "--key", str(place / "open-key"), *group)
    (place / "open-key").write_text((place / "key").read_text())
    (place / "open-key").chmod(0o644)
    assert "not root's alone" in refusal("--socket", own, "--key", str(place / "open-key"), *group)
    assert (place / "key").stat().st_mode & 0o777 == 0o600
    other = daemon.address.with_name("file")
    other.touch()
    for path in (other, daemon.address.with_name("private")):
        assert f"{path} is no socket" in refusal("--socket", str(path), "--key", key, *group)
    assert other.is_file()
    other.unlink()


def test_who_has_ended_is_not_taken_for_whoever_has_its_pid_now(place: Path) -> None:
    """A child has the connection of a process that has ended."""
    with zygote.listen(place / "asked") as listener:
        asker = os.fork()
        if asker == 0:
            line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            line.connect(str(place / "asked"))
            if os.fork() == 0:
                line.recv(1)  # until the other end is closed
            os._exit(0)
        line, _ = listener.accept()
        with line:
            os.waitid(os.P_PID, asker, os.WEXITED | os.WNOWAIT)
            with pytest.raises(Unsupported, match="has ended"):
                Peer.at(line).require_alive()
            os.waitpid(asker, 0)
            with pytest.raises((Unsupported, OSError)):
                Peer.at(line).require_alive()


def test_the_frames_of_an_order_are_those_that_are_read(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    orders = [
        (Greet(), 0),
        (Dump(pid=4000, external=(1, 2), leave_stopped=False, seconds=1.5), 1),
        (Restore(inherit=("socket:[1]", "pipe:[2]"), seconds=timedelta(minutes=1).total_seconds()), 3),
    ]
    with ours, theirs, open(os.devnull) as nothing:
        for order, many in orders:
            protocol.send_order(ours, order, [nothing.fileno()] * many)
            found, descriptors = protocol.receive_order(theirs)
            assert (found, len(descriptors)) == (order, many)
            for each in descriptors:
                os.close(each)


def test_a_process_that_would_fill_the_folder_is_not_dumped() -> None:
    with pytest.raises(TooLarge, match="has room for 0 MB"):
        hand._require_room(os.getpid(), 1 << 10)
    hand._require_room(os.getpid(), 1 << 40)


def test_images_are_put_together_as_they_were_and_what_is_none_is_refused(tmp_path: Path) -> None:
    """Of a reduced image its base lends the pages that it leaves out."""
    source, parent, target = tmp_path / "source", tmp_path / "source" / "parent", tmp_path / "target"
    for folder in (source, parent, target):
        folder.mkdir()
    own, lent = os.urandom(PAGE), os.urandom(3 * PAGE)
    (source / "pages-1.img").write_bytes(own)
    stretches = (Stretch(0x1000, 1, PARENT), Stretch(0x2000, 1, PRESENT), Stretch(0x3000, 1, PARENT))
    (source / "pagemap-7.img").write_bytes(Pagemap(1, stretches).encode())
    (parent / "pages-1.img").write_bytes(lent)
    (parent / "pagemap-7.img").write_bytes(Pagemap(1, (Stretch(0x1000, 3, PRESENT),)).encode())
    (source / "notes.txt").touch()
    whole.copy(source, target)
    assert (target / "pages-1.img").read_bytes() == lent[:PAGE] + own + lent[2 * PAGE :]
    assert Pagemap.read(target / "pagemap-7.img").stretches == (Stretch(0x1000, 3, PRESENT),)
    assert sorted(path.name for path in target.iterdir()) == ["pagemap-7.img", "pages-1.img"]


ODD = {
    "a link": "symbolic links",
    "a folder": "no plain file",
    "a pipe": "no plain file",
    "too large": "larger than the helper takes",
    "a page that no base has": "the base has no page at 0x9000",
    "cut short": "shorter than it should be",
    "a map that is a pipe": "no plain file",
    "a map that is a link": "symbolic links",
    "a map of a hole": "maps of more than 16 MB",
    "a base's map of a hole": "maps of more than 16 MB",
    "a base's map that is a pipe": "no plain file",
    "a base's pages that are a pipe": "no plain file",
}


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


def instead(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


@pytest.mark.parametrize("what", ODD)
def test_files_that_are_no_image_are_refused_without_a_wait(tmp_path: Path, what: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target, source / "parent"):
        folder.mkdir()
    odd, maps, base = source / "files.img", source / "pagemap-7.img", source / "parent"
    lent = Pagemap(1, (Stretch(0x1000, 1, PRESENT),)).encode()
    makes: dict[str, Callable[[], object]] = {
        "a link": lambda: odd.symlink_to("/etc/passwd"),
        "a folder": odd.mkdir,
        "a pipe": lambda: os.mkfifo(odd),
        "too large": lambda: odd.write_bytes(bytes(3 * PAGE)),
        "a page that no base has": lambda: maps.write_bytes(Pagemap(1, (Stretch(0x9000, 1, PARENT),)).encode()),
        "cut short": lambda: maps.write_bytes(Pagemap(1, (Stretch(0x9000, 1, PRESENT),)).encode()),
        "a map that is a pipe": lambda: instead(maps, os.mkfifo),
        "a map that is a link": lambda: instead(maps, lambda path: path.symlink_to("/etc/passwd")),
        "a map of a hole": lambda: instead(maps, sparse),
        "a base's map of a hole": lambda: instead(base / "pagemap-7.img", sparse),
        "a base's map that is a pipe": lambda: instead(base / "pagemap-7.img", os.mkfifo),
        "a base's pages that are a pipe": lambda: instead(base / "pages-1.img", os.mkfifo),
    }
    (source / "pages-1.img").touch()
    maps.write_bytes(lent)
    (base / "pages-1.img").write_bytes(bytes(PAGE))
    (base / "pagemap-7.img").write_bytes(lent)
    makes[what]()
    with pytest.raises((CheckpointError, OSError), match=ODD[what]):
        whole.copy(source, target, limit=2 * PAGE)

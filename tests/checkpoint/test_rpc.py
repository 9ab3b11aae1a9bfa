"""CRIU's protocol, and what becomes of a CRIU that hangs, dies or says nonsense."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint import criulog, images, protobuf, rpc
from checkpoint.rpc import Gone, Kind, Option

FIELDS = st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 2**64 - 1) | st.binary(max_size=50)), max_size=8)


@given(FIELDS)
def test_what_is_encoded_is_decoded(fields: list[tuple[int, int | bytes]]) -> None:
    expected: dict[int, list[int | bytes]] = {}
    for number, value in fields:
        expected.setdefault(number, []).append(value)
    assert protobuf.decode(protobuf.encode(fields)) == expected


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_a_value_error(raw: bytes) -> None:
    try:
        protobuf.decode(raw)
    except ValueError:
        return


def test_a_negative_number_keeps_its_sign() -> None:
    assert protobuf.integer(protobuf.decode(protobuf.encode([(1, -1)])), 1) == -1


def test_a_request_is_what_protobuf_itself_would_write() -> None:
    raw = rpc.encode(Kind.DUMP, [(Option.PID, 300), (Option.EXTERNAL, "unix[7]"), (Option.LEAVE_STOPPED, True)])
    assert raw == b"\x08\x01\x12\x10\x10\xac\x02\xaa\x02\x07unix[7]\xa8\x04\x01"


def test_an_answer_tells_pid_errno_and_message() -> None:
    raw = protobuf.encode([(1, 2), (2, 1), (4, protobuf.encode([(1, 4711)])), (7, 17), (9, "File exists")])
    answer = rpc.decode(raw)
    assert (answer.success, answer.pid, answer.errno, answer.message) == (True, 4711, 17, "File exists")


def test_an_answer_that_is_none_counts_as_a_dead_worker() -> None:
    with pytest.raises(Gone):
        rpc.decode(b"\xff")


def test_a_descriptor_has_the_name_criu_gives_it() -> None:
    reader, writer = os.pipe()
    assert rpc.key(reader) == f"pipe:[{os.fstat(reader).st_ino}]"
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(("folder", "told"), [("", {}), ("/run/user/1", {"XDG_RUNTIME_DIR": "/run/user/1"})])
def test_criu_is_told_of_a_folder_for_what_it_learned_only_where_there_is_one(
    folder: str, told: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rpc.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    program = tmp_path / "criu"
    program.write_text(f"#!/bin/sh\nenv > {tmp_path}/all\n")
    program.chmod(0o755)
    with rpc.Worker(program) as worker, pytest.raises(Gone):
        worker.request(Kind.DUMP, [], timeout=timedelta(seconds=60))
    all_of_it = dict(line.split("=", 1) for line in (tmp_path / "all").read_text().splitlines())
    assert {name: value for name, value in all_of_it.items() if name.startswith("XDG")} == told


def test_the_log_tells_the_errors_and_leaves_out_the_harmless_one(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    log.write_text(
        "(00.000001) Error (criu/rlimit.c:1): rlimit: Can't setup RLIMIT_NOFILE for self\n"
        "(00.000100) Warn  (criu/x.c:2): hm\n"
        "(00.000200) Error (criu/sk-unix.c:3): Can't dump half of stream unix connection.\n"
    )
    assert criulog.tail(log) == ("Error (criu/sk-unix.c:3): Can't dump half of stream unix connection.",)
    assert criulog.tail(tmp_path / "none", answer="what it answered") == ("what it answered",)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"12345678",
        images.Magic.PSTREE.value,
        images.Magic.PSTREE.value + b"\xff\0\0\0",
        images.Magic.PSTREE.value + b"\1",
    ],
)
def test_a_list_of_processes_that_is_none_is_told(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "pstree.img").write_bytes(raw)
    with pytest.raises(ValueError, match=r"pstree\.img|varint"):
        images.pids(tmp_path)

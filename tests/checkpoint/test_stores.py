"""What every store promises, asked of each: a directory, obstore's own stores, and a server that speaks S3."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import pytest
from moto.server import ThreadedMotoServer
from obstore.store import LocalStore, MemoryStore

from checkpoint.archive import Archive
from checkpoint.collect import collect
from checkpoint.errors import Exists, Missing, QuotaExceeded, StoreFailed
from checkpoint.objects import ObjectStore
from checkpoint.place import store_at
from checkpoint.seal import Keyring
from checkpoint.store import DirectoryStore, Store
from tests.checkpoint.freezing import make_label
from tests.checkpoint.test_archive import HERE, IMAGES, make_images, make_manifest

RING = Keyring(current="one", keys={"one": b"1" * 32})
KINDS = ("directory", "memory", "local", "s3")


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    (tmp_path / "local").mkdir()
    makers: dict[str, Callable[[], Store]] = {
        "directory": lambda: DirectoryStore(tmp_path / "store"),
        "memory": lambda: ObjectStore(MemoryStore()),
        "local": lambda: ObjectStore(LocalStore(tmp_path / "local"), "some/prefix"),
        "s3": lambda: request.getfixturevalue("s3"),
    }
    return makers[request.param]()


def test_what_was_put_is_got_listed_and_deleted(store: Store) -> None:
    id = uuid4()
    stored = store.put(id, write(b"image"))
    assert (stored.id, stored.size) == (id, 5)
    assert abs(datetime.now(UTC) - stored.written) < timedelta(minutes=10)
    with store.get(id) as file:
        assert file.read() == b"image"
    assert store.look(id) == stored
    assert list(store.list()) == [stored]
    assert store.delete(id)
    assert not store.delete(id)
    assert list(store.list()) == []


def test_a_large_one_comes_back_piece_by_piece(store: Store) -> None:
    content = random.Random(1).randbytes(5 << 20)
    id = uuid4()
    store.put(id, write(content))
    with store.get(id) as file:
        assert file.read(7) == content[:7]
        assert b"".join(iter(lambda: file.read(100_000), b"")) == content[7:]


def test_of_many_writers_of_one_id_one_wins(store: Store) -> None:
    id = uuid4()

    def put(number: int) -> int | None:
        try:
            store.put(id, write(b"%d" % number * 10_000))
        except Exists:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(put, range(8)) if number is not None]
    assert len(winners) == 1
    assert store.get(id).read() == b"%d" % winners[0] * 10_000


def test_what_fails_while_it_is_written_is_not_there(store: Store) -> None:
    def fill(file: BinaryIO) -> None:
        file.write(b"half")
        raise RuntimeError("the images are gone")

    id = uuid4()
    with pytest.raises(RuntimeError):
        store.put(id, fill)
    with pytest.raises(Missing):
        store.get(id)
    assert list(store.list()) == []


def test_what_is_not_there_is_missing(store: Store) -> None:
    with pytest.raises(Missing):
        store.get(uuid4())
    with pytest.raises(Missing):
        store.look(uuid4())
    assert list(store.list()) == []


def test_only_uuids_name_a_checkpoint(store: Store) -> None:
    with pytest.raises(TypeError):
        store.get("../../etc/passwd")  # type: ignore[arg-type]


def test_a_store_beside_another_shares_nothing_with_it(store: Store) -> None:
    id = uuid4()
    store.beside("bases").put(id, write(b"base"))
    assert list(store.list()) == []
    assert [stored.id for stored in store.beside("bases").list()] == [id]
    with pytest.raises(Missing):
        store.get(id)


@pytest.mark.slow
def test_an_archive_saves_opens_and_collects(store: Store, tmp_path: Path) -> None:
    archive = Archive(store=store, keyring=RING, scratch=tmp_path / "scratch")
    images = make_images(tmp_path / "images", IMAGES)
    kept, dropped = make_label(), make_label()
    for label in (kept, dropped):
        archive.save(label, images, make_manifest(images))
    assert collect(store, {kept.checkpoint}, older_than=timedelta(hours=1)).checkpoints == 0
    time.sleep(1.1)  # S3 has whole seconds
    assert collect(store, {kept.checkpoint}, older_than=timedelta(0)).checkpoints == 1
    with archive.unpacked(kept, host=HERE) as (folder, _):
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == IMAGES
    with pytest.raises(Missing):
        archive.verify(dropped)


def test_a_full_store_takes_nothing_more_until_something_goes(store: Store, tmp_path: Path) -> None:
    archive = Archive(store=store, keyring=RING, scratch=tmp_path / "scratch")
    images = make_images(tmp_path / "images", IMAGES)
    first = make_label()
    size = archive.save(first, images, make_manifest(images)).size
    small = replace(archive, quota=size)
    with pytest.raises(QuotaExceeded, match="raise the quota"):
        small.save(make_label(), images, make_manifest(images))
    store.delete(first.checkpoint)
    small.save(make_label(), images, make_manifest(images))


def test_a_place_is_a_path_or_a_url(tmp_path: Path) -> None:
    for place in (str(tmp_path / "a"), f"file://{tmp_path}/a"):
        store_at(place).put(uuid4(), write(b""))
    assert len(os.listdir(tmp_path / "a")) == 2
    with pytest.raises(StoreFailed, match="no place"):
        store_at("gopher://bucket")


def test_a_store_that_is_down_says_so(monkeypatch: pytest.MonkeyPatch, credentials: None) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    down = store_at("s3://bucket")
    for act in (lambda: down.put(uuid4(), write(b"")), lambda: down.get(uuid4()), lambda: list(down.list())):
        with pytest.raises(StoreFailed, match="could not be"):
            act()


def test_a_store_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch, credentials: None) -> None:
    with closing(socket.create_server(("127.0.0.1", 0), backlog=50)) as deaf:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        slow = ObjectStore.at("s3://bucket", timeout=timedelta(seconds=0.5))
        with pytest.raises(StoreFailed):
            slow.put(uuid4(), write(b"image"))


def test_a_store_that_breaks_off_in_the_middle_says_so(monkeypatch: pytest.MonkeyPatch, credentials: None) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        threading.Thread(target=answer_half, args=[server], daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        breaking = ObjectStore.at("s3://bucket", timeout=timedelta(seconds=1))
        with pytest.raises(StoreFailed), breaking.get(uuid4()) as file:
            file.read()


def test_a_disk_that_fills_up_leaves_no_half_checkpoint(tiny: Path, tmp_path: Path) -> None:
    archive = Archive(store=DirectoryStore(tiny), keyring=RING, scratch=tmp_path / "scratch")
    content = random.Random(1).randbytes(1 << 20)
    images = make_images(tmp_path / "images", {"pages-1.img": content})
    for _ in range(3):
        with pytest.raises(StoreFailed, match="No space left"):
            archive.save(make_label(), images, make_manifest(images))
        assert os.listdir(tiny) == []


def test_a_scratch_disk_that_fills_up_lets_nothing_through(tiny: Path, tmp_path: Path) -> None:
    archive = Archive(store=DirectoryStore(tmp_path / "store"), keyring=RING, scratch=tiny)
    images = make_images(tmp_path / "images", {"pages-1.img": bytes(1 << 20)})
    label = make_label()
    archive.save(label, images, make_manifest(images))
    with pytest.raises(StoreFailed, match="No space left"), archive.unpacked(label, host=HERE):
        pytest.fail("it was unpacked")
    assert os.listdir(tiny) == []


def answer_half(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(1 << 16)
            head = 'HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\nETag: "1"\r\n'
            connection.sendall(f"{head}Last-Modified: Sun, 22 Nov 2026 08:00:00 GMT\r\n\r\nhalf".encode())


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB."""
    folder = tmp_path / "tiny"
    folder.mkdir(mode=0o700)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tiny", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no small file system can be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto: str, credentials: None, monkeypatch: pytest.MonkeyPatch) -> Store:
    bucket = f"bucket-{uuid4()}"
    with urllib.request.urlopen(urllib.request.Request(f"{moto}/{bucket}", method="PUT")):
        pass
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    return store_at(f"s3://{bucket}/checkpoints")


def write(content: bytes) -> Callable[[BinaryIO], None]:
    return lambda file: file.write(content) and None

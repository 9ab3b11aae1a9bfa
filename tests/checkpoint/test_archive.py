"""Images on their way into a store and out of it: whole, sealed, and only as they were put there."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from checkpoint import pack
from checkpoint.archive import Archive
from checkpoint.errors import CheckpointError, Damaged, Mismatch, TooLarge
from checkpoint.manifest import Host, ImageFile, Manifest
from checkpoint.pack import Label
from checkpoint.seal import Keyring

HERE = Host.here(criu=(4, 2, 1), mode="privileged")
RING = Keyring(current="one", keys={"one": b"1" * 32})
LABEL = Label(checkpoint=uuid4(), run=uuid4(), sequence=3, lease=7)
IMAGES = {"core-77.img": b"registers", "pages-1.img": bytes(9000) + b"pages", "pstree.img": b"", "files.img": b"x" * 50}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_images(tmp_path / "images", IMAGES)


@pytest.fixture
def saved(archive: Archive, images: Path) -> Archive:
    archive.save(LABEL, images, make_manifest(images))
    return archive


def test_a_checkpoint_comes_back_as_it_was_in_a_folder_of_this_user_alone(saved: Archive) -> None:
    with saved.unpacked(LABEL, host=HERE) as (folder, manifest):
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == IMAGES
        assert folder.stat().st_mode & 0o777 == 0o700
        assert manifest.pid == 77
    assert not folder.exists()


def test_logs_and_statistics_are_not_stored(archive: Archive, images: Path) -> None:
    (images / "dump.log").write_text("a log")
    archive.save(LABEL, images, make_manifest(images))
    assert {image.name for image in archive.manifest(LABEL).images} == set(IMAGES)


def test_nothing_in_the_store_can_be_read_without_the_key(saved: Archive) -> None:
    raw = stored(saved)
    assert b"registers" not in raw
    assert b"python" not in raw


def test_no_flipped_bit_is_let_through(saved: Archive, tmp_path: Path) -> None:
    raw = stored(saved)
    for at in range(len(raw)):
        assert_refused(raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :], tmp_path)


def test_no_cut_image_is_let_through(saved: Archive, tmp_path: Path) -> None:
    raw = stored(saved)
    for size in range(0, len(raw), 3):
        assert_refused(raw[:size], tmp_path)


def test_nothing_may_follow_the_end(saved: Archive, tmp_path: Path) -> None:
    assert_refused(stored(saved) + b"\0", tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        replace(LABEL, checkpoint=UUID(int=1)),
        replace(LABEL, run=UUID(int=1)),
        replace(LABEL, sequence=2),
        replace(LABEL, lease=6),
    ],
)
def test_the_image_of_another_run_wait_or_lease_is_refused(archive: Archive, images: Path, other: Label) -> None:
    archive.save(other, images, make_manifest(images))
    path = next((archive.store._root).iterdir())
    path.rename(path.with_name(f"{LABEL.checkpoint}.checkpoint"))
    with pytest.raises(Damaged), archive.unpacked(LABEL, host=HERE):
        pytest.fail("it was let through")
    assert_no_leftovers(archive)


def test_a_file_of_an_older_image_cannot_be_put_in_place_of_a_newer_one(tmp_path: Path) -> None:
    """Same name, same size, same key: only the checkpoint's id and the manifest tell them apart."""
    old = packed(make_images(tmp_path / "old", IMAGES | {"core-77.img": b"REGISTERS"}), label=LABEL)
    new = packed(make_images(tmp_path / "new", IMAGES), label=LABEL)
    assert_refused(swap_first_image(new, old), tmp_path)


def test_a_larger_image_than_allowed_is_neither_stored_nor_unpacked(saved: Archive, images: Path) -> None:
    small = replace(saved, limit=1000)
    with pytest.raises(TooLarge):
        small.save(replace(LABEL, checkpoint=uuid4()), images, make_manifest(images))
    with pytest.raises(TooLarge), small.unpacked(LABEL, host=HERE):
        pytest.fail("it was unpacked")
    assert_no_leftovers(saved)


def test_a_stream_that_holds_more_or_less_than_its_manifest_says_is_stopped(tmp_path: Path) -> None:
    """Only a holder of the key could make it; still, the limit holds."""
    content = bytes(3 << 20)
    squeezed = list(pack._compress(io.BytesIO(content), len(content)))
    for size in (100, len(content) + 1):
        with pytest.raises(Damaged, match="than the manifest"):
            list(pack._decompress(iter(squeezed), "pages-1.img", size))


@pytest.mark.parametrize("name", ["../evil.img", "/etc/evil.img", ".hidden.img", "evil.sh", "a/b.img", ""])
def test_names_that_criu_does_not_give_are_refused(tmp_path: Path, name: str) -> None:
    manifest = replace(make_manifest(tmp_path), images=(ImageFile(name=name, size=0, digest=""),))
    with pytest.raises(Damaged):
        pack._require_sound(manifest, 1000)


def test_a_checkpoint_of_another_kind_of_host_is_not_unpacked(saved: Archive) -> None:
    with pytest.raises(Mismatch, match="python"), saved.unpacked(LABEL, host=replace(HERE, python="3.99")):
        pytest.fail("it was unpacked")
    assert_no_leftovers(saved)


def make_images(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def make_manifest(folder: Path) -> Manifest:
    images = tuple(make_image(path) for path in sorted(folder.glob("*.img")))
    return Manifest(pid=77, control=5, made=datetime.now(UTC), host=HERE, mapped=(), images=images)


def make_image(path: Path) -> ImageFile:
    raw = path.read_bytes()
    return ImageFile(name=path.name, size=len(raw), digest=hashlib.sha256(raw).hexdigest())


def packed(folder: Path, *, label: Label) -> bytes:
    sink = io.BytesIO()
    pack.pack(folder, make_manifest(folder), sink, label=label, keyring=RING)
    return sink.getvalue()


def swap_first_image(new: bytes, old: bytes) -> bytes:
    """Put the sealed core-77.img of `old` in its place in `new`."""
    begin, end = new.index(b"core-77.img"), new.index(b"files.img")
    return new[:begin] + old[old.index(b"core-77.img") : old.index(b"files.img")] + new[end:]


def stored(archive: Archive) -> bytes:
    with archive.store.get(LABEL.checkpoint) as file:
        return file.read()


def unpack(raw: bytes, folder: Path) -> Manifest:
    folder.mkdir(exist_ok=True)
    return pack.unpack(io.BytesIO(raw), folder, label=LABEL, keyring=RING)


def assert_refused(raw: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(CheckpointError):
        unpack(raw, folder)
    for path in folder.iterdir():
        path.unlink()


def assert_no_leftovers(archive: Archive) -> None:
    assert not archive.scratch.exists() or os.listdir(archive.scratch) == []

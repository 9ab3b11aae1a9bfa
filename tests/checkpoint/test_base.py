"""What an image shares with its zygote is left out of it, and put back before a restore."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from checkpoint import pagemap, sandbox
from checkpoint.archive import Archive
from checkpoint.base import Base
from checkpoint.collect import collect
from checkpoint.errors import Damaged, Missing
from checkpoint.line import Line
from checkpoint.pagemap import PAGE, PARENT, PRESENT, Pagemap, Stretch
from checkpoint.sandbox import Sandbox
from checkpoint.seal import Keyring
from checkpoint.store import DirectoryStore
from tests.checkpoint.freezing import SOON, Freezer, make_label
from tests.checkpoint.test_archive import HERE, make_manifest

RING = Keyring(current="one", keys={"one": b"1" * 32})
HELD = [b"held by both" * 1000, list(range(200_000))]
"""Memory that the zygote has and its forks do not touch: 10 MB."""


def remember(line: Line) -> None:
    own = [str(number) for number in range(10_000)]
    while True:
        wake = sandbox.park(line, f"{len(own)} {sum(map(int, own))} {sum(HELD[1])}".encode())  # type: ignore[arg-type]
        own.append(wake.payload.decode())


def stand(line: Line) -> None:
    sandbox.park(line)


@pytest.mark.criu
@pytest.mark.usefixtures("no_process_left")
def test_a_process_comes_back_from_what_it_does_not_share_with_its_zygote(
    run: Callable[[Callable[[Line], None]], Sandbox], freezer: Freezer
) -> None:
    base = freezer.make_base(run(stand))
    process = run(remember)
    process.await_park(timeout=SOON)
    label, stored = freezer.freeze(process, base=base)
    assert stored.size * 20 < base.size
    again = freezer.thaw(label, b"5")
    total = sum(range(10_000))
    assert again.await_park(timeout=SOON) == f"10001 {total + 5} {sum(range(200_000))}".encode()
    second, stored = freezer.freeze(again, base=base)
    assert stored.size * 20 < base.size
    last = freezer.thaw(second, b"7")
    assert last.await_park(timeout=SOON) == f"10002 {total + 12} {sum(range(200_000))}".encode()
    last.end()


@pytest.mark.criu
@pytest.mark.usefixtures("no_process_left")
def test_children_of_a_process_are_reduced_too(
    run: Callable[[Callable[[Line], None]], Sandbox], freezer: Freezer
) -> None:
    def parent(line: Line) -> None:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(reading, 1)
            os._exit(sum(HELD[1]) % 200)  # type: ignore[arg-type]
        sandbox.park(line)
        os.write(writing, b"!")
        sandbox.park(line, str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())

    base = freezer.make_base(run(stand))
    process = run(parent)
    process.await_park(timeout=SOON)
    label, stored = freezer.freeze(process, base=base)
    assert stored.size * 10 < base.size
    again = freezer.thaw(label)
    assert again.await_park(timeout=SOON) == str(sum(range(200_000)) % 200).encode()
    again.end()


def test_pages_that_are_the_same_are_left_out_and_the_others_come_back(archive: Archive, tmp_path: Path) -> None:
    base, images, before = reduced(archive, tmp_path)
    label = make_label()
    stored = archive.save(label, images, replace(make_manifest(images), base=base.digest))
    assert stored.size < 4000
    with archive.unpacked(label, host=HERE) as (folder, _):
        assert memory(folder) == before
        assert (folder / "parent" / "pages-1.img").stat().st_size == base.path.stat().st_size


def test_another_host_fetches_the_base_from_the_store_once(archive: Archive, tmp_path: Path) -> None:
    base, images, before = reduced(archive, tmp_path)
    label = make_label()
    archive.save(label, images, replace(make_manifest(images), base=base.digest))
    elsewhere = replace(archive, scratch=tmp_path / "elsewhere")
    with elsewhere.unpacked(label, host=HERE) as (folder, _):
        assert memory(folder) == before
    archive.store.beside("bases").delete(base.id)
    with elsewhere.unpacked(label, host=HERE) as (folder, _):
        assert memory(folder) == before


def test_an_image_without_its_base_is_of_no_use_and_says_so(archive: Archive, tmp_path: Path) -> None:
    base, images, _ = reduced(archive, tmp_path)
    label = make_label()
    archive.save(label, images, replace(make_manifest(images), base=base.digest))
    archive.store.beside("bases").delete(base.id)
    elsewhere = replace(archive, scratch=tmp_path / "elsewhere")
    with pytest.raises(Missing, match="base"), elsewhere.unpacked(label, host=HERE):
        pytest.fail("it was unpacked")


def test_a_base_that_was_altered_here_is_fetched_anew(archive: Archive, tmp_path: Path) -> None:
    base, images, before = reduced(archive, tmp_path)
    label = make_label()
    archive.save(label, images, replace(make_manifest(images), base=base.digest))
    elsewhere = replace(archive, scratch=tmp_path / "elsewhere")
    elsewhere.scratch.mkdir()
    (elsewhere.scratch / "bases").mkdir()
    raw = bytes(base.pages)
    (elsewhere.scratch / "bases" / base.path.name).write_bytes(raw[:5] + b"?" + raw[6:])
    with elsewhere.unpacked(label, host=HERE) as (folder, _):
        assert memory(folder) == before


def test_another_base_in_the_place_of_the_right_one_is_refused(archive: Archive, tmp_path: Path) -> None:
    base, images, _ = reduced(archive, tmp_path)
    label = make_label()
    archive.save(label, images, replace(make_manifest(images), base=base.digest))
    other = archive.bases.make(make_image(tmp_path / "other", {0x1000: b"other"}))
    archive.bases.keep(other)
    bases = tmp_path / "store" / "bases"
    os.replace(bases / f"{other.id}.checkpoint", bases / f"{base.id}.checkpoint")
    elsewhere = replace(archive, scratch=tmp_path / "elsewhere")
    with pytest.raises(Damaged), elsewhere.unpacked(label, host=HERE):
        pytest.fail("it was unpacked")


def test_a_base_that_cannot_be_stored_takes_the_checkpoint_with_it(archive: Archive, tmp_path: Path) -> None:
    base, images, _ = reduced(archive, tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "bases").touch()
    with pytest.raises(Exception, match="Not a directory"):
        archive.save(make_label(), images, replace(make_manifest(images), base=base.digest))
    assert list(archive.store.list()) == []


def test_a_base_goes_when_its_last_checkpoint_is_gone(archive: Archive, tmp_path: Path) -> None:
    base, images, _ = reduced(archive, tmp_path)
    first, second = make_label(), make_label()
    for label in (first, second):
        archive.save(label, images, replace(make_manifest(images), base=base.digest))
    now = timedelta(0)
    assert collect(archive.store, {first.checkpoint, second.checkpoint}, older_than=now).size == 0
    gone = collect(archive.store, {first.checkpoint}, older_than=now)
    assert (gone.checkpoints, gone.bases) == (1, 0)
    gone = collect(archive.store, set(), older_than=now)
    assert (gone.checkpoints, gone.bases) == (1, 1)
    assert gone.size > base.size / 1000


def test_a_base_that_is_needed_again_while_it_is_collected_is_put_back(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, images, _ = reduced(archive, tmp_path)
    archive.bases.keep(base)
    delete = DirectoryStore.delete
    label = make_label()

    def save_meanwhile(store: DirectoryStore, id: object) -> bool:
        if id == base.id:
            archive.save(label, images, replace(make_manifest(images), base=base.digest))
        return delete(store, id)  # type: ignore[arg-type]

    monkeypatch.setattr(DirectoryStore, "delete", save_meanwhile)
    assert collect(archive.store, {label.checkpoint}, older_than=timedelta(0)).bases == 0
    assert archive.bases.store.look(base.id)


def test_a_map_of_pages_is_read_and_written_as_criu_has_it(tmp_path: Path) -> None:
    found = Pagemap(2, (Stretch(0x7000, 3, PRESENT), Stretch(0x7FFD_0000_0000, 1, PARENT)))
    (tmp_path / "pagemap-1.img").write_bytes(found.encode())
    assert Pagemap.read(tmp_path / "pagemap-1.img") == found
    assert found.present() == [0x7000, 0x8000, 0x9000]
    for raw in (b"", found.encode()[:-1], b"x" * 50):
        (tmp_path / "pagemap-1.img").write_bytes(raw)
        with pytest.raises(ValueError, match="pagemap"):
            Pagemap.read(tmp_path / "pagemap-1.img")


def test_an_image_is_reduced_once(archive: Archive, tmp_path: Path) -> None:
    base, images, _ = reduced(archive, tmp_path)
    with pytest.raises(Damaged, match="already"):
        base.reduce(images)


def reduced(archive: Archive, tmp_path: Path) -> tuple[Base, Path, dict[int, bytes]]:
    """A base; images that were reduced by it, with pages that are the same, altered and new; their memory before."""
    shared = {0x10000 + number * PAGE: os.urandom(16) * (PAGE // 16) for number in range(300)}
    base = archive.bases.make(make_image(tmp_path / "zygote", shared))
    own = dict(shared)
    for address in list(own)[::7]:
        own[address] = own[address][:100] + b"altered" + own[address][107:]
    own |= {0x900000 + number * PAGE: bytes([number]) * PAGE for number in range(100)}
    images = make_image(tmp_path / "run", own)
    base.reduce(images)
    kept = (images / "pages-2.img").stat().st_size // PAGE
    assert kept == 100 + len(range(0, 300, 7))
    return base, images, own


def make_image(folder: Path, memory: dict[int, bytes]) -> Path:
    folder.mkdir()
    stretches = tuple(pagemap.joined((address, PRESENT) for address in memory))
    (folder / "pagemap-77.img").write_bytes(Pagemap(2, stretches).encode())
    (folder / "pages-2.img").write_bytes(b"".join(page.ljust(PAGE, b"\0") for page in memory.values()))
    return folder


def memory(folder: Path) -> dict[int, bytes]:
    """What CRIU would restore: pages of the image and, where it says so, of its parent."""
    own = Pagemap.read(folder / "pagemap-77.img")
    parent = present(folder / "parent") if (folder / "parent").exists() else {}
    found = present(folder)
    for stretch in own.stretches:
        if stretch.flags == PARENT:
            found |= {address: parent[address] for address in stretch.addresses()}
    return dict(sorted(found.items()))


def present(folder: Path) -> dict[int, bytes]:
    found = Pagemap.read(folder / "pagemap-77.img")
    with (folder / found.file).open("rb") as file:
        raw = file.read(len(found.present()) * PAGE)
    return {address: raw[at * PAGE : (at + 1) * PAGE] for at, address in enumerate(found.present())}

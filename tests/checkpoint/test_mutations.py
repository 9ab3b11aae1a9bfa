"""Ten thousand altered images of a real process: none gets past the archive, so that CRIU never sees one."""

from __future__ import annotations

import io
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

import pytest

import checkpoint
from checkpoint import pack
from checkpoint.archive import Archive
from checkpoint.base import Base
from checkpoint.errors import CheckpointError, Damaged, UnknownKey
from checkpoint.manifest import Manifest
from checkpoint.pack import Label
from checkpoint.seal import Keyring
from checkpoint.store import DirectoryStore
from tests.checkpoint.freezing import Freezer, make_label

pytestmark = [pytest.mark.slow, pytest.mark.criu]

COUNT: Final = 10_000
SCRATCH: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Ten thousand folders are made; on a disk that others write to they take minutes."""
RING: Final = Keyring(current="one", keys={"one": b"1" * 32})
Mutation = Callable[[random.Random, "Corpus"], bytes]


class Bytes(DirectoryStore):
    """A store whose checkpoints are whatever the test says."""

    content = b""

    def get(self, id: object) -> BinaryIO:
        return io.BytesIO(self.content)

    def beside(self, name: str) -> DirectoryStore:
        return DirectoryStore(self._root / name)


@dataclass(frozen=True, slots=True)
class Corpus:
    """A checkpoint; the one before it and the one after it of the same run, and that of another run."""

    label: Label
    raw: bytes
    others: tuple[bytes, ...]
    archive: Archive
    host: checkpoint.Host
    place: Path

    def opens(self, raw: bytes, *, archive: Archive | None = None) -> bool:
        """Whether CRIU would be given this."""
        archive = archive or self.archive
        archive.store.content = raw  # type: ignore[attr-defined]
        try:
            with archive.unpacked(self.label, host=self.host):
                return True
        except CheckpointError:
            return False


def flip(rng: random.Random, corpus: Corpus) -> bytes:
    at = rng.randrange(len(corpus.raw))
    return corpus.raw[:at] + bytes([corpus.raw[at] ^ 1 << rng.randrange(8)]) + corpus.raw[at + 1 :]


def flip_in_a_head(rng: random.Random, corpus: Corpus) -> bytes:
    """Names, sizes, keys and salts are a thousandth of an image; they get a share of their own."""
    begin, _ = rng.choice(sections(corpus.raw))
    at = max(0, begin + rng.randrange(-24, 80))
    return corpus.raw[:at] + bytes([corpus.raw[at] ^ 1 << rng.randrange(8)]) + corpus.raw[at + 1 :]


def cut(rng: random.Random, corpus: Corpus) -> bytes:
    return corpus.raw[: rng.randrange(len(corpus.raw))]


def zero(rng: random.Random, corpus: Corpus) -> bytes:
    at = rng.randrange(len(corpus.raw))
    size = min(rng.choice((16, 512, 4096)), len(corpus.raw) - at)
    return changed(corpus, corpus.raw[:at] + bytes(size) + corpus.raw[at + size :])


def swap(rng: random.Random, corpus: Corpus) -> bytes:
    size = rng.choice((16, 512, 4096))
    first = rng.randrange(len(corpus.raw) - 2 * size)
    second = rng.randrange(first + size, len(corpus.raw) - size)
    raw = bytearray(corpus.raw)
    raw[first : first + size], raw[second : second + size] = raw[second : second + size], raw[first : first + size]
    return changed(corpus, bytes(raw))


def splice(rng: random.Random, corpus: Corpus) -> bytes:
    """The beginning of this one and the end of another, at the same place or at the borders of files."""
    other = rng.choice(corpus.others)
    number = rng.randrange(1, min(len(sections(corpus.raw)), len(sections(other))))
    return corpus.raw[: sections(corpus.raw)[number][0]] + other[sections(other)[number][0] :]


def exchange(rng: random.Random, corpus: Corpus) -> bytes:
    """One file of another image, in place of the one of its name."""
    other = rng.choice(corpus.others)
    number = rng.randrange(min(len(sections(corpus.raw)), len(sections(other))))
    (begin, end), (from_, to) = sections(corpus.raw)[number], sections(other)[number]
    return corpus.raw[:begin] + other[from_:to] + corpus.raw[end:]


def whole(rng: random.Random, corpus: Corpus) -> bytes:
    return rng.choice(corpus.others)


def omit(rng: random.Random, corpus: Corpus) -> bytes:
    begin, end = rng.choice(sections(corpus.raw))
    return corpus.raw[:begin] + corpus.raw[end:]


def repeat(rng: random.Random, corpus: Corpus) -> bytes:
    begin, end = rng.choice(sections(corpus.raw))
    return corpus.raw[:end] + corpus.raw[begin:end] + corpus.raw[end:]


def lengthen(rng: random.Random, corpus: Corpus) -> bytes:
    return corpus.raw + rng.randbytes(rng.randrange(1, 100))


MUTATIONS: Final[tuple[Mutation, ...]] = (
    *(flip, flip_in_a_head, cut, zero, swap, splice, exchange, whole, omit, repeat, lengthen),
)


def test_none_of_ten_thousand_altered_images_is_let_through(corpus: Corpus) -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    for number in range(COUNT):
        mutate = MUTATIONS[number % len(MUTATIONS)]
        assert not corpus.opens(mutate(rng, corpus)), f"{mutate.__name__}, number {number} of seed {seed}"
    assert corpus.opens(corpus.raw)
    assert [name for name in os.listdir(corpus.archive.scratch) if name != "bases"] == []


def test_the_wrong_key_is_told_from_damage(corpus: Corpus) -> None:
    other = replace(corpus.archive, keyring=Keyring(current="two", keys={"two": b"2" * 32}))
    other.store.content = corpus.raw  # type: ignore[attr-defined]
    with pytest.raises(UnknownKey, match="'one'"), other.unpacked(corpus.label, host=corpus.host):
        pytest.fail("it was let through")
    same = replace(corpus.archive, keyring=Keyring(current="one", keys={"one": b"2" * 32}))
    with pytest.raises(Damaged), same.unpacked(corpus.label, host=corpus.host):
        pytest.fail("it was let through")


def test_no_altered_base_is_let_through(corpus: Corpus, tmp_path: Path) -> None:
    """In the store or unpacked here; a base unpacked here that is altered is fetched anew."""
    rng = random.Random(5)
    (stored,) = (path for path in (corpus.place / "bases").iterdir())
    raw = stored.read_bytes()
    for _ in range(12):
        elsewhere = replace(corpus.archive, scratch=Path(tempfile.mkdtemp(dir=tmp_path)))
        at = rng.randrange(len(raw))
        stored.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        assert not corpus.opens(corpus.raw, archive=elsewhere)
    stored.write_bytes(raw)
    assert corpus.opens(corpus.raw, archive=elsewhere)
    (unpacked,) = (elsewhere.scratch / "bases").iterdir()
    os.truncate(unpacked, unpacked.stat().st_size - 4096)
    assert corpus.opens(corpus.raw, archive=elsewhere)
    os.truncate(unpacked, 0)
    stored.unlink()
    assert not corpus.opens(corpus.raw, archive=elsewhere)
    stored.write_bytes(raw)


def test_verifying_says_what_opening_would(corpus: Corpus) -> None:
    corpus.archive.store.content = corpus.raw  # type: ignore[attr-defined]
    assert corpus.archive.verify(corpus.label).pid
    corpus.archive.store.content = corpus.raw[:-1]  # type: ignore[attr-defined]
    with pytest.raises(Damaged):
        corpus.archive.verify(corpus.label)


PROGRAM: Final = """
import os, sys
line, kept = int(sys.argv[1]), []
while os.write(line, b"!") and os.read(line, 1):
    kept.append(os.urandom(20_000))
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    """Of a small process, which is its own base: what it was when it stood still for the first time."""
    folder = tmp_path_factory.mktemp("mutations")
    real = Archive(store=DirectoryStore(folder / "store"), keyring=RING, scratch=folder / "scratch")
    freezer = Freezer(criu=checkpoint.driver(), archive=real)
    with small_process() as process, real.private_folder() as images:
        process.step()
        freezer.criu.dump(process.pid, images, external=[process.inode], leave_stopped=False)
        base = real.bases.make(images)
        first = Label(checkpoint=uuid4(), run=uuid4(), sequence=1, lease=1)
        labels = [replace(first, checkpoint=uuid4(), sequence=number, lease=number) for number in (1, 2, 3)]
        raws = [save(freezer, process, label, base) for label in [*labels, make_label()]]
    with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
        archive = replace(real, store=Bytes(folder / "store"), scratch=Path(scratch))
        yield Corpus(labels[1], raws[1], (raws[0], raws[2], raws[3]), archive, freezer.host, folder / "store")


@dataclass(frozen=True, slots=True)
class Small:
    pid: int
    inode: int
    line: socket.socket

    def step(self) -> None:
        assert self.line.recv(1) == b"!"
        self.line.send(b"!")
        assert self.line.recv(1, socket.MSG_PEEK) == b"!"


@contextmanager
def small_process() -> Iterator[Small]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PROGRAM, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        inode = os.fstat(theirs.fileno()).st_ino
        theirs.close()
        try:
            yield Small(child.pid, inode, ours)
        finally:
            child.kill()
            child.wait()


def save(freezer: Freezer, process: Small, label: Label, base: Base) -> bytes:
    """A checkpoint one step further on."""
    process.step()
    with freezer.archive.private_folder() as images:
        freezer.criu.dump(process.pid, images, external=[process.inode], leave_stopped=False)
        base.reduce(images)
        manifest = Manifest.describe(process.pid, images, control=process.inode, host=freezer.host, base=base)
        freezer.archive.save(label, images, manifest)
    with freezer.archive.store.get(label.checkpoint) as file:
        return file.read()


def sections(raw: bytes) -> list[tuple[int, int]]:
    """Where each file of a stream begins and ends."""
    found = _sections.get(raw)
    if found is None:
        found = _sections[raw] = list(find_sections(raw))
    return found


_sections: dict[bytes, list[tuple[int, int]]] = {}


def find_sections(raw: bytes) -> Iterator[tuple[int, int]]:
    source = io.BytesIO(raw)
    pack.read_base(source)
    while (begin := source.tell()) < len(raw):
        pack._read_head(source)
        source.read(source.read(1)[0] + 32)
        last = False
        while not last:
            head = int.from_bytes(source.read(4))
            last = bool(head >> 31)
            source.read(head & ~(1 << 31))
        yield begin, source.tell()


def changed(corpus: Corpus, raw: bytes) -> bytes:
    """`raw`, which is not by chance what it was before."""
    return raw if raw != corpus.raw else raw[:-1]

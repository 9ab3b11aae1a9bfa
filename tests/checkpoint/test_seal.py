"""Sealing: what is altered, swapped or of another key is not opened."""

from __future__ import annotations

import io

import pytest

from checkpoint import __main__ as command
from checkpoint import seal
from checkpoint.errors import Damaged, UnknownKey
from checkpoint.seal import Keyring

OLD, NEW = b"o" * 32, b"n" * 32
RING = Keyring(current="new", keys={"new": NEW, "old": OLD})
CONTENT = b"the memory of a process" * 7


def test_what_was_sealed_is_opened() -> None:
    assert opened(sealed(CONTENT)) == CONTENT
    assert opened(sealed(b"")) == b""


def test_content_of_many_chunks_comes_back_whole() -> None:
    large = bytes(range(256)) * 10_000
    assert opened(sealed(large)) == large


def test_the_same_content_is_never_sealed_to_the_same_bytes() -> None:
    assert sealed(CONTENT) != sealed(CONTENT)


def test_an_image_of_the_old_key_opens_after_a_rotation_until_the_key_is_dropped() -> None:
    before = sealed(CONTENT, ring=Keyring(current="old", keys={"old": OLD}))
    assert opened(before) == CONTENT
    with pytest.raises(UnknownKey, match="'old'"):
        opened(before, ring=Keyring(current="new", keys={"new": NEW}))


def test_another_key_of_the_same_name_opens_nothing() -> None:
    with pytest.raises(Damaged):
        opened(sealed(CONTENT), ring=Keyring(current="new", keys={"new": OLD}))


def test_a_seal_opens_for_nothing_else() -> None:
    with pytest.raises(Damaged):
        opened(sealed(CONTENT), bound=b"another run")


def test_chunks_cannot_be_dropped_repeated_or_reordered() -> None:
    raw = sealed(bytes(seal.CHUNK * 2 + 5))
    head, size = 1 + 3 + 32, 4 + seal.CHUNK + 16
    start, one, two, last = raw[:head], raw[head:][:size], raw[head + size :][:size], raw[head + 2 * size :]
    for altered in (start + one + last, start + two + one + last, start + one + one + two + last, start + one + two):
        with pytest.raises(Damaged):
            opened(altered)


def test_a_ring_without_its_current_key_or_with_a_short_one_is_refused() -> None:
    with pytest.raises(ValueError, match="no key"):
        Keyring(current="new", keys={"old": OLD})
    with pytest.raises(ValueError, match="5 bytes"):
        Keyring(current="new", keys={"new": b"short"})


def test_a_ring_does_not_print_its_keys() -> None:
    assert repr(NEW) not in repr(RING)


def test_keys_are_read_from_text_the_first_one_seals() -> None:
    old, new = Keyring.make("old"), Keyring.make("new")
    before = sealed(CONTENT, ring=Keyring.parse(old))
    rotated = Keyring.parse(f"{new}, {old}")
    assert rotated.current == "new"
    assert opened(before, ring=rotated) == CONTENT
    after = sealed(CONTENT, ring=rotated)
    with pytest.raises(UnknownKey, match="'new'"):
        opened(after, ring=Keyring.parse(old))
    assert opened(after, ring=Keyring.parse(f"\n{new}\n")) == CONTENT


@pytest.mark.parametrize("text", ["", "nokey", "one:c2hvcnQ=", "one:???", "a:{key} a:{key}", ":{key}"])
def test_text_that_is_no_keys_is_refused_without_being_shown(text: str) -> None:
    key = Keyring.make("a").removeprefix("a:")
    with pytest.raises(ValueError, match="key") as caught:
        Keyring.parse(text.format(key=key))
    assert key not in str(caught.value)


def sealed(content: bytes, *, ring: Keyring = RING) -> bytes:
    sink = io.BytesIO()
    seal.seal([content], sink, keyring=ring, bound=b"this run")
    return sink.getvalue()


def opened(raw: bytes, *, ring: Keyring = RING, bound: bytes = b"this run") -> bytes:
    return b"".join(seal.unseal(io.BytesIO(raw), keyring=ring, bound=bound))


@pytest.mark.parametrize("name", ["", "a:b", "c d", "e,f", "x" * 256])
def test_no_key_is_made_under_an_id_that_the_ring_would_not_read(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["key", name]) == 1
    assert "is no id of a key" in capsys.readouterr().err

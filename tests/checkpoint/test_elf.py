"""A program that was bound to a loader and libraries uses these and no others; what cannot be bound is told."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint import elf


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a loader and a C library that only what was bound to it uses."""
    folder = tmp_path / "own libraries of a program, in a folder with a long name"
    folder.mkdir()
    for library in {elf.loader(Path("/bin/cat").read_bytes()), *libraries_of("/bin/cat")}:
        shutil.copy(library, folder)
    return folder


def libraries_of(program: str) -> list[str]:
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [word for word in listed.split() if word.startswith("/")]


def bound(program: str, own: Path) -> Path:
    content = Path(program).read_bytes()
    made = own.parent / Path(program).name
    made.write_bytes(elf.bind(content, loader=own / Path(elf.loader(content)).name, libraries=own))
    made.chmod(0o755)
    return made


def test_a_bound_program_is_started_by_its_own_loader_with_its_own_libraries(own: Path) -> None:
    cat = bound("/bin/cat", own)
    maps = subprocess.run([cat, "/proc/self/maps"], capture_output=True, text=True, check=True).stdout
    mapped = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "x" in line.split()[1] and "/" in line}
    assert {path for path in mapped if not path.startswith(str(own.parent))} == set()
    assert {Path(path).name for path in mapped} >= {"cat", "libc.so.6"}
    assert elf.loader(cat.read_bytes()).startswith(str(own))


def test_a_program_is_bound_once(own: Path) -> None:
    cat = bound("/bin/cat", own)
    with pytest.raises(ValueError, match="already"):
        elf.bind(cat.read_bytes(), loader=own, libraries=own)


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh"])
def test_what_is_no_program_is_told(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no 64-bit program"):
        elf.bind(content, loader=tmp_path, libraries=tmp_path)


CAT = Path("/bin/cat").read_bytes()
HEADERS = st.integers(16, 1023)


@given(st.integers(0, len(CAT)), st.dictionaries(HEADERS, st.integers(0, 255), max_size=4))
def test_a_program_that_is_cut_off_or_damaged_is_bound_or_a_value_error(kept: int, changed: dict[int, int]) -> None:
    damaged = bytearray(CAT)
    for place, byte in changed.items():
        damaged[place] = byte
    try:
        elf.loader(bytes(damaged[:kept]))
        elf.bind(bytes(damaged[:kept]), loader=Path("/loader"), libraries=Path("/libraries"))
    except ValueError:
        return


@pytest.mark.parametrize("kept", [8, 60, 100])
def test_a_program_that_is_cut_off_is_told(kept: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cut off"):
        elf.bind(CAT[:kept], loader=tmp_path, libraries=tmp_path)

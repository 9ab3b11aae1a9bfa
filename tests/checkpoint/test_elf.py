from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

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

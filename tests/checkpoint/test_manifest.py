"""What an image is compared with before it is restored: host, Python, mapped files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from checkpoint import buildid
from checkpoint.errors import Damaged
from checkpoint.manifest import Host, Manifest, MappedFile

HERE = Host.here(criu=(4, 2, 1), mode="privileged")


def test_a_manifest_survives_its_json(tmp_path: Path) -> None:
    (tmp_path / "pages-1.img").write_bytes(b"pages")
    manifest = Manifest.describe(os.getpid(), tmp_path, control=5, host=HERE)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_it_names_the_files_a_process_maps_with_build_ids_and_contents(tmp_path: Path) -> None:
    mapped = {file.path: file for file in Manifest.describe(os.getpid(), tmp_path, control=5, host=HERE).mapped}
    executable = mapped[os.path.realpath(sys.executable)]
    assert executable.size == os.path.getsize(sys.executable)
    assert len(executable.digest) == 64
    libc = next(file for path, file in mapped.items() if "libc.so" in path or "libc-" in path)
    assert len(libc.build_id) == 40


def test_a_host_fits_itself(tmp_path: Path) -> None:
    assert Manifest.describe(os.getpid(), tmp_path, control=5, host=HERE).mismatch(HERE) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"machine": "riscv64"}, "machine"),
        ({"python": "3.99.0"}, "python"),
        ({"user": (4711, 4711)}, "user"),
        ({"mode": "unprivileged"}, "mode"),
        ({"criu": (4, 2, 0)}, "older 4.2.0"),
        ({"kernel": "5.9.1-old"}, "older 5.9.1-old"),
        ({"cpu": HERE.cpu[:-1]}, HERE.cpu[-1]),
    ],
)
def test_a_host_that_differs_where_it_matters_does_not_fit(change: dict[str, object], reason: str) -> None:
    assert reason in str(make().mismatch(replace(HERE, **change)))  # type: ignore[arg-type]


def test_a_newer_kernel_criu_and_cpu_fit() -> None:
    newer = replace(HERE, kernel="99.0", criu=(4, 3), cpu=(*HERE.cpu, "zz_new"), name="elsewhere")
    assert make().mismatch(newer) is None


@pytest.mark.parametrize(
    "changed", [lambda path: path.write_bytes(b"codE"), Path.unlink, lambda p: p.write_bytes(b"more")]
)
def test_a_mapped_file_that_changed_or_is_gone_does_not_fit(tmp_path: Path, changed: Callable[[Path], None]) -> None:
    library = tmp_path / "library.so"
    library.write_bytes(b"code")
    file = MappedFile.read(str(library))
    assert file is not None
    manifest = make(mapped=(file,))
    assert manifest.mismatch(HERE) is None
    changed(library)
    assert str(library) in str(manifest.mismatch(HERE))


def test_something_else_is_no_manifest() -> None:
    for raw in (b"", b"[]", b"{}", json.dumps({"format": 99}).encode(), make().to_json()[:-2]):
        with pytest.raises(Damaged):
            Manifest.from_json(raw)


def test_a_file_without_a_build_id_has_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no ELF")
    (tmp_path / "cut").write_bytes(Path(sys.executable).read_bytes()[:50])
    assert [buildid.read(str(tmp_path / name)) for name in ("text", "cut", "absent")] == ["", "", ""]


def make(mapped: tuple[MappedFile, ...] = ()) -> Manifest:
    return Manifest(pid=77, control=5, made=datetime.now(UTC), host=HERE, mapped=mapped, images=())

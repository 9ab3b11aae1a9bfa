"""What dumps and restores for this process: its own CRIU, or the helper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from checkpoint.criu import PATIENCE, Mode
from checkpoint.rpc import Worker


class Driver(Protocol):
    """`checkpoint.criu.Criu` says what its methods promise; `checkpoint.helper.client.Helper` keeps it."""

    @property
    def version(self) -> tuple[int, ...]: ...

    @property
    def place(self) -> Path: ...

    @property
    def mode(self) -> Mode: ...

    def prepare(self, passing: Iterable[int] = ()) -> Worker | None: ...

    def dump(
        self,
        pid: int,
        directory: Path,
        *,
        external: Iterable[int] = (),
        leave_stopped: bool = True,
        timeout: timedelta = PATIENCE,
        worker: Worker | None = None,
    ) -> None: ...

    def restore(
        self,
        directory: Path,
        *,
        inherit: Mapping[str, int] | None = None,
        timeout: timedelta = PATIENCE,
        worker: Worker | None = None,
    ) -> int: ...

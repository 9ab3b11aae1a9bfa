"""What freezing and thawing refuse, and why.

One tree; every class has a stable `code` for machines. The message says what happened and what to do, and ends with
CRIU's own words where there are any. Every error survives pickle: it is made of its arguments alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class CheckpointError(Exception):
    """Base of everything this package raises on purpose. `log` holds the last lines CRIU wrote, if it ran."""

    code: ClassVar[str] = "checkpoint_error"

    def __init__(self, message: str, log: Iterable[str] = ()) -> None:
        self.message = message
        self.log = tuple(log)
        super().__init__(message, self.log)

    def __str__(self) -> str:
        return "\n    ".join([self.message, *self.log])


class Unsupported(CheckpointError):
    """This host cannot freeze processes: no CRIU, one too old, or not the rights to use it."""

    code = "unsupported"


class InstallFailed(CheckpointError):
    """CRIU could not be brought to this host."""

    code = "install_failed"


class DumpFailed(CheckpointError):
    """The process could not be frozen; it goes on, or it died on its own."""

    code = "dump_failed"


class RestoreFailed(CheckpointError):
    """The process could not be thawed; nothing of it was left behind."""

    code = "restore_failed"


class Refused(CheckpointError):
    """The process holds something that no image can carry; the message names it and the remedy."""

    code = "refused"


class Mismatch(CheckpointError):
    """The image is sound but was not made for a host like this one."""

    code = "mismatch"


class Missing(CheckpointError):
    """There is no such image in the store."""

    code = "missing"


class Exists(CheckpointError):
    """An image of this id is in the store already; images are written once."""

    code = "exists"


class Damaged(CheckpointError):
    """The image is not, bit by bit, what was sealed for this subject; nothing of it was used."""

    code = "damaged"


class UnknownKey(CheckpointError):
    """The image is sealed with a key that is not in the ring."""

    code = "unknown_key"


class TooLarge(CheckpointError):
    """The image is larger than allowed."""

    code = "too_large"


class StoreFailed(CheckpointError):
    """The store could not be read or written."""

    code = "store_failed"


class QuotaExceeded(CheckpointError):
    """The store holds as much as it may."""

    code = "quota_exceeded"

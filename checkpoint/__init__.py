"""Freezing and thawing a process. Knows nothing of runs, Django or Celery; usable on its own."""

from checkpoint.archive import Archive
from checkpoint.base import Base
from checkpoint.capability import check, driver
from checkpoint.collect import Collected, collect
from checkpoint.criu import PID_IN_USE, Criu, Mode
from checkpoint.driver import Driver
from checkpoint.errors import (
    CheckpointError,
    Damaged,
    DumpFailed,
    Exists,
    InstallFailed,
    Mismatch,
    Missing,
    QuotaExceeded,
    Refused,
    RestoreFailed,
    StoreFailed,
    TooLarge,
    UnknownKey,
    Unsupported,
)
from checkpoint.manifest import Host, Manifest
from checkpoint.pack import Label
from checkpoint.place import store_at
from checkpoint.quota import require_room
from checkpoint.refusals import require_dumpable
from checkpoint.sandbox import Orphaned, Sandbox, Thaw, Wake, park, start, thaw
from checkpoint.seal import Keyring
from checkpoint.store import DirectoryStore, Store, Stored
from checkpoint.verdict import Reason, Verdict
from checkpoint.zygote import Unborn, Zygote, listen, serve

__all__ = [
    "PID_IN_USE",
    "Archive",
    "Base",
    "CheckpointError",
    "Collected",
    "Criu",
    "Damaged",
    "DirectoryStore",
    "Driver",
    "DumpFailed",
    "Exists",
    "Host",
    "InstallFailed",
    "Keyring",
    "Label",
    "Manifest",
    "Mismatch",
    "Missing",
    "Mode",
    "Orphaned",
    "QuotaExceeded",
    "Reason",
    "Refused",
    "RestoreFailed",
    "Sandbox",
    "Store",
    "StoreFailed",
    "Stored",
    "Thaw",
    "TooLarge",
    "Unborn",
    "UnknownKey",
    "Unsupported",
    "Verdict",
    "Wake",
    "Zygote",
    "check",
    "collect",
    "driver",
    "listen",
    "park",
    "require_dumpable",
    "require_room",
    "serve",
    "start",
    "store_at",
    "thaw",
]

"""Freezing and thawing a process. Knows nothing of runs, Django or Celery; usable on its own."""

from checkpoint.archive import Archive
from checkpoint.capability import Reason, Verdict, check, driver
from checkpoint.criu import Criu, Mode
from checkpoint.errors import (
    CheckpointError,
    Damaged,
    DumpFailed,
    Exists,
    InstallFailed,
    Mismatch,
    Missing,
    Refused,
    RestoreFailed,
    StoreFailed,
    TooLarge,
    UnknownKey,
    Unsupported,
)
from checkpoint.manifest import Host, Manifest
from checkpoint.pack import Label
from checkpoint.refusals import require_dumpable
from checkpoint.sandbox import Orphaned, Sandbox, Wake, park, start
from checkpoint.seal import Keyring
from checkpoint.store import DirectoryStore, Stored

__all__ = [
    "Archive",
    "CheckpointError",
    "Criu",
    "Damaged",
    "DirectoryStore",
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
    "Reason",
    "Refused",
    "RestoreFailed",
    "Sandbox",
    "StoreFailed",
    "Stored",
    "TooLarge",
    "UnknownKey",
    "Unsupported",
    "Verdict",
    "Wake",
    "check",
    "driver",
    "park",
    "require_dumpable",
    "start",
]

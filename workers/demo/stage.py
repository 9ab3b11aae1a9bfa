"""What the play is played on: the servers, the workers and the runs, as they are known so far."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers import RunHandle
from workers.demo.display import Display
from workers.demo.ledger import Ledger
from workers.demo.mail import MailServer
from workers.demo.payments import PaymentServer
from workers.demo.processes import Worker


@dataclass(slots=True, kw_only=True)
class Stage:
    """One performance."""

    folder: Path
    display: Display
    ledger: Ledger
    payments: PaymentServer
    mail: MailServer
    ports: Sequence[int]
    """Of the servers on loopback that workers talk to."""
    needed: Sequence[Path]
    """Folders that workers need besides Python's and this one."""
    keeps_images: bool
    """Whether a waiting run's process is kept as an image, and restored."""
    workers: list[Worker] = field(default_factory=list)
    """Every worker started, in order; the last is the one that should be alive."""
    handles: dict[str, RunHandle[Any]] = field(default_factory=dict)
    """The runs, by who they are in the ledger."""
    statuses: dict[str, str] = field(default_factory=dict)
    """The runs' statuses when last looked at, as the handles."""
    goal: str = "the first worker"
    """What the play waits for, to be told if it waits in vain."""
    kills: int = 0
    held: Sequence[str] = ()
    """The processes of runs that were there although all runs waited."""
    at_work: Sequence[str] = ()
    """Those that were there when a run was paying."""
    elsewhere: bool = False
    """Whether the second worker was started on what looks like another host."""

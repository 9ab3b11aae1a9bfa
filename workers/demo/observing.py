"""Looks at the world: at ledger, servers and processes; what only the product knows is said to come from its tables."""

from pathlib import Path
from typing import Final

from workers.demo.errors import DemoFailed
from workers.demo.hall import HALL
from workers.demo.mail import TICKET
from workers.demo.processes import Worker
from workers.demo.stage import Stage
from workers.demo.story import KILLED, PATIENT, PURCHASES
from workers.demo.verdict import Observed, Outcome, Suspended

_PLACES: Final = {"directory": "cwd", "network": "ns/net", "/tmp": "root/tmp"}
"""What can be another one for each process, and the name in /proc of what it has."""


def observe(stage: Stage) -> Observed:
    """What the runs, the ledger, the servers and the second worker's process say now."""
    return Observed(
        outcomes={name: _outcome(stage, name) for name in (*(one.ticket for one in PURCHASES), HALL)},
        entries=stage.ledger.entries(),
        charges=stage.payments.charges,
        refunds=stage.payments.refunds,
        mails=[str(message[TICKET]) for message in stage.mail.messages],
        killed_while_paying=stage.kills == 1 and stage.payments.requests(KILLED.cart) > 1,
        suspended=_suspended(stage) if stage.keeps_images else None,
        shared=shared_with(stage.workers[-1]) if stage.elsewhere else None,
    )


def sizes_of_images() -> list[int]:
    """Bytes in the store of each, by the product's tables."""
    from triggerapp.models import Checkpoint  # noqa: PLC0415  (needs Django)

    return list(Checkpoint.objects.values_list("size", flat=True))


def shared_with(worker: Worker) -> tuple[str, ...]:
    """What of a place this process and the worker have in common."""
    ours, theirs = Path("/proc/self"), Path(f"/proc/{worker.pid}")
    try:
        return tuple(what for what, name in _PLACES.items() if (ours / name).samefile(theirs / name))
    except FileNotFoundError as gone:
        raise DemoFailed(f"{worker.name} ended by itself; the end of its log, above, says why.") from gone


def _outcome(stage: Stage, name: str) -> Outcome:
    status = stage.statuses[name]
    result = stage.handles[name].get(timeout=60) if status == "COMPLETED" else None
    return Outcome(status=status, result=result)


def _suspended(stage: Stage) -> Suspended:
    left = (PATIENT.ticket, HALL)
    restores = {name: _last_restore(stage.handles[name].id) for name in left}
    return Suspended(held=stage.held, at_work=stage.at_work, restores=restores)


def _last_restore(run: str) -> str | None:
    """What was in its way, by the product's tables; empty if nothing was, None if it was never tried."""
    from triggerapp.models import Restore  # noqa: PLC0415  (needs Django)

    return Restore.objects.filter(run_id=run).order_by("id").values_list("problem", flat=True).last()

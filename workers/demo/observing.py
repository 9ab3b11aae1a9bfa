"""What the world looks like when the play is over: each look is at the outside, but for how the runs say they ended."""

from pathlib import Path

from workers.demo.hall import HALL
from workers.demo.mail import TICKET
from workers.demo.processes import Worker
from workers.demo.stage import Stage
from workers.demo.story import KILLED, PATIENT, PURCHASES
from workers.demo.verdict import Observed, Outcome, Suspended

_PLACES = {"directory": "cwd", "network": "ns/net", "/tmp": "root/tmp"}
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
    """Bytes in the store, for each run that waits."""
    from triggerapp.models import Checkpoint  # noqa: PLC0415  (needs Django)

    return list(Checkpoint.objects.values_list("size", flat=True))


def shared_with(worker: Worker) -> tuple[str, ...]:
    """What of a place this process and the worker have in common."""
    ours, theirs = Path("/proc/self"), Path(f"/proc/{worker.pid}")
    return tuple(what for what, name in _PLACES.items() if (ours / name).samefile(theirs / name))


def _outcome(stage: Stage, name: str) -> Outcome:
    status = stage.statuses[name]
    result = stage.handles[name].get(timeout=60) if status == "COMPLETED" else None
    return Outcome(status=status, result=result)


def _suspended(stage: Stage) -> Suspended:
    left = (PATIENT.ticket, HALL)
    return Suspended(held=stage.held, restores={name: _last_restore(stage.handles[name].id) for name in left})


def _last_restore(run: str) -> str | None:
    """What was in its way; empty if nothing was, None if it was never tried."""
    from triggerapp.models import Restore  # noqa: PLC0415  (needs Django)

    return Restore.objects.filter(run_id=run).order_by("id").values_list("problem", flat=True).last()

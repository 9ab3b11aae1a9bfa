"""`manage.py checkpoints`: the images that waiting runs can be restored from."""

from __future__ import annotations

import tempfile
from argparse import SUPPRESS
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.progress import track

from checkpoint import Archive, CheckpointError, Label, Store
from triggerapp import ids, imagestore
from triggerapp.api.rendering import when
from triggerapp.engine import checkpoints
from triggerapp.management.base import BaseCommand
from triggerapp.management.choosing import RUN, run_ids
from triggerapp.management.output import dump, outcome, table
from triggerapp.models import Checkpoint, Run, Status, Worker

_NONE: Final = "there is none"
_UNHELD: Final = "no worker has it now"


class Command(BaseCommand):
    """Exit status 1 if an image that was verified is not sound."""

    help = "List, verify or delete the process images of waiting runs, or have a running one move to another worker."

    def add_arguments(self, parser: CommandParser) -> None:
        """The verbs; `list` is what it does without one."""
        parser.add_argument("--json", action="store_true", help="print JSON")
        shared = CommandParser(add_help=False)
        shared.add_argument("--json", action="store_true", default=SUPPRESS, help="print JSON")
        verb = partial(parser.add_subparsers(dest="verb").add_parser, parents=[shared])
        verb("list", help="all images, with their sizes")
        verify = verb("verify", help="read images whole, as a restore would")
        delete = verb("delete", help="delete images; their runs are entered again from the journal")
        pause = verb("pause", help="dump a run where it stands, and let another worker go on with it")
        verify.add_argument("runs", nargs="*", metavar="RUN", help=f"{RUN} (default: of all)")
        for each in (delete, pause):
            each.add_argument("runs", nargs="+", metavar="RUN", help=RUN)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do the verb."""
        self.as_json = options["json"]
        verb = options["verb"] or "list"
        getattr(self, f"_{verb}")(_require(run_ids(options.get("runs") or [])))

    def _list(self, _: object) -> None:
        found = list(Checkpoint.objects.select_related("run").order_by("-made_at"))
        if self.as_json:
            self.stdout.write(dump([_rendered(each) for each in found]))
            return
        columns = ("run", "task", "made", "host", "stored", "image", "took", "restores")
        caption = f"{_counted(len(found))}, {_megabytes(sum(each.size for each in found))} stored"
        table(self.stdout, columns, map(_cells, found), caption=caption)

    def _verify(self, runs: list[UUID]) -> None:
        rows = Checkpoint.objects.filter(run__in=runs) if runs else Checkpoint.objects.all()
        with tempfile.TemporaryDirectory(prefix="triggerapp-") as folder:
            archive = Archive(store=_store(), keyring=imagestore.keyring(), scratch=Path(folder))
            console = Console(stderr=True)
            found = {
                row.run.pk: _problem(archive, row)
                for row in track(list(rows), "reading", console=console, disable=not rows)
            }
        said = {run: why or "sound" for run, why in found.items()} | {run: _NONE for run in runs if run not in found}
        self._say([outcome(run, sound=what == "sound", error=found.get(run, what)) for run, what in said.items()], said)
        unsound = sum(bool(problem) for problem in found.values())
        if unsound:
            raise CommandError(f"{unsound} of {_counted(len(found))} cannot be restored; their runs will be re-entered")

    def _delete(self, runs: Iterable[UUID]) -> None:
        images = {run: checkpoints.discard_by_hand(run) for run in runs}
        said = {run: _NONE if image is None else _deleted(image) for run, image in images.items()}
        self._say([outcome(run, deleted=image is not None) for run, image in images.items()], said)

    def _pause(self, runs: Iterable[UUID]) -> None:
        holders = {run: _holder(run) for run in runs}
        asked = {run: worker for run, worker in holders.items() if worker and checkpoints.ask_to_move(run)}
        rendered = [
            outcome(run, asked=True, worker=asked[run].hostname, waits=asked[run].waiting)
            if run in asked
            else outcome(run, asked=False, error=_UNHELD)
            for run in holders
        ]
        self._say(rendered, {run: _told(asked[run]) if run in asked else _UNHELD for run in holders})

    def _say(self, rendered: list[dict[str, Any]], lines: dict[UUID, str]) -> None:
        if self.as_json:
            self.stdout.write(dump(rendered))
        elif not lines:
            self.stdout.write("no images")
        else:
            self.stdout.write("\n".join(f"{ids.show('run', run)}: {said}" for run, said in lines.items()))


def _told(worker: Worker) -> str:
    how = worker.waiting or "as it has not said yet"
    return f"asked; {worker.hostname} has it, whose runs wait {how}"


def _require(runs: list[UUID]) -> list[UUID]:
    """These runs, if all are there: nothing is done to one of them else."""
    unknown = set(runs).difference(Run.objects.filter(pk__in=runs).values_list("pk", flat=True))
    for run in runs:
        if run in unknown:
            raise CommandError(str(ids.missing("run", run)))
    return runs


def _holder(run: UUID) -> Worker | None:
    """The worker that runs it; one that keeps no images says why, and goes on with it."""
    found = Run.objects.filter(pk=run).first()
    if found is None or found.status != Status.RUNNING or found.worker is None:
        return None
    return Worker.objects.filter(pk=found.worker).first()


def _deleted(image: UUID) -> str:
    """Delete what is in the store; its run has forgotten it already."""
    if imagestore.delete([image]):
        return "deleted"
    return "deleted; what the store has of it stays until a worker sweeps: the store has nothing, or does not answer"


def _store() -> Store:
    try:
        return imagestore.store()
    except CheckpointError as problem:
        raise CommandError(str(problem)) from problem


def _problem(archive: Archive, row: Checkpoint) -> str:
    """Why it cannot be restored anywhere; empty if it is sound."""
    try:
        archive.verify(Label(checkpoint=row.id, run=row.run.pk, sequence=row.sequence, lease=row.lease))
    except CheckpointError as problem:
        return str(problem)
    return ""


def _rendered(row: Checkpoint) -> dict[str, object]:
    return {
        "id": ids.show("checkpoint", row.id),
        "run": ids.show("run", row.run.pk),
        "taskIdentifier": row.run.task,
        "waitpoint": row.wait and ids.show("waitpoint", row.wait),
        "createdAt": when(row.made_at),
        "host": row.host,
        "size": row.size,
        "imageSize": row.image_size,
        "durationMs": round(row.took / timedelta(milliseconds=1)),
        "restores": row.restores,
    }


def _cells(row: Checkpoint) -> tuple[str, ...]:
    return (
        ids.show("run", row.run.pk),
        row.run.task,
        f"{row.made_at:%Y-%m-%d %H:%M:%S}",
        row.host,
        _megabytes(row.size),
        _megabytes(row.image_size),
        f"{row.took.total_seconds():.2f} s",
        str(row.restores),
    )


def _counted(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"

"""`make demo`: start real services, play the ticket shop, print ledger and verdict, end everything.

Exit status 0 only if every purchase ended as it must, every ledger line is there once and nobody paid twice.
"""

import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn
from urllib.parse import urlsplit

import django
from django.core.management import call_command
from django.db import connections
from rich.console import Console
from rich.markup import escape

import checkpoint
from checkpoint import Verdict
from triggerapp.services import Services, ServicesError, ServiceUrls
from workers.demo import display, ledger, outside, play, processes, verdict
from workers.demo.display import Display
from workers.demo.errors import DemoFailed
from workers.demo.ledger import Ledger
from workers.demo.mail import MailServer
from workers.demo.payments import PaymentServer
from workers.demo.stage import Stage
from workers.demo.story import MOODS, PURCHASES
from workers.demo.verdict import Observed

TIME_LIMIT: Final = 300
"""Seconds the whole demo may take."""


def main() -> int:
    """Play the demo; the exit status."""
    console = Console()
    signal.signal(signal.SIGTERM, _leave)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, _leave)
    console.print(
        "[bold]A ticket shop on durable Celery.[/] Real PostgreSQL, Valkey and workers; one worker is killed."
    )
    try:
        seen = _play(console)
    except (DemoFailed, ServicesError) as failure:
        console.print(f"[bold red]The demo failed:[/] {escape(str(failure))}", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return _report(seen, console)


def _report(seen: Observed, console: Console) -> int:
    findings = verdict.judge(PURCHASES, seen)
    console.print(display.ledger_table(seen.entries))
    console.print(display.verdict_table(findings))
    return 1 if any(finding.faults for finding in findings) else 0


def _play(console: Console) -> Observed:
    """What was seen, when everything that was started has ended."""
    with _folder() as folder:
        os.environ[ledger.PATH] = str(folder / "ledger.jsonl")  # first of all: it marks the processes that are ours
        try:
            with _time_limit(TIME_LIMIT), display.open_display(console) as shown, _stage(folder, shown) as stage:
                seen = _perform(stage, console)
        finally:
            survivors = processes.left_behind()
    return replace(seen, left_behind=survivors)


def _perform(stage: Stage, console: Console) -> Observed:
    try:
        return play.perform(stage)
    except Exception:
        for worker in stage.workers:
            console.print(f"[bold]The end of the log of {worker.name}:[/]")
            console.print(worker.tail(), markup=False, highlight=False, soft_wrap=True)
        console.print(f"[bold]The demo waited for {stage.goal}.[/]")
        raise


@contextmanager
def _stage(folder: Path, shown: Display) -> Iterator[Stage]:
    """Servers, tables and environment, ready to play; ended afterwards."""
    book = Ledger(Path(os.environ[ledger.PATH]))
    with ExitStack() as stack:
        shown.say("Starting PostgreSQL and Valkey in a folder of their own.")
        services = stack.enter_context(_services(folder / "services"))
        urls = services.start()
        payments = stack.enter_context(PaymentServer(book, MOODS))
        mail = stack.enter_context(MailServer(book))
        _set_environment(urls, payments, mail, images=folder / "images")
        found = checkpoint.check()
        shown.say(_how_runs_wait(found))
        shown.say("Migrating.")
        django.setup()
        call_command("migrate", verbosity=0)
        stack.callback(connections.close_all)
        yield Stage(
            folder=folder,
            display=shown,
            ledger=book,
            payments=payments,
            mail=mail,
            ports=_ports(urls.database_url, urls.broker_url, payments.url, f"smtp://{mail.address}"),
            needed=[services.postgres.home, *_folders_of(found.path)],
            keeps_images=found.ok,
        )


@contextmanager
def _services(folder: Path) -> Iterator[Services]:
    services = Services(folder, die_with_parent=True)
    try:
        yield services
    finally:
        services.stop()
        shutil.rmtree(services.postgres.home, ignore_errors=True)  # may be outside of the folder


def _how_runs_wait(found: Verdict) -> str:
    """Whether processes can be dumped here; the workers find out for themselves."""
    if found.ok:
        return f"Waiting runs have no process: theirs is dumped with CRIU {found.version}, and restored afterwards."
    reason = next(reason for reason in found.reasons if reason.blocking)
    remedy = "" if reason.remedy in reason.message else f" To have them restored: {reason.remedy}."
    return f"Waiting runs have no process: they are entered again from their journal, because {reason.message}.{remedy}"


def _ports(*urls: str) -> list[int]:
    """Of the servers on loopback; PostgreSQL listens on a file."""
    found = [urlsplit(url) for url in urls]
    return [url.port for url in found if url.hostname == "127.0.0.1" and url.port]


def _folders_of(criu: str | None) -> list[Path]:
    """The folders in which the program is, and what came with it."""
    return list(Path(criu).parents)[:2] if criu else []


def _set_environment(urls: ServiceUrls, payments: PaymentServer, mail: MailServer, *, images: Path) -> None:
    """What this process and the workers go by; whatever the user's own environment says of theirs is not for us."""
    for name in [name for name in os.environ if name.startswith(("CELERY_", "TRIGGERAPP_"))]:
        del os.environ[name]
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "triggerapp.settings",
        "PYTHONPATH": os.pathsep.join(sys.path),  # workers find us in any directory
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(),
        "DATABASE_URL": urls.database_url,
        "CELERY_BROKER_URL": urls.broker_url,
        "TRIGGERAPP_CHECKPOINT": "auto",
        "TRIGGERAPP_CHECKPOINT_STORE": str(images),
        outside.PAYMENTS: payments.url,
        outside.MAIL: mail.address,
    }


@contextmanager
def _folder() -> Iterator[Path]:
    """A new folder, removed at the end. The database's account must be able to pass through it."""
    with tempfile.TemporaryDirectory(prefix="triggerapp-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    """Stop the demo where it stands when the time is over."""
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _out_of_time(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise DemoFailed(f"it took longer than {TIME_LIMIT} s and was ended where it stood. Is this machine very busy?")


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(143)  # an exception, so that everything started is ended


if __name__ == "__main__":
    sys.exit(main())

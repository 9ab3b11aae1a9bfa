"""`manage.py dev`: everything a developer needs, in one terminal. One ctrl-C ends it all.

If one of the processes ends, all end: half a system is harder to understand than none.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from triggerapp import flowerconfig
from triggerapp.management.choosing import count_to
from triggerapp.management.place import project
from triggerapp.services import FOLDER, Services, ServicesError
from triggerapp.services.process import leash, until

GRACE: Final = 15.0
"""Seconds the processes get to finish what they do."""
_PORTS: Final = 65_535
_PROCESSES: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One of the processes, under the name its lines begin with."""

    name: str
    process: subprocess.Popen[str]


class Command(BaseCommand):
    """Runs servers, web, worker and Flower, their output interleaved line by line."""

    help = "Run this project in one terminal: servers (unless given), web, a Celery worker and Flower."
    requires_system_checks = []  # they want the database, which is started here

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--app", help="the Celery app, as of `celery -A` (default: this project's own)")
        parser.add_argument("--port", type=count_to(_PORTS), default=8000, help="the web's port (default: %(default)s)")
        ports = count_to(_PORTS, least=0)
        parser.add_argument("--flower-port", type=ports, default=5555, help="Flower's port; 0 for none")
        parser.add_argument(
            "--concurrency", type=count_to(_PROCESSES), default=2, help="the worker's processes (default: %(default)s)"
        )

    def handle(self, *args: object, **options: Any) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` ends it as ctrl-C does
        try:
            self._play(options)
        except KeyboardInterrupt:
            raise CommandError("ended before everything had started", returncode=130) from None

    def _play(self, options: dict[str, Any]) -> None:
        with _servers() as environment:
            if options["flower_port"]:
                environment.setdefault("TRIGGERAPP_FLOWER_URL", f"http://127.0.0.1:{options['flower_port']}")
            _run(["migrate", "--verbosity", "0"], environment)
            _run(_login(options), environment)
            if not _is_given():
                self.stdout.write(f"In another terminal: export $({shlex.join([*_manage(), 'services', 'status'])})")
            children = [_start(name, command, environment) for name, command in _commands(options)]
            self._follow(children)

    def _follow(self, children: Sequence[Child]) -> None:
        """Show what they say until one ends or ctrl-C comes, then end them all."""
        readers = [threading.Thread(target=self._copy, args=[child], daemon=True) for child in children]
        ended: list[Child] = []
        try:
            for reader in readers:
                reader.start()
            until(lambda: bool(_ended(children)), within=math.inf)
            ended = _ended(children)
        except KeyboardInterrupt:
            self.stdout.write("\nending; ctrl-C again kills")
        _end(children)
        if ended:
            raise CommandError(
                f"{ended[0].name} ended by itself with status {ended[0].process.returncode}: see its last lines"
            )

    def _copy(self, child: Child) -> None:
        output: IO[str] | None = child.process.stdout
        for line in output or ():
            self.stdout.write(f"{child.name:>6} | {line.rstrip()}")


def _is_given() -> bool:
    """Whether any server is somebody else's: another terminal has to be told of it as this one was."""
    return bool(os.environ.get("DATABASE_URL") or os.environ.get("CELERY_BROKER_URL"))


@contextmanager
def _servers() -> Iterator[dict[str, str]]:
    """The environment with both URLs; servers that were not running before end with us."""
    environment = {"DJANGO_DEBUG": "1", **os.environ, "PYTHONUNBUFFERED": "1"}
    if environment.get("DATABASE_URL") and environment.get("CELERY_BROKER_URL"):
        yield environment
        return
    services = Services(project() / FOLDER)
    were_running = services.urls() is not None
    try:
        urls = services.start()
    except ServicesError as cause:
        raise CommandError(str(cause)) from cause
    environment.setdefault("DATABASE_URL", urls.database_url)
    environment.setdefault("CELERY_BROKER_URL", urls.broker_url)
    try:
        yield environment
    finally:
        if not were_running:
            services.stop()


def _run(command: Sequence[str], environment: dict[str, str]) -> None:
    # In a session of its own: a ctrl-C that comes meanwhile is ours to answer.
    done = subprocess.run(
        [*_manage(), *command], env=environment, check=False, stdin=subprocess.DEVNULL, start_new_session=True
    )
    if done.returncode:
        raise CommandError(f"`manage.py {command[0]}` failed: see what it said above, and `manage.py doctor`")


def _manage() -> list[str]:
    return [sys.executable, sys.argv[0]]


def _login(options: dict[str, Any]) -> list[str]:
    """Whom to log in as; in a database that is the project's own, a user is made for it."""
    own = [] if os.environ.get("DATABASE_URL") else ["--make"]
    return ["devlogin", "--port", str(options["port"]), *own]


def _commands(options: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    celery = [sys.executable, "-m", "celery", "-A", options["app"] or celery_app(str(settings.SETTINGS_MODULE))]
    yield "web", [sys.executable, "-m", "triggerapp.devserver", str(options["port"])]
    yield "worker", [*celery, "worker", "-E", "--loglevel", "INFO", "--concurrency", str(options["concurrency"])]
    if options["flower_port"]:
        own = Path("flowerconfig.py").exists()  # which Flower finds by itself
        config = [] if own else [f"--conf={flowerconfig.__file__}"]
        yield "flower", [*celery, "flower", "--address=127.0.0.1", f"--port={options['flower_port']}", *config]


def celery_app(settings_module: str) -> str:
    """Where Celery's users keep their app: `celery.py` or `celery_app.py` beside or above the settings; else ours."""
    parts = settings_module.split(".")[:-1]
    packages = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    names = [f"{package}.{module}" for package in packages for module in ("celery", "celery_app")]
    return next((name for name in [*names, "celery_app"] if importlib.util.find_spec(name) is not None), "workers")


def _start(name: str, command: list[str], environment: dict[str, str]) -> Child:
    """A session of its own keeps the terminal's ctrl-C from it: it is ended once, by us."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=leash(signal.SIGTERM),
    )
    return Child(name=name, process=process)


def _ended(children: Sequence[Child]) -> list[Child]:
    return [child for child in children if child.process.poll() is not None]


def _end(children: Sequence[Child]) -> None:
    """Ask each to end, and kill what is left of it after a while or a second ctrl-C."""
    for child in children:
        child.process.terminate()
    with suppress(KeyboardInterrupt):  # somebody in a hurry: what is left is killed below
        until(lambda: len(_ended(children)) == len(children), within=GRACE)
    for child in children:
        _kill_session(child.process)
        child.process.wait()


def _kill_session(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # nothing was left

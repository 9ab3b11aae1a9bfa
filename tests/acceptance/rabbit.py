"""A real RabbitMQ of the tests' own: its node, its data and its epmd in a temporary folder, on free loopback ports.

Nothing of an installed RabbitMQ is touched: neither its service nor its data nor its port. What was started is ended
by its pid, and goes with the tests if they are killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from tests.acceptance.cluster import _prctl

_SCRIPTS = Path("/usr/lib/rabbitmq/bin")
_PATIENCE = 300.0


def find() -> Path | None:
    """The server's own start script. The one on PATH may be a distribution's, which changes account and folder."""
    for folder in (_SCRIPTS, _installed_beside_path()):
        if folder is not None and (folder / "rabbitmq-server").exists():
            return folder / "rabbitmq-server"
    return None


def _installed_beside_path() -> Path | None:
    found = shutil.which("rabbitmq-server")
    return Path(found).resolve().parent if found else None


@contextmanager
def running(script: Path, folder: Path) -> Iterator[str]:
    """Its URL, once it takes connections."""
    amqp, distribution, names = _free_ports(3)
    environment = _environment(script, folder, amqp, distribution, names)
    with ExitStack() as stack:
        start = partial(_started, folder, environment)
        stack.enter_context(start([_epmd(), "-address", "127.0.0.1", "-port", str(names)]))
        server = stack.enter_context(start([str(script)]))
        _wait(server, amqp, folder)
        yield f"amqp://guest:guest@127.0.0.1:{amqp}//"


def _environment(script: Path, folder: Path, amqp: int, distribution: int, names: int) -> dict[str, str]:
    (folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{amqp}\n")
    (folder / "plugins").write_text("[].\n")
    return {
        "PATH": f"{script.parent}:{os.environ.get('PATH', '')}",
        "HOME": str(folder),  # of the Erlang cookie
        "LANG": "C.UTF-8",
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RUNNING_UNDER_SYSTEMD": "1",  # the script becomes the server, whose pid is then the one we know
        "RABBITMQ_NODENAME": f"triggerapp-{os.getpid()}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }


def _epmd() -> str:
    found = shutil.which("epmd")
    assert found is not None, "RabbitMQ is installed, and Erlang's epmd is not on PATH"
    return found


@contextmanager
def _started(folder: Path, environment: dict[str, str], command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{Path(command[0]).name}.log").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=partial(_prctl, 1, int(signal.SIGKILL)),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait(server: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        said = (folder / "rabbitmq-server.log").read_text(errors="replace")
        assert server.poll() is None, f"RabbitMQ ended:\n{said[-2000:]}"
        assert time.monotonic() < deadline, f"RabbitMQ did not start within {_PATIENCE} s:\n{said[-2000:]}"
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    """Different ones: all are held until the last is found."""
    with ExitStack() as stack:
        held = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]

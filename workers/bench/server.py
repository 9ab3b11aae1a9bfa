"""`python -m workers.bench.server SOCKET`: the dashboard alone, by ASGI, on the bench's database; one process.

Settings are the project's own but for where pages are; who looks must log in as anywhere.
"""

from __future__ import annotations

import socket
import sys

import django
import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application


def main(listener: int) -> None:
    """Serve on a socket that listens already, until the process is ended."""
    from workers.bench import tasks  # noqa: PLC0415  (chooses the database; needs the settings, and must come first)

    settings.ROOT_URLCONF = "workers.bench.urls"
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    settings.SECURE_SSL_REDIRECT = False
    django.setup()
    tasks.app.set_default()
    config = uvicorn.Config(get_asgi_application(), lifespan="off", log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=listener)])


if __name__ == "__main__":
    main(int(sys.argv[1]))

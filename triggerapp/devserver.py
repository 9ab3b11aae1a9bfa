"""`python -m triggerapp.devserver PORT`: the project by ASGI, with static files, loaded anew when its code changes.

For development only. Not Django's `runserver`: it drops bodies that come in chunks, as the SDK sends batches.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.utils import autoreload
from django.utils.module_loading import import_string


def application() -> Any:
    """The project's own entry point, if it names one."""
    plain = get_asgi_application()
    path = getattr(settings, "ASGI_APPLICATION", None)
    return ASGIStaticFilesHandler(import_string(path) if path else plain)


def serve(port: int) -> None:
    """Serve until the process ends."""
    uvicorn.run(application(), host="127.0.0.1", port=port, lifespan="off")


if __name__ == "__main__":
    autoreload.run_with_reloader(serve, int(sys.argv[1]))

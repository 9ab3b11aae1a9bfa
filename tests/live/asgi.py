"""The server of a live site: the standalone project's, with the tests' tasks."""

from __future__ import annotations

from django.core.asgi import get_asgi_application

from tests.live.app import app

application = get_asgi_application()
app.set_default()

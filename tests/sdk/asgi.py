"""The server that the SDK talks to: the standalone project's, with the tests' tasks."""

from __future__ import annotations

from django.core.asgi import get_asgi_application

from tests.sdk.app import app

application = get_asgi_application()
app.set_default()

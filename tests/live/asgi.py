"""The server of a live site: the standalone project's, with the tests' tasks."""

from __future__ import annotations

from triggerapp.asgi import application as application  # sets Django up, which the tasks need  # isort: skip
from tests.live.app import app

app.set_default()

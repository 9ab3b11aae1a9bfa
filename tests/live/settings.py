"""The standalone project's settings, with the address that a live site has."""

from __future__ import annotations

import os

from triggerapp.settings import *  # noqa: F403

TRIGGERAPP = {"BASE_URL": os.environ["LIVE_URL"], "FLOWER_URL": "http://127.0.0.1:5555"}

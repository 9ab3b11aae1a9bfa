"""The standalone project's settings, with the address that the tests' server has."""

from __future__ import annotations

import os

from triggerapp.settings import *  # noqa: F403

TRIGGERAPP = {"BASE_URL": os.environ["SDK_TESTS_URL"]}

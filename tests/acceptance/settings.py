"""The workers' Django settings: the standalone project's, with leases that outlast any stall of a busy machine."""

from __future__ import annotations

import json
import os
from datetime import timedelta

from triggerapp.settings import *  # noqa: F403

TRIGGERAPP = {
    "LEASE": timedelta(seconds=float(os.environ.get("ACCEPTANCE_LEASE", "30"))),
    "HEARTBEAT": timedelta(seconds=1),
    "CHECKPOINT": os.environ.get("ACCEPTANCE_CHECKPOINT", "off"),
    "CHECKPOINT_BASE": os.environ.get("ACCEPTANCE_BASE", "copied"),
    "CHECKPOINT_MIN_WAIT": timedelta(),
    "CHECKPOINT_STORE": os.environ.get("ACCEPTANCE_STORE", "~/.local/state/triggerapp/checkpoints"),
    "CHECKPOINT_QUOTA_BYTES": int(os.environ.get("ACCEPTANCE_QUOTA", "0")),
    "RESEND_AFTER": timedelta(seconds=float(os.environ.get("ACCEPTANCE_RESEND", "30"))),
}

ROOT_URLCONF = os.environ.get("ACCEPTANCE_URLS", "triggerapp.urls")

# Here and not by `app.conf.update`: before Celery 5.7 what the Django settings say goes before that.
CELERY_ACCEPT_CONTENT = ["json", "pickle", "yaml", "msgpack"]
CELERY_RESULT_ACCEPT_CONTENT = ["json", "pickle"]

# More Celery settings, for a worker that needs others than the rest.
globals().update({f"CELERY_{k.upper()}": v for k, v in json.loads(os.environ.get("ACCEPTANCE_CONF", "{}")).items()})

"""Django settings of the fault tests' workers: the project's own, with short leases."""

from __future__ import annotations

import os
from datetime import timedelta

from triggerapp.settings import *  # noqa: F403

TRIGGERAPP = {
    "LEASE": timedelta(seconds=float(os.environ.get("FAULTS_LEASE", "2"))),
    "HEARTBEAT": timedelta(seconds=0.5),
    "TICK": timedelta(seconds=0.5),
    "RESEND_AFTER": timedelta(seconds=1),
    "CHECKPOINT": os.environ.get("FAULTS_CHECKPOINT", "off"),
    "CHECKPOINT_MIN_WAIT": timedelta(),
    "CHECKPOINT_STORE": os.path.join(os.environ.get("FAULTS_FOLDER", "/nowhere"), "store"),
}

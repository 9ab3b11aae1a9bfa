"""The one signal: a run moved.

Sent in the process that moved it, inside the transaction; receivers must be quick and
must not raise. What has to survive a crash is a row, never a receiver.
"""

from __future__ import annotations

from django.dispatch import Signal

transitioned = Signal()
"""Arguments: `run_id`, `status`."""

"""Says that a worker's waiting runs are entered again from their journal, and why: in its log and in its row."""

from __future__ import annotations

import logging

from workers import link

log = logging.getLogger(__name__)


def say_why(reason: str, *, at_length: str = "") -> None:
    """In "auto" it is no fault of this host that it cannot."""
    from triggerapp import conf  # noqa: PLC0415  (needs Django)

    level = logging.ERROR if conf.get().CHECKPOINT == "on" else logging.INFO
    log.log(level, "waiting runs are entered again from their journal: %s", at_length or reason)
    link.tell("waiting", how=f"by re-entry: {reason}")

"""Says that waiting runs are entered again from their journal, and why: in a worker's log and row, and on attempts."""

from __future__ import annotations

import logging
import socket
import time
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from workers import link

if TYPE_CHECKING:
    from triggerapp.engine.runs import Claimed

log = logging.getLogger(__name__)

_TEXT: Final = "entered again and not restored: the worker on {} restores no images; the workers page says why"
_HOLDS: Final = 10
"""For so many seconds it is believed whether there are images: a fleet that keeps none pays nothing for asking."""


def say_why(reason: str, *, at_length: str = "") -> None:
    """In "auto" it is no fault of this host that it cannot."""
    from triggerapp import conf  # noqa: PLC0415  (needs Django)

    level = logging.ERROR if conf.get().CHECKPOINT == "on" else logging.INFO
    log.log(level, "waiting runs are entered again from their journal: %s", at_length or reason)
    link.tell("waiting", how=f"by re-entry: {reason}")


def note(claimed: Claimed) -> None:
    """On the attempt of a run whose image another worker could restore, and this one does not."""
    if not claimed.again:
        return
    from triggerapp.engine import checkpoints  # noqa: PLC0415  (needs Django)
    from workers.patience import UNANSWERED  # noqa: PLC0415  (needs Django)

    with suppress(*UNANSWERED):
        if _are_images_kept(int(time.monotonic() / _HOLDS)):
            checkpoints.note_passed_over(claimed.run_id, _TEXT.format(socket.gethostname()), lease=claimed.lease)


@lru_cache(maxsize=1)
def _are_images_kept(moment: int) -> bool:
    from triggerapp.engine import checkpoints  # noqa: PLC0415  (needs Django)

    return checkpoints.are_kept()

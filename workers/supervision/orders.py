"""Whether a run is to leave its worker, as its supervisor learns it. Once it is, it stays so."""

from __future__ import annotations

from django.db import connection

from triggerapp.engine import checkpoints
from triggerapp.engine.runs import Claimed
from workers import identity
from workers.board import Watch
from workers.patience import UNANSWERED


class Orders:
    """What the worker and its operators want of one run."""

    def __init__(self, claimed: Claimed, watch: Watch) -> None:
        self._claimed = claimed
        self._watch = watch
        self._asked = False

    def to_move(self) -> bool:
        """Whether the worker shuts down, or somebody asked for this run to go."""
        return identity.is_leaving() or self._is_asked()

    def _is_asked(self) -> bool:
        """News is news until the database has said what it is: one query that fails loses nothing."""
        if self._asked or not self._watch.has_news(self._claimed.run_id):
            return self._asked
        try:
            self._asked = checkpoints.must_move(self._claimed.run_id, lease=self._claimed.lease)
        except UNANSWERED:
            connection.close()
        else:
            self._watch.heard()
        return self._asked

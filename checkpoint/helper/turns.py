"""Turns: whose order is worked on now, and who waits in line. No user can take all places, so others are served.

A user has a share of the places, and so much of the line; who comes beyond that is turned away.
"""

from __future__ import annotations

import socket
from collections import Counter
from typing import Final

from checkpoint.helper.peer import user_of

AT_ONCE: Final = 32
"""Orders at work."""
OF_A_USER: Final = 8
"""Of these, how many of one user's."""
IN_LINE: Final = 200
"""How many of one user's may wait."""


class Turns:
    """The sessions at work, and the connections whose turn it is not yet."""

    def __init__(self) -> None:
        self._at_work: dict[int, int] = {}
        """Whose a session is, by its pid."""
        self._line: list[tuple[socket.socket, int]] = []

    def join(self, line: socket.socket) -> bool:
        """Stand in line; False if too many of the same user do."""
        user = user_of(line)
        if sum(other == user for _, other in self._line) >= IN_LINE:
            return False
        self._line.append((line, user))
        return True

    def next(self) -> tuple[socket.socket, int] | None:
        """Whose turn it is, and his user; he is in line no more."""
        taken = Counter(self._at_work.values())
        if taken.total() < AT_ONCE:
            for place, (_, user) in enumerate(self._line):
                if taken[user] < OF_A_USER:
                    return self._line.pop(place)
        return None

    def begin(self, session: int, user: int) -> None:
        """A session works for this user."""
        self._at_work[session] = user

    def end(self, session: int) -> None:
        """It does no longer."""
        self._at_work.pop(session, None)

    def leave(self) -> None:
        """Let go of those in line: a fork is not where they wait."""
        for each, _ in self._line:
            each.close()

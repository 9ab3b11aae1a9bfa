"""Guessing is slowed down: an address that came with many wrong secrets is told to wait.

Counted in this process, over a moving window. A secret that was right here not long ago stays welcome from anywhere:
behind a proxy or a NAT all have one address, and the mistake of one is not to lock out the others.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import Final

import limits
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from triggerapp import conf

_REMEMBERED: Final = 1000


class Guard:
    """Counts what was wrong, by address."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._right: OrderedDict[bytes, None] = OrderedDict()

    def wait(self, address: str, secret: str) -> float:
        """Seconds after which this address may try again; 0 if it may now."""
        rate = limits.parse(conf.get().FAILED_RATE)
        if self._limiter.test(rate, self._what, address) or _digest(secret) in self._right:
            return 0.0
        until = self._limiter.get_window_stats(rate, self._what, address).reset_time
        return max(1.0, until - time.time())

    def wrong(self, address: str) -> None:
        """Note a wrong secret."""
        self._limiter.hit(limits.parse(conf.get().FAILED_RATE), self._what, address)

    def right(self, secret: str) -> None:
        """Note a right one."""
        digest = _digest(secret)
        self._right[digest] = None
        self._right.move_to_end(digest)  # the one that was used longest ago is forgotten first
        while len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()


keys: Final = Guard("key")
logins: Final = Guard("login")

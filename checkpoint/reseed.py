"""Fresh randomness for a restored process: every restore of one image starts with the same generators.

`os.urandom`, `secrets` and `uuid4` ask the kernel and need nothing. Generators that a program made for itself
(`random.Random()`, `numpy.random.default_rng()`) are its own to seed.
"""

from __future__ import annotations

import ctypes
import os
import random
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

_SEED: Final = 32


def reseed() -> None:
    """Seed `random`, numpy's global generator and every OpenSSL in this process from the kernel."""
    random.seed(os.urandom(_SEED))
    _reseed_numpy()
    _reseed_openssl()


def _reseed_numpy() -> None:
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(int.from_bytes(os.urandom(4)))


def _reseed_openssl() -> None:
    """Python's own through `ssl`, then the copies that packages bring along, as psycopg's wheels do."""
    ssl = sys.modules.get("ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(_SEED), float(_SEED))
    for path in _libraries("libcrypto"):
        with suppress(OSError, AttributeError):  # another library of that name
            ctypes.CDLL(path).RAND_add(os.urandom(_SEED), _SEED, ctypes.c_double(_SEED))


def _libraries(name: str) -> set[str]:
    mapped = (line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines())
    paths = {fields[5] for fields in mapped if len(fields) == 6}
    return {path for path in paths if os.path.basename(path).startswith(name)}

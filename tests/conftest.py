"""Fixtures for every test. The servers they stand on are started by `tests.servers`."""

from __future__ import annotations

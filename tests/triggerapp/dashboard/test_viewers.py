"""Live viewers over HTTP: a real server, real streams. `manage.py bench --only viewers` measures 300 of them."""

from __future__ import annotations

import pytest

from workers.bench import viewers

pytestmark = pytest.mark.slow


def test_every_viewer_sees_every_step_and_none_costs_a_database_connection(database):
    with viewers.serving() as server:
        seen = viewers.look(server, viewers=40, updates=6)
    assert seen.delivered == 1.0
    assert seen.connections <= seen.connections_of_one

"""A task that only a view imports: Celery finds it by Django's checks, and our processes by the worker's word."""

from __future__ import annotations

from tests.acceptance.frozen import Start, note_of
from tests.acceptance.views import asked_for_by_a_view


def test_a_task_that_only_a_view_imports_runs_in_a_process_of_its_own(here: Start):
    with here(ACCEPTANCE_URLS="tests.acceptance.views", CELERY_SKIP_CHECKS=""):
        result = asked_for_by_a_view.delay()
        assert result.get(timeout=120) is True
        assert note_of(result) == ""

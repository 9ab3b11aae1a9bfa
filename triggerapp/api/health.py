"""Health for load balancers: `health` says that the process answers, `ready` that it can do its work.

The only routes without a key; they tell nothing but yes or no.
"""

from __future__ import annotations

from django.db import DatabaseError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, JsonResponse

from triggerapp.api.methods import takes


@takes("GET", "HEAD")
def health(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


@takes("GET", "HEAD")
def ready(request: HttpRequest) -> JsonResponse:
    """The database answers and has our tables."""
    try:
        migrated = MigrationRecorder(connection).migration_qs.filter(app="triggerapp").exists()
    except DatabaseError:
        migrated = False
    if not migrated:
        return JsonResponse({"status": "unavailable", "code": "database_unavailable"}, status=503)
    return JsonResponse({"status": "ok"})

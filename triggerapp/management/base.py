"""What commands of ours have in common: what goes wrong ends them with one sentence and status 1, no traceback."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from django.core.management import base
from django.core.management.base import CommandError
from django.db import InterfaceError, OperationalError, ProgrammingError, connection

from triggerapp.checks import database_remedy
from triggerapp.engine import sql
from triggerapp.errors import DatabaseUnavailable, TriggerError
from triggerapp.management.place import project
from triggerapp.services import running_urls


class BaseCommand(base.BaseCommand):
    """Django's, with our words for what the engine and the database refuse."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run it, from a shell or by `call_command`."""
        try:
            return super().execute(*args, **options)
        except (DatabaseUnavailable, OperationalError, InterfaceError) as error:
            raise CommandError(_unanswered(error)) from error
        except TriggerError as error:
            raise CommandError(str(error)) from error
        except ProgrammingError as error:
            if not sql.lacks_tables(error):
                raise
            raise CommandError(sql.NO_TABLES) from error


def _unanswered(error: Exception) -> str:
    """Which database did not answer, and what to do: the driver's own words are many, and name no remedy."""
    cause = error.__cause__ if isinstance(error, DatabaseUnavailable) and error.__cause__ else error
    place = connection.settings_dict
    where = ":".join(str(place[name]) for name in ("HOST", "PORT") if place.get(name)) or "the local socket"
    said = sql.reason(cause)
    return f"the database {place.get('NAME')!r} at {where} did not answer ({said}). {_remedy()}"


def _remedy() -> str:
    """What to do: if the project's own servers run, perhaps this terminal only does not know of them."""
    own, asked = running_urls(project()), quote(str(connection.settings_dict["HOST"]), safe="")
    if own is None or (asked and asked in own.database_url):
        return database_remedy()
    take = "`export $(manage.py services status)`"
    return f"This project's own servers run: {take} leads there, if the settings read DATABASE_URL."

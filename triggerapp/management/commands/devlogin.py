"""`manage.py devlogin`: where the dashboard is, and how to log in. `manage.py dev` prints it when it starts.

The first user of the project's own database is made here. One that a `DATABASE_URL` leads to is left alone.
"""

from __future__ import annotations

import hmac
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import CommandParser
from django.urls import NoReverseMatch, reverse

from triggerapp.management.base import BaseCommand

NAME: Final = "admin"


class Command(BaseCommand):
    """Prints an address, a name and a password."""

    help = "Show the dashboard's address; in a fresh development database, make the user `admin` and show its password."

    def add_arguments(self, parser: CommandParser) -> None:
        """Options."""
        parser.add_argument("--port", type=int, default=8000, help="the web's port (default: %(default)s)")
        parser.add_argument("--make", action="store_true", help="make the user, if there is none at all")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print."""
        try:
            path = reverse("triggers:home")
        except NoReverseMatch:
            self.stdout.write('No dashboard: add path("triggers/", include("triggerapp.dashboard.urls")) to the URLs.')
            return
        self.stdout.write(f"Dashboard: http://127.0.0.1:{options['port']}{path}")
        self.stdout.write(_login(options["make"]))


def _login(make: bool) -> str:
    model = get_user_model()
    users = model._default_manager
    if make and not users.exists():
        users.create_superuser(NAME, "", _password())
    user = users.filter(**{model.USERNAME_FIELD: NAME}).first()
    if make and user is not None and user.check_password(_password()):
        return f"Log in: {NAME} / {_password()}"
    return "Log in: as a user of this project's; `manage.py createsuperuser` makes one"


def _password() -> str:
    """The same at each start, and another one for each checkout; for servers that only this machine reaches."""
    return hmac.new(settings.SECRET_KEY.encode(), b"triggerapp.devlogin", "sha256").hexdigest()[:12]

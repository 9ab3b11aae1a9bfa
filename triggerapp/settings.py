"""The Django settings of the standalone project. A host project has its own and needs none of this.

Everything comes from the environment; without `DATABASE_URL` and `CELERY_BROKER_URL` the project's own
servers are used, if they run (`manage.py services start`). `triggerapp.conf` is the app's one setting.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from kombu.transport import TRANSPORT_ALIASES

from triggerapp import services
from triggerapp.api import cors

PACKAGE = Path(__file__).resolve().parent


_ENCODED = "with what is special in the password percent-encoded"
_PLAIN = ("redis", "rediss", "sentinel", "amqp", "amqps", "pyamqp")
"""The transports whose addresses are plain urls."""


def _project() -> Path:
    """The checkout this file is in; the present folder if it is installed."""
    checkout = PACKAGE.parent
    return checkout if (checkout / "manage.py").exists() else Path.cwd()


BASE_DIR = _project()


def _service_urls() -> tuple[str | None, str | None]:
    """Database and broker: from the environment, else the project's own servers."""
    database, broker = os.environ.get("DATABASE_URL"), os.environ.get("CELERY_BROKER_URL")
    if database and broker:
        return database, broker
    own = services.running_urls(BASE_DIR)
    if own is None:
        return database, broker
    return database or own.database_url, broker or own.broker_url


def _database(url: str | None) -> dict[str, Any]:
    """Django's words for `url`. Without one nothing can be opened, and a system check says what to do."""
    if not url:
        return {"ENGINE": "django.db.backends.dummy"}
    try:
        return {**dj_database_url.parse(url, conn_max_age=60, conn_health_checks=False)}
    except ValueError:  # its text may hold the password
        raise ImproperlyConfigured(
            f"DATABASE_URL is not an address: write postgres://USER:PASSWORD@HOST:PORT/NAME, {_ENCODED}"
        ) from None


def _broker(url: str) -> str:
    """As it is: one address, or several with semicolons between them. Of most only kombu knows the grammar."""
    parts = [urlsplit(one) for one in url.split(";")]
    for each in parts:
        if each.scheme and "." not in each.scheme and each.scheme.partition("+")[0] not in TRANSPORT_ALIASES:
            raise ImproperlyConfigured(f"CELERY_BROKER_URL: there is no transport {each.scheme}, but redis and amqp")
    try:
        _result_backend(url)
        [each.port for each in parts if each.scheme in _PLAIN]
    except ValueError:  # its text may hold the password
        raise ImproperlyConfigured(
            f"CELERY_BROKER_URL: its port or database is not a number; write redis://:PASSWORD@HOST:PORT/0, {_ENCODED}"
        ) from None
    return url


def _result_backend(broker: str) -> str:
    """Results beside the messages: the next database of the same Redis. Other brokers answer by message."""
    parts = urlsplit(broker.partition(";")[0])
    if parts.scheme in ("redis", "rediss"):
        return urlunsplit(parts._replace(path=f"/{int(parts.path.strip('/') or 0) + 1}"))
    if parts.scheme == "redis+socket":
        query = parse_qs(parts.query)
        number = int(query.get("virtual_host", ["0"])[0]) + 1
        return urlunsplit(parts._replace(query=urlencode({**query, "virtual_host": [number]}, doseq=True)))
    return "rpc://"


_database_url, _broker_url = _service_urls()

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or services.local_secret(BASE_DIR)
DEBUG = os.environ.get("DJANGO_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]").split(",")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "triggerapp",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # Last, because it is not asynchronous: under ASGI all before it are then run in one go, in the request's thread.
    "whitenoise.middleware.WhiteNoiseMiddleware",
]

# Browsers of other origins: none, unless they are named. Tokens are the permission; cookies are of no use to the API.
CORS_ALLOWED_ORIGINS = [each for each in os.environ.get("TRIGGERAPP_CORS_ORIGINS", "").split(",") if each]
if CORS_ALLOWED_ORIGINS:
    INSTALLED_APPS.append("corsheaders")
    MIDDLEWARE.insert(0, "corsheaders.middleware.CorsMiddleware")
    CORS_URLS_REGEX = r"^/(api|realtime)/"
    CORS_ALLOW_HEADERS = cors.ALLOW_HEADERS
    CORS_EXPOSE_HEADERS = cors.EXPOSE_HEADERS

ROOT_URLCONF = "triggerapp.urls"
ASGI_APPLICATION = "triggerapp.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": _database(_database_url)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = ["triggerapp.dashboard.logins.SlowGuesses"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

LOGIN_URL = "admin:login"

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True  # no `collectstatic` before the first look

CELERY_BROKER_URL = _broker(_broker_url or "redis://127.0.0.1:6379/0")
CELERY_RESULT_BACKEND = os.environ.get("CELERY_RESULT_BACKEND") or _result_backend(CELERY_BROKER_URL)
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_TASK_TRACK_STARTED = False
CELERY_TIMEZONE = "UTC"
CELERY_RESULT_CHORD_EXPIRES = 0  # a chord whose header waits for days must still find its counters
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

_VARIABLES = (
    "TRIGGERAPP_BASE_URL",
    "TRIGGERAPP_CHECKPOINT",
    "TRIGGERAPP_CHECKPOINT_STORE",
    "TRIGGERAPP_ENVIRONMENT",
    "TRIGGERAPP_FLOWER_URL",
    "TRIGGERAPP_SECRETS_KEYS",
)
TRIGGERAPP = {name.removeprefix("TRIGGERAPP_"): os.environ[name] for name in _VARIABLES if os.environ.get(name)}

"""The shop's Celery app: `celery -A workers.demo.celery worker -c 2`. As in any Django project, and nothing more."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "triggerapp.settings")

app = Celery("shop", include=["workers.demo.shop", "workers.demo.hall"])
app.config_from_object("django.conf:settings", namespace="CELERY")

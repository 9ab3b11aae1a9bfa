"""The package as a user meets it: imports, decorators, and calls outside of runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from inspect import signature
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from celery import Celery, Task
from django.db import connection

import workers
from tests.inprocess import app, durable, messages
from triggerapp.models import Event, Run
from workers import current_run, durable_task, events, rollback, step, steps, wait
from workers.durable import DurableTask
from workers.errors import NotInRun
from workers.options import NAMES

ROOT = Path(__file__).parent.parent.parent


def python(code: str, *, folder: Path = ROOT, **env: str) -> str:
    """What a fresh interpreter prints, without any settings."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO", "CELERY", "DATABASE"))}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env={**bare, **env}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_needs_no_settings_and_loads_no_checkpoints():
    code = (
        "import sys, workers\n"
        "from workers import durable_task, step\n"
        "@durable_task\n"
        "def purchase(ticket): return step(str, ticket)\n"
        "@durable_task(queue='orders')\n"
        "def other(): pass\n"
        "from django.conf import settings\n"
        "print(settings.configured, [m for m in sys.modules if m.split('.')[0] in ('checkpoint', 'pydantic')],"
        " [m for m in sys.modules if m.startswith(('triggerapp.models', 'triggerapp.engine', 'triggerapp.conf'))])"
    )
    assert python(code) == "False [] []"


@pytest.mark.slow
def test_setup_is_all_that_a_plain_celery_user_calls():
    code = (
        "import workers; workers.setup()\n"
        "from django.conf import settings; from triggerapp.models import Run\n"
        "print(settings.SETTINGS_MODULE, settings.DATABASES['default']['NAME'])"
    )
    url = "postgres://nobody@127.0.0.1:1/shop"
    assert python(code, DATABASE_URL=url, CELERY_BROKER_URL="memory://") == "triggerapp.settings shop"


@pytest.mark.slow
def test_setup_leaves_a_project_its_own_settings():
    code = "import os, workers; workers.setup(); print(os.environ['DJANGO_SETTINGS_MODULE'])"
    env = {"DATABASE_URL": "postgres://nobody@127.0.0.1:1/shop", "CELERY_BROKER_URL": "memory://"}
    assert python(code, DJANGO_SETTINGS_MODULE="triggerapp.settings", **env) == "triggerapp.settings"


@pytest.mark.slow
def test_a_call_before_setup_says_what_to_call():
    code = (
        "import celery, workers\n"
        "@workers.durable_task\n@celery.Celery(broker='memory://').task(name='shop.task')\ndef task(): pass\n"
        "try: task.delay()\nexcept Exception as error: print(type(error).__name__, error)"
    )
    assert "ImproperlyConfigured durable tasks need Django: call workers.setup()" in python(code)


@pytest.mark.slow
def test_setup_without_a_database_says_how_to_get_one(tmp_path):
    code = "import workers\ntry: workers.setup()\nexcept Exception as error: print(type(error).__name__, error)"
    said = python(code, folder=tmp_path, PYTHONPATH=str(ROOT))
    assert said.startswith("ImproperlyConfigured")
    assert "DATABASE_URL" in said
    assert "manage.py services start" in said


@pytest.mark.slow
@pytest.mark.usefixtures("database")
def test_without_a_manage_py_the_database_is_migrated_by_djangos_own_module(tmp_path):
    with connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE without_manage_py")
    try:
        url = database_url("without_manage_py")
        command = [sys.executable, "-m", "django", "migrate", "--settings", "triggerapp.settings"]
        env = {"DATABASE_URL": url, "CELERY_BROKER_URL": "memory://", "PYTHONPATH": str(ROOT)}
        bare = {name: value for name, value in os.environ.items() if not name.startswith("DJANGO")}
        subprocess.run(command, check=True, cwd=tmp_path, env={**bare, **env}, capture_output=True)
        with psycopg.connect(url) as migrated:
            assert migrated.execute("SELECT count(*) FROM triggerapp_run").fetchone() == (0,)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP DATABASE without_manage_py")


def database_url(name):
    """Another database of the session's server."""
    own = connection.settings_dict
    login = f"{own['USER']}:{quote(own['PASSWORD'])}" if own["PASSWORD"] else own["USER"]
    if own["HOST"].startswith("/"):
        return f"postgres://{login}@{quote(own['HOST'], safe='')}/{name}"
    return f"postgres://{login}@{own['HOST']}:{own['PORT']}/{name}"


def test_everything_public_is_there_and_documented():
    for name in workers.__all__:
        assert getattr(workers, name).__doc__, name


def test_the_guide_has_an_example_of_every_name_and_option():
    guide = (ROOT / "docs" / "guide.md").read_text()
    calls = (durable_task, steps.call, wait.sleep, wait.until, wait.for_event, wait.create_token, wait.for_request)
    named = {
        name for call in calls for name, each in signature(call).parameters.items() if each.kind == each.KEYWORD_ONLY
    }
    named |= NAMES | set(workers.__all__) | {field.name for field in fields(workers.RetryPolicy)}
    assert sorted(name for name in named if not re.search(rf"\b{name}\b", guide)) == []


# --- the decorator --------------------------------------------------------------------------------


def fresh_app() -> Celery:
    return Celery("fresh", broker="memory://", set_as_current=False)


def test_a_task_of_an_app_is_durable_before_the_app_is_complete():
    own = fresh_app()

    @durable_task
    @own.task(name="early")
    def early():
        """Says hello."""

    assert not own.finalized
    assert isinstance(early._get_current_object(), DurableTask)
    assert (early.name, early.__doc__) == ("early", "Says hello.")


def test_a_shared_task_is_durable_in_every_app():
    @durable_task(name="tests.shared", acks_late=True)
    def shared():
        return 1

    for own in (fresh_app(), fresh_app()):
        task = own.tasks["tests.shared"]
        assert isinstance(task, DurableTask)
        assert task.acks_late


def test_a_task_keeps_its_name_options_base_and_registration():
    class Base(Task):
        abstract = True
        colour = "red"

        def __call__(self, *args):
            return ["base", self.run(*args)]

    @durable_task
    @app.task(base=Base, bind=True, name="tests.kept", rate_limit="5/s", max_retries=7)
    def kept(self, number):
        return [self.colour, number]

    task = app.tasks["tests.kept"]
    assert isinstance(task, Base)
    assert (task.name, task.rate_limit, task.max_retries) == ("tests.kept", "5/s", 7)
    assert task(4) == ["base", ["red", 4]]


@pytest.mark.parametrize("option", [{"retry": 5}, {"max_duration": 5}, {"checkpoint": "maybe"}])
def test_an_option_of_another_kind_is_refused_where_it_is_written(option):
    ((name, given),) = option.items()
    with pytest.raises(TypeError, match=rf"durable_task\({name}={given!r}\): it takes a "):
        durable_task(**option)


def test_what_is_neither_a_function_nor_a_task_is_refused_where_it_is_written():
    with pytest.raises(TypeError, match=r"durable_task\(5\): it stands over a function or a task"):
        durable_task(5)
    with pytest.raises(TypeError, match=r"on=5: pass events\.on\(name"):
        durable_task(on=5)


def test_celerys_options_belong_to_the_tasks_own_decorator():
    with pytest.raises(TypeError, match="give queue to its own decorator, below this one"):
        durable_task(queue="orders")(app.task(name="tests.refused")(fresh_app))


def test_decorating_twice_is_decorating_once():
    task = durable_task(durable_task(app.task(name="tests.twice")(fresh_app)))
    assert sum(cls is DurableTask for cls in type(app.tasks["tests.twice"]).__mro__) == 1
    assert task.name == "tests.twice"


# --- outside of runs ------------------------------------------------------------------------------


def test_calling_a_task_calls_its_function(worker):
    @durable
    def double(number):
        return step(lambda: 2 * number, key="a")

    assert double(4) == 8
    assert not Run.objects.exists()


def test_steps_outside_of_a_run_are_plain_calls():
    assert step(lambda a, b: a + b, 1, b=2) == 3
    assert step(sorted, [2, 1], key="k", rollback=print) == [1, 2]


@pytest.mark.usefixtures("database")
def test_events_are_sent_from_anywhere():
    first = events.send("paid", {"id": 7}, id="evt_1")
    assert events.send("paid", {"id": 7}, id="evt_1") == first
    assert (Event.objects.get().payload, Event.objects.get().source_run) == ({"id": 7}, None)


@pytest.mark.parametrize(("called", "call"), [("current_run", current_run), ("rollback", lambda: rollback(print))])
def test_what_needs_a_run_says_so(called, call):
    with pytest.raises(NotInRun, match=f"{called} was called outside a run"):
        call()


def test_a_message_of_a_producer_that_knows_nothing_of_us_is_adopted(worker):
    @durable
    def double(number):
        return 2 * number

    result = app.send_task(double.name, (4,))
    assert not Run.objects.exists()
    worker.work()
    assert (Run.objects.get().task_id, result.get(timeout=60)) == (result.id, 8)
    assert messages() == []

"""`manage.py dev` takes the Celery app of the project it runs in."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from triggerapp.management.commands import dev
from triggerapp.management.commands.dev import celery_app


@pytest.fixture(autouse=True)
def _same_signals():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("files", "settings", "found"),
    [
        (["shop_a/settings.py", "shop_a/celery.py"], "shop_a.settings", "shop_a.celery"),
        (["shop_b/settings.py", "shop_b/celery_app.py"], "shop_b.settings", "shop_b.celery_app"),
        (["shop_c/celery.py", "shop_c/settings/dev.py"], "shop_c.settings.dev", "shop_c.celery"),
        (["shop_d/settings.py"], "shop_d.settings", "workers"),
        (["flat_settings.py"], "flat_settings", "workers"),
        ([], "triggerapp.settings", "workers"),
    ],
)
def test_the_app_is_found_where_celerys_users_keep_it(tmp_path, monkeypatch, files, settings, found):
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        for package in path.relative_to(tmp_path).parents[:-1]:
            (tmp_path / package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert celery_app(settings) == found


def test_a_ctrl_c_before_everything_has_started_is_answered_in_a_sentence(monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dev.Command, "_play", interrupt)
    with pytest.raises(CommandError, match="before everything had started"):
        call_command("dev")


def test_a_celery_app_beside_flat_settings_is_found_too(tmp_path, monkeypatch):
    (tmp_path / "celery_app.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert celery_app("settings") == "celery_app"


@pytest.mark.parametrize(("given", "told"), [("", True), ("postgres://elsewhere/shop", False)])
def test_another_terminal_is_told_how_to_use_servers_that_are_our_own(monkeypatch, given, told):
    out = StringIO()
    monkeypatch.setenv("DATABASE_URL", given)
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    monkeypatch.setattr(dev, "_servers", lambda: nullcontext({}))
    monkeypatch.setattr(dev, "_run", lambda *_: None)
    monkeypatch.setattr(dev, "_commands", lambda _: [])
    monkeypatch.setattr(dev.Command, "_follow", lambda *_: None)
    call_command("dev", stdout=out)
    assert ("services status)" in out.getvalue()) is told

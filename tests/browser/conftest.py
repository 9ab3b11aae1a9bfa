"""A live site, and people in front of it: each test has a page of Debian's Chromium, driven by Playwright.

Whatever a test does, its page may neither ask another host for anything, nor break its content security policy, nor run
a script that is not ours: that is looked at when the test ends.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.acceptance.cluster import ROOT, Connected
from tests.live.site import Site, live, npm

HERE = Path(__file__).parent
SCREENSHOTS: Final = ROOT / "build" / "screenshots"
AXE: Final = "4.14.1"
_PROGRAMS = ("chromium", "chromium-browser")
_OPTIONS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
DESK: Final = {"width": 1360, "height": 900}
TELEPHONE: Final = {"width": 390, "height": 844}
PATIENCE: Final = 120_000
"""Milliseconds within which a page has to show what it should, on a machine that is busy with other things."""

_REPORT = "document.addEventListener('securitypolicyviolation', e => tellOf(e.violatedDirective + ' ' + e.blockedURI))"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.worker)
            item.add_marker(pytest.mark.slow)


def _chromium() -> str:
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if found is None and os.environ.get("TRIGGERAPP_REQUIRE_BROWSER"):
        pytest.fail("Chromium is not installed, and TRIGGERAPP_REQUIRE_BROWSER asks for it")
    if found is None:
        pytest.skip("Chromium is not installed (on Debian: apt install chromium): no page was looked at")
    return found


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """One Chromium for all tests here. After them Playwright's loop must not run on in this process."""
    program = _chromium()
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver, pytest.MonkeyPatch.context() as patch:
        # Playwright's loop runs in this thread, and Django would take each query here for one in a coroutine.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        chromium = driver.chromium.launch(executable_path=program, args=_OPTIONS, timeout=PATIENCE)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def site(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server and a worker with the tasks of `tests.browser.tasks`."""
    folder = tmp_path_factory.mktemp("browser")
    # Between the broker databases of the acceptance tests and those of the SDK's; the third one is not used.
    own = {"tasks": "tests.browser.tasks", "queues": "celery,naps,echoes", "LIVE_FOLDER": str(folder)}
    with live("browser", 59, folder=folder, **own) as site:
        yield site


@pytest.fixture(autouse=True)
def in_site(site: Site, django_db_blocker: Any) -> Iterator[None]:
    """The test's own queries go to the site's database."""
    with django_db_blocker.unblock(), Connected(site.cluster):
        yield


@pytest.fixture(scope="package")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, which judges what a page is like for those who cannot see it."""
    folder = tmp_path_factory.mktemp("axe")
    npm(folder, {"axe-core": AXE})
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


@dataclass(kw_only=True)
class Heard:
    """What a page did that it should not have."""

    outside: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    """Those that no test expected; a question of ours is answered with yes, and noted in `questions`."""
    questions: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def listen(self, page: Any) -> None:
        """Take note of what this page does."""
        page.context.expose_binding("tellOf", lambda _, what: self.violations.append(what))
        page.add_init_script(_REPORT)
        page.on("request", self._request)
        page.on("dialog", self._dialog)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("response", self._response)
        page.on("console", self._line)

    def _request(self, request: Any) -> None:
        if urlsplit(request.url).hostname not in ("127.0.0.1", None):
            self.outside.append(request.url)

    def _response(self, response: Any) -> None:
        if response.status >= 400 and response.request.resource_type != "document":
            self.errors.append(f"{response.status} {response.url}")

    def _line(self, line: Any) -> None:
        if line.type == "error" and not line.text.startswith("Failed to load resource"):  # that is `_response`'s
            self.errors.append(line.text)

    def _dialog(self, dialog: Any) -> None:
        (self.questions if dialog.message.endswith("?") else self.dialogs).append(dialog.message)
        dialog.accept()

    def nothing(self) -> None:
        """Fail if there was something."""
        found = {name: getattr(self, name) for name in ("outside", "violations", "dialogs", "errors")}
        assert not any(found.values()), found


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def page(browser: Any, site: Site, heard: Heard) -> Iterator[Any]:
    """A page of an administrator's."""
    context = browser.new_context(base_url=site.url, viewport=DESK, color_scheme="light")
    context.set_default_timeout(PATIENCE)
    context.add_cookies([_session(site.url)])
    page = context.new_page()
    heard.listen(page)
    yield page
    context.close()
    heard.nothing()


def _session(url: str) -> dict[str, str]:
    user, _ = User.objects.get_or_create(username="ada", is_superuser=True, is_staff=True)
    client = Client()
    client.force_login(user)
    return {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": url}


Shoot = Callable[[Any, str], None]


@pytest.fixture
def shoot() -> Shoot:
    """Keep a picture of a page, to be looked at."""

    def shoot(page: Any, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    return shoot

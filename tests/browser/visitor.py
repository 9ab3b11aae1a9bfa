"""What somebody in front of the dashboard does and sees, and what that left behind."""

from __future__ import annotations

import re
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from tests.browser.conftest import PATIENCE
from tests.live.site import Site
from triggerapp.dashboard.live import Hub, Message
from triggerapp.models import FINAL, LogLine, Run, Status, Step


def said(page: Any, text: str) -> Any:
    """Wait until the page shows it."""
    found = page.get_by_text(text, exact=False).first
    found.wait_for(timeout=PATIENCE)
    return found


def status(page: Any, word: str) -> None:
    """Wait until the run on the page has this status, without loading the page again."""
    page.locator(f"#facts .status.is-{word}").first.wait_for(timeout=PATIENCE)
    if word in FINAL:  # the buttons come after it, and what is opened among them before that closes again
        page.locator("#actions").get_by_role("button", name="Cancel").wait_for(state="hidden")


def trigger(page: Any, task: str, **arguments: str) -> Run:
    """Fill in the form on the task's page."""
    page.goto("/triggers/tasks/")
    page.get_by_role("row", name=task).get_by_role("link", name="Test").click()
    for name, value in arguments.items():
        page.locator(f"textarea[name=arg-{name}]").fill(value)
    page.get_by_role("button", name="Trigger").click()
    page.wait_for_url("**/runs/*/")
    return run_of(page)


def run_of(page: Any) -> Run:
    """The run whose page it is."""
    return Run.objects.get(pk=UUID(re.search(r"runs/([0-9a-f-]{36})/", page.url)[1]))


def steps(run: Run) -> list[str]:
    """What was recorded, in order."""
    return list(Step.objects.filter(run=run, superseded=False).order_by("id").values_list("key", flat=True))


def notes(site: Site, name: str) -> list[str]:
    """What the tasks wrote down."""
    return (Path(site.environment["LIVE_FOLDER"]) / name).read_text().split()


def say(run: Run, text: str) -> None:
    """Have the run log it."""
    LogLine.objects.create(
        run=run, environment_id=run.environment_id, lease=1, attempt=1, level=20, logger="shop", text=text
    )


def told_of(run: Run) -> list[str]:
    """What a stream says of a waiting run that is canceled."""
    inbox = SimpleQueue[Message]()
    with Hub().viewing([run.id], inbox.put, rows=True):
        before = inbox.get(timeout=120)
        Run.objects.get(pk=run.pk).move(Status.CANCELED)
        return [before.event, before.data, inbox.get(timeout=120).data]


def judged(page: Any, options: str) -> list[Any]:
    """What axe finds serious."""
    found = page.evaluate(f"axe.run({{resultTypes: ['violations']{options}}})")["violations"]
    bad = [each for each in found if each["impact"] in ("serious", "critical")]
    return [(each["id"], each["nodes"][0]["html"], each["nodes"][0]["failureSummary"]) for each in bad]

"""The dashboard as people have it: in a browser, before a live server and a worker.

One file, so that one process has the server, the worker and the browser.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.browser import scenery, scripts
from tests.browser.conftest import DESK, PATIENCE, TELEPHONE, Heard, Shoot
from tests.browser.visitor import judged, notes, run_of, said, say, status, steps, told_of, trigger
from tests.factories import make_run, make_step, make_wait
from triggerapp.clock import now
from triggerapp.dashboard import urls
from triggerapp.models import AuditEntry, Queue, Run, Status
from triggerapp.models.runs import new_id

MANY = int(os.environ.get("TRIGGERAPP_BROWSER_RUNS", "50"))
"""Runs that are canceled at once."""
NEW = int(os.environ.get("TRIGGERAPP_BROWSER_NEW_RUNS", "500"))
"""Runs that come while somebody looks at the list."""

FRAGMENTS = set("home newer rows log run-parts run-live journal download export bulk-progress".split())
"""Routes that are no pages: parts of one, streams and files."""


# --- journeys -------------------------------------------------------------------------------------


def test_a_run_is_triggered_reaches_its_wait_gets_its_event_and_ends_before_our_eyes(page, site, shoot: Shoot):
    run = trigger(page, "shop.purchase", ticket="tkt_1")
    status(page, "waiting")
    shoot(page, "journey-waiting")
    said(page, "cart/checked-out")
    form = page.locator("details", has_text="Send the event it waits for")
    form.locator("textarea").fill('{"ticket": "tkt_1", "total": 120}')
    form.get_by_role("button", name="Send").click()
    status(page, "completed")
    said(page, '"paid": 120')
    assert steps(run) == ["note#1", "note#2"]
    assert notes(site, "tkt_1") == ["reserve", "charge"]
    assert set(AuditEntry.objects.values_list("action", flat=True)) >= {"task.trigger", "event.send"}
    shoot(page, "journey-completed")


def test_a_retry_of_a_failed_run_goes_on_at_the_step_that_failed(page, site):
    run = trigger(page, "shop.order", order="ord_1")
    status(page, "failed")
    said(page, "nothing of ord_1 is in stock")
    (Path(site.environment["LIVE_FOLDER"]) / "ord_1.stock").touch()
    page.get_by_role("button", name="Retry").click()
    status(page, "completed")
    assert run_of(page).pk == run.pk
    assert notes(site, "ord_1") == ["charge", "ship"]


def test_a_replay_from_a_step_takes_what_was_done_before_it_from_the_first_run(page, site):
    first = trigger(page, "shop.order", order="ord_2")
    status(page, "failed")
    (Path(site.environment["LIVE_FOLDER"]) / "ord_2.stock").touch()
    page.get_by_text("Replay with changes").click()
    page.get_by_label("From", exact=False).select_option("ship#1")
    page.locator("details[open]").get_by_role("button", name="Replay").click()
    status(page, "completed")
    said(page, "carried over from the run that this one replays")
    assert run_of(page).replay_of_id == first.pk
    assert notes(site, "ord_2") == ["charge", "ship"]


def test_a_replay_with_another_payload_leaves_the_first_run_as_it_was(page):
    first = trigger(page, "shop.echo", value='{"a": 1}')
    status(page, "completed")
    page.get_by_text("Replay with changes").click()
    payload = page.locator("textarea[name=payload]")
    payload.fill(payload.input_value().replace('"a": 1', '"a": 2'))
    page.locator("details[open]").get_by_role("button", name="Replay").click()
    page.wait_for_url(lambda url: str(first.pk) not in url)
    status(page, "completed")
    assert run_of(page).replay_of_id == first.pk
    assert [bytes(run.result) for run in (first.__class__.objects.get(pk=first.pk), run_of(page))] == [
        b'{"a": 1}',
        b'{"a": 2}',
    ]


def test_many_runs_are_canceled_at_once_while_a_page_says_how_far_it_is(page, heard: Heard, shoot: Shoot):
    runs = [make_run(Status.WAITING, task="shop.doze", queue="naps") for _ in range(MANY)]
    for run in runs:
        make_wait(run)
    page.goto("/triggers/runs/?status=waiting&queue=naps")
    page.get_by_label("all that match").check()
    said(page, "all that match")
    page.locator("#bulk").get_by_role("button", name="Cancel").click()
    page.wait_for_url("**/bulk/*/")
    page.locator("#progress .status.is-completed").wait_for(timeout=PATIENCE * 3)
    said(page, f"{MANY} done of {MANY}, 0 refused")
    shoot(page, "journey-bulk")
    assert Run.objects.filter(task="shop.doze", status=Status.CANCELED).count() == MANY
    assert heard.questions == ["Cancel all runs that match the filter?"]


def test_a_paused_queue_starts_nothing_until_it_is_resumed(page):
    trigger(page, "shop.echo", value="1")
    status(page, "completed")
    page.goto("/triggers/queues/")
    page.get_by_role("button", name="Pause echoes").click()
    said(page, "echoes is paused")
    trigger(page, "shop.echo", value="2")
    said(page, "Queue echoes is paused: it starts when the queue is resumed")
    address = page.url
    page.goto("/triggers/queues/")
    page.get_by_role("button", name="Resume echoes").click()
    said(page, "echoes is resumed")
    page.goto(address)
    status(page, "completed")
    assert not Queue.objects.get(name="echoes").paused


# --- the list -------------------------------------------------------------------------------------


def test_keys_move_select_open_cancel_and_retry(page, heard: Heard):
    word = f"keys{new_id().hex[-6:]}"
    failed, waiting = make_run(Status.FAILED, tags=[word]), make_run(Status.WAITING, tags=[word])
    make_wait(waiting)
    page.goto(f"/triggers/runs/?tag={word}")
    for key in "jk":
        page.keyboard.press(key)
    assert page.locator("tr.here").get_attribute("id") == f"run-{waiting.id}"
    page.keyboard.press("x")
    said(page, "1 selected")
    page.keyboard.press("x")
    page.keyboard.press("c")
    page.locator("#progress .status.is-completed").wait_for(timeout=PATIENCE)
    page.goto(f"/triggers/runs/?tag={word}")
    for key in "jj":
        page.keyboard.press(key)
    page.keyboard.press("r")
    page.locator("#progress .status.is-completed").wait_for(timeout=PATIENCE)
    page.goto(f"/triggers/runs/?tag={word}")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{waiting.id}/")
    assert heard.questions == ["Cancel 1 run?", "Retry 1 run?"]
    assert Run.objects.get(pk=waiting.pk).status == Status.CANCELED
    assert Run.objects.get(pk=failed.pk).attempt == 2


def test_a_row_that_changes_while_it_is_selected_stays_selected(page):
    word = f"rows{new_id().hex[-6:]}"
    run = make_run(Status.WAITING, tags=[word])
    make_wait(run)
    page.goto(f"/triggers/runs/?tag={word}")
    page.keyboard.press("j")
    page.keyboard.press("x")
    Run.objects.get(pk=run.pk).move(Status.CANCELED)
    page.locator(f"#run-{run.id} .status.is-canceled").wait_for(timeout=PATIENCE)
    page.locator(f"#run-{run.id}.here").wait_for()
    assert page.locator(f"#run-{run.id} input").is_checked()


def test_of_two_changes_of_a_row_that_come_together_the_last_one_is_shown(page):
    word = f"both{new_id().hex[-6:]}"
    run = make_run(Status.WAITING, tags=[word])
    make_wait(run)
    page.add_init_script(scripts.KEEP_STREAM)
    page.route("**/runs/live*", lambda route: None)  # what the server says is said by us
    page.goto(f"/triggers/runs/?tag={word}")
    assert "canceled" in page.evaluate(scripts.SAY_AT_ONCE, told_of(run))


def test_who_comes_back_to_a_hidden_tab_is_told_what_was_missed_and_nothing_twice(page):
    run = make_run(Status.WAITING)
    make_wait(run)
    page.add_init_script(scripts.KEEP_STREAM)
    page.goto(f"/triggers/runs/{run.id}/")
    say(run, "before it was hidden")
    said(page, "before it was hidden")
    page.evaluate(scripts.HIDE, True)
    assert page.evaluate("stream.readyState === EventSource.CLOSED")
    say(run, "while it was hidden")
    Run.objects.get(pk=run.pk).move(Status.CANCELED)
    page.evaluate(scripts.HIDE, False)
    status(page, "canceled")
    said(page, "while it was hidden")
    page.get_by_role("button", name="Cancel").wait_for(state="hidden")
    assert page.get_by_text("it was hidden").all_inner_texts() == ["before it was hidden", "while it was hidden"]


def test_what_goes_on_counts_on_while_somebody_looks(page):
    run = make_run(Status.WAITING, created_at=now() - timedelta(hours=6), started_at=now() - timedelta(hours=5))
    make_wait(run)
    page.route("**/live*", lambda route: None)  # nothing comes from the server
    page.clock.install()
    page.goto(f"/triggers/runs/{run.id}/")
    took = page.locator("#facts [data-since]")
    assert took.inner_text().startswith("5 h")
    before = page.evaluate(scripts.BARS)
    page.clock.fast_forward("24:00:00")
    took.filter(has_text="1 d 5 h").wait_for()
    page.locator("#facts time").filter(has_text="1 d ago").first.wait_for()
    page.locator(".ticks").filter(has_text="1 d 6 h").wait_for()
    after = page.evaluate(scripts.BARS)
    assert after["queue"]["width"] < before["queue"]["width"] / 4
    scale = page.locator(".spans svg").first.bounding_box()
    assert after["wait"]["right"] == pytest.approx(scale["x"] + scale["width"], abs=2)
    page.evaluate(scripts.HIDE, True)
    page.clock.fast_forward("24:00:00")
    assert took.inner_text() == "1 d 5 h"
    page.evaluate(scripts.HIDE, False)
    took.filter(has_text="2 d 5 h").wait_for()


def test_what_the_server_sends_of_a_young_run_reads_as_what_the_page_counted_to(page):
    run = make_run(Status.WAITING)
    make_wait(run)
    page.clock.install(time=now() - timedelta(days=400))  # no clock of ours
    page.goto(f"/triggers/runs/{run.id}/")
    page.locator("[data-live]").filter(has_text="live").wait_for()
    took, young = page.locator("#facts [data-since]"), re.compile(r"^(\d+ ms|[1-5]?\d\.\d s)$")
    counted = took.inner_text()
    page.clock.run_for(1_000)
    took.filter(has_not_text=re.compile(f"^{re.escape(counted)}$")).filter(has_text=young).wait_for()
    make_step(run, "charge#1")
    said(page, "charge#1")
    last = page.locator(".ticks span").last
    page.clock.run_for(1_000)
    last.filter(has_text=young).wait_for()
    before = page.evaluate(scripts.BARS)
    page.evaluate("document.querySelector('[data-live]').className = 'live away'")
    counted = took.inner_text()
    page.clock.fast_forward("01:00:00")
    assert took.inner_text() == counted
    page.evaluate("document.querySelector('[data-live]').className = 'live'")
    page.clock.run_for(1_000)
    took.filter(has_text="1 h").wait_for()
    assert page.evaluate(scripts.BARS)["step"]["right"] < before["step"]["right"]


def test_however_many_tabs_are_open_another_page_loads(page):
    run = make_run(Status.WAITING)
    make_wait(run)
    for _ in range(7):
        tab = page.context.new_page()
        tab.add_init_script("Object.defineProperty(document, 'hidden', {value: true})")
        tab.goto(f"/triggers/runs/{run.id}/")
    page.goto("/triggers/runs/")


def test_a_copy_without_a_clipboard_selects_what_there_is_to_copy_and_twice_is_no_harm(page):
    def clipboard(value: str) -> None:
        page.evaluate(f"Object.defineProperty(navigator, 'clipboard', {{value: {value}, configurable: true}}) && null")

    run = make_run(Status.COMPLETED)
    page.clock.install()
    page.goto(f"/triggers/runs/{run.id}/")
    page.clock.pause_at(now() + timedelta(hours=1))  # what is shown for a moment stays until it was seen
    button = page.locator("[data-copy=run-id]")
    clipboard("null")
    button.click()
    assert page.evaluate("String(getSelection())") == str(run.id)
    clipboard("{writeText: async () => {}}")
    button.dblclick()
    button.filter(has_text="Copied").wait_for()
    page.clock.run_for(5_000)
    button.filter(has_text="Copy the id").wait_for()


def test_runs_that_come_meanwhile_are_announced_and_no_row_moves(page, shoot: Shoot):
    word = f"pill{new_id().hex[-6:]}"
    old = make_run(Status.COMPLETED, task=word)
    page.goto(f"/triggers/runs/?task={word}")
    with connection.cursor() as cursor:
        fields = [field.column for field in Run._meta.concrete_fields if field.column not in ("id", "task_id")]
        columns = ", ".join(fields)
        cursor.execute(
            f"INSERT INTO triggerapp_run (id, task_id, {columns}) SELECT r.id, r.id::text, {columns} FROM (SELECT "
            f"gen_random_uuid() AS id, {columns.replace('created_at', 'now() AS created_at')} FROM triggerapp_run, "
            "generate_series(1, %s) WHERE id = %s) r",
            [NEW, old.id],
        )
    said(page, "100 or more new runs")
    assert page.locator("table.list tbody tr").count() == 1
    shoot(page, "list-new-runs")
    page.keyboard.press("j")
    assert page.locator("tr.here").get_attribute("id") == f"run-{old.id}"
    page.get_by_role("link", name="100 or more new runs").click()
    page.locator("table.list tbody tr").nth(49).wait_for()


# --- every page -----------------------------------------------------------------------------------


def test_every_page_that_there_is_is_looked_at():
    pages = {str(each.name) for each in urls.PAGES if "GET" in getattr(each.callback, "methods", ())}
    ordinary = {re.sub(r"-.*", "", name) for name in scenery.ordinary().addresses()}
    assert pages - FRAGMENTS == ordinary - {"failure"}


def test_each_page_is_fit_for_everybody_in_any_light_and_on_a_telephone(page, axe: str, shoot: Shoot):
    """One load of each: it follows the system's colours and the window's size by itself."""
    found: dict[str, list[Any]] = {}
    for name, address in scenery.ordinary().addresses().items():
        page.set_viewport_size(DESK)
        page.emulate_media(color_scheme="light")
        page.goto(f"/triggers/{address}")
        shoot(page, f"{name}-light")
        page.evaluate(axe)
        bad = judged(page, "")
        page.emulate_media(color_scheme="dark")
        bad += judged(page, ", runOnly: ['color-contrast']")  # nothing else differs
        page.set_viewport_size(TELEPHONE)
        shoot(page, f"{name}-telephone-dark")
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            bad.append("it is wider than a telephone")
        if bad:
            found[name] = bad
    assert not found


def test_the_menu_of_a_telephone_leads_to_all_pages(page):
    page.set_viewport_size(TELEPHONE)
    page.goto("/triggers/runs/")
    assert not page.get_by_role("link", name="Audit log").is_visible()
    page.locator("label[for=menu]").click()
    page.get_by_role("link", name="Audit log").click()
    page.wait_for_url("**/audit/")


def test_pages_follow_the_colours_of_the_system(page):
    page.emulate_media(color_scheme="dark")
    page.goto("/triggers/runs/")
    colour = "getComputedStyle(document.body).backgroundColor"
    assert max(map(int, re.findall(r"\d+", page.evaluate(colour))[:3])) < 60
    page.emulate_media(color_scheme="light")
    assert min(map(int, re.findall(r"\d+", page.evaluate(colour))[:3])) > 200


@pytest.mark.parametrize("kind", scenery.EVIL)
def test_what_comes_from_outside_is_text_on_every_page(page, heard: Heard, kind: str):
    for address in scenery.evil(scenery.EVIL[kind]).addresses().values():
        page.goto(f"/triggers/{address}")
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.evaluate(scripts.MADE_OF_TEXT) == [], address
    assert not heard.dialogs

"""Destinations on their pages: who hears how runs end, what was answered, tests and retries."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.factories import fresh, make_run
from tests.inprocess import Worker, durable
from tests.triggerapp.test_posting import Receiver, private_allowed, receiver
from triggerapp.clock import now
from triggerapp.dashboard import overviews
from triggerapp.engine import destinations, environments, notices, runs
from triggerapp.models import AuditEntry, Destination, Notice, Run, Status
from workers import AbortRun

pytestmark = pytest.mark.usefixtures("database", "private_allowed")

__all__ = ["private_allowed", "receiver"]  # fixtures

URL = "/triggers/destinations/"
FORM = {"environment": "dev", "name": "ops", "url": "https://example.org/canary", "wants": ["run.failed"]}


@durable
def breaks() -> None:
    raise AbortRun("no more seats")


@pytest.fixture(autouse=True)
def _environment(database):
    environments.current()


def make(url: str = "https://example.org/canary", **options) -> Destination:
    return destinations.create("dev", "ops", url, **options).destination


def text_of(response) -> str:
    assert response.status_code == 200
    return response.content.decode()


def actions():
    return list(AuditEntry.objects.filter(actor__startswith="user").order_by("id").values_list("action", flat=True))


def test_one_is_made_with_a_secret_that_is_shown_once_and_an_address_that_never_is(administrator):
    response = administrator.post(f"{URL}create", {**FORM, "tasks": "shop.buy, shop.sell"})
    secret = response.context["issued"].secret
    assert secret in text_of(response)
    found = Destination.objects.get()
    assert (found.url, found.wants, found.tasks) == (FORM["url"], ["run.failed"], ["shop.buy", "shop.sell"])
    for path in ("", f"{found.pk}/"):
        text = text_of(administrator.get(URL + path))
        assert secret not in text
        assert "canary" not in text
        assert "https://example.org" in text
    assert actions() == ["destination.create"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "Not A Slug"},
        {"url": ""},
        {"url": "javascript:alert(1)"},
        {"wants": []},
        {"wants": ["run.began"]},
        {"tasks": "a\0"},
        {"environment": "none"},
    ],
)
def test_one_that_cannot_be_is_refused(administrator, wrong):
    assert administrator.post(f"{URL}create", {**FORM, **wrong}).status_code == 400
    assert not Destination.objects.exists()


def test_it_is_edited_and_keeps_its_address_and_secret_unless_told_otherwise(administrator):
    made = make()
    form = {"url": "", "wants": ["run.completed", "run.failed"], "tasks": "shop.buy"}
    assert administrator.post(f"{URL}{made.pk}/edit", form).status_code == 302
    found = fresh(made)
    assert (found.url, found.tasks, found.hint) == (made.url, ["shop.buy"], made.hint)
    assert found.wants == ["run.completed", "run.failed"]
    administrator.post(f"{URL}{made.pk}/edit", {**form, "url": "https://example.com/other"})
    assert fresh(made).url == "https://example.com/other"
    assert administrator.post(f"{URL}{made.pk}/edit", {**form, "wants": []}).status_code == 400
    entry = AuditEntry.objects.filter(action="destination.update").order_by("id").first()
    assert (entry.before["tasks"], entry.after["tasks"]) == ([], ["shop.buy"])
    assert "canary" not in str(entry.after)


def test_it_is_rotated_switched_and_removed_by_administrators_only(administrator, operator):
    made = make()
    for path in ("edit", "rotate", "switch", "remove"):
        assert operator.post(f"{URL}{made.pk}/{path}").status_code == 403
    response = administrator.post(f"{URL}{made.pk}/rotate")
    assert response.context["issued"].secret == destinations.secret_of(fresh(made))
    assert response.context["issued"].secret in text_of(response)
    administrator.post(f"{URL}{made.pk}/switch", {"disabled": "1"})
    assert fresh(made).disabled_at
    administrator.post(f"{URL}{made.pk}/switch", {"disabled": "0"})
    assert fresh(made).disabled_at is None
    administrator.post(f"{URL}{made.pk}/remove")
    assert not Destination.objects.exists()
    assert actions() == [f"destination.{verb}" for verb in ("rotate", "disable", "enable", "remove")]
    assert administrator.post(f"{URL}{made.pk}/rotate").status_code == 404


def test_a_test_is_signed_and_delivered_and_the_page_says_what_was_answered(
    operator, worker: Worker, receiver: Receiver
):
    library = pytest.importorskip("standardwebhooks")
    issued = destinations.create("dev", "ops", receiver.url)
    page = f"{URL}{issued.destination.pk}/"
    assert "A test is on its way" in text_of(operator.post(f"{page}test", follow=True))
    assert "pending" in text_of(operator.get(page))
    worker.tick()
    ((_, headers, body),) = receiver.requests
    told = library.Webhook(issued.secret).verify(body, headers)
    assert (told["type"], told["data"]) == ("test", {"destination": "ops", "environment": "dev"})
    text = text_of(operator.get(page))
    assert "delivered" in text
    assert "<code>200</code>" in text
    assert actions() == ["destination.test"]


def test_a_notice_that_was_not_taken_says_why_and_is_sent_again_at_once(operator, worker: Worker, receiver: Receiver):
    made = make(receiver.url)
    receiver.status = 500
    breaks.trigger()
    worker.work()
    worker.tick()
    page, notice = f"{URL}{made.pk}/", Notice.objects.get()
    assert "it answered 500" in text_of(operator.get(page))
    receiver.status = 200
    assert "on its way again" in text_of(operator.post(f"/triggers/notices/{notice.pk}/retry", follow=True))
    assert Run.objects.get(pk=notice.run).status == Status.CANCELED
    worker.tick()
    again = fresh(notice)
    assert (again.status, bool(again.delivered_at), again.run == notice.run) == (200, True, False)
    assert len(receiver.requests) == 2
    assert actions() == ["run.cancel", "notice.retry"]
    refused = operator.post(f"/triggers/notices/{notice.pk}/retry")
    assert (refused.status_code, "took this notice already" in refused.content.decode()) == (400, True)


def test_what_is_disabled_hears_neither_tests_nor_retries(operator):
    made = make()
    runs.fail(make_run(Status.RUNNING).id, lease=1, error={})
    destinations.set_disabled("dev", "ops", disabled=True)
    for url in (f"{URL}{made.pk}/test", f"/triggers/notices/{Notice.objects.get().pk}/retry"):
        response = operator.post(url)
        assert (response.status_code, "enable it first" in response.content.decode()) == (400, True)
    assert notices.start_due() == 1  # what was noted before is looked at, and not delivered
    assert operator.post(f"/triggers/notices/{made.pk:032x}/retry").status_code == 404


def test_a_notice_that_came_while_all_was_off_failed_and_can_be_sent_again(operator, worker: Worker):
    made = make()
    runs.fail(make_run(Status.RUNNING).id, lease=1, error={})
    destinations.set_disabled("dev", "ops", disabled=True)
    worker.tick()
    destinations.set_disabled("dev", "ops", disabled=False)
    notice = Notice.objects.get()
    assert (notice.tries, notice.delivered_at) == (0, None)
    assert [row["state"] for row in overviews.notices(made.pk).rows] == ["failed"]
    assert f"/triggers/notices/{notice.pk}/retry" in text_of(operator.get(f"{URL}{made.pk}/"))


def test_a_notice_whose_run_could_never_be_started_failed(viewer):
    made = make()
    runs.fail(make_run(Status.RUNNING).id, lease=1, error={})
    for tries, state in ((notices.STARTS - 1, "pending"), (notices.STARTS, "failed")):
        Notice.objects.update(tries=tries)
        assert [row["state"] for row in overviews.notices(made.pk).rows] == [state]


def test_notices_are_paged_newest_first(viewer, monkeypatch):
    monkeypatch.setattr(overviews, "PAGE", 2)
    made = make()
    for _ in range(3):
        runs.fail(make_run(Status.RUNNING).id, lease=1, error={})
    first = viewer.get(f"{URL}{made.pk}/").context
    second = viewer.get(f"{URL}{made.pk}/?{first['older']}").context
    found = [row["id"] for row in [*first["found"].rows, *second["found"].rows]]
    assert found == list(Notice.objects.order_by("-created_at").values_list("pk", flat=True))


def test_no_page_leaves_out_a_notice_that_is_of_the_same_time_as_the_last_one_before_it(viewer, monkeypatch):
    monkeypatch.setattr(overviews, "PAGE", 2)
    made = make()
    for _ in range(3):
        runs.fail(make_run(Status.RUNNING).id, lease=1, error={})
    Notice.objects.update(created_at=now())
    first = overviews.notices(made.pk)
    second = overviews.notices(made.pk, older=UUID(first.older))
    found = [row["id"] for row in [*first.rows, *second.rows]]
    assert found == list(Notice.objects.order_by("-id").values_list("pk", flat=True))

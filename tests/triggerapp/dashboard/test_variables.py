"""Environment variables and versions on their pages."""

from __future__ import annotations

import pytest

from tests.factories import variables
from triggerapp.dashboard.variables import parse
from triggerapp.engine import deployments, environments
from triggerapp.engine.deployments import Build
from triggerapp.errors import BadInput
from triggerapp.models import AuditEntry, Deployment, EnvVar

URL = "/triggers/variables/"
SECRET = "canary-7c2e"


@pytest.fixture(autouse=True)
def environment(database):
    return environments.current()


def put(client, **form):
    return client.post(f"{URL}put", {"environment": "dev", **form})


def test_a_secret_goes_in_and_never_comes_out(administrator, environment):
    put(administrator, name="KEY", value=SECRET, secret="1")
    put(administrator, name="PLACE", value="Wien")
    text = administrator.get(URL).content.decode()
    assert SECRET not in text
    assert "Wien" in text
    assert variables(environment) == {"KEY": SECRET, "PLACE": "Wien"}
    assert SECRET not in str(list(AuditEntry.objects.values()))
    assert AuditEntry.objects.filter(actor="user administrator", action="env_var.create").count() == 2


def test_several_are_pasted_at_once(administrator, environment):
    put(administrator, pasted="# a comment\n\nexport A=1\nB = 'two words'\nC=\"x=y\"\nD=")
    assert variables(environment) == {"A": "1", "B": "two words", "C": "x=y", "D": ""}


def test_one_is_deleted(administrator):
    put(administrator, name="PLACE", value="Wien")
    assert administrator.post(f"{URL}delete", {"environment": "dev", "name": "PLACE"}).status_code == 302
    assert not EnvVar.objects.exists()
    assert administrator.post(f"{URL}delete", {"environment": "dev", "name": "PLACE"}).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [{}, {"name": "1A"}, {"name": "A", "value": "\0"}, {"pasted": "nothing"}, {"environment": "none", "name": "A"}],
)
def test_what_cannot_be_a_variable_is_refused(administrator, wrong):
    assert put(administrator, **wrong).status_code == 400
    assert not EnvVar.objects.exists()


def test_a_line_that_is_no_assignment_is_refused():
    with pytest.raises(BadInput, match="no NAME=value"):
        parse("A=1\nrubbish")


def test_one_that_no_key_opens_is_named_and_the_others_are_shown(administrator):
    put(administrator, name="OLD", value="x")
    put(administrator, name="PLACE", value="Wien")
    EnvVar.objects.filter(name="OLD").update(sealed=b"of another key")
    text = administrator.get(URL).content.decode()
    assert "environment variable OLD of dev was encrypted with a key that is not here" in text
    assert "Wien" in text


@pytest.mark.parametrize("name", ["viewer", "operator"])
def test_others_neither_see_nor_set_them(log_in, name):
    client = log_in(name)
    assert client.get(URL).status_code == 403
    assert put(client, name="A", value="1").status_code == 403


# --- versions -------------------------------------------------------------------------------------


def test_versions_are_listed_and_an_older_one_is_promoted_again(administrator, operator, environment):
    for version in ("20261122.1", "20261122.2"):
        deployments.register(environment, Build(version=version, git={"commitSha": "0123456789abcdef"}))
    context = administrator.get("/triggers/versions/").context
    assert [row.version for row in context["rows"]] == ["20261122.2", "20261122.1"]
    assert context["current"].version == "20261122.2"
    old = Deployment.objects.get(version="20261122.1")
    url = f"/triggers/versions/{old.pk}/promote"
    assert operator.post(url).status_code == 403
    assert administrator.post(url)["Location"] == "/triggers/versions/?environment=dev"
    text = administrator.get("/triggers/versions/").content.decode()
    assert "0123456789</code>" in text
    assert "Not enforced yet" in text
    assert deployments.current(environment).version == "20261122.1"
    assert AuditEntry.objects.filter(action="deployment.promote", actor="user administrator").count() == 1


def test_a_version_that_is_none_is_not_found(administrator):
    assert administrator.post("/triggers/versions/0192f000-0000-7000-8000-000000000000/promote").status_code == 404

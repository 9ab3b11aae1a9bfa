"""Environment variables over HTTP: encrypted in the database, and secret ones never come out again."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from django.db import connection

from tests.api.conftest import Api
from tests.factories import variables
from triggerapp.engine import environments, envvars, keys, secrets
from triggerapp.errors import UnreadableSecret
from triggerapp.models import AuditEntry, EnvVar

pytestmark = pytest.mark.django_db
VARIABLES = "/api/v1/projects/shop/envvars/dev"
CANARY = "canary-7c2e"


def listed(api: Api) -> dict[str, tuple[str, bool]]:
    return {row["name"]: (row["value"], row["isSecret"]) for row in api.get(VARIABLES).body}


def test_a_variable_is_set_shown_changed_and_deleted(api):
    assert api.post(VARIABLES, {"name": "PLACE", "value": "Wien"}).body == {"success": True}
    one = f"{VARIABLES}/PLACE"
    assert api.get(one).body == {"name": "PLACE", "value": "Wien", "isSecret": False}
    assert api.put(one, {"value": "Graz"}).body == {"success": True}
    assert listed(api) == {"PLACE": ("Graz", False)}
    assert api.delete(one).body == {"success": True}
    assert [api.get(one).status, api.put(one, {"value": "x"}).status, api.delete(one).status] == [404] * 3
    actions = AuditEntry.objects.order_by("id").filter(target="PLACE").values_list("action", flat=True)
    assert list(actions) == ["env_var.create", "env_var.update", "env_var.delete"]


def test_a_secret_goes_in_and_never_comes_out(api):
    api.post(VARIABLES, {"name": "KEY", "value": CANARY, "isSecret": True})
    assert listed(api) == {"KEY": ("<redacted>", True)}
    api.post(VARIABLES, {"name": "KEY", "value": CANARY, "isSecret": False})
    api.put(f"{VARIABLES}/KEY", {"value": CANARY})
    assert api.get(f"{VARIABLES}/KEY").body["value"] == "<redacted>"
    assert variables(environments.current()) == {"KEY": CANARY}


def test_neither_a_row_nor_the_audit_log_has_a_value(api):
    api.post(VARIABLES, {"name": "KEY", "value": CANARY})
    api.post(f"{VARIABLES}/import", {"variables": {"OTHER": CANARY}})
    with connection.cursor() as cursor:
        for table in ("triggerapp_envvar", "triggerapp_auditentry"):
            cursor.execute(f"SELECT count(*) FROM {table} t WHERE t::text LIKE %s", [f"%{CANARY}%"])
            assert cursor.fetchone() == (0,)
    assert CANARY.encode() not in bytes(EnvVar.objects.get(name="KEY").sealed)


def test_a_list_of_any_length_is_one_query(api, django_assert_num_queries):
    here = environments.current()
    envvars.put_many(here, {f"V{n}": str(n) for n in range(20)}, override=True)
    with django_assert_num_queries(1):
        assert variables(here)["V7"] == "7"


def test_an_import_sets_all_or_none(api):
    api.post(VARIABLES, {"name": "B", "value": "old"})
    answer = api.post(f"{VARIABLES}/import", {"variables": {"A": "1", "B": "2"}})
    assert answer.status == 400 and "B" in answer.body["error"]
    assert listed(api) == {"B": ("old", False)}
    answer = api.post(f"{VARIABLES}/import", {"variables": {"A": "1", "B": "2"}, "override": True, "isSecret": True})
    assert answer.body == {"success": True}
    assert listed(api) == {"A": ("<redacted>", True), "B": ("<redacted>", True)}
    assert api.post(f"{VARIABLES}/import", {"variables": {"C": "1", "D D": "2"}}).status == 400
    assert "C" not in listed(api)


@pytest.mark.parametrize(
    "body",
    [
        {"value": "x"},
        {"name": "A"},
        {"name": "", "value": "x"},
        {"name": "1A", "value": "x"},
        {"name": "A B", "value": "x"},
        {"name": "A=B", "value": "x"},
        {"name": "Ä", "value": "x"},
        {"name": "A\n", "value": "x"},
        {"name": "A" * 256, "value": "x"},
        {"name": 5, "value": "x"},
        {"name": "A", "value": 5},
        {"name": "A", "value": "a\0b"},
        {"name": "A", "value": "\ud800"},
        {"name": "A", "value": "x" * 70_000},
        {"name": "A", "value": "x", "isSecret": "yes"},
        {"name": "A", "value": "x", "isSecret": 1},
        {"name": "A", "value": "x", "override": True},
    ],
)
def test_what_cannot_be_a_variable_is_refused_with_the_reason(api, body):
    answer = api.post(VARIABLES, body)
    assert answer.status == 400, answer.body
    assert answer.body["error"]
    assert not EnvVar.objects.exists()


def test_another_environment_is_not_there_and_its_short_name_is(key_for):
    staging = key_for(environment="staging")
    assert staging.post("/api/v1/projects/x/envvars/stg", {"name": "A", "value": "1"}).status == 200
    assert [row["name"] for row in staging.get("/api/v1/projects/x/envvars/staging").body] == ["A"]
    assert staging.get(VARIABLES).status == 404
    assert key_for().get("/api/v1/projects/x/envvars/stg").status == 404


def test_keys_rotate_and_a_lost_one_is_told(api, settings):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.TRIGGERAPP = {"SECRETS_KEYS": old}
    api.post(VARIABLES, {"name": "A", "value": "1"})
    settings.TRIGGERAPP = {"SECRETS_KEYS": f"{new} {old}"}
    assert listed(api) == {"A": ("1", False)}
    settings.TRIGGERAPP = {"SECRETS_KEYS": new}
    answer = api.get(f"{VARIABLES}/A")
    assert (answer.status, answer.body["code"]) == (422, "unreadable_secret")
    assert "SECRETS_KEYS" in answer.body["error"]


def test_without_keys_secret_key_and_its_fallbacks_stand_for_them(settings):
    settings.SECRET_KEY = "first"
    sealed = secrets.seal("value", "here")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "second", ["first"]
    assert secrets.unseal(sealed, "here") == "value"
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(UnreadableSecret, match="SECRET_KEY_FALLBACKS"):
        secrets.unseal(sealed, "here")


def test_a_value_moved_to_another_row_does_not_open(api):
    api.post(VARIABLES, {"name": "HIDDEN", "value": CANARY, "isSecret": True})
    api.post(VARIABLES, {"name": "OPEN", "value": "x"})
    EnvVar.objects.filter(name="OPEN").update(sealed=EnvVar.objects.get(name="HIDDEN").sealed)
    answer = api.get(f"{VARIABLES}/OPEN")
    assert answer.status == 422 and CANARY not in str(answer.body)


def test_a_key_without_the_scope_sees_no_variable():
    reader = Api(keys.create("dev", "reader", scopes=["read:runs"]).text)
    assert reader.get(VARIABLES).status == 403

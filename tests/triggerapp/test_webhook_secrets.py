"""Secrets of endpoints: encrypted, several at once for rotation; and endpoints that cannot work."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from tests.inprocess import forward
from tests.triggerapp import signing
from tests.triggerapp.hooks import endpoint, post, refused
from triggerapp.engine import webhooks
from triggerapp.errors import BadInput, NotFound
from triggerapp.models import AuditEntry, Endpoint, EndpointSecret

pytestmark = pytest.mark.usefixtures("database")


def test_secrets_are_encrypted_in_the_database():
    issued = webhooks.create("dev", "hook", preset="standard")
    row = EndpointSecret.objects.get()
    assert issued.secret.encode() not in bytes(row.sealed)
    assert (row.hint, webhooks.standing_secrets(issued.endpoint)) == (issued.secret[-4:], [issued.secret])
    assert issued.secret not in json.dumps(list(AuditEntry.objects.values("before", "after")))


def test_an_old_secret_stands_for_a_while_beside_the_new_one():
    endpoint()
    new = webhooks.rotate("dev", "hook", keep=timedelta(hours=1)).secret
    assert post(signing.standard({}, id="old"))[0] == 200
    assert post(signing.standard({}, id="new", secret=new))[0] == 200
    forward(hours=2)
    assert post(signing.standard({}, id="late"))[0] == 401
    assert post(signing.standard({}, id="later", secret=new))[0] == 200


def test_a_secret_that_leaked_can_go_at_once():
    endpoint()
    webhooks.rotate("dev", "hook", keep=timedelta(0))
    refused(signing.standard({}), "wrong_signature")


@pytest.mark.parametrize("keep", [timedelta(seconds=-1), timedelta(days=30, seconds=1), timedelta.max])
def test_an_old_secret_is_not_kept_for_longer_than_a_month(keep):
    endpoint()
    with pytest.raises(BadInput, match="30 days"):
        webhooks.rotate("dev", "hook", keep=keep)
    assert EndpointSecret.objects.get().expires_at is None


@pytest.mark.parametrize(
    ("preset", "fields", "says"),
    [
        ("standard", {"secret": "whsec_c2hvcnQ="}, "at least 24 bytes"),
        ("standard", {"secret": "whsec_!!!"}, "base64"),
        ("github", {"secret": "short"}, "16 characters"),
        ("stripe", {"secret": None}, "makes the secret itself"),
        ("nobody", {}, "no preset"),
        ("github", {"options": {"mark": "x"}}, "no options"),
        ("github", {"tolerance": timedelta(days=2)}, "tolerance"),
        ("generic", {"options": {"algorithm": "md5"}}, "sha256"),
        ("generic", {"options": {"signed": "{timestamp}"}}, "body"),
        ("generic", {"options": {"signed": "{timestamp}.{body}"}}, "go together"),
        ("generic", {"options": {"signature": "no header"}}, "no name of a header"),
        ("generic", {"options": {"type": "somewhere"}}, "header:NAME"),
    ],
)
def test_an_endpoint_that_cannot_work_is_refused(preset, fields, says):
    with pytest.raises(BadInput, match=says):
        endpoint(preset, **fields)
    assert not Endpoint.objects.exists()


def test_names_are_unique_and_fit_into_urls():
    endpoint()
    with pytest.raises(BadInput, match="already"):
        endpoint()
    for name in ("", "Hook", "a/b", "a b", "x" * 65):
        with pytest.raises(BadInput, match="small letters"):
            endpoint(name=name)
    with pytest.raises(NotFound):
        webhooks.rotate("dev", "none")

"""`manage.py webhooks`: secrets are shown once, and those of a provider come by standard input."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command

from triggerapp.engine import webhooks
from triggerapp.models import AuditEntry, Endpoint, Environment

pytestmark = pytest.mark.usefixtures("database")


def test_an_endpoint_is_made_with_a_secret_that_is_shown_once(capsys):
    call_command("webhooks", "create", "clerk")
    secret, url = capsys.readouterr().out.split()
    assert (secret[:6], url) == ("whsec_", "http://127.0.0.1:8000/hooks/clerk")
    call_command("webhooks", "list", "--json")
    (row,) = json.loads(out := capsys.readouterr().out)
    assert (row["name"], row["enabled"], row["secrets"][0]["hint"]) == ("clerk", True, secret[-4:])
    assert secret not in out
    call_command("webhooks", "list")
    assert "clerk" in capsys.readouterr().out


def test_a_providers_secret_is_read_from_standard_input_and_not_shown(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("whsec_stripe_secret_of_theirs\n"))
    call_command("webhooks", "create", "stripe", "--preset", "stripe", "--given", "--environment", "prod")
    assert capsys.readouterr().out.split() == ["http://127.0.0.1:8000/hooks/prod/stripe"]
    assert webhooks.standing_secrets(Endpoint.objects.get()) == ["whsec_stripe_secret_of_theirs"]


def test_a_secret_is_rotated(capsys):
    call_command("webhooks", "create", "clerk")
    call_command("webhooks", "rotate", "clerk", "--keep-hours", "1h30m")
    assert len(webhooks.standing_secrets(Endpoint.objects.get())) == 2
    call_command("webhooks", "rotate", "clerk", "--keep-hours", "0")
    assert len(webhooks.standing_secrets(Endpoint.objects.get())) == 1


def test_an_old_secret_cannot_be_kept_for_ages():
    call_command("webhooks", "create", "clerk")
    with pytest.raises(CommandError, match="30 days"):
        call_command("webhooks", "rotate", "clerk", "--keep-hours", "1000")


def test_an_endpoint_is_disabled_and_enabled_and_every_deed_is_noted():
    call_command("webhooks", "create", "clerk")
    call_command("webhooks", "disable", "clerk")
    call_command("webhooks", "enable", "clerk")
    actions = AuditEntry.objects.order_by("id").values_list("action", "actor")
    assert [action for action, _ in actions] == ["webhook.create", "webhook.disable", "webhook.enable"]
    assert all(actor.startswith("shell") for _, actor in actions)


def test_a_generic_one_says_how_it_signs(capsys):
    call_command("webhooks", "create", "plain", "--preset", "generic")
    assert "the header x-signature: HMAC-SHA256 of {body} in hex." in capsys.readouterr().err
    Endpoint.objects.all().delete()
    options = ["--signature", "X-Sig", "--signed", "{timestamp}.{body}", "--timestamp", "X-Time", "--mark", "v1="]
    call_command("webhooks", "create", "acme", "--preset", "generic", *options, "--type", "body:kind")
    assert "x-sig: HMAC-SHA256 of {timestamp}.{body} in hex after 'v1='; x-time must" in capsys.readouterr().err
    scheme = webhooks.scheme_of(Endpoint.objects.get())
    assert (scheme.signature, scheme.timestamp, scheme.mark) == ("x-sig", "x-time", "v1=")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["create", "Clerk"], "small letters"),
        (["create", "stripe", "--preset", "stripe"], "makes the secret itself"),
        (["create", "acme", "--preset", "generic", "--signed", "x"], "must have {body}"),
        (["create", "acme", "--mark", "x"], "no options"),
        (["create", "acme", "--tolerance", "-1"], "tolerance"),
        (["create", "acme", "--tolerance", "nan"], "tolerance"),
        (["rotate", "none"], "no endpoint"),
        (["disable", "none"], "no endpoint"),
        (["create", "acme", "--tolerance=-5m"], "--tolerance='-5m' must be a duration such as '30s'"),
        (["create", "acme", "--tolerance", "0"], "the tolerance 0s must be more than nothing and at most 1h"),
        (["rotate", "none", "--keep-hours", "1e30"], "keep-hours"),
        (["rotate", "none", "--keep-hours", "abc"], "or a number of hours"),
        (["rotate", "none", "--keep-hours", "31d"], "cannot be kept for 31d"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(arguments, says):
    with pytest.raises(CommandError, match=says):
        call_command("webhooks", *arguments)
    assert not Endpoint.objects.exists()


MAKERS = [
    ("api_keys", "create", "--name", "ci"),
    ("webhooks", "create", "clerk"),
    ("destinations", "create", "ops", "https://example.com/hook"),
]


@pytest.mark.parametrize("arguments", MAKERS, ids=" ".join)
def test_what_makes_an_environment_says_so_and_makes_none_of_a_name_that_cannot_be(arguments, capsys):
    Environment.objects.filter(slug="prdo").delete()
    call_command(*arguments)
    assert "new environment" not in capsys.readouterr().err
    before = Environment.objects.count()
    for name in ("pr od!", "x" * 33, "é"):
        with pytest.raises(CommandError, match="letters, digits, hyphens or underscores"):
            call_command(*arguments, "--environment", name)
    assert Environment.objects.count() == before
    call_command(*arguments, "--environment", "prdo")
    assert "prdo is a new environment" in capsys.readouterr().err

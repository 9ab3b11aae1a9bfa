"""`manage.py checkpoints` without images, and of runs that are not there."""

from __future__ import annotations

from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from tests.factories import make_run

pytestmark = pytest.mark.django_db


def said(*arguments: str) -> str:
    output = StringIO()
    call_command("checkpoints", *arguments, stdout=output)
    return output.getvalue()


@pytest.mark.parametrize("verb", ["verify", "delete", "pause"])
def test_a_run_that_is_not_there_is_refused_before_anything_is_done(verb):
    missing = f"run_{uuid4()}"
    with pytest.raises(CommandError, match=f"there is no run {missing}"):
        said(verb, f"run_{make_run().pk}", missing)


def test_without_images_it_says_so():
    assert said("verify") == "no images\n"
    assert said("verify", "--json").strip() == "[]"
    assert said("verify", str(make_run().pk)).endswith(": there is none\n")

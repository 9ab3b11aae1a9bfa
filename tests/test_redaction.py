"""Redaction of text: what follows a secret key is hidden, once and for all."""

from __future__ import annotations

import pytest

from triggerapp import redaction


@pytest.mark.parametrize(
    "line",
    [
        "password=hunter2",
        "password=(hidden)",
        "f(password=hunter2)",
        "api_key: 'sk_live', n: 1",
        '{"db_password_2": "a b", "n": 1}',
        "Authorization: Bearer abc.def",
        "secret=(hidden), token=x;password=y",
    ],
)
def test_what_is_hidden_stays_as_it_is(line: str) -> None:
    hidden = redaction.text(line)
    assert "(hidden)" in hidden
    assert redaction.text(hidden) == hidden


def test_a_call_keeps_its_parenthesis() -> None:
    assert redaction.text("f(password=hunter2)") == redaction.text("f(password=(hidden))") == "f(password=(hidden))"

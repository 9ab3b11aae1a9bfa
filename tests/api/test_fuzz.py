"""schemathesis asks every operation of the OpenAPI document what it can think of: no error of the server.

`SCHEMATHESIS_EXAMPLES=200` tries longer.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, Phase, settings

from triggerapp.api.openapi import document
from triggerapp.engine import keys

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]
LONG = "SCHEMATHESIS_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "8"))
schema = schemathesis.openapi.from_dict({**document(), "servers": [{"url": "/api"}]})
schema.app = get_wsgi_application()


@schemathesis.serializer("application/x-ndjson")
def ndjson(context: Any, value: Any) -> bytes:
    """Lines of JSON, or whatever else was thought of."""
    lines = value if isinstance(value, list) else [value]
    return b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=not LONG,
    phases=list(Phase) if LONG else [Phase.generate],  # the others try the edges of each parameter, which takes longer
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_no_operation_brings_the_server_down(case: schemathesis.Case) -> None:
    key = keys.create("dev", "fuzz").text
    answer = case.call(headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        told = answer.json()
        assert told["code"], told
        assert len(told["error"]) > 10, told

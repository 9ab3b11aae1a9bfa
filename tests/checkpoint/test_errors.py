"""What the errors of `checkpoint` say."""

from __future__ import annotations

import pickle

import pytest

from checkpoint import errors
from checkpoint.errors import CheckpointError, DumpFailed

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CheckpointError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickle_with_its_log(kind: type[CheckpointError]) -> None:
    error = kind("it broke", ["Error (criu/cr-dump.c:1): here", "and there"])
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.message, copy.log, str(copy)) == (error.message, error.log, str(error))


def test_each_kind_of_error_has_a_code_of_its_own() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)


def test_an_error_ends_with_what_criu_said() -> None:
    assert str(DumpFailed("not dumped", ["Error: why"])).splitlines() == ["not dumped", "    Error: why"]

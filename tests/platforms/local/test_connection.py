"""The border to psycopg: what an address that is none says, and what it never repeats."""

from __future__ import annotations

import asyncio
import traceback

import pytest

from agentops.errors import AgentOpsError, UsageError
from agentops.platforms.local import connection


def refused(address: str) -> AgentOpsError:
    with pytest.raises(AgentOpsError) as found:
        asyncio.run(connection.connect(address))
    return found.value


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ops:hunter2@[bad/x",
        "postgresql://ops:hunter2/x",
        "postgresql://ops:hunter2/x@127.0.0.1/x",
        "postgresql://ops:first@hunter2@127.0.0.1/x",
        "postgresql://ops:hunter2%zz@127.0.0.1/x",
        "postgresql://ops@127.0.0.1/x?hunter2",
        "postgresql://ops:hunter2@127.0.0.1:123456/x",
        "postgresql://ops:hunter2\udce9@[bad/x",
        "garbage hunter2",
    ],
)
def test_an_address_that_is_none_is_never_repeated(address: str) -> None:
    failure = refused(address)
    assert isinstance(failure, UsageError)
    assert failure.message == "the database address is not valid"
    # --debug shows the whole way to it.
    assert "hunter2" not in "".join(traceback.format_exception(failure))


@pytest.mark.parametrize(
    "address",
    ["postgresql://ops:hunter2@127.0.0.1:1/x", "postgresql://ops:hunter2@one.invalid:1,127.0.0.1:1/x?sslmode=disable"],
)
def test_where_nobody_answers_the_words_say_who_without_the_password(address: str) -> None:
    failure = refused(address)
    assert failure.kind.label == "unavailable"
    assert "127.0.0.1" in failure.message
    assert "hunter2" not in "".join(traceback.format_exception(failure))

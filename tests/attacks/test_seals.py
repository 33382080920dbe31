"""Somebody who can write to the database moves sealed secrets about, and many set one at the same moment."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import psycopg
import pytest

from agentops import seal
from agentops.errors import UsageError
from tests.attacks.test_kill_and_deploy import begin, end
from tests.fakes.servers import eventually, put_secret, watched

if TYPE_CHECKING:
    from tests.attacks.conftest import Attacked
    from tests.conftest import StackKeys


def test_rows_that_were_swapped_or_put_back_do_not_open_and_the_rest_is_served(
    database_url: str, stack_keys: StackKeys
) -> None:
    async def check() -> None:
        async with watched(database_url, stack_keys) as server:
            names = ("WA_TOKEN", "OPENAI_API_KEY", "WA_VERIFY_TOKEN")
            for name in names:
                await put_secret(server.platform, stack_keys, name, f"first {name}")
            await eventually(lambda: server.context.stack().secret("WA_VERIFY_TOKEN") is not None)
            await server.platform.query("create table older as select name, sealed from agentops.secrets")
            await put_secret(server.platform, stack_keys, "WA_VERIFY_TOKEN", "second", 2)
            await eventually(lambda: server.context.stack().secret("WA_VERIFY_TOKEN") == "second")
            await server.platform.query(
                "update agentops.secrets s set sealed = o.sealed from older o where o.name = case s.name"
                " when 'WA_TOKEN' then 'OPENAI_API_KEY' when 'OPENAI_API_KEY' then 'WA_TOKEN' else s.name end"
            )
            await eventually(lambda: server.context.stack().secret("WA_VERIFY_TOKEN") is None)
            assert [server.context.stack().secret(name) for name in names] == [None] * 3
            assert "first" not in server.recorded.text
            assert server.recorded.names.count("ai.server.secret_unreadable") == 3

    asyncio.run(check())


def test_no_changed_bit_opens(stack_keys: StackKeys) -> None:
    sealed = seal.seal(stack_keys.public, "WA_TOKEN", 1, "a value")
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        # The top bit of an X25519 key is ignored by its definition, but it is part of the salt.
        with pytest.raises(UsageError, match="does not open"):
            seal.unseal(stack_keys.private, "WA_TOKEN", 1, bytes(changed))
    for length in random.Random(1).sample(range(len(sealed)), 20):  # noqa: S311 - the same lengths every time
        with pytest.raises(UsageError, match="does not open"):
            seal.unseal(stack_keys.private, "WA_TOKEN", 1, sealed[:length])


def test_many_who_set_one_secret_at_once_leave_one_that_opens(attacked: Attacked, stack_keys: StackKeys) -> None:
    values = [f"value-{number}" for number in range(6)]
    done = [end(each) for each in [begin(attacked, "secrets", "set", f"RACED={value}") for value in values]]
    assert {code for code, _, _ in done} <= {0, 7}
    wins = [code for code, _, _ in done].count(0)
    with psycopg.connect(attacked.database_url) as connection:
        [(sealed, version)] = connection.execute(
            "select sealed, version from agentops.secrets where name = 'RACED'"
        ).fetchall()
    assert seal.unseal(stack_keys.private, "RACED", version, sealed) in values
    assert version == wins

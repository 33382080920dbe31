"""`agentops conversations`: masked, revealed only on the record, and forgotten for good."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from tests.commands.line import typed
from tests.fakes.chat import chat_stack, settled, until, working
from tests.fakes.providers import Providers, say, serving
from tests.fakes.stacks import recorded
from tests.fakes.whatsapp import CUSTOMER, deliver, text

OTHER = "+250788000003"
MESSAGE = text("my secret words", message_id="wamid.secret")


@pytest.fixture(autouse=True)
def _target(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)


@pytest.fixture
def _talks(database_url: str) -> None:
    async def talk(providers: Providers) -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await deliver(stack, MESSAGE, text("other", OTHER))
            await until(lambda: settled(stack), 20)

    with serving(Providers(think=lambda _: say("my secret answer"))) as providers:
        asyncio.run(talk(providers))


@pytest.mark.usefixtures("_talks")
def test_conversations_are_listed_masked_and_shown_without_words(database_url: str) -> None:
    listed = typed("conversations", "list", "--json").json
    assert sorted(each["customer"] for each in listed) == ["+2507***001", "+2507***003"]
    for words in (("show", "1"), ("show", CUSTOMER), ("show", "1", "--json"), ("list",)):
        done = typed("conversations", *words)
        assert done.code == 0
        assert "secret" not in done.out
        assert CUSTOMER[1:] not in done.out
    assert typed("conversations", "show", "99").code == 5
    assert (
        typed("conversations", "show", "0788 000 001", "--json").json
        == typed("conversations", "show", CUSTOMER, "--json").json
    )
    with psycopg.connect(database_url) as connection:
        count = connection.execute(b"select count(*) from agentops.audit where action like 'conversation%%'").fetchone()
        assert count == (0,)


@pytest.mark.usefixtures("_talks")
def test_what_was_said_is_revealed_and_that_is_audited(database_url: str) -> None:
    assert (
        typed("conversations", "show", CUSTOMER).err
        == "note: --reveal shows phones, texts and codes in full, and is audited\n"
    )
    revealed = typed("conversations", "show", CUSTOMER, "--reveal", "--json")
    (shown,) = revealed.json
    assert (shown["customer"], revealed.err) == (CUSTOMER, "")
    words = [(each["role"], each["said"]) for each in shown["history"]]
    assert words == [("user", "my secret words"), ("assistant", "my secret answer")]
    with psycopg.connect(database_url) as connection:
        found = connection.execute(b"select action, subject, actor from agentops.audit where action like 'conv%%'")
        assert found.fetchall() == [("conversation.reveal", str(shown["id"]), "tester@here")]


@pytest.mark.usefixtures("_talks")
def test_a_customer_is_forgotten_once_and_the_message_id_stays_known(database_url: str) -> None:
    assert typed("conversations", "forget", "07880").code == 2
    assert typed("conversations", "forget", "0788 000 001", "--check").code == 3
    asked = typed("conversations", "forget", CUSTOMER)
    assert asked.code == 6
    assert ": 1 conversation, 1 message?" in asked.err
    assert typed("conversations", "forget", CUSTOMER, "--check").code == 3
    done = typed("conversations", "forget", CUSTOMER, "--yes", "--json")
    assert (done.code, done.json[0]["status"], done.json[0]["changed"]) == (0, "forgotten", True)
    again = typed("conversations", "forget", CUSTOMER, "--json")
    assert (again.code, again.json[0]["status"], again.json[0]["changed"]) == (0, "absent", False)
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            b"select table_name from information_schema.tables "
            b"where table_schema = 'agentops' and table_type = 'BASE TABLE'"
        ).fetchall()
        for (table,) in tables:
            every = f"select t::text from agentops.{table} t"  # noqa: S608 - our own tables
            rows = connection.execute(every.encode()).fetchall()
            for (row,) in rows:
                assert "my secret words" not in row, table
                assert CUSTOMER[1:] not in row, table
        left = connection.execute(b"select message_id, state, payload from agentops.inbox order by id").fetchall()
        assert left[0] == ("wamid.secret", "done", {})

    async def come_again() -> None:
        async with chat_stack(database_url) as stack:
            await deliver(stack, MESSAGE)
            assert "ai.whatsapp.message.duplicate" in recorded(stack).names

    asyncio.run(come_again())

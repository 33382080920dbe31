"""`agentops inbox`: what was given up can be seen, repeated and ended; no word of a customer without --reveal."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import psycopg
import pytest

from agentops.settings import CHAT
from agentops.store import conversations, inbox
from tests.commands.line import typed
from tests.fakes.chat import chat_stack, settled, states, until, working
from tests.fakes.providers import Providers, serving
from tests.fakes.whatsapp import CUSTOMER, deliver, text

SECRET_WORDS = "my secret words"


@pytest.fixture(autouse=True)
def _target(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)


@pytest.fixture
def _letters(database_url: str) -> None:
    """Message 1 is dead with a reply that was not sent, 2 waits, 3 is dead without a reply."""

    async def prepare() -> None:
        async with chat_stack(database_url) as stack:
            await deliver(stack, text(SECRET_WORDS))
            await deliver(stack, text("two"), text("three", "+250788000003"))
            for job in await inbox.claim(stack.database, str(uuid.uuid4()), 2):
                await inbox.begin(stack.database, job.lease, job.messages[:1], CHAT)
                await inbox.finish(stack.database, job.lease, job.messages[:1], "dead", "OpenAI failed (503)")
                await conversations.release(stack.database, job.lease)
            await stack.database.query(
                "insert into agentops.outbox (conversation_id, inbox_id, correlation_id, body, state, error) "
                "values (1, 1, 'corr-1', 'as decided', 'failed', 'x')"
            )

    asyncio.run(prepare())


def audited(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        found = connection.execute(b"select action, subject, actor from agentops.audit where action like 'inbox.%%'")
        return found.fetchall()


@pytest.mark.usefixtures("_letters")
def test_the_list_masks_customers_and_says_no_word_of_them() -> None:
    listed = typed("inbox", "list", "--json")
    assert listed.code == 0
    assert [(each["id"], each["state"]) for each in listed.json] == [(3, "dead"), (2, "queued"), (1, "dead")]
    assert {each["customer"] for each in listed.json} == {"+2507***001", "+2507***003"}
    assert [each["id"] for each in typed("inbox", "list", "--state", "dead", "--limit", "1", "--json").json] == [3]
    for words in (("inbox", "list"), ("inbox", "show", "1"), ("inbox", "show", "1", "--json")):
        done = typed(*words)
        assert done.code == 0
        assert SECRET_WORDS not in done.out
        assert CUSTOMER[1:] not in done.out
    assert typed("inbox", "show", "99").code == 5


@pytest.mark.usefixtures("_letters")
def test_what_a_customer_wrote_is_revealed_and_that_is_audited(database_url: str) -> None:
    shown = typed("inbox", "show", "1", "--reveal", "--json").json
    assert (shown["said"], shown["reply"], shown["error"]) == (SECRET_WORDS, "failed", "OpenAI failed (503)")
    assert shown["customer"] == CUSTOMER
    assert audited(database_url) == [("inbox.reveal", "1", "tester@here")]
    revealed = typed("inbox", "show", "1", "--reveal")
    assert f"said\t{SECRET_WORDS}\n" in revealed.out
    assert f"customer\t{CUSTOMER}\n" in revealed.out
    assert revealed.err == ""
    assert typed("inbox", "show", "1").err == "note: --reveal shows phones, texts and codes in full, and is audited\n"


@pytest.mark.usefixtures("_letters")
def test_a_dead_message_that_is_retried_gets_its_reply(database_url: str) -> None:
    assert typed("inbox", "retry", "1", "--check").code == 3
    again = typed("inbox", "retry", "1", "2", "--json")
    assert [(each["id"], each["status"], each["changed"]) for each in again.json] == [
        (1, "queued", True),
        (2, "unchanged", False),
    ]
    assert typed("inbox", "retry", "1", "--check").code == 0
    assert audited(database_url) == [("inbox.retry", "1", "tester@here")]

    async def work(providers: Providers) -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await until(lambda: settled(stack), 20)
            assert await states(stack) == ["done", "done", "dead"]
            assert providers.texts[0] == "as decided"

    with serving(Providers()) as providers:
        asyncio.run(work(providers))


@pytest.mark.usefixtures("_letters")
def test_discarding_asks_and_leaves_alone_what_a_worker_has(database_url: str) -> None:
    refused = typed("inbox", "discard", "3")
    assert refused.code == 6
    assert "discard unanswered" in refused.err
    assert typed("inbox", "discard", "3", "--check").code == 3
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            b"update agentops.conversations set lease_owner = gen_random_uuid(), "
            b"lease_until = now() + interval '1 min' where id = 1"
        )
    done = typed("inbox", "discard", "2", "3", "99", "--yes", "--json")
    assert done.code == 10
    assert [each["status"] for each in done.json] == ["working", "skipped", "absent"]
    assert typed("inbox", "discard", "3", "--yes", "--json").json[0]["changed"] is False
    assert typed("inbox", "discard", "99", "--yes").code == 5
    assert audited(database_url) == [("inbox.discard", "3", "tester@here")]

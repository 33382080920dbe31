"""`agentops outbox`: lists without texts, shows them on the record, and believes an operator's word."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agentops.server import reconcile
from tests.commands.line import typed
from tests.fakes.chat import chat_stack, settled, states, until, working
from tests.fakes.whatsapp import CUSTOMER, deliver, text

if TYPE_CHECKING:
    from tests.fakes.providers import Providers

FIELDS = [
    "id", "state", "customer", "correlation_id", "characters", "code", "error", "created_at", "sending_since",
    "sent_at",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _target(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)


def lose_an_answer(database_url: str, providers: Providers, *words: str) -> None:
    """One reply that has arrived, and of which nobody knows it."""
    providers.lost = 1

    async def main() -> None:
        async with chat_stack(database_url, providers) as stack:
            async with working(stack, burst_seconds=1.0):
                await deliver(stack, *(text(each) for each in words or ["my secret"]))
                await until(lambda: settled(stack), 30)
            await stack.database.query("update agentops.outbox set sending_since = now() - interval '1 hour'")
            await reconcile.look(stack)

    asyncio.run(main())


def work_on(database_url: str, providers: Providers, replies: int) -> None:
    async def main() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await until(lambda: settled(stack), 30)
            await until(lambda: len(providers.sent) == replies, 30)

    asyncio.run(main())


def test_an_uncertain_reply_is_listed_shown_and_named_in_health(database_url: str, providers: Providers) -> None:
    lose_an_answer(database_url, providers)
    listed = typed("outbox", "list", "--state", "uncertain", "--json")
    assert listed.code == 0, listed.err
    (found,) = listed.json
    assert list(found) == FIELDS
    assert (found["state"], found["customer"]) == ("uncertain", "+2507***001")
    assert typed("outbox", "list", "--state", "sent", "--json").json == []
    shown = typed("outbox", "show", found["id"], "--json")
    assert (shown.code, shown.json["body"]) == (0, None)
    assert "secret" not in shown.out
    assert CUSTOMER not in shown.out
    assert shown.err == "note: --reveal shows phones, texts and codes in full, and is audited\n"
    revealed = typed("outbox", "show", found["id"], "--reveal", "--json")
    assert (revealed.json["body"], revealed.json["customer"], revealed.err) == ("You said my secret.", CUSTOMER, "")
    assert typed("outbox", "show", "no-such-id").code == 5
    checks = {check["name"]: check for check in typed("health", "--json").json}
    assert (checks["replies"]["status"], checks["sending"]["status"]) == ("degraded", "ok")
    assert "outbox list --state uncertain" in checks["replies"]["hint"]

    async def audited() -> list[str]:
        async with chat_stack(database_url) as stack:
            rows = await stack.database.query("select action from agentops.audit where actor = 'tester@here'")
            return [row["action"] for row in rows]

    assert asyncio.run(audited()) == ["outbox.reveal"]


@pytest.mark.parametrize("word", ["sent", "failed"])
def test_an_operators_word_settles_it_and_closes_the_incident(
    database_url: str, providers: Providers, word: str
) -> None:
    lose_an_answer(database_url, providers)
    (found,) = typed("outbox", "list", "--json").json
    assert typed("outbox", "resolve", found["id"], "--as", word, "--check").code == 3
    first = typed("outbox", "resolve", found["id"], "--as", word, "--json")
    assert (first.code, first.json["before"], first.json["state"], first.json["changed"]) == (
        0,
        "uncertain",
        word,
        True,
    )
    again = typed("outbox", "resolve", found["id"], "--as", word, "--json")
    assert (again.code, again.json["changed"]) == (0, False)
    assert [(each["kind"], each["status"]) for each in typed("incident", "list", "--json").json] == [
        ("uncertain-reply", "closed")
    ]


def test_sending_again_asks_and_is_done_once_by_the_worker(database_url: str, providers: Providers) -> None:
    lose_an_answer(database_url, providers)
    (found,) = typed("outbox", "list", "--json").json
    assert typed("outbox", "resolve", found["id"], "--as", "resend").code == 6
    # The kill switch was pressed and released in between: the operator's word is younger.
    assert typed("flags", "disable", "chat").code == 0
    assert typed("flags", "enable", "chat").code == 0
    assert typed("outbox", "resolve", found["id"], "--as", "resend", "--yes").code == 0
    work_on(database_url, providers, 2)
    assert providers.texts == ["You said my secret."] * 2
    assert len(providers.asked) == 1
    assert typed("outbox", "list", "--json").json[0]["state"] == "sent"
    assert typed("outbox", "resolve", found["id"], "--as", "resend", "--yes").code == 7


def message_states(database_url: str) -> list[str]:
    async def main() -> list[str]:
        async with chat_stack(database_url) as stack:
            return await states(stack)

    return asyncio.run(main())


def test_a_reply_to_several_messages_is_sent_again_once_and_settles_them_all(
    database_url: str, providers: Providers
) -> None:
    lose_an_answer(database_url, providers, "one", "two", "three")
    (found,) = typed("outbox", "list", "--json").json
    assert typed("outbox", "resolve", found["id"], "--as", "resend", "--yes").code == 0
    assert message_states(database_url) == ["queued"] * 3
    work_on(database_url, providers, 2)
    assert providers.texts == ["You said one\ntwo\nthree."] * 2
    assert (len(providers.asked), message_states(database_url)) == (1, ["done"] * 3)
    (sent,) = typed("outbox", "list", "--json").json
    assert (sent["id"], sent["state"]) == (found["id"], "sent")


def test_a_reply_that_meta_refused_for_good_is_sent_again_for_all_its_messages(
    database_url: str, providers: Providers
) -> None:
    providers.refusals = [131026]

    async def refused() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack, burst_seconds=1.0):
            await deliver(stack, text("one"), text("two"))
            await until(lambda: settled(stack), 30)

    asyncio.run(refused())
    assert message_states(database_url) == ["dead"] * 2
    (found,) = typed("outbox", "list", "--state", "failed", "--json").json
    assert typed("outbox", "resolve", found["id"], "--as", "resend", "--yes").code == 0
    work_on(database_url, providers, 1)
    assert (providers.texts, message_states(database_url)) == (["You said one\ntwo."], ["done"] * 2)


def test_replies_that_failed_are_named_in_health_by_their_code(database_url: str, providers: Providers) -> None:
    providers.refusals = [131047, 131026]

    async def main() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await deliver(stack, text("one"), text("two"))
            await until(lambda: settled(stack), 30)

    asyncio.run(main())
    check = {check["name"]: check for check in typed("health", "--json").json}["replies"]
    assert check["status"] == "degraded"
    assert "code 131047: the customer wrote more than 24 hours ago" in check["finding"]
    assert "code 131026" in check["finding"]
    assert check["hint"] == "agentops outbox list --state failed"


def test_a_stopped_number_is_named_in_health_with_the_fix(database_url: str, providers: Providers) -> None:
    providers.refusals = [190]

    async def main() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await deliver(stack, text("one"))
            blocked = "select 1 from agentops.pacing"
            await until(lambda: stack.database.query(blocked), 30)

    asyncio.run(main())
    checks = {check["name"]: check for check in typed("health", "--json").json}
    assert checks["sending"]["status"] == "degraded"
    assert "106540352242922" in checks["sending"]["finding"]
    assert "code 190" in checks["sending"]["finding"]
    assert "agentops secrets set WA_TOKEN" in checks["sending"]["hint"]

"""Every update of a delivery is taken, whatever its shape; a customer is followed by their pseudonym, phone or not."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agentops.agent import pseudonyms
from agentops.agent.instructions import ASK_CONTACT
from agentops.errors import AgentOpsError
from agentops.functions import ai_whatsapp_webhook
from agentops.store import inbox
from tests.fakes.chat import chat_stack, settled, states, until, working
from tests.fakes.providers import Providers, call, last, say, serving
from tests.fakes.stacks import recorded
from tests.fakes.whatsapp import CUSTOMER, deliver, payload, signed, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentops.stack import Stack


@pytest.fixture
def providers() -> Iterator[Providers]:
    with serving(Providers()) as found:
        yield found


async def taken(stack: Stack, content: Any) -> None:
    answer = await ai_whatsapp_webhook.handle(signed(content), stack)
    assert (answer.status, json.loads(answer.body)) == (200, {"received": True})


async def kinds(stack: Stack) -> list[tuple[str, str]]:
    rows = await stack.database.query("select kind, state from agentops.inbox order by id")
    return [(row["kind"], row["state"]) for row in rows]


def test_what_is_not_understood_is_stored_once_logged_and_never_queued(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            change = {"field": "account_update", "value": {"event": "ACCOUNT_VIOLATION"}}
            echo = {"field": "smb_message_echoes", "value": {"message_echoes": [{"id": "wamid.e", "type": "text"}]}}
            content = payload(text("hello"), errors=[{"code": 130429}])
            content["entry"][0]["changes"] += [change, echo, 7]
            for _ in range(2):
                await taken(stack, content)
            assert sorted(await kinds(stack)) == [
                ("echo", "skipped"),
                ("other", "skipped"),
                ("other", "skipped"),
                ("other", "skipped"),
                ("text", "queued"),
            ]
            received = [event for event in recorded(stack).events if event.event == "ai.whatsapp.webhook.received"]
            assert [event.data["messages"] for event in received] == [1, 0]
            assert received[0].data["others"] == ["account_update", "echo", "errors", "unreadable"]
            assert recorded(stack).names.count("ai.whatsapp.message.duplicate") == 1

    asyncio.run(check())


def test_a_status_is_stored_once_by_message_and_status(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            both = [{"id": "wamid.x", "status": status, "timestamp": "1"} for status in ("sent", "delivered")]
            await asyncio.gather(*(taken(stack, payload(statuses=both)) for _ in range(5)))
            rows = await stack.database.query("select wamid, status from agentops.statuses order by status")
            assert [(row["wamid"], row["status"]) for row in rows] == [("wamid.x", "delivered"), ("wamid.x", "sent")]
            assert await states(stack) == []

    asyncio.run(check())


ODD: list[dict[str, Any]] = [
    {"id": "w" * 100_000},
    {"id": "wamid.1", "timestamp": 10**400},
    {"id": "wamid.2", "x" * 10_000: "\x00\ud800"},
    {"id": "wamid.3", "from": "9" * 400},
    {"id": "wamid.4", "from_user_id": "RW." + "x" * 100_000},
    {"id": "", "type": "T" * 100},
]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_one_odd_message_never_fails_its_batch(database_url: str, odd: dict[str, Any]) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            await taken(stack, payload(text("one"), odd, text("two")))
            assert [kind for kind, state in await kinds(stack) if state == "queued"].count("text") == 2
            assert len(await states(stack)) == 3

    asyncio.run(check())


def test_a_message_that_the_database_refuses_is_kept_bare_and_the_others_whole(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = inbox.receive

    async def refusing(queries: Any, slug: str, correlation_id: str, flag: str, batch: Any) -> inbox.Received:
        if any(message.payload.get("text") == {"body": "poison"} for message in batch):
            raise AgentOpsError("PostgreSQL refused: something")
        return await receive(queries, slug, correlation_id, flag, batch)

    async def check() -> None:
        async with chat_stack(database_url) as stack:
            monkeypatch.setattr(inbox, "receive", refusing)
            await taken(stack, payload(text("one"), text("poison"), text("two")))
            assert await kinds(stack) == [("text", "queued"), ("other", "skipped"), ("text", "queued")]

    asyncio.run(check())


def test_a_thousand_messages_of_one_delivery_are_taken_in_time(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            messages = [text("x" * 2000, f"+25078{number % 300:07d}") for number in range(1000)]
            request = signed(payload(*messages))
            assert len(request.body) > 2_000_000
            begun = time.monotonic()
            assert (await ai_whatsapp_webhook.handle(request, stack)).status == 200
            took = time.monotonic() - begun
            assert await states(stack) == ["queued"] * 1000
            assert took < 3, f"{took:.2f} s"

    asyncio.run(check())


def test_one_customer_is_followed_from_webhook_to_reply_by_their_pseudonym(
    database_url: str, providers: Providers
) -> None:
    providers.think = lambda body: say("Done.") if last(body).startswith("{") else call(("lookup_customer", "{}"))

    async def check() -> None:
        async with chat_stack(database_url, providers) as plain:
            stack = replace(plain, pseudonym_key=b"a key")
            message = text("who am I?")
            async with working(stack):
                await deliver(stack, message)
                await until(lambda: settled(stack))
            who = pseudonyms.customer(stack, CUSTOMER)
            followed = {event.event for event in recorded(stack).events if event.data.get("customer") == who}
            assert followed >= {
                "ai.whatsapp.webhook.received",
                "ai.whatsapp.message.processing",
                "ai.process.start",
                "ai.tool.lookup_customer.start",
                "ai.tool.lookup_customer.success",
                "ai.process.success",
                "ai.whatsapp.send.start",
                "ai.whatsapp.send.success",
                "ai.whatsapp.message.success",
            }
            named = {
                event.event
                for event in recorded(stack).events
                if event.data.get("message") == pseudonyms.message(stack, message["id"])
            }
            assert named == {"ai.whatsapp.webhook.received", "ai.whatsapp.message.processing"}

    asyncio.run(check())


def nameless(kind: str = "text", **content: Any) -> dict[str, Any]:
    """A message of a customer whose phone Meta does not tell."""
    number = f"{time.time_ns()}"
    now = str(int(time.time()))
    return {"from_user_id": "RW.13491", "id": f"wamid.{number}", "timestamp": now, "type": kind, **content}


def test_a_customer_without_a_phone_is_answered_by_user_id_and_asked_to_share_the_number_for_tools(
    database_url: str, providers: Providers
) -> None:
    providers.think = lambda body: (
        say("Here you are.")
        if last(body).startswith("{")
        else say("Muraho!")
        if last(body) == "hello"
        else call(("lookup_customer", "{}"))
    )

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            async with working(stack):
                for body in ("hello", "who am I? I am +250788000001"):
                    await deliver(stack, nameless(text={"body": body}))
                    await until(lambda: settled(stack))
                assert providers.texts == ["Muraho!", ASK_CONTACT]
                assert [each["recipient"] for each in providers.sent] == ["RW.13491"] * 2
                assert providers.sent[1]["interactive"]["type"] == "request_contact_info"
                assert "ai.tool.lookup_customer.start" not in recorded(stack).names
                phones = [{"phone": "+250 788 000 001", "wa_id": "250788000001"}]
                await deliver(stack, nameless("contacts", contacts=[{"origin": "contact_request", "phones": phones}]))
                await until(lambda: settled(stack))
            assert providers.texts[2] == "Here you are."
            assert providers.sent[2]["to"] == CUSTOMER
            assert "ai.tool.lookup_customer.success" in recorded(stack).names
            lanes = await stack.database.query("select lane, customer from agentops.conversations")
            assert lanes == [{"lane": "106540352242922:RW.13491", "customer": CUSTOMER}]

    asyncio.run(check())

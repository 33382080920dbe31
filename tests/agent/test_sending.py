from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agentops.clients.graph_codes import Action, action
from agentops.functions import ai_whatsapp_webhook
from agentops.server import reconcile
from agentops.store import conversations, outbox, pacing
from tests.fakes.chat import chat_stack, leased, settled, states, until, working
from tests.fakes.stacks import recorded
from tests.fakes.whatsapp import deliver, payload, signed, text

if TYPE_CHECKING:
    from agentops.stack import Stack
    from tests.fakes.providers import Providers

OTHER = "+250788000002"
NUMBER = "106540352242922"


async def converse(stack: Stack, *messages: dict[str, Any]) -> None:
    async with working(stack):
        await deliver(stack, *messages)
        await until(lambda: settled(stack), 30)


async def replies(stack: Stack) -> list[dict[str, Any]]:
    return await stack.database.query(
        "select id::text, state, body, wamid, error, code from agentops.outbox order by created_at"
    )


async def told(stack: Stack, state: str, outbox_id: str, **more: Any) -> None:
    status = {"id": f"wamid.of-{outbox_id[:8]}", "status": state, "biz_opaque_callback_data": outbox_id, **more}
    await ai_whatsapp_webhook.handle(signed(payload(statuses=[status])), stack)


async def incidents(stack: Stack) -> list[dict[str, Any]]:
    return await stack.database.query(
        "select status, detail from agentops.incidents where kind = 'uncertain-reply' order by id"
    )


async def overdue(stack: Stack) -> None:
    await stack.database.query("update agentops.outbox set sending_since = now() - interval '11 minutes'")
    await reconcile.look(stack)


async def waiting(stack: Stack, count: int) -> None:
    rows = "select count(*) as n from agentops.outbox where state = 'pending'"

    async def there() -> bool:
        return bool((await stack.database.query(rows))[0]["n"] == count)

    await until(there, 30)


async def let_go(stack: Stack, count: int) -> bool:
    rows = "select count(*) as n from agentops.conversations where lease_until is null and due_at > now()"
    return bool((await stack.database.query(rows))[0]["n"] == count)


def test_a_send_without_an_answer_waits_for_its_status_and_the_next_message_goes_on(
    database_url: str, providers: Providers
) -> None:
    providers.lost = 1

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await converse(stack, text("one"), text("two"))
            assert providers.texts == ["You said one.", "You said two."]
            first, second = await replies(stack)
            assert (first["state"], second["state"], await states(stack)) == ("sending", "sent", ["done", "done"])
            await reconcile.look(stack)
            assert (await replies(stack))[0]["state"] == "sending", "ten minutes have not passed"
            for state, expected in (("delivered", "delivered"), ("sent", "delivered"), ("failed", "delivered")):
                await told(stack, state, first["id"])
                assert (await replies(stack))[0]["state"] == expected
            await overdue(stack)
            assert await incidents(stack) == []

    asyncio.run(check())


def test_a_reply_that_its_worker_was_sending_when_it_died_is_never_sent_again(
    database_url: str, providers: Providers
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            lease, message = await leased(stack)
            async with stack.database.transaction() as transaction:
                outbox_id = await outbox.put(transaction, lease, message, "hi")
            taken = await outbox.sending(stack.database, lease, outbox_id, "FEATURE_AGENT_CHAT")
            assert taken.taken
            await conversations.release(stack.database, lease)
            async with working(stack):
                await until(lambda: settled(stack), 30)
            assert (providers.sent, await states(stack)) == ([], ["done"])
            assert (await replies(stack))[0]["state"] == "sending"

    asyncio.run(check())


def test_after_ten_minutes_it_is_uncertain_in_one_incident_and_a_late_status_still_settles_it(
    database_url: str, providers: Providers
) -> None:
    providers.lost = 2

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await converse(stack, text("one"))
            await overdue(stack)
            await converse(stack, text("two", OTHER))
            await overdue(stack)
            await overdue(stack)
            ids = [reply["id"] for reply in await replies(stack)]
            assert [reply["state"] for reply in await replies(stack)] == ["uncertain", "uncertain"]
            assert await incidents(stack) == [{"status": "open", "detail": {"outbox": ids}}]
            assert recorded(stack).names.count("ai.whatsapp.send.uncertain") == 2
            await told(stack, "read", ids[0])
            await reconcile.look(stack)
            assert await incidents(stack) == [{"status": "open", "detail": {"outbox": ids[1:], "settled": ids[:1]}}]
            await told(stack, "failed", ids[1], errors=[{"code": 131026, "title": "undeliverable"}])
            await reconcile.look(stack)
            assert await incidents(stack) == [{"status": "closed", "detail": {"outbox": [], "settled": ids}}]
            found = await replies(stack)
            assert [(reply["state"], reply["code"]) for reply in found] == [("read", None), ("failed", 131026)]
            trail = await stack.database.query(
                "select action, subject from agentops.audit where action like 'reply.%%'"
            )
            assert {(row["action"], row["subject"]) for row in trail} == {
                (action, each) for each in ids for action in ("reply.uncertain", "reply.settled")
            }
            assert len(providers.sent) == 2, "never again"

    asyncio.run(check())


def test_a_reply_that_an_older_server_left_uncertain_is_taken_in_too(database_url: str, providers: Providers) -> None:
    providers.lost = 1

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await converse(stack, text("one"))
            await stack.database.query("update agentops.outbox set state = 'uncertain'")
            await reconcile.look(stack)
            assert [each["status"] for each in await incidents(stack)] == ["open"]

    asyncio.run(check())


def test_a_customers_pair_limit_delays_that_customer_only_and_costs_no_attempt(
    database_url: str, providers: Providers
) -> None:
    providers.refusals = [131056] * 3

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            async with working(stack):
                began = time.monotonic()
                await deliver(stack, text("one"))
                await until(lambda: len(providers.refusals) == 1, 30)
                # 1 s has passed; 4 s are to come.
                providers.refusals.clear()
                await deliver(stack, text("two", OTHER))
                await until(lambda: bool(providers.sent), 30)
                assert providers.texts == ["You said two."]
                await until(lambda: settled(stack), 30)
            assert time.monotonic() - began >= 5.0
            assert providers.texts == ["You said two.", "You said one."]
            rows = await stack.database.query("select attempts from agentops.inbox order by id")
            assert rows[0]["attempts"] <= 2
            strikes = await stack.database.query("select sum(send_strikes) as n from agentops.conversations")
            assert strikes[0]["n"] == 0

    asyncio.run(check())


def test_ten_replies_go_at_once_and_then_one_every_six_seconds(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            lease, message = await leased(stack)
            async with stack.database.transaction() as transaction:
                outbox_id = await outbox.put(transaction, lease, message, "hi")
            found = []
            for _ in range(12):
                found.append(await outbox.sending(stack.database, lease, outbox_id, "FEATURE_AGENT_CHAT"))
                await stack.database.query("update agentops.outbox set state = 'pending'")
            assert [each.taken for each in found] == [True] * 10 + [False] * 2
            assert all(5.0 < each.seconds <= 6.0 for each in found[10:])

    asyncio.run(check())


def test_a_rate_limit_makes_the_whole_number_wait(database_url: str, providers: Providers) -> None:
    providers.refusals = [130429]

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await deliver(stack, text("one"))
            await until(lambda: pacing.blocked(stack.database), 30)
            began = time.monotonic()
            await deliver(stack, text("two", OTHER))
            (found,) = await pacing.blocked(stack.database)
            assert (found.phone_id, found.reason, found.code, found.waiting) == (NUMBER, "rate", 130429, 1)
            await until(lambda: len(providers.sent) == 1, 30)
            assert time.monotonic() - began > 3.0
            await until(lambda: settled(stack), 30)
            assert await pacing.blocked(stack.database) == []
            assert sorted(providers.texts) == ["You said one.", "You said two."]

    asyncio.run(check())


@pytest.mark.parametrize(("code", "reason"), [(190, "token"), (368, "policy"), (131031, "policy")])
def test_a_refused_token_or_account_stops_the_number_until_the_settings_change(
    database_url: str, providers: Providers, code: int, reason: str
) -> None:
    providers.refusals = [code]

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            current = replace(
                stack, generation=(await stack.database.query("select n from agentops.generation"))[0]["n"]
            )
            async with working(current):
                await deliver(current, text("one"))
                await until(lambda: pacing.blocked(stack.database), 30)
                await deliver(current, text("two", OTHER))
                await waiting(current, 2)
                await until(lambda: let_go(current, 2), 30)
                await reconcile.look(current)
                assert providers.sent == []
                (found,) = await pacing.blocked(current.database)
                assert (found.reason, found.code, found.waiting) == (reason, code, 2)
                assert "WA_TOKEN" in recorded(stack).text or reason == "policy"
                # The operator sets another token: every settings change counts the generation up.
                await stack.database.query("update agentops.generation set n = n + 1")
                await reconcile.look(current)
                await until(lambda: settled(current), 30)
            assert sorted(providers.texts) == ["You said one.", "You said two."]
            assert await pacing.blocked(stack.database) == []

    asyncio.run(check())


def test_without_a_token_replies_wait_and_nothing_is_given_up(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers, WA_TOKEN="") as stack, working(stack):
            await deliver(stack, text("one"))
            await until(lambda: pacing.blocked(stack.database), 30)
            (found,) = await pacing.blocked(stack.database)
            assert (found.reason, await states(stack)) == ("token", ["queued"])

    asyncio.run(check())


def test_a_closed_window_drops_the_reply_honestly_and_a_refusal_for_good_is_dead(
    database_url: str, providers: Providers
) -> None:
    providers.refusals = [131047, 131026]

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await converse(stack, text("one"), text("two"), text("three"))
            assert await states(stack) == ["done", "dead", "done"]
            found = [(reply["state"], reply["code"]) for reply in await replies(stack)]
            assert found == [("failed", 131047), ("failed", 131026), ("sent", None)]
            assert recorded(stack).names.count("ai.whatsapp.send.error") == 2
            assert providers.texts == ["You said three."]

    asyncio.run(check())


def test_metas_own_trouble_is_tried_again_and_one_day_given_up(database_url: str, providers: Providers) -> None:
    providers.refusals = [131016]

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await converse(stack, text("one"))
            assert (len(providers.asked), providers.texts) == (1, ["You said one."])
            await stack.database.query("update agentops.conversations set send_strikes = 7")
            providers.refusals = [131000]
            await converse(stack, text("two"))
            assert await states(stack) == ["done", "dead"]

    asyncio.run(check())


def test_a_failed_status_does_not_end_a_reply_that_waits_to_be_tried_again(
    database_url: str, providers: Providers
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            lease, message = await leased(stack)
            async with stack.database.transaction() as transaction:
                outbox_id = await outbox.put(transaction, lease, message, "hi")
            await told(stack, "failed", outbox_id)
            assert (await replies(stack))[0]["state"] == "pending"
            await told(stack, "sent", outbox_id)
            await conversations.release(stack.database, lease)
            async with working(stack):
                await until(lambda: settled(stack), 30)
            assert providers.sent == [], "the status says that it has arrived"

    asyncio.run(check())


def test_every_code_has_its_action() -> None:
    expected = {
        Action.TOKEN: (0, 190, 10, 250, 131005),
        Action.POLICY: (368, 131031, 131042, 131048),
        Action.RATE: (4, 80007, 130429),
        Action.PAIR: (131056,),
        Action.TRANSIENT: (None, 1, 2, 131000, 131016),
        Action.WINDOW: (131047,),
        Action.REFUSED: (100, 130497, 131026, 131049, 132001, 999999),
    }
    assert {
        found: tuple(code for code in codes if action(code) is found) for found, codes in expected.items()
    } == expected

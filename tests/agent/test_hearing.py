"""What Meta tells of a reply after it has accepted it does what the same code does as an answer."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agentops.functions import ai_whatsapp_webhook
from agentops.server import reconcile
from agentops.settings import CHAT
from agentops.store import conversations, inbox, outbox, pacing, statuses
from tests.fakes.chat import chat_stack, leased, settled, states, until, working
from tests.fakes.stacks import recorded
from tests.fakes.whatsapp import deliver, payload, signed, text

if TYPE_CHECKING:
    from agentops.stack import Stack
    from tests.fakes.providers import Providers

OTHER = "+250788000002"
NUMBER = "106540352242922"
# Conversations that wait, and that no worker holds.
LET_GO = "select count(*) as n from agentops.conversations where lease_until is null and due_at > now()"


async def converse(stack: Stack, *messages: dict[str, Any]) -> None:
    async with working(stack):
        if messages:
            await deliver(stack, *messages)
        await until(lambda: settled(stack), 30)


async def replies(stack: Stack) -> list[dict[str, Any]]:
    return await stack.database.query(
        "select id::text, state, body, wamid, code, tries from agentops.outbox order by created_at"
    )


async def tell(stack: Stack, reply: dict[str, Any], state: str, code: int | None = None, **more: Any) -> None:
    """One status webhook of this reply, by its id at Meta and ours."""
    errors = {} if code is None else {"errors": [{"code": code, "title": "scripted"}]}
    status = {"id": reply["wamid"], "status": state, "biz_opaque_callback_data": reply["id"], **errors, **more}
    answer = await ai_whatsapp_webhook.handle(signed(payload(statuses=[status])), stack)
    assert answer.status == 200


async def put(stack: Stack, lease: conversations.Lease, message: inbox.Message) -> str:
    async with stack.database.transaction() as transaction:
        return await outbox.put(transaction, lease, message, "hi")


async def at_once(stack: Stack) -> None:
    """Let every customer's pace and every wait be over."""
    await stack.database.query("update agentops.conversations set next_send_at = null, due_at = now()")


@pytest.mark.parametrize("code", [131056, 131000])
def test_a_customer_whose_reply_failed_for_now_waits_and_gets_it_and_nobody_else_waits(
    database_url: str, providers: Providers, code: int
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await converse(stack, text("one"))
            (reply,) = await replies(stack)
            await tell(stack, reply, "failed", code)
            assert await states(stack) == ["queued"]
            (waiting,) = await replies(stack)
            assert (waiting["state"], waiting["wamid"], waiting["code"]) == ("pending", None, code)
            # One second at first, four times as long each time.
            assert '"retry_in_ms":1000' in recorded(stack).text.replace(" ", "")
            lane = (
                "select extract(epoch from next_send_at - now()) - %(burst)s::int as ahead from agentops.conversations"
            )
            (paced,) = await stack.database.query(lane, {"burst": 54})
            assert -30.0 < paced["ahead"] <= 1.0
            await stack.database.query("update agentops.conversations set due_at = now() + interval '1 hour'")
            async with working(stack):
                await deliver(stack, text("two", OTHER))
                await until(lambda: len(providers.sent) == 2, 30)
                assert providers.texts[1] == "You said two."
                await at_once(stack)
                await until(lambda: settled(stack), 30)
            assert providers.texts == ["You said one.", "You said two.", "You said one."]
            assert len(providers.asked) == 2, "the reply was kept, the model not asked again"
            assert [each["state"] for each in await replies(stack)] == ["sent", "sent"]
            assert await pacing.blocked(stack.database) == []
            assert f'"code":{code}' in recorded(stack).text.replace(" ", "")

    asyncio.run(check())


def test_a_failure_that_is_told_many_times_at_once_is_one_and_never_of_a_later_try(
    database_url: str, providers: Providers
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await converse(stack, text("one"))
            (first,) = await replies(stack)
            await asyncio.gather(*(tell(stack, first, "failed", 131056) for _ in range(20)))
            await at_once(stack)
            await converse(stack)
            (second,) = await replies(stack)
            assert (second["state"], second["tries"], len(providers.sent)) == ("sent", 2, 2)
            # Meta tells it again, for days; and that it had sent it on, late.
            for state, code in (("failed", 131056), ("sent", None), ("failed", 131026)):
                await tell(stack, first, state, code)
            assert await replies(stack) == [second]
            # But an arrival is one, of whichever try: the customer has it.
            await tell(stack, first, "delivered")
            assert (await replies(stack))[0]["state"] == "delivered"
            assert await states(stack) == ["done"]

    asyncio.run(check())


def test_forgetting_which_try_failed_would_send_it_for_every_time_that_it_is_told(
    database_url: str, providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = statuses._SQL["failures"]
    for guard in ("not told.wamid = any(o.refused) and coalesce(o.wamid = told.wamid, true)",
                  "not heard.wamid = any(o.refused) and coalesce(o.wamid = heard.wamid, true)",
                  "and (o.wamid = told.wamid or o.wamid is null and o.tries <= 1)"):  # fmt: skip
        assert guard in statement
        statement = statement.replace(guard, "" if guard.startswith("and") else "true")
    monkeypatch.setattr(statuses, "_SQL", {**statuses._SQL, "failures": statement})

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await converse(stack, text("one"))
            (first,) = await replies(stack)
            for _ in range(2):
                await tell(stack, first, "failed", 131056)
                await at_once(stack)
                await converse(stack)
            assert len(providers.sent) == 3

    asyncio.run(check())


@pytest.mark.parametrize(("told", "state"), [(["sent"], "sent"), (["failed", "sent"], "failed")])
def test_a_late_status_corrects_an_operators_word_and_never_sends_again(
    database_url: str, providers: Providers, told: list[str], state: str
) -> None:
    providers.lost = 1

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await converse(stack, text("one"))
            await stack.database.query("update agentops.outbox set sending_since = now() - interval '11 minutes'")
            await reconcile.look(stack)
            (reply,) = await replies(stack)
            assert await outbox.resolve(stack.database, reply["id"], "failed", among=["uncertain"], actor="me")
            for each in told:
                await tell(stack, {**reply, "wamid": "wamid.lost"}, each, 131056 if each == "failed" else None)
            assert ((await replies(stack))[0]["state"], await states(stack)) == (state, ["done"])

    asyncio.run(check())


def test_a_reply_that_arrived_after_all_is_not_sent_again(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await converse(stack, text("one"))
            (reply,) = await replies(stack)
            await tell(stack, reply, "failed", 131000)
            await tell(stack, reply, "sent")
            assert (await replies(stack))[0]["state"] == "pending", "`sent` comes late and says nothing of the failure"
            await tell(stack, reply, "delivered")
            await at_once(stack)
            await converse(stack)
            assert (await replies(stack))[0]["state"] == "delivered"
            assert len(providers.sent) == 1

    asyncio.run(check())


def test_a_failure_that_is_told_before_the_answer_comes_keeps_the_reply_waiting(
    database_url: str, providers: Providers
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            lease, message = await leased(stack, OTHER)
            outbox_id = await put(stack, lease, message)
            assert (await outbox.sending(stack.database, lease, outbox_id, CHAT)).taken
            reply = {"id": outbox_id, "wamid": "wamid.first"}
            await tell(stack, reply, "failed", 131056)
            await outbox.settle(stack.database, lease, outbox_id, "sent", "done", wamid="wamid.first")
            assert ((await replies(stack))[0]["state"], await states(stack)) == ("pending", ["queued"])
            await at_once(stack)
            await conversations.release(stack.database, lease)
            await converse(stack)
            assert len(providers.sent) == 1

            # In a second try nobody knows of which try an unknown failure is: it is not sent a third time by itself.
            await tell(stack, (await replies(stack))[0], "failed", 131056)
            await at_once(stack)
            (job,) = await inbox.claim(stack.database, str(uuid.uuid4()), 1)
            assert (await outbox.sending(stack.database, job.lease, outbox_id, CHAT)).taken
            await tell(stack, {"id": outbox_id, "wamid": "wamid.of-any-try"}, "failed", 131056)
            assert (await replies(stack))[0]["state"] == "failed"

    asyncio.run(check())


def test_a_rate_told_late_stops_the_number_until_a_status_proves_that_it_sends(
    database_url: str, providers: Providers
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await converse(stack, text("one"))
            (reply,) = await replies(stack)
            await tell(stack, reply, "failed", 130429)
            (found,) = await pacing.blocked(stack.database)
            assert (found.phone_id, found.reason, found.code, found.waiting) == (NUMBER, "rate", 130429, 1)
            async with working(stack):
                await deliver(stack, text("two", OTHER))
                await until(lambda: len(providers.sent) == 2, 30)
                # Meta accepts, as it did before: that is no proof, and the others go on waiting.
                waiting = "select count(*) as n from agentops.outbox where state = 'pending'"
                await until(lambda: has(stack, waiting, 1), 30)
                assert [each.reason for each in await pacing.blocked(stack.database)] == ["rate"]
                await until(lambda: has(stack, "select count(*) as n from agentops.outbox where state = 'sent'", 1), 30)
                (probe,) = [each for each in await replies(stack) if each["state"] == "sent"]
                await tell(stack, probe, "sent")
                assert await pacing.blocked(stack.database) == []
                await until(lambda: settled(stack), 40)
            assert sorted(providers.texts) == ["You said one.", "You said one.", "You said two."]
            assert "ai.whatsapp.send.unblocked" in recorded(stack).names

    asyncio.run(check())


async def has(stack: Stack, query: str, count: int) -> bool:
    return bool((await stack.database.query(query))[0]["n"] == count)


@pytest.mark.parametrize(("code", "reason"), [(190, "token"), (368, "policy")])
def test_a_token_or_account_refused_late_stops_the_number_until_the_settings_change(
    database_url: str, providers: Providers, code: int, reason: str
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            generation = (await stack.database.query("select n from agentops.generation"))[0]["n"]
            current = replace(stack, generation=generation)
            await converse(current, text("one"))
            (reply,) = await replies(stack)
            await tell(current, reply, "failed", code)
            (found,) = await pacing.blocked(stack.database)
            assert (found.reason, found.code, found.waiting) == (reason, code, 1)
            async with working(current):
                await deliver(current, text("two", OTHER))
                await until(lambda: has(stack, LET_GO, 2), 30)
                await reconcile.look(current)
                assert len(providers.sent) == 1
                await stack.database.query("update agentops.generation set n = n + 1")
                await reconcile.look(current)
                await until(lambda: settled(stack), 30)
            assert sorted(providers.texts) == ["You said one.", "You said one.", "You said two."]

            # Of a message that was sent before the settings changed: it does not stop what is sent with the new ones.
            old = (await replies(stack))[1]
            await stack.database.query("update agentops.generation set n = n + 1")
            await tell(replace(current, generation=generation + 2), old, "failed", code)
            await reconcile.look(current)
            assert await pacing.blocked(stack.database) == []

    asyncio.run(check())


@pytest.mark.parametrize(
    ("code", "state"), [(131047, "done"), (131026, "dead"), (None, "dead")], ids=["window", "undeliverable", "no code"]
)
def test_a_reply_that_can_never_arrive_has_failed(
    database_url: str, providers: Providers, code: int | None, state: str
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await converse(stack, text("one"))
            (reply,) = await replies(stack)
            await tell(stack, reply, "failed", code)
            (failed,) = await replies(stack)
            assert (failed["state"], failed["code"], await states(stack)) == ("failed", code, [state])
            await at_once(stack)
            await converse(stack, text("two"))
            assert providers.texts == ["You said one.", "You said two."]
            await tell(stack, reply, "sent")
            assert (await replies(stack))[0]["state"] == "failed"
            await tell(stack, reply, "delivered")
            assert (await replies(stack))[0]["state"] == "delivered"

    asyncio.run(check())


def test_a_reply_that_goes_on_failing_is_given_up(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await converse(stack, text("one"))
            for tried in range(statuses.TRIES + 1):
                (reply,) = await replies(stack)
                assert (reply["state"], reply["tries"]) == ("sent", tried + 1)
                await tell(stack, reply, "failed", 131056)
                await at_once(stack)
                await converse(stack)
            assert ((await replies(stack))[0]["state"], await states(stack)) == ("failed", ["dead"])
            assert len(providers.sent) == statuses.TRIES + 1

    asyncio.run(check())


def test_what_is_told_of_somebody_elses_messages_is_only_kept(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await converse(stack, text("one"))
            before = await replies(stack)
            for foreign in ({"id": str(uuid.uuid4()), "wamid": "wamid.foreign"}, {"id": "x", "wamid": "wamid.other"}):
                await tell(stack, foreign, "failed", 190)
                await tell(stack, foreign, "delivered")
            assert (await replies(stack), await pacing.blocked(stack.database)) == (before, [])
            kept = await stack.database.query("select wamid, status from agentops.statuses order by wamid, status")
            assert [tuple(row.values()) for row in kept] == [
                (wamid, state) for wamid in ("wamid.foreign", "wamid.other") for state in ("delivered", "failed")
            ]

    asyncio.run(check())


def test_a_batch_of_many_failures_is_applied_in_one_go(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            ids = []
            for customer in range(20):
                lease, message = await leased(stack, f"+25078810{customer:04d}")
                ids.append(await put(stack, lease, message))
                await outbox.sending(stack.database, lease, ids[-1], CHAT)
                await outbox.settle(stack.database, lease, ids[-1], "sent", "done", wamid=f"wamid.{customer}")
                await conversations.release(stack.database, lease)
            told = [
                {"id": f"wamid.{n}", "status": "failed", "biz_opaque_callback_data": each, "errors": [{"code": code}]}
                for n, each in enumerate(ids)
                for code in [(131056, 130429, 368, 131026)[n % 4]]
            ]
            # The same in both orders at once, as Meta's retry to two servers: no deadlock, nothing twice.
            await asyncio.gather(
                *(
                    ai_whatsapp_webhook.handle(signed(payload(statuses=batch)), stack)
                    for batch in (told, told[::-1], told, told[::-1])
                )
            )
            found = [(each["state"], each["code"]) for each in await replies(stack)]
            assert found == [(state, code) for _ in range(5) for state, code in (
                ("pending", 131056), ("pending", 130429), ("pending", 368), ("failed", 131026)
            )]  # fmt: skip
            assert [each.reason for each in await pacing.blocked(stack.database)] == ["policy"]
            refused = await stack.database.query("select distinct cardinality(refused) as n from agentops.outbox")
            assert refused == [{"n": 1}]

    asyncio.run(check())

"""Turns as a customer sees them: bursts, resumed turns, limits, and what is too old."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from agentops.agent import whatsapp
from agentops.server import worker
from agentops.settings import CHAT
from agentops.store import conversations, history, inbox, turns
from agentops.store.conversations import LeaseLost
from tests.fakes.chat import chat_stack, settled, states, until, working
from tests.fakes.providers import Providers, call, last, say, serving
from tests.fakes.stacks import recorded
from tests.fakes.whatsapp import deliver, text

ROOT = Path(__file__).parents[2]
BURST = 0.3


@pytest.mark.parametrize(("left", "said"), [("sending", ["two"]), ("pending", ["one", "two"])])
def test_what_the_version_before_began_is_no_part_of_a_burst(
    database_url: str, providers: Providers, left: str, said: list[str]
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await deliver(stack, text("one"))
            await deliver(stack, text("two"))
            # That version knew no turns: its reply bears the message's own number.
            await stack.database.query("update agentops.inbox set attempts = 1 where id = 1")
            await stack.database.query(
                "insert into agentops.outbox (conversation_id, inbox_id, correlation_id, body, state)"
                " select conversation_id, id, correlation_id, 'You said one.', %(state)s"
                " from agentops.inbox where id = 1",
                {"state": left},
            )
            async with working(stack, burst_seconds=60):
                await until(lambda: settled(stack))
            assert providers.texts == [f"You said {word}." for word in said]

    asyncio.run(check())


def test_an_apology_after_a_tool_call_forgets_nothing_that_was_done(database_url: str, providers: Providers) -> None:
    def think(body: dict[str, Any]) -> dict[str, Any] | int:
        done = any(item.get("type") == "function_call_output" for item in body["input"])
        if not done:
            return call(("create_voucher", '{"amount": 900}'))
        return say("You have it.") if "again" in last(body) else 500

    providers.think = think

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await deliver(stack, text("a voucher of 900"))
            await until(lambda: settled(stack))
            await deliver(stack, text("again please"))
            await until(lambda: settled(stack))
            assert providers.texts == [whatsapp.APOLOGY, "You have it."]
            assert [row["n"] for row in await stack.database.query("select count(*) as n from public.vouchers")] == [1]

    asyncio.run(check())


def test_a_burst_is_answered_as_one_turn_and_a_pause_ends_it(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            async with working(stack, burst_seconds=BURST), working(stack, burst_seconds=BURST):
                for word in ("one", "two"):
                    await deliver(stack, text(word))
                    await asyncio.sleep(BURST / 3)
                await deliver(stack, text("three"))
                began = time.monotonic()
                await until(lambda: "ai.whatsapp.message.processing" in recorded(stack).names)
                assert BURST * 0.9 < time.monotonic() - began < BURST + worker.POLL_SECONDS
                await until(lambda: settled(stack))
                await deliver(stack, text("four"))
                await until(lambda: settled(stack))
            assert providers.texts == ["You said one\ntwo\nthree.", "You said four."]
            assert await states(stack) == ["done"] * 4
            rows = await stack.database.query("select inbox_id from agentops.outbox order by created_at")
            assert [row["inbox_id"] for row in rows] == [3, 4]

    asyncio.run(check())


def test_somebody_who_never_pauses_is_answered_after_the_cap(
    database_url: str, providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "BURST_CAP_SECONDS", 0.8)

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack, burst_seconds=BURST):
            began = time.monotonic()
            while not providers.asked:
                await deliver(stack, text("more"))
                await asyncio.sleep(BURST / 4)
                assert time.monotonic() - began < 3

    asyncio.run(check())


def test_a_burst_that_fails_is_tried_again_as_the_same_turn_whatever_came_meanwhile(
    database_url: str, providers: Providers
) -> None:
    providers.refusals = [131016]

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            async with working(stack, burst_seconds=BURST, wait=lambda _: BURST):
                await deliver(stack, text("one"), text("two"))
                await until(lambda: "ai.whatsapp.send.error" in recorded(stack).names)
                await deliver(stack, text("three"))
                await until(lambda: settled(stack))
            assert providers.texts == ["You said one\ntwo.", "You said three."]
            assert await states(stack) == ["done"] * 3

    asyncio.run(check())


def test_messages_that_waited_long_are_grouped_by_their_own_pauses(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await deliver(stack, text("one"), text("two"))
            await deliver(stack, text("three"))
            await stack.database.query(
                "update agentops.inbox set received_at = received_at + interval '1 min' where id = 3"
            )
            async with working(stack, burst_seconds=BURST):
                await until(lambda: settled(stack))
            assert providers.texts == ["You said one\ntwo.", "You said three."]

    asyncio.run(check())


def test_a_worker_killed_between_a_step_and_its_tool_asks_the_model_for_no_step_twice_and_acts_once(
    database_url: str,
) -> None:
    def think(body: dict[str, Any]) -> dict[str, Any]:
        asked_first = "output" not in body["input"][-1]
        return call(("create_voucher", '{"amount": 900}')) if asked_first else say(last(body))

    async def check(process: subprocess.Popen[bytes], providers: Providers) -> None:
        async with chat_stack(database_url, providers) as stack:
            # The tool waits for the money lock, which the test holds: the step is stored, nothing is done yet.
            async with stack.database.transaction() as lock:
                await lock.query("lock table public.vouchers in access exclusive mode")
                await deliver(stack, text("create voucher 900"))

                async def stored() -> bool:
                    return bool(await stack.database.query("select ordinal from agentops.turn_steps"))

                await until(stored, 20)
                process.send_signal(signal.SIGKILL)
                process.wait()
            async with working(stack):
                await until(lambda: settled(stack))
            assert len(providers.asked) == 2, "one for the step that was kept, one for what came after it"
            rows = await stack.database.query("select amount_minor from public.vouchers")
            assert rows == [{"amount_minor": 90_000}]
            assert len(providers.texts) == 1
            (row,) = await stack.database.query("select attempts from agentops.inbox")
            assert row["attempts"] >= 2
            assert await stack.database.query("select ordinal from agentops.turn_steps") == []
            kinds = [item.get("type") or item["role"] for item in await history.recent(stack.database, 1, 20)]
            assert kinds == ["user", "function_call", "function_call_output", "message"]

    with serving(Providers(think=think)) as providers:
        arguments = [sys.executable, "-m", "tests.fakes.worker_process", database_url, providers.url]
        with subprocess.Popen(arguments, cwd=ROOT, env={"PYTHONPATH": "src"}) as process:
            try:
                asyncio.run(check(process, providers))
            finally:
                process.kill()


def test_a_worker_that_lost_its_lease_keeps_no_step(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            await deliver(stack, text("hello"))
            old = (await inbox.claim(stack.database, str(uuid.uuid4()), 1, seconds=0.02))[0].lease
            await asyncio.sleep(0.05)
            new = (await inbox.claim(stack.database, str(uuid.uuid4()), 1))[0].lease
            step = turns.Step([], "hi", {}, "m")
            with pytest.raises(LeaseLost):
                await turns.record(stack.database, old, 1, 0, step)
            await turns.record(stack.database, new, 1, 0, step)
            assert [each.text for each in await turns.recorded(stack.database, 1)] == ["hi"]

    asyncio.run(check())


def test_the_past_is_cut_at_twenty_items_or_six_thousand_tokens_and_begins_with_a_question(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            await deliver(stack, text("hello"))
            output = {"type": "function_call_output", "call_id": "c", "output": "x"}
            big = {"role": "assistant", "content": "y" * history.TOKENS * history.CHARACTERS_A_TOKEN}
            question = {"role": "user", "content": "q"}
            await history.append(stack.database, 1, [question, {"type": "function_call", "call_id": "c"}, output])
            assert await history.recent(stack.database, 1, 2) == []
            await history.append(stack.database, 1, [question, output])
            assert await history.recent(stack.database, 1, 3) == [question, output]
            await history.append(stack.database, 1, [big, question])
            assert await history.recent(stack.database, 1, 20) == [question]

    asyncio.run(check())


def test_typing_is_shown_again_while_the_model_thinks(
    database_url: str, providers: Providers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whatsapp, "TYPING_SECONDS", 0.05)

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            providers.hold.clear()
            await deliver(stack, text("hello"))
            await until(lambda: len(providers.marks) >= 3)
            providers.hold.set()
            await until(lambda: settled(stack))
            seen = len(providers.marks)
            await asyncio.sleep(0.2)
            assert len(providers.marks) == seen

    asyncio.run(check())


def test_what_is_older_than_a_day_is_recorded_and_not_answered(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await deliver(stack, {**text("old"), "timestamp": str(int(time.time()) - 25 * 3600)})
            await deliver(stack, {**text("new"), "timestamp": str(int(time.time()) - 23 * 3600)})
            await until(lambda: settled(stack))
            assert (await states(stack), providers.texts) == (["skipped", "done"], ["You said new."])
            told = next(event for event in recorded(stack).events if event.event == "ai.whatsapp.message.skipped")
            assert "24 h" in str(told.data["error"])

    asyncio.run(check())


def test_over_twenty_messages_in_ten_minutes_get_one_sentence_and_no_model_call(
    database_url: str, providers: Providers
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await deliver(stack, text("0"))
            await until(lambda: settled(stack))
            await stack.database.query(
                "update agentops.conversations set messages_count = messages_count + %(n)s", {"n": inbox.MESSAGES - 2}
            )
            await deliver(stack, *(text(str(number)) for number in range(1, 5)))
            await until(lambda: settled(stack), 30)
            assert providers.texts == ["You said 0.", "You said 1.", whatsapp.TOO_MUCH]
            assert await states(stack) == ["done"] * 3 + ["skipped"] * 2
            assert recorded(stack).names.count("ai.limit.reached") == 1
            await stack.database.query("update agentops.conversations set messages_since = now() - interval '10 min'")
            await deliver(stack, text("later"))
            await until(lambda: settled(stack))
            assert providers.texts[-1] == "You said later."

    asyncio.run(check())


def test_over_ten_tool_calls_in_a_minute_the_calls_are_refused_and_then_the_messages(
    database_url: str, providers: Providers
) -> None:
    def think(body: dict[str, Any]) -> dict[str, Any]:
        outputs = sum("output" in item for item in body["input"][-7:])
        return say("done") if outputs >= 6 else call(*[("lookup_customer", "{}")] * 6)

    providers.think = think

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            for word in ("one", "two", "three", "four"):
                await deliver(stack, text(word))
                await until(lambda: settled(stack))
            names = recorded(stack).names
            assert names.count("ai.tool.lookup_customer.start") == turns.TOOL_CALLS
            assert providers.texts == ["done", "done", whatsapp.TOO_MUCH]
            assert names.count("ai.limit.reached") == 1
            refused = [item for item in providers.asked[-1]["input"] if "in this minute" in str(item.get("output"))]
            assert len(refused) == 2
            await stack.database.query("update agentops.conversations set tools_since = now() - interval '1 min'")
            await deliver(stack, text("five"))
            await until(lambda: settled(stack))
            assert names.count("ai.limit.reached") == 1
            assert providers.texts[-1] == "done"

    asyncio.run(check())


def test_the_sentence_about_too_much_is_said_also_when_its_worker_dies_before(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            await deliver(stack, text("one"), text("two"))
            await stack.database.query(
                "update agentops.conversations set messages_since = now(), messages_count = %(n)s",
                {"n": inbox.MESSAGES},
            )
            (job,) = await inbox.claim(stack.database, str(uuid.uuid4()), 1)
            lease = job.lease
            for _ in range(2):
                begun = await inbox.begin(stack.database, lease, job.messages[:1], CHAT)
                assert begun is not None
                assert (begun.over, begun.tells) == ("messages", True)
            begun = await inbox.begin(stack.database, lease, job.messages[1:], CHAT)
            assert begun is not None
            assert (begun.over, begun.tells) == ("messages", False)

    asyncio.run(check())


def test_an_open_breaker_costs_an_apology_and_no_request(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            breaker = stack.clients.openai(stack.secrets).breaker
            for _ in range(5):
                breaker.report(well=False)
            await deliver(stack, text("hello"))
            await until(lambda: settled(stack))
            assert (providers.asked, providers.texts) == ([], [whatsapp.APOLOGY])
            failed = next(event for event in recorded(stack).events if event.event == "ai.process.error")
            assert "left alone" in str(failed.data["error"])

    asyncio.run(check())


def test_a_dead_letter_is_in_one_open_incident_and_the_next_message_is_served(
    database_url: str, providers: Providers
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            for _ in range(2):
                providers.refusals = [131026]
                await deliver(stack, text("poison"))
                await until(lambda: settled(stack))
            await deliver(stack, text("fine"))
            await until(lambda: settled(stack))
            assert await states(stack) == ["dead", "dead", "done"]
            incidents = await stack.database.query("select kind, status, detail from agentops.incidents")
            assert incidents == [{"kind": "dead-letter", "status": "open", "detail": {"messages": 2}}]
            moments = await stack.database.query(
                "select detail ->> 'message' as message from agentops.audit where action = 'incident.dead-letter'"
            )
            assert [each["message"] for each in moments] == ["1", "2"]

    asyncio.run(check())

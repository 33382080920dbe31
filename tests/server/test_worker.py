from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agentops.errors import Unavailable
from agentops.server import worker
from agentops.settings import CHAT
from agentops.store import conversations, inbox, outbox
from agentops.store.conversations import LeaseLost
from tests.fakes.chat import chat_stack, context, settled, states, until, working
from tests.fakes.providers import Providers, last
from tests.fakes.stacks import recorded, set_flag
from tests.fakes.whatsapp import deliver, text

ROOT = Path(__file__).parents[2]
OTHER = "+250788000002"


def test_a_customers_quick_messages_are_answered_one_by_one_in_order(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            async with working(stack), working(stack):
                for word in ("one", "two", "three"):
                    await deliver(stack, text(word))
                await until(lambda: settled(stack))
            assert providers.texts == ["You said one.", "You said two.", "You said three."]
            # Each turn was told what had been said before it.
            assert [len(asked["input"]) for asked in providers.asked] == [1, 3, 5]

    asyncio.run(check())


def test_two_customers_are_served_side_by_side(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            providers.hold.clear()
            async with working(stack):
                await deliver(stack, text("one"), text("two"), text("three", OTHER))
                # Both wait for the model at the same time; the first customer's second message waits its turn.
                await until(lambda: len(providers.asked) == 2)
                assert {last(asked) for asked in providers.asked} == {"one", "three"}
                await asyncio.sleep(0.1)
                assert len(providers.asked) == 2
                providers.hold.set()
                await until(lambda: settled(stack))
            assert sorted(providers.texts) == ["You said one.", "You said three.", "You said two."]

    asyncio.run(check())


def test_a_worker_killed_during_the_model_call_is_taken_over_and_the_message_answered_once(
    database_url: str, providers: Providers
) -> None:
    async def check(killed: subprocess.Popen[bytes]) -> None:
        async with chat_stack(database_url, providers) as stack:
            await deliver(stack, text("hello"))
            await until(lambda: len(providers.asked) == 1, 20)
            killed.send_signal(signal.SIGKILL)
            killed.wait()
            providers.hold.set()
            async with working(stack, lease_seconds=5.0):
                await until(lambda: settled(stack))
            assert providers.texts == ["You said hello."]
            ((state, attempts),) = [
                tuple(row.values()) for row in await stack.database.query("select state, attempts from agentops.inbox")
            ]
            # On a busy machine a lease of a second may end under a worker that is only slow, and the turn begins again.
            assert (state, attempts >= 2) == ("done", True)

    providers.hold.clear()
    arguments = [sys.executable, "-m", "tests.fakes.worker_process", database_url, providers.url]
    with subprocess.Popen(arguments, cwd=ROOT, env={"PYTHONPATH": "src"}) as process:
        try:
            asyncio.run(check(process))
        finally:
            process.kill()


def test_a_worker_that_lost_its_lease_can_write_nothing(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await deliver(stack, text("hello"))
            (job,) = await inbox.claim(stack.database, str(uuid.uuid4()), 9, seconds=0.05)
            old = job.lease
            reply = await outbox.put(stack.database, old, job.messages[0], "hi")
            await asyncio.sleep(0.1)
            new = (await inbox.claim(stack.database, str(uuid.uuid4()), 9))[0].lease
            assert new.fence == old.fence + 1
            for write in (
                inbox.begin(stack.database, old, job.messages, CHAT),
                inbox.finish(stack.database, old, job.messages, "done"),
                conversations.hold(stack.database, old),
                outbox.sending(stack.database, old, reply, CHAT),
                outbox.settle(stack.database, old, reply, "sent", "done"),
            ):
                with pytest.raises(LeaseLost):
                    await write
            assert (await outbox.sending(stack.database, new, reply, CHAT)).taken
            with pytest.raises(LeaseLost):
                await outbox.back_off(stack.database, old, reply, "late", None)
            assert await inbox.fail(stack.database, job, "late") is None
            assert await conversations.renew(stack.database, [old]) == set()
            assert await conversations.renew(stack.database, [new]) == {new.conversation_id}
            await conversations.release(stack.database, old)
            assert await inbox.claim(stack.database, str(uuid.uuid4()), 9) == []
            assert await states(stack) == ["queued"]

    asyncio.run(check())


def test_a_turn_that_takes_longer_than_its_lease_keeps_it(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            providers.hold.clear()
            async with working(stack, lease_seconds=0.6), working(stack, lease_seconds=0.6):
                await deliver(stack, text("hello"))
                await until(lambda: len(providers.asked) == 1)
                await asyncio.sleep(1.5)
                providers.hold.set()
                await until(lambda: settled(stack))
            assert len(providers.asked) == 1
            assert providers.texts == ["You said hello."]
            assert await stack.database.query("select attempts from agentops.inbox") == [{"attempts": 1}]

    asyncio.run(check())


def test_a_message_that_comes_while_its_conversation_is_leased_is_not_overlooked(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            owner = str(uuid.uuid4())
            await deliver(stack, text("one"))
            (job,) = await inbox.claim(stack.database, owner, 9)
            lease = job.lease
            await deliver(stack, text("two"))
            assert await inbox.claim(stack.database, owner, 9) == []
            await inbox.finish(stack.database, lease, job.messages, "done")
            assert await conversations.release(stack.database, lease)
            (rest,) = await inbox.claim(stack.database, owner, 9)
            again = rest.lease
            assert [message.payload["text"]["body"] for message in rest.messages] == ["two"]
            await inbox.finish(stack.database, again, rest.messages, "done")
            assert not await conversations.release(stack.database, again)

    asyncio.run(check())


def test_a_message_that_is_being_stored_while_its_conversation_is_let_go_is_not_overlooked(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            owner = str(uuid.uuid4())
            await deliver(stack, text("one"))
            (job,) = await inbox.claim(stack.database, owner, 9)
            lease = job.lease
            await inbox.finish(stack.database, lease, job.messages, "done")
            async with stack.database.transaction() as storing:
                await deliver(replace(stack, database=cast("Any", storing)), text("two"))
                # It cannot see the message that is not committed; it waits for the conversation's row.
                letting_go = asyncio.create_task(conversations.release(stack.database, lease))
                await asyncio.sleep(0.1)
                assert not letting_go.done()
            assert await letting_go
            assert len(await inbox.claim(stack.database, owner, 9)) == 1

    asyncio.run(check())


def test_a_message_that_always_fails_is_dead_after_five_attempts_and_the_next_one_is_served(
    database_url: str, providers: Providers
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            seen: list[str] = []

            async def work(job: inbox.Job, stack: Any) -> None:
                for message in job.messages:
                    begun = await inbox.begin(stack.database, job.lease, [message], CHAT)
                    body = message.payload["text"]["body"]
                    seen.append(f"{body} {begun.attempts if begun else None}")
                    if body == "poison":
                        raise RuntimeError(body)
                    await inbox.finish(stack.database, job.lease, [message], "done")

            server = context(stack)
            server.loader = cast("Any", SimpleNamespace(get=lambda _: SimpleNamespace(work=work)))
            stop = asyncio.Event()
            task = asyncio.create_task(worker.run(server, stop, wait=lambda _: 0.0, burst_seconds=0.0))
            await deliver(stack, text("poison"), text("fine"))
            await until(lambda: settled(stack))
            stop.set()
            await task
            assert seen == ["poison 1", "poison 2", "poison 3", "poison 4", "poison 5", "fine 1"]
            assert await states(stack) == ["dead", "done"]
            told = [event.data for event in recorded(stack).events if event.event == "ai.whatsapp.message.error"]
            assert [each["state"] for each in told] == ["queued"] * 4 + ["dead"]
            assert "RuntimeError" in str(told[-1]["error"])

    asyncio.run(check())


def test_a_function_that_fails_before_it_begins_a_turn_costs_attempts_and_an_outage_does_not(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            failures: list[Exception] = [Unavailable("away")] * 7

            async def work(job: inbox.Job, _: Any) -> None:
                raise failures.pop() if failures else RuntimeError(job.slug)

            server = context(stack)
            server.loader = cast("Any", SimpleNamespace(get=lambda _: SimpleNamespace(work=work)))
            stop = asyncio.Event()
            task = asyncio.create_task(worker.run(server, stop, wait=lambda _: 0.0))
            await deliver(stack, text("hello"))
            await until(lambda: settled(stack))
            stop.set()
            await task
            assert failures == []
            assert await stack.database.query("select state, attempts from agentops.inbox") == [
                {"state": "dead", "attempts": 5}
            ]

    asyncio.run(check())


def test_a_worker_whose_leases_are_renewed_no_more_ends(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def renew(*_: Any, **__: Any) -> set[int]:
        raise RuntimeError("a defect")

    async def check() -> None:
        async with chat_stack(database_url) as stack:
            monkeypatch.setattr(conversations, "renew", renew)
            with pytest.raises(RuntimeError, match="a defect"):
                await asyncio.wait_for(worker.run(context(stack), asyncio.Event(), lease_seconds=0.03), 5)

    asyncio.run(check())


def test_a_function_that_is_missing_is_told_once(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "NOT_DEPLOYED_SECONDS", 0.0)

    async def check() -> None:
        async with chat_stack(database_url) as stack:
            server, claims = context(stack), 0

            def get(_: str) -> None:
                nonlocal claims
                claims += 1

            server.loader = cast("Any", SimpleNamespace(get=get))
            stop = asyncio.Event()
            task = asyncio.create_task(worker.run(server, stop))
            await deliver(stack, text("hello"), text("hello", OTHER))
            await until(lambda: claims > 5)
            stop.set()
            await task
            assert recorded(stack).names.count("ai.worker.not_deployed") == 1

    asyncio.run(check())


def test_asked_to_stop_it_ends_the_message_under_way_and_leaves_the_next_one_free(
    database_url: str, providers: Providers
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            providers.hold.clear()
            async with working(stack) as stop:
                await deliver(stack, text("one"), text("two"))
                await until(lambda: len(providers.asked) == 1)
                stop.set()
                await asyncio.sleep(0.05)
                providers.hold.set()
            assert await states(stack) == ["done", "queued"]
            assert providers.texts == ["You said one."]
            # Its lease was given back: another worker takes it at once.
            assert len(await inbox.claim(stack.database, str(uuid.uuid4()), 9)) == 1

    asyncio.run(check())


def test_the_flag_is_asked_of_the_database_when_work_begins(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack:
            await deliver(stack, text("one"))
            await set_flag(stack.database, CHAT, enabled=False)
            async with working(stack):
                await until(lambda: settled(stack))
            assert await states(stack) == ["skipped"]
            assert providers.asked == []

    asyncio.run(check())


def test_a_function_that_is_not_deployed_costs_no_attempt(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            server = context(stack)
            server.loader = cast("Any", SimpleNamespace(get=lambda _: None))
            stop = asyncio.Event()
            task = asyncio.create_task(worker.run(server, stop))
            await deliver(stack, text("hello"))
            await until(lambda: "ai.worker.not_deployed" in recorded(stack).names)
            stop.set()
            await task
            rows = await stack.database.query("select state, attempts from agentops.inbox")
            assert rows == [{"state": "queued", "attempts": 0}]

    asyncio.run(check())


def test_a_message_starts_within_milliseconds_and_not_at_the_next_poll(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await deliver(stack, text("warm"))
            await until(lambda: settled(stack))
            await asyncio.sleep(0.2)
            began = time.perf_counter()
            await deliver(stack, text("hello"))
            await until(lambda: len(providers.asked) == 2)
            assert time.perf_counter() - began < worker.POLL_SECONDS / 2

    asyncio.run(check())


def test_the_backoff_is_jittered_and_bounded() -> None:
    for attempts in range(1, 20):
        assert 0.0 <= worker.backoff(attempts) <= min(worker.LONGEST_BACKOFF, 2.0**attempts)

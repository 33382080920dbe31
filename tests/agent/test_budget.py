"""No turn asks the model for more than the day has left, and who is over it hears so once."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentops.agent import asking, loop, prices
from agentops.agent.instructions import INSTRUCTIONS
from agentops.agent.policy import Principal
from agentops.agent.tools import tools
from agentops.clients.openai import Usage
from agentops.store import costs, history, limits
from agentops.store.costs import Spent
from tests.fakes.chat import chat_stack, settled, states, until, working
from tests.fakes.providers import Providers, call, last, say, serving
from tests.fakes.stacks import recorded
from tests.fakes.whatsapp import CUSTOMER, deliver, text
from tests.store.test_costs import HIGHEST

if TYPE_CHECKING:
    from agentops.stack import Stack

ROOT = Path(__file__).parents[2]
SECONDS = 240.0
# What the scripted model's answer costs, by the usage that it reports.
COST = prices.cost("gpt-6-luna", Usage(100, 40, 0, 10, 110)) or 0


def bound(words: str) -> int:
    """What a customer's first question reserves."""
    offered = [tool.chat_schema(Principal("chat", "customer", CUSTOMER)) for tool in tools()]
    items = [{"role": "user", "content": words}]
    return prices.bound(
        "gpt-6-luna",
        instructions=INSTRUCTIONS,
        items=items,
        tools=offered,
        max_output_tokens=loop.OUTPUT_TOKENS,
    )


def bound_of(body: dict[str, Any]) -> int:
    """The most that a request can cost, as OpenAI got it."""
    return prices.bound(
        body["model"],
        instructions=body["instructions"],
        items=body["input"],
        tools=body["tools"],
        max_output_tokens=body["max_output_tokens"],
    )


async def limit(stack: Stack, **micros: int | None) -> None:
    await limits.change(stack.database, {name.replace("_", "-"): value for name, value in micros.items()}, [], "tests")


async def today(stack: Stack, scope: str = "all") -> Spent:
    return await costs.used(stack.database, await limits.rules(stack.database), scope)


def test_a_turn_is_paid_for_by_its_customer_and_by_all(database_url: str, providers: Providers) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await deliver(stack, text("hello"))
            await until(lambda: settled(stack), SECONDS)
            assert providers.texts == ["You said hello."]
            assert await today(stack) == Spent(0, COST)
            rows = await stack.database.query("select scope from agentops.cost_days order by scope")
            assert len(rows) == 2
            assert rows[1]["scope"].startswith("customer:")
            assert bound_of(providers.asked[0]) == bound("hello")

    asyncio.run(check())


@pytest.mark.parametrize("name", ["customer_day_cost", "day_cost"])
def test_over_the_budget_the_model_is_not_asked_and_the_customer_hears_it(
    database_url: str, providers: Providers, name: str
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await limit(stack, **{name: bound("hello") - 1})
            await deliver(stack, text("hello"))
            await until(lambda: settled(stack), SECONDS)
            assert (providers.asked, providers.texts) == ([], [loop.OVER_BUDGET])
            assert await states(stack) == ["done"]
            told = [event for event in recorded(stack).events if event.event.startswith("ai.process")]
            assert [event.event for event in told] == ["ai.process.start", "ai.process.over_budget"]
            assert told[1].level == "warning"
            assert told[1].data["limit"] == name.replace("_", "-")
            assert await today(stack) == Spent(0, 0)
            items = await history.recent(stack.database, 1, 20)
            assert [item["content"] for item in items] == ["hello", loop.OVER_BUDGET]
            await limit(stack, **{name: bound("hello") * 3})
            await deliver(stack, text("again"))
            await until(lambda: settled(stack), SECONDS)
            assert providers.texts[1:] == ["You said again."], "a limit that was raised holds at once"

    asyncio.run(check())


def test_a_turn_that_runs_out_of_it_after_its_tools_says_so_and_remembers_what_they_did(
    database_url: str, providers: Providers
) -> None:
    providers.think = lambda _: call(("create_voucher", '{"amount": 900}'))

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await limit(stack, customer_day_cost=bound("a voucher please"))
            await deliver(stack, text("a voucher please"))
            await until(lambda: settled(stack), SECONDS)
            assert providers.texts == [loop.UNFINISHED]
            assert len(providers.asked) == 1
            kinds = [item.get("type") or item["role"] for item in await history.recent(stack.database, 1, 20)]
            assert kinds == ["user", "function_call", "function_call_output", "assistant"]

    asyncio.run(check())


@pytest.mark.parametrize(
    ("status", "kept"), [(400, False), (401, False), (500, True)], ids=["refused", "forbidden", "failed"]
)
def test_only_a_request_that_nobody_will_bill_is_given_back(
    database_url: str, providers: Providers, monkeypatch: pytest.MonkeyPatch, status: int, *, kept: bool
) -> None:
    providers.think = lambda _: status
    monkeypatch.setattr(asking, "FIRST_PAUSE", 0.0)

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await deliver(stack, text("hello"))
            await until(lambda: settled(stack), SECONDS)
            assert len(providers.asked) == (asking.TRIES if kept else 1)
            assert await today(stack) == Spent(len(providers.asked) * bound("hello") * kept, 0)

    asyncio.run(check())


def test_an_answer_without_a_usage_costs_its_bound(database_url: str, providers: Providers) -> None:
    providers.think = lambda _: {**say("hi"), "usage": None}

    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack):
            await deliver(stack, text("hello"))
            await until(lambda: settled(stack), SECONDS)
            assert await today(stack) == Spent(0, bound("hello"))

    asyncio.run(check())


def test_a_database_that_cannot_reserve_costs_no_request_and_the_message_is_tried_again(
    database_url: str, providers: Providers
) -> None:
    async def check() -> None:
        async with chat_stack(database_url, providers) as stack, working(stack, wait=lambda _: 0.2):
            await stack.database.query("alter table agentops.cost_days rename to hidden")
            await deliver(stack, text("hello"))
            await until(lambda: "ai.whatsapp.message.error" in recorded(stack).names, SECONDS)
            assert providers.asked == []
            await stack.database.query("alter table agentops.hidden rename to cost_days")
            await until(lambda: settled(stack), SECONDS)
            assert providers.texts == ["You said hello."]

    asyncio.run(check())


def test_what_a_killed_worker_had_reserved_stays_counted(database_url: str, providers: Providers) -> None:
    async def check(process: subprocess.Popen[bytes]) -> None:
        async with chat_stack(database_url, providers) as stack:
            providers.hold.clear()
            await deliver(stack, text("hello"))
            await until(lambda: providers.asked, SECONDS)
            process.send_signal(signal.SIGKILL)
            process.wait()
            # One; on a slow machine it may have been that worker's second attempt already.
            lost = (await today(stack)).reserved
            assert lost > 0
            assert lost % bound("hello") == 0
            providers.hold.set()
            async with working(stack):
                await until(lambda: settled(stack), SECONDS)
            assert providers.texts == ["You said hello."]
            assert await today(stack) == Spent(lost, COST)

    arguments = [sys.executable, "-m", "tests.fakes.worker_process", database_url, providers.url]
    with subprocess.Popen(arguments, cwd=ROOT, env={"PYTHONPATH": "src"}) as process:
        try:
            asyncio.run(check(process))
        finally:
            process.kill()


def turning(many: ExitStack, arguments: list[str], count: int) -> list[subprocess.Popen[str]]:
    """Processes that are ready to begin; they are killed at the end."""
    command = [sys.executable, "-m", "tests.fakes.turns_process", *arguments]
    found = []
    for _ in range(count):
        process = subprocess.Popen(
            command, cwd=ROOT, env={"PYTHONPATH": "src"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        many.enter_context(process)  # closes its pipes and waits for it
        many.callback(process.kill)
        found.append(process)
    for process in found:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    return found


def concurrent_turns(url: str, processes: int, turns: int, fit: int, *mutant: str) -> list[int]:
    """As many turns as given, of as many customers, all before the model answers one; what fits is `fit` of them.

    Returns:
        The bounds of the requests that reached the model.
    """
    most = fit * bound("hello") + bound("hello") - 1

    async def check(providers: Providers, many: ExitStack) -> None:
        async with chat_stack(url, providers) as stack:
            await limit(stack, day_cost=most)
            await stack.database.query(f"{HIGHEST} create table public.replies (text text not null);")
            await deliver(stack, *(text("hello", f"+25078{number:07d}") for number in range(turns)))
            arguments = [url, providers.url, str(turns // processes), *mutant]
            for process in turning(many, arguments, processes):
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()

            async def replies() -> list[str]:
                rows = await stack.database.query("select text from public.replies order by text")
                return [row["text"] for row in rows]

            async def decided() -> bool:
                return len(await replies()) + len(providers.asked) >= turns

            await until(decided, SECONDS)
            reached, before = sum(bound_of(body) for body in providers.asked), await today(stack)
            providers.hold.set()
            if mutant:
                assert reached > most
                return
            assert (reached, before) == (fit * bound("hello"), Spent(fit * bound("hello"), 0))
            assert reached <= most

            async def answered() -> bool:
                return len(await replies()) == turns

            await until(answered, SECONDS)
            assert await replies() == [loop.OVER_BUDGET] * (turns - fit) + ["You said hello."] * fit
            assert await today(stack) == Spent(0, fit * COST)
            rows = await stack.database.query("select total from public.highest where scope = 'all'")
            assert rows == [{"total": fit * bound("hello")}]

    def think(body: dict[str, Any]) -> dict[str, Any]:
        return say(f"You said {last(body)}.")

    with serving(Providers(think=think)) as providers, ExitStack() as many:
        providers.hold.clear()
        asyncio.run(check(providers, many))
        return [bound_of(body) for body in providers.asked]


def test_two_hundred_turns_at_once_never_go_over_the_budget(database_url: str) -> None:
    assert len(concurrent_turns(database_url, 2, 200, 30)) == 30


@pytest.mark.long
def test_eight_hundred_turns_of_eight_processes_never_go_over_the_budget(database_url: str) -> None:
    assert len(concurrent_turns(database_url, 8, 800, 111)) == 111


def test_turns_that_look_and_then_take_would_go_over_the_budget(database_url: str) -> None:
    assert len(concurrent_turns(database_url, 2, 80, 5, "naive")) > 5

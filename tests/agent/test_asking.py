from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from agentops.agent import asking
from agentops.agent.budget import OverBudget
from agentops.clients.breaker import Breaker, Open
from agentops.clients.openai import Overloaded, RateLimited, SpendLimit
from agentops.errors import AgentOpsError, NotAuthorised, Unavailable
from tests.fakes.stacks import bare_stack, recorded

if TYPE_CHECKING:
    import pytest

    from agentops.agent.budget import Budget


class Model:
    """Answers with what is scripted, one after the other, and counts."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[float] = []
        self.breaker = Breaker("OpenAI")

    async def respond(self, **request: Any) -> object:
        self.asked.append(request["deadline_seconds"])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Account:
    """A budget that has room for so many requests, and keeps what became of each."""

    def __init__(self, room: int = 99) -> None:
        self.room = room
        self.ends: list[str] = []

    async def reserve(self, _request: object) -> str:
        if self.room == 0:
            raise OverBudget("day-cost")
        self.room -= 1
        self.ends.append("reserved")
        return "reservation"

    async def settle(self, _reservation: object, model: str, _reply: object) -> None:
        self.ends[-1] = f"settled {model}"

    async def give_back(self, _reservation: object, failure: AgentOpsError) -> None:
        self.ends[-1] = type(failure).__name__


def ask(model: Model, seconds: float = 30.0, account: Account | None = None) -> tuple[Any, list[str]]:
    stack = replace(bare_stack(), clients=cast("Any", SimpleNamespace(openai=lambda _: model)))
    budget = cast("Budget", account or Account())
    try:
        answer: Any = asyncio.run(asking.ask(stack, budget, time.monotonic() + seconds, model="m"))
    except AgentOpsError as error:
        answer = error
    return answer, recorded(stack).names


def test_what_may_pass_is_asked_again_within_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_PAUSE", 0.01)
    model = Model(Unavailable("no answer in time"), RateLimited("slow down", retry_after=0.2), "hello")
    began = time.monotonic()
    answer, told = ask(model)
    assert answer == "hello"
    assert time.monotonic() - began >= 0.2, "Retry-After is heeded"
    assert told == ["ai.openai.retry"] * 2


def test_three_tries_are_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_PAUSE", 0.0)
    model = Model(*[Overloaded("OpenAI failed (503)")] * 9)
    answer, _ = ask(model)
    assert isinstance(answer, Overloaded)
    assert len(model.asked) == asking.TRIES


def test_without_time_for_another_try_there_is_none() -> None:
    for failure, seconds in ((RateLimited("x", retry_after=20.0), 10.0), (Unavailable("x"), 0.5)):
        model = Model(failure, "too late")
        answer, _ = ask(model, seconds)
        assert answer is failure
        assert len(model.asked) == 1


def test_a_spend_limit_and_a_refusal_are_never_asked_again() -> None:
    for failure in (SpendLimit("x", code="insufficient_quota"), NotAuthorised("x")):
        model = Model(failure, "never")
        assert ask(model)[0] is failure
        assert len(model.asked) == 1


def test_an_open_breaker_is_told_once_and_costs_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_PAUSE", 0.0)
    model = Model(*[Unavailable("down")] * 9)
    names = [name for _ in range(2) for name in ask(model)[1]]
    assert names.count("ai.openai.breaker") == 1
    assert len(model.asked) == 5
    answer, told = ask(model)
    assert isinstance(answer, Open)
    assert (len(model.asked), told) == (5, [])


def test_a_refusal_shows_that_the_provider_is_there() -> None:
    model = Model(*[Unavailable("down")] * 4, NotAuthorised("x"), Unavailable("down"))
    for _ in range(4):
        ask(model, 0.5)
    ask(model)
    ask(model, 0.5)
    assert model.breaker.state == "closed"


def test_each_try_is_reserved_by_itself_and_the_answered_one_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_PAUSE", 0.0)
    account = Account()
    assert ask(Model(Unavailable("timeout"), RateLimited("x"), "hello"), account=account)[0] == "hello"
    assert account.ends == ["Unavailable", "RateLimited", "settled m"]


def test_over_the_budget_nothing_is_asked_and_the_provider_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "FIRST_PAUSE", 0.0)
    model = Model(*[Unavailable("down")] * 9)
    for room in (2, 0, 0, 0):
        answer, told = ask(model, account=Account(room))
        assert isinstance(answer, OverBudget)
        assert "ai.openai.breaker" not in told
    assert len(model.asked) == 2
    assert model.breaker.state == "closed"


def test_a_probe_that_cannot_be_paid_for_leaves_the_breaker_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model("hello")
    for _ in range(5):
        model.breaker.report(well=False)
    monkeypatch.setattr(model.breaker, "_until", 0.0)
    assert isinstance(ask(model, account=Account(0))[0], OverBudget)
    assert ask(model)[0] == "hello"

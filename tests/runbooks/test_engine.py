"""Carrying a runbook out: in order, through the same door, until something fails."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agentops.runbooks import engine
from agentops.runbooks.engine import Hands
from agentops.runbooks.model import Runbook, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

BOOK = Runbook(
    "try",
    "Try it",
    "For the test.",
    (),
    (
        Step(1, "First", "deploy {slug}", None, "health functions"),
        Step(2, None, None, "Tell about {slug}.", None),
        Step(3, None, "flags list", None, None),
    ),
)


@dataclass
class Recorder:
    """Remembers what it was told to do; `codes` are the exit codes of command lines that fail."""

    codes: dict[str, int] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    waits: int = 0

    async def dispatch(self, argv: Sequence[str]) -> int:
        self.ran.append(" ".join(argv))
        return self.codes.get(self.ran[-1], 0)

    def wait(self) -> None:
        self.waits += 1

    @property
    def hands(self) -> Hands:
        return Hands(self.dispatch, self.said.append, self.wait)


def test_every_step_is_done_in_order_and_shown_first() -> None:
    recorder = Recorder()
    done = asyncio.run(engine.run(BOOK, {"slug": "ai-one"}, recorder.hands))
    assert recorder.ran == ["deploy ai-one", "health functions", "flags list"]
    assert [(step.step, step.status, step.exit_code) for step in done] == [
        (1, "done", 0),
        (2, "by_hand", None),
        (3, "done", 0),
    ]
    assert recorder.waits == 1
    assert recorder.said == [
        "\n[1/3] First",
        "$ agentops deploy ai-one",
        "$ agentops health functions",
        "\n[2/3] by hand",
        "Tell about ai-one.",
        "\n[3/3]",
        "$ agentops flags list",
    ]


def test_a_step_that_a_person_does_says_so_in_its_heading() -> None:
    steps = (Step(1, "Tell {who}", None, "Post it.", None), Step(2, None, None, "Look.", None))
    assert [step.heading for step in steps] == ["Tell {who} (by hand)", "by hand"]
    assert [step.heading for step in BOOK.steps] == ["First", "by hand", None]
    recorder = Recorder()
    asyncio.run(engine.run(Runbook("try", "Try it", "", (), steps), {"who": "the team"}, recorder.hands))
    assert recorder.said == ["\n[1/2] Tell the team (by hand)", "Post it.", "\n[2/2] by hand", "Look."]
    assert recorder.waits == 2


def test_it_stops_at_the_first_failure() -> None:
    recorder = Recorder({"deploy ai-one": 10})
    done = asyncio.run(engine.run(BOOK, {"slug": "ai-one"}, recorder.hands))
    assert recorder.ran == ["deploy ai-one"]
    assert [(step.status, step.exit_code) for step in done] == [("failed", 10), ("not_run", None), ("not_run", None)]


def test_a_step_that_stops_nothing_lets_the_next_ones_be_done() -> None:
    steps = tuple(replace(step, stop=step.run != "deploy {slug}") for step in BOOK.steps)
    recorder = Recorder({"deploy ai-one": 10})
    done = asyncio.run(engine.run(replace(BOOK, steps=steps), {"slug": "ai-one"}, recorder.hands))
    assert [(step.status, step.exit_code) for step in done] == [("failed", 10), ("by_hand", None), ("done", 0)]


def test_what_cannot_be_verified_has_failed() -> None:
    recorder = Recorder({"health functions": 3})
    done = asyncio.run(engine.run(BOOK, {"slug": "ai-one"}, recorder.hands))
    assert (done[0].status, done[0].exit_code) == ("failed", 3)
    assert done[0].what == "verify: agentops health functions"


def test_a_command_that_finds_something_does_not_stop_it() -> None:
    recorder = Recorder({"deploy ai-one": 3, "flags list": 3})
    done = asyncio.run(engine.run(BOOK, {"slug": "ai-one"}, recorder.hands))
    assert recorder.ran == ["deploy ai-one", "health functions", "flags list"]
    assert [(step.status, step.exit_code) for step in done] == [("differs", 3), ("by_hand", None), ("differs", 3)]


def test_a_plan_runs_nothing() -> None:
    plan = engine.plan(BOOK, {"slug": "ai-one"})
    assert [(step.what, step.status) for step in plan] == [
        ("agentops deploy ai-one", "would_run"),
        ("Tell about ai-one.", "by_hand"),
        ("agentops flags list", "would_run"),
    ]

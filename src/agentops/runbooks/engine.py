"""Carries a runbook out: each command through the same door as a typed one, each manual step read by a person.

steps → say what runs → dispatch(argv) → verify → next, until the end or the first exit code that is not 0
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentops.runbooks.model import fill

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from agentops.runbooks.model import Runbook, Step


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one step: `status` is done, failed, told (manual), not_run or would_run."""

    step: int
    what: str
    status: str
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Hands:
    """What the engine acts with: `dispatch` runs a command line, `say` shows a line, `wait` returns after Enter."""

    dispatch: Callable[[Sequence[str]], Awaitable[int]]
    say: Callable[[str], None]
    wait: Callable[[], None]


def plan(book: Runbook, values: Mapping[str, str]) -> list[Done]:
    """Every step as it would be done; nothing is."""
    return [Done(step.number, _what(step, values), "would_run" if step.run else "told") for step in book.steps]


async def run(book: Runbook, values: Mapping[str, str], hands: Hands) -> list[Done]:
    """Do every step in order; after the first that fails, the rest is `not_run`."""
    done: list[Done] = []
    for step in book.steps:
        if done and done[-1].status in {"failed", "not_run"}:
            done.append(Done(step.number, _what(step, values), "not_run"))
            continue
        hands.say(f"\n[{step.number}/{len(book.steps)}] {fill(step.title, values) if step.title else book.title}")
        done.append(await _do(step, values, hands))
    return done


async def _do(step: Step, values: Mapping[str, str], hands: Hands) -> Done:
    what = _what(step, values)
    if step.manual:
        hands.say(f"by hand: {what}")
        hands.wait()
    code = 0
    for line in (step.run, step.verify):
        if line and code == 0:
            argv = step.argv(line, values)
            hands.say(f"$ agentops {shlex.join(argv)}")
            code = await hands.dispatch(argv)
    if code:
        return Done(step.number, what, "failed", code)
    return Done(step.number, what, "told" if step.manual else "done", 0 if step.run or step.verify else None)


def _what(step: Step, values: Mapping[str, str]) -> str:
    if step.run:
        return f"agentops {shlex.join(step.argv(step.run, values))}"
    return fill(step.manual or "", values)

"""Carries a runbook out: each command through the same door as a typed one, each manual step read by a person.

steps → say what runs → dispatch(argv) → verify → next, until the end or the first step that fails and stops it

A command that ends with 3 has looked and found something (a difference, a degraded part): that is an answer, and the
next step follows. What stands under `verify` must end with 0.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentops.errors import Kind
from agentops.runbooks.model import fill

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from agentops.runbooks.model import Runbook, Step


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one step: `status` is done, differs (exit 3), failed, by_hand, not_run or would_run.

    by_hand: a person does it; nobody knows whether they have.
    """

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
    return [Done(step.number, _what(step, values), "would_run" if step.run else "by_hand") for step in book.steps]


async def run(book: Runbook, values: Mapping[str, str], hands: Hands) -> list[Done]:
    """Do every step in order; after the first that fails, unless its `stop` is false, the rest is `not_run`."""
    done: list[Done] = []
    stopped = False
    for step in book.steps:
        if stopped:
            done.append(Done(step.number, _what(step, values), "not_run"))
            continue
        hands.say(f"\n[{step.number}/{len(book.steps)}] {fill(step.heading or '', values)}".rstrip())
        done.append(await _do(step, values, hands))
        stopped = step.stop and done[-1].status == "failed"
    return done


async def _do(step: Step, values: Mapping[str, str], hands: Hands) -> Done:
    what = _what(step, values)
    if step.manual:
        hands.say(what)
        hands.wait()
    code = await _run(step, step.run, values, hands)
    status = {None: "by_hand", 0: "done", Kind.DIFFERS.exit_code: "differs"}.get(code, "failed")
    if step.verify and status != "failed":
        verified = await _run(step, step.verify, values, hands)
        if verified:
            return Done(step.number, f"verify: {_typed(step, step.verify, values)}", "failed", verified)
        code = code or verified
    return Done(step.number, what, status, code)


async def _run(step: Step, line: str | None, values: Mapping[str, str], hands: Hands) -> int | None:
    if line is None:
        return None
    hands.say(f"$ {_typed(step, line, values)}")
    return await hands.dispatch(step.argv(line, values))


def _typed(step: Step, line: str, values: Mapping[str, str]) -> str:
    return f"agentops {shlex.join(step.argv(line, values))}"


def _what(step: Step, values: Mapping[str, str]) -> str:
    if step.run:
        return _typed(step, step.run, values)
    return fill(step.manual or "", values)

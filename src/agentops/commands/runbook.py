"""List, read and carry out the runbooks: the on-call page's sections, step by step.

A step is a command, which `run` types for you, or marked (by hand): then a person does what it says. What the steps'
commands print goes to stderr; stdout gets one row per step.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from agentops.errors import AgentOpsError, Kind, UsageError
from agentops.runbooks import model
from agentops.runbooks.engine import Done, Hands
from agentops.runbooks.model import Input, Runbook, Step, fill
from agentops.session import Answer, Session

Name = Annotated[str, typer.Argument(metavar="NAME", help="The runbook's name.", autocompletion=model.names)]


@dataclass(frozen=True, slots=True)
class Summary:
    """A runbook in one row."""

    name: str
    title: str
    steps: int
    inputs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Page:
    """A whole runbook."""

    name: str
    title: str
    why: str
    inputs: Sequence[Input]
    steps: Sequence[Step]

    def text(self) -> str:
        """The runbook for eyes, as the page had it."""
        lines = [self.title, "", self.why, ""]
        for entry in self.inputs:
            default = f" (default: {entry.default})" if entry.default else ""
            setting = shlex.quote(f"{entry.name}={entry.example or entry.default or 'VALUE'}")
            lines.append(f"--set {setting}   {entry.description}{default}")
        lines += [""] if self.inputs else []
        for step in self.steps:
            if step.heading:
                lines.append(f"{step.number:2}. {step.heading}")
            indent = "    " if step.heading else f"{step.number:2}. "
            lines.append(f"{indent}$ agentops {step.run}" if step.run else f"{indent}{step.manual}")
            if step.verify:
                lines.append(f"    then must succeed: agentops {step.verify}")
        return "\n".join(lines)


async def list_(session: Session) -> list[Summary]:  # noqa: ARG001 - runbooks are the same on every target
    """List every runbook with its title and how many steps it has."""
    books = [model.load(name) for name in model.names()]
    return [Summary(book.name, book.title, len(book.steps), [entry.name for entry in book.inputs]) for book in books]


async def show(session: Session, name: Name) -> Page:
    """Show one runbook: why, what it asks for, and every step."""
    book = _loaded(session, name)
    defaults = {entry.name: entry.default for entry in book.inputs if entry.default}
    # A command keeps its places, which --set fills; words for a person can be read as they are.
    steps = [replace(step, manual=fill(step.manual, defaults)) if step.manual else step for step in book.steps]
    return Page(book.name, book.title, book.why, book.inputs, steps)


async def run(
    session: Session,
    name: Name,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A value that the runbook asks for; may be repeated."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only show the steps; exit 3 if a command would run.")] = False,
) -> Answer:
    """Carry a runbook out, step by step; it stops at the first step that fails, with that step's exit code.

    Steps that only look, and the kill switch, stop nothing: the exit code is that of the first that failed. A step that
    finds a difference or something degraded (exit 3) does not stop it; where the last command does, the runbook ends
    with 3 too.
    """
    from agentops.runbooks import engine

    book = _loaded(session, name)
    values = book.values(_pairs(set_ or ()))
    if check:
        steps = engine.plan(book, values)
        return Answer(steps, Kind.DIFFERS if any(step.status == "would_run" for step in steps) else Kind.DONE)
    session.note(f"runbook {book.name} on target {session.process.label}: {book.title}")
    done = await engine.run(book, values, _hands(session))
    failed = next((step for step in done if step.status == "failed"), None)
    if failed:
        return Answer(done, failure=_failure(book, failed))
    last = next((step for step in reversed(done) if step.exit_code is not None), None)
    return Answer(done, Kind.DIFFERS if last and last.status == "differs" else Kind.DONE)


def _loaded(session: Session, name: str) -> Runbook:
    """A runbook, with what agentops.toml knows of its inputs."""
    return model.load(name).known({"channel": session.process.channel})


def _failure(book: Runbook, step: Done) -> AgentOpsError:
    how = "stopped at" if book.steps[step.step - 1].stop else "failed in"
    failure = AgentOpsError(
        f"runbook {book.name} {how} step {step.step}: {step.what} ended with exit code {step.exit_code}",
        "mend the cause, then run the runbook again: steps that are done change nothing the second time",
    )
    failure.kind = next((kind for kind in Kind if kind.exit_code == step.exit_code), Kind.FAILED)
    return failure


def _hands(session: Session) -> Hands:
    async def dispatch(argv: Sequence[str]) -> int:
        import contextlib
        import sys

        # stdout is for the rows of steps.
        with contextlib.redirect_stdout(sys.stderr):
            return await session.dispatch(argv)

    def wait() -> None:
        if session.interactive:
            session.pause("press Enter when it is done")

    return Hands(dispatch, session.note, wait)


def _pairs(settings: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for entry in settings:
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {entry!r} is no NAME=VALUE", "--set slug=ai-create-voucher")
        pairs[name] = value
    return pairs

"""What a command may ask for: the process settings, the platform of its target, a confirmation, a note for eyes.

main → Session(process, …) → commands.<noun>.<verb>(session, …) → Answer or plain result → render
"""

from __future__ import annotations

import re
import signal
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from agentops.errors import AgentOpsError, Kind, NotConfirmed, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agentops.platforms import Platform
    from agentops.platforms.local import LocalPlatform
    from agentops.settings import Process

_T = TypeVar("_T")
_SPAN = re.compile(r"(?P<count>\d+)(?P<unit>[smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Answer:
    """A result that is more than its value: how it ended, and a sentence for eyes (stderr).

    `value` is a dataclass, a list of dataclasses, plain text, or None. With `failure` the value is printed all the
    same, then the error, whose kind is how it ended.
    """

    value: object
    kind: Kind = Kind.DONE
    note: str | None = None
    failure: AgentOpsError | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A parsed command line: the verb and its arguments."""

    verb: Callable[..., Any]
    arguments: dict[str, Any]


@dataclass(slots=True)
class Session:
    """One run of one command."""

    process: Process
    # Prints one line on stderr; given by main, so that only render prints.
    note: Callable[[str], None]
    # Runs another command line and answers its exit code; for the runbook engine.
    dispatch: Callable[[Sequence[str]], Awaitable[int]]
    interactive: bool = field(default_factory=lambda: sys.stdin.isatty() and sys.stderr.isatty())
    _platform: Platform | None = None

    async def platform(self, *, any_schema: bool = False) -> Platform:
        """The platform of the target, opened on first use.

        An embedded database is started, created and migrated as needed. A database given by URL must have our schema,
        unless `any_schema`: the kill switch and the migration itself work one version off.

        Raises:
            UsageError: the target's schema is missing or older.
            Unavailable: the target does not answer.
        """
        if self._platform is None:
            if self.process.target.startswith("supabase://"):
                raise UsageError("Supabase targets are not supported yet", "use --target local or postgresql://…")
            self._platform = await self.local(any_schema=any_schema)
        return self._platform

    async def local(self, *, any_schema: bool = False) -> LocalPlatform:
        """The platform of a target whose control plane is PostgreSQL.

        Raises:
            UsageError: the target is no PostgreSQL stack.
        """
        from agentops.platforms.local import LocalPlatform
        from agentops.store import schema

        process = self.process
        if process.target.startswith("supabase://"):
            raise UsageError("this needs a stack of your own", "use --target local, sandbox or postgresql://…")
        if isinstance(self._platform, LocalPlatform):
            return self._platform
        platform = await LocalPlatform.open(
            await database_url(process), label=process.label, actor=process.actor, home=process.home
        )
        platform.address = partial(database_url, process)
        try:
            if process.embedded:
                await schema.migrate(platform)
            elif not any_schema:
                await schema.require(platform)
        except BaseException:
            await platform.close()
            raise
        self._platform = platform
        return platform

    async def warn_unserved(self) -> None:
        """Say first that nothing runs here, where no server would hear of a change."""
        platform = await self.platform()
        if not platform.target.startswith("supabase://") and not await platform.servers():
            self.note(
                f"note: no server runs on target {platform.target}, the change waits for the next one (agentops up); "
                "for a hosted project use --target supabase://<ref>"
            )

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask on a terminal; elsewhere `yes` has to be given.

        Raises:
            NotConfirmed: declined, or nobody there to ask. Nothing was done.
        """
        if yes:
            return
        if not self.interactive:
            raise NotConfirmed(f"not confirmed: {question}", "repeat the command with --yes; nothing was done")
        import typer

        if not _asked(lambda: typer.confirm(question, err=True)):
            raise NotConfirmed(f"declined: {question}", "nothing was done")

    def pause(self, words: str) -> None:
        """Wait for Enter.

        Raises:
            NotConfirmed: the input ended instead.
        """
        import typer

        ask = partial(typer.prompt, words, default="", show_default=False, prompt_suffix=" … ", err=True)
        if _asked(ask) is None:
            raise NotConfirmed(f"not answered: {words}", "nothing more was done")

    def hidden(self, words: str) -> str:
        """Ask for a value that is not shown.

        Raises:
            NotConfirmed: the input ended instead.
        """
        import typer

        value = _asked(lambda: str(typer.prompt(words, hide_input=True, err=True)))
        if value is None:
            raise NotConfirmed(f"not answered: {words}", "nothing was done")
        return value

    async def close(self) -> None:
        """Let go of the platform."""
        if self._platform is not None:
            await self._platform.close()
            self._platform = None


def _asked(ask: Callable[[], _T]) -> _T | None:
    """Ask on the terminal; None where the input ended. Ctrl-C interrupts, also inside the event loop.

    The loop would only mark the first Ctrl-C, and the question would go on waiting.
    """
    import typer

    interrupted = False

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        return ask()
    except typer.Abort:
        if interrupted:
            raise KeyboardInterrupt from None
        return None
    finally:
        signal.signal(signal.SIGINT, before)


async def database_url(process: Process) -> str:
    """The PostgreSQL address of the target; starts the embedded one where it is the target.

    Raises:
        Unavailable: the embedded PostgreSQL does not start.
    """
    if process.embedded is None:
        return process.target
    import asyncio

    from agentops import embedded

    return (await asyncio.to_thread(embedded.attach, process.state)).url


def span(text: str) -> timedelta:
    """`30m`, `2h`, `1h30m` → a duration.

    Raises:
        UsageError: any other form.
    """
    parts = list(_SPAN.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise UsageError(f"{text!r} is no duration", "write it like 30s, 15m, 2h or 1d")
    return timedelta(seconds=sum(int(part["count"]) * _SECONDS[part["unit"]] for part in parts))


def moment(text: str) -> datetime:
    """`15m` (ago) or ISO 8601 → an aware time; a time without a zone is local.

    Raises:
        UsageError: any other form.
    """
    if _SPAN.match(text):
        try:
            return datetime.now(UTC) - span(text)
        except (UsageError, OverflowError):
            pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise UsageError(
            f"{text!r} is no time", "write how long ago (15m, 2h, 1d) or ISO 8601 (2026-11-23T14:00)"
        ) from None

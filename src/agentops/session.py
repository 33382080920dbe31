"""What a command may ask for: the process settings, the platform of its target, a confirmation, a note for eyes.

main → Session(process, …) → commands.<noun>.<verb>(session, …) → Answer or plain result → render
"""

from __future__ import annotations

import os
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

    from agentops.platforms import Platform, Queries
    from agentops.platforms.local import LocalPlatform
    from agentops.platforms.supabase import SupabasePlatform
    from agentops.settings import Process

_T = TypeVar("_T")
_SPAN = re.compile(r"(?P<count>\d+)(?P<unit>[smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Answer:
    """A result that is more than its value: how it ended, and a sentence for eyes (stderr).

    `value` is a dataclass, a list of dataclasses, plain text, or None. With `failure` the value is printed all the
    same, then the error, whose kind is how it ended. `place` is what was changed where it was not the target.
    """

    value: object
    kind: Kind = Kind.DONE
    note: str | None = None
    failure: AgentOpsError | None = None
    place: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A parsed command line: the verb and its arguments."""

    verb: Callable[..., Any]
    arguments: dict[str, Any]

    @property
    def words(self) -> str:
        """The command as it is typed: `logs show`, `health`."""
        noun = self.verb.__module__.rpartition(".")[2].replace("_", "-")
        verb = self.verb.__name__.rstrip("_").replace("_", "-")
        return noun if verb == noun else f"{noun} {verb}"


@dataclass(slots=True)
class Session:
    """One run of one command."""

    process: Process
    # Prints one line on stderr; given by main, so that only render prints.
    note: Callable[[str], None]
    # Runs another command line and answers its exit code; for the runbook engine.
    dispatch: Callable[[Sequence[str]], Awaitable[int]]
    # What `--confirm` gave: the name of a target that is marked as production.
    confirmed: str | None = None
    interactive: bool = field(default_factory=lambda: sys.stdin.isatty() and sys.stderr.isatty())
    # The command that runs, as it is typed.
    command: str = "this command"
    _platform: Platform | None = None
    # Databases beside the platform's own: the one of DATABASE_URL, the one behind the forwarders.
    _beside: list[LocalPlatform] = field(default_factory=list)

    async def platform(self, *, any_schema: bool = False) -> Platform:
        """The platform of the target, opened on first use.

        An embedded database is started, created and migrated as needed. A database given by URL must have our schema,
        unless `any_schema`: the kill switch and the migration itself work one version off.

        Raises:
            UsageError: the target's schema is missing or older.
            NotAuthorised: a hosted project, and no access token.
            Unavailable: the target does not answer.
        """
        if self._platform is None:
            self._platform = self.supabase() if self.process.hosted else await self.local(any_schema=any_schema)
        return self._platform

    async def local(self, *, any_schema: bool = False, what: str | None = None) -> LocalPlatform:
        """The platform of a target whose control plane is PostgreSQL.

        Args:
            any_schema: as for `platform`.
            what: what needs it, where that is not the whole command.

        Raises:
            UsageError: the target is no PostgreSQL stack.
        """
        from agentops.platforms.local import LocalPlatform
        from agentops.store import schema

        process = self.process
        if process.hosted:
            raise self._beyond(what or self.command)
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

    def _beyond(self, what: str) -> UsageError:
        """What a hosted project cannot do, and the stack that can."""
        import shlex

        from agentops.settings import without_password

        server = self.process.server
        address = shlex.quote(without_password(server)) if server else "postgresql://…"
        stack = "the stack behind its forwarders" if server else "the stack behind its forwarders, if it has one"
        words = f"{what} needs a stack that agentops serves, and {self.process.label} is a hosted project"
        return UsageError(words, f"agentops --target {address} {self.command}, on {stack}")

    async def server(self) -> LocalPlatform:
        """The stack behind a hosted project's forwarders, by `server` of agentops.toml, whatever its schema.

        Raises:
            UsageError: the target names none.
            NotAuthorised, Unavailable: its database does not let us.
        """
        if self.process.server is None:
            raise UsageError("this target names no server", 'server = "postgresql://…" in agentops.toml')
        return await self._opened(self.process.server)

    async def queries(self, *, any_schema: bool = False) -> Queries:
        """The target's database, to be read: a hosted project's through its API, or by DATABASE_URL where it is set.

        Raises:
            as `platform`; UsageError: DATABASE_URL is no address, or another project's.
        """
        url = self._project_url()
        return await self._opened(url) if url else await self.platform(any_schema=any_schema)

    async def database(self) -> Queries:
        """The target's database, to be migrated: the one that `queries` reads, whatever its schema.

        Raises:
            as `queries`.
        """
        if not self.process.hosted:
            return await self.local(any_schema=True)
        url = self._project_url()
        if url is None:
            return self.supabase().database
        from agentops.settings import without_password

        self.note(f"note: through DATABASE_URL: {without_password(url)}")
        return await self._opened(url)

    def _project_url(self) -> str | None:
        """The address of a hosted project's database, by DATABASE_URL; None where it is to be had by the API alone."""
        from agentops.settings import EXPORTED

        url = os.environ.get("DATABASE_URL")
        if not self.process.hosted or not url or "DATABASE_URL" in os.environ.get(EXPORTED, "").split():
            # What `status --env` set for the shell is the address of a stack of its own.
            return None
        ref = self.process.target.removeprefix("supabase://")
        # Supabase's own addresses name their project; through a proxy nobody can tell.
        if "supabase.co" in url and ref not in url:
            raise UsageError(f"DATABASE_URL is another project's, not that of {ref}", "unset it, or set the project's")
        return url

    async def _opened(self, url: str) -> LocalPlatform:
        from agentops.platforms.local import LocalPlatform
        from agentops.settings import without_password

        process = self.process
        known = next((platform for platform in self._beside if platform.url == url), None)
        if known is not None:
            return known
        platform = await LocalPlatform.open(url, label=without_password(url), actor=process.actor, home=process.home)
        self._beside.append(platform)
        return platform

    def supabase(self, *, both: bool = False) -> SupabasePlatform:
        """The platform of a target that is a hosted project; `both`: the caller acts on its server too.

        Raises:
            UsageError: the target is none.
            NotAuthorised: there is no access token.
        """
        from agentops.platforms.supabase import SupabasePlatform

        process = self.process
        if not process.hosted:
            raise UsageError("this needs a hosted project", "use --target supabase://<ref>")
        if isinstance(self._platform, SupabasePlatform):
            return self._platform
        platform = SupabasePlatform.open(
            process.target, home=process.home, state=process.state, actor=process.actor, told=self.note
        )
        if process.server and not both:
            import shlex

            from agentops.settings import without_password

            server = shlex.quote(without_password(process.server))
            self.note(f"note: this is about {process.label} alone; the stack behind it: --target {server}")
        self._platform = platform
        return platform

    async def warn_unserved(self) -> None:
        """Say first that nothing runs here, where no server would hear of a change."""
        platform = await self.platform()
        if not self.process.hosted and not await platform.servers():
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

    def confirm_production(self) -> None:
        """On a target marked as production its name has to be typed, or given with `--confirm`.

        Raises:
            NotConfirmed: another name, or nobody there to ask. Nothing was done.
        """
        name = self.process.confirmation
        if name is None or self.confirmed == name:
            return
        hint = f"repeat the command with --confirm {name}; nothing was done"
        if self.confirmed is not None:
            raise NotConfirmed(f"--confirm {self.confirmed} is not the name of this target", hint)
        if not self.interactive:
            raise NotConfirmed(f"{name} ({self.process.label}) is marked as production", hint)
        import typer

        words = f"{name} ({self.process.label}) is marked as production; type its name to go on"
        if _asked(lambda: str(typer.prompt(words, err=True))) != name:
            raise NotConfirmed(f"the name of the target was not typed: {name}", "nothing was done")
        # Once is enough for all steps of one line.
        self.confirmed = name

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
        """Let go of the platform, and of the databases beside it."""
        while self._beside:
            await self._beside.pop().close()
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

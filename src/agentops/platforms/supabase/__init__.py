"""A hosted Supabase project as a place to run, through its Management API. Implements `platforms.Platform`.

    management.py (HTTP)   secrets.py  flags.py  deployments.py (switching.py, verifying.py, kept.py, sources.py, …)
    logs.py  queries.py  calls.py (the functions themselves)   books.py  audit.py

What the API has no notion of (who deployed, incidents, audit) is kept in books: files of this machine, and a table of
the project's own database once it has our schema. Sources are kept on the machine that deployed them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from agentops.errors import NotAuthorised, UsageError
from agentops.platforms.supabase.management import ADDRESS, BASE_URL, Management

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from agentops.platforms import (
        Bundle,
        Deployment,
        Flag,
        Function,
        Invocation,
        LogFilter,
        LogLine,
        Row,
        SecretChange,
        SecretInfo,
        Server,
    )
    from agentops.platforms.supabase.audit import Act
    from agentops.platforms.supabase.books import Books
    from agentops.platforms.supabase.calls import Functions
    from agentops.platforms.supabase.project import Project
    from agentops.platforms.supabase.queries import Writing

TOKEN_FILE = "supabase-token"  # noqa: S105 - a file's name


class SupabasePlatform:
    """One hosted project."""

    def __init__(
        self, api: Management, functions_url: str, *, state: Path, actor: str, told: Callable[[str], None]
    ) -> None:
        self.api = api
        self.actor = actor
        self._state = state
        self.told = told
        self._functions_url = functions_url
        self._calls: Functions | None = None
        self._books: Books | None = None

    @classmethod
    def open(
        cls,
        target: str,
        *,
        home: Path,
        state: Path,
        actor: str,
        told: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
    ) -> SupabasePlatform:
        """The project of `supabase://<ref>`; sends nothing yet.

        Args:
            target: as it was given.
            home: the state folder, where `login` keeps the token.
            state: the project's own folder in it.
            actor: who acts.
            told: takes a sentence for eyes.
            environment: defaults to `os.environ`.

        Raises:
            NotAuthorised: there is no access token.
            UsageError: the token or an address is none.
        """
        env = os.environ if environment is None else environment
        ref = target.removeprefix("supabase://")
        address = env.get("SUPABASE_FUNCTIONS_URL") or f"https://{ref}.supabase.co/functions/v1"
        if not ADDRESS.fullmatch(address):
            raise UsageError("SUPABASE_FUNCTIONS_URL is no HTTP address", f"it looks like {BASE_URL}/functions/v1")
        api = Management(ref, token(home, env), base_url=env.get("SUPABASE_API_URL") or BASE_URL, told=told)
        return cls(api, address, state=state, actor=actor, told=told)

    @property
    def target(self) -> str:
        """The target for eyes."""
        return f"supabase://{self.api.ref}"

    @property
    def calls(self) -> Functions:
        """The project's functions."""
        from agentops.platforms.supabase.calls import Functions

        if self._calls is None:
            self._calls = Functions(self._functions_url)
        return self._calls

    @property
    def books(self) -> Books:
        """What agentops itself notes about the project."""
        from agentops.platforms.supabase.books import Books

        if self._books is None:
            self._books = Books(self._state, self.api, self.told)
        return self._books

    @property
    def database(self) -> Writing:
        """The project's database, for statements that change it."""
        from agentops.platforms.supabase.queries import Writing

        return Writing(self.api)

    async def close(self) -> None:
        """Close the connections."""
        await self.api.aclose()
        if self._calls is not None:
            await self._calls.aclose()

    async def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Read from the project's database."""
        from agentops.platforms.supabase import queries

        return await queries.read(self.api, statement, parameters)

    async def servers(self) -> list[Server]:
        """None: functions run at Supabase."""
        return []

    async def flags(self) -> list[Flag]:
        """Known and set flags, told by their digests."""
        from agentops.platforms.supabase import flags

        return await flags.listed(self.api)

    async def set_flags(self, names: Sequence[str], *, enabled: bool, seconds: float | None, check: bool) -> list[Flag]:
        """Switch flags in one request, and read them back."""
        from agentops.platforms.supabase import audit, flags

        asked = [audit.Act("flag.enable" if enabled else "flag.disable", name) for name in names]
        async with audit.auditing(self, asked) as done:
            switched = await flags.changed(self.api, names, enabled=enabled, seconds=seconds, check=check)
            done.extend([] if check else audit.of_flags(switched, enabled=enabled))
        return switched

    async def secrets(self) -> list[SecretInfo]:
        """All secrets and flags by name, digests only."""
        from agentops.platforms.supabase import secrets

        return await secrets.listed(self.api)

    async def set_secrets(self, values: Mapping[str, str | None], *, check: bool) -> list[SecretChange]:
        """Set and unset; equal values are not sent."""
        from agentops.platforms.supabase import audit, secrets

        async with audit.auditing(self, audit.of_names(values)) as done:
            changes = await secrets.changed(self.api, values, check=check)
            done.extend(audit.of_secrets(changes, values))
        return changes

    async def functions(self) -> list[Function]:
        """What is deployed, by slug, and whether it is what agentops deployed."""
        from agentops.platforms.supabase import deployments

        found = await deployments.listed(self._project())
        self.books.remark()
        return found

    async def history(self, slug: str) -> list[Function]:
        """The versions that are known, newest first."""
        from agentops.platforms.supabase import deployments

        found = await deployments.history(self._project(), slug)
        self.books.remark()
        return found

    async def source(self, slug: str) -> Mapping[str, str]:
        """The active version's files."""
        from agentops.platforms.supabase import deployments

        return await deployments.source(self._project(), slug)

    async def deploy(
        self, bundles: Sequence[Bundle], *, force: bool, check: bool, jobs: int | None = None
    ) -> list[Deployment]:
        """Deploy, then read back and call each."""
        from agentops.platforms.supabase import audit, deployments

        async with audit.auditing(self, _functions("function.deploy", *(each.slug for each in bundles))) as done:
            results = await deployments.deploy(self._project(), bundles, force=force, check=check, jobs=jobs)
            done.extend(audit.of_deployments("function.deploy", results))
        return results

    async def rollback(self, slug: str, version: int | None, *, check: bool) -> Deployment:
        """Deploy an older source again."""
        from agentops.platforms.supabase import audit, deployments

        async with audit.auditing(self, _functions("function.rollback", slug)) as done:
            result = await deployments.rollback(self._project(), slug, version, check=check)
            done.extend(audit.of_deployments("function.rollback", [result]))
        return result

    async def delete(self, slug: str, *, check: bool) -> Deployment:
        """Take a function off; its source is kept here."""
        from agentops.platforms.supabase import audit, deployments

        async with audit.auditing(self, _functions("function.delete", slug)) as done:
            result = await deployments.delete(self._project(), slug, check=check)
            done.extend(audit.of_deployments("function.delete", [result]))
        return result

    async def redeploy(self) -> list[Deployment]:
        """Deploy what runs once more as it is, so that it reads the secrets anew."""
        from agentops.platforms.supabase import audit, deployments

        async with audit.auditing(self, _functions("function.reload", "all")) as done:
            results = await deployments.redeploy(self._project())
            done.extend(audit.of_deployments("function.reload", results))
        return results

    def logs(
        self, wanted: LogFilter, *, limit: int, follow: bool, gap: Callable[[str], None]
    ) -> AsyncIterator[LogLine]:
        """Console lines and invocations in time order; with `follow`, then new ones."""
        from agentops.platforms.supabase import logs

        return logs.stream(self.api, wanted, limit=limit, follow=follow, gap=gap)

    async def invoke(self, slug: str, method: str, body: bytes, headers: Mapping[str, str]) -> Invocation:
        """Call a function of the project."""
        return await self.calls.call(self.api, slug, method, body, headers)

    def _project(self) -> Project:
        from agentops.platforms.supabase.kept import Kept
        from agentops.platforms.supabase.project import Project

        return Project(self.api, Kept(self._state, self.books), self.calls.answers, self.actor, self.told)


def _functions(action: str, *slugs: str) -> list[Act]:
    from agentops.platforms.supabase.audit import Act

    return [Act(action, slug) for slug in slugs]


def token(home: Path, environment: Mapping[str, str]) -> str:
    """The access token: SUPABASE_ACCESS_TOKEN, else what `agentops login` kept.

    Raises:
        NotAuthorised: neither is there, or the file cannot be read.
    """
    given = environment.get("SUPABASE_ACCESS_TOKEN", "").strip()
    if given:
        return given
    try:
        kept = (home / TOKEN_FILE).read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        kept = ""
    except OSError as error:
        words = f"the access token in {home / TOKEN_FILE} cannot be read: {error.strerror}"
        raise NotAuthorised(words, "see that file's permissions, or set SUPABASE_ACCESS_TOKEN") from error
    if not kept:
        raise NotAuthorised("there is no access token for Supabase", "agentops login, or set SUPABASE_ACCESS_TOKEN")
    return kept

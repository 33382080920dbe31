"""PostgreSQL as control plane: flags, secrets, deployments, logs and audit are rows.

A change and its audit row are one transaction. Works with the embedded PostgreSQL and with any server given by URL.

    connection.py (psycopg)   flags.py  secrets.py  deployments.py  logs.py  servers.py  invoke.py, each with its .sql
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentops.platforms.local import connection, flags, servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from httpx import AsyncClient
    from psycopg import AsyncConnection

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


class LocalPlatform:
    """A stack whose control plane is one PostgreSQL database. Implements `platforms.Platform`."""

    def __init__(self, session: AsyncConnection[Row], url: str, label: str, actor: str, home: Path) -> None:
        self.connection = session
        self.url = url
        self.actor = actor
        self.home = home
        # Finds the address again when the connection is lost: the embedded PostgreSQL may have to be started anew.
        self.address: Callable[[], Awaitable[str]] | None = None
        self._label = label
        self._client: AsyncClient | None = None

    @classmethod
    async def open(cls, url: str, *, label: str, actor: str, home: Path) -> LocalPlatform:
        """Connect to `url`; `label` is the target for eyes, `home` holds the stack key where this machine has it.

        Raises:
            UsageError, NotAuthorised, Unavailable: the address, the user or the server is wrong.
        """
        return cls(await connection.connect(url), url, label, actor, home)

    @property
    def target(self) -> str:
        """The target for eyes, without a password."""
        return self._label

    async def close(self) -> None:
        """Close the connections, to PostgreSQL and to servers."""
        if self._client is not None:
            await self._client.aclose()
        await self.connection.close()

    def client(self) -> AsyncClient:
        """The one HTTP client of this platform, made when it is first needed."""
        from agentops.platforms.local import invoke

        if self._client is None:
            self._client = invoke.client()
        return self._client

    async def reconnect(self) -> None:
        """Replace a lost connection.

        Raises:
            Unavailable: the server still does not answer.
        """
        if self.address is not None:
            self.url = await self.address()
        fresh = await connection.connect(self.url)
        await self.connection.close()
        self.connection = fresh

    async def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement with `%(name)s` parameters (or a script without any); its rows as dictionaries."""
        return await connection.run(self.connection, statement, parameters)

    async def servers(self) -> list[Server]:
        """Server processes seen within the last 10 seconds."""
        return await servers.live(self)

    async def flags(self) -> list[Flag]:
        """Known and stored flags."""
        return await flags.listed(self)

    async def set_flags(self, names: Sequence[str], *, enabled: bool, seconds: float | None, check: bool) -> list[Flag]:
        """Switch flags in one statement, with audit rows."""
        return await flags.changed(self, names, enabled=enabled, seconds=seconds, actor=self.actor, check=check)

    async def secrets(self) -> list[SecretInfo]:
        """All secrets and flags by name, digests only."""
        from agentops.platforms.local import secrets

        return await secrets.listed(self)

    async def set_secrets(self, values: Mapping[str, str | None], *, check: bool) -> list[SecretChange]:
        """Seal and store; `FEATURE_AGENT_*` names become flags. All or none."""
        from agentops.platforms.local import secrets

        return await secrets.changed(self, values, actor=self.actor, check=check)

    async def functions(self) -> list[Function]:
        """What is deployed, by slug."""
        from agentops.platforms.local import deployments

        return await deployments.listed(self)

    async def history(self, slug: str) -> list[Function]:
        """All versions of one function, newest first."""
        from agentops.platforms.local import deployments

        return await deployments.history(self, slug)

    async def source(self, slug: str) -> Mapping[str, str]:
        """The active version's files."""
        from agentops.platforms.local import deployments

        return await deployments.source(self, slug)

    async def deploy(
        self,
        bundles: Sequence[Bundle],
        *,
        force: bool,
        check: bool,
        jobs: int | None = None,  # noqa: ARG002 - rows need no jobs
    ) -> list[Deployment]:
        """Store, switch, and wait until every live server confirms; one that fails is switched back."""
        from agentops.platforms.local import deployments

        return await deployments.deploy(self, bundles, actor=self.actor, force=force, check=check)

    async def rollback(self, slug: str, version: int | None, *, check: bool) -> Deployment:
        """Make an older version active again, confirmed as `deploy` is."""
        from agentops.platforms.local import deployments

        return await deployments.rollback(self, slug, version, actor=self.actor, check=check)

    async def delete(self, slug: str, *, check: bool) -> Deployment:
        """Take a function off; its versions stay."""
        from agentops.platforms.local import deployments

        return await deployments.delete(self, slug, actor=self.actor, check=check)

    def logs(
        self, wanted: LogFilter, *, limit: int, follow: bool, gap: Callable[[str], None]
    ) -> AsyncIterator[LogLine]:
        """Matching lines in time order; with `follow`, then new ones, without gap or duplicate."""
        from agentops.platforms.local import logs

        return logs.stream(self, wanted, limit=limit, follow=follow, gap=gap)

    async def invoke(self, slug: str, method: str, body: bytes, headers: Mapping[str, str]) -> Invocation:
        """Call a function on the first live web server."""
        from agentops.platforms.local import invoke

        return await invoke.call(self, slug, method, body, headers)

"""Waits until every live server runs what was switched, and switches back what one of them refuses.

switched rows → poll heartbeats (50 ms, ≤ 15 s) → all servers report it ok ──────────→ active
                                                → one reports an error, or is silent → switch back → restored
                                                → no server is alive ────────────────→ stored
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentops.platforms import Deployment
from agentops.platforms.local import servers
from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from agentops.platforms import DeployStatus, Queries, Server

_SQL = statements(__file__)
WAIT_SECONDS = 15.0
_POLL_SECONDS = 0.05
_REPLACED = "someone else changed this function at the same time; see: agentops deploy list"


@dataclass(frozen=True, slots=True)
class Switch:
    """A function's row as it was switched, and what stood there before (None: nothing)."""

    slug: str
    sha256: str
    previous_sha256: str | None
    version: int
    reload: int
    previous_version: int | None
    previous_reload: int | None

    @property
    def place(self) -> tuple[int, int]:
        """What the row and the servers' reports say when this is in force."""
        return self.version, self.reload


@dataclass(frozen=True, slots=True)
class _Verdict:
    """How a switch ended: `status` is active, stored, replaced (by somebody else) or refused."""

    status: str
    finding: str | None = None


async def settle(queries: Queries, switches: Sequence[Switch], actor: str) -> list[Deployment]:
    """Wait for the servers' word on each switch; in their order."""
    if not switches:
        return []
    verdicts = await _verdicts(queries, switches)
    refused = [switch for switch in switches if verdicts[switch.slug].status == "refused"]
    restored = await _switch_back(queries, refused, verdicts, actor)
    return [restored.get(switch.slug) or _settled(switch, verdicts[switch.slug]) for switch in switches]


async def gone(queries: Queries, slug: str) -> str | None:
    """Wait until no live server runs a function that was taken off; None, or which ones still may."""
    deadline = time.monotonic() + WAIT_SECONDS
    while holders := [server.name for server in await servers.live(queries) if slug in server.functions]:
        if time.monotonic() >= deadline:
            return f"not confirmed by {', '.join(holders)}"
        await asyncio.sleep(_POLL_SECONDS)
    return None


def _settled(switch: Switch, verdict: _Verdict) -> Deployment:
    status: DeployStatus = "active" if verdict.status == "active" else "stored"
    if verdict.status == "replaced":
        return Deployment(switch.slug, None, changed=False, status="replaced", sha256=None, finding=verdict.finding)
    return Deployment(
        switch.slug, switch.version, changed=True, status=status, sha256=switch.sha256, finding=verdict.finding
    )


async def _verdicts(queries: Queries, switches: Sequence[Switch]) -> dict[str, _Verdict]:
    """Poll until each switch has its verdict. A server that dies meanwhile, or comes, is not waited for."""
    deadline = time.monotonic() + WAIT_SECONDS
    waited_for = {server.id for server in await servers.live(queries)}
    verdicts: dict[str, _Verdict] = {}
    while True:
        standing = {row["slug"]: (row["version"], row["reload"]) for row in await queries.query(_SQL["standing"])}
        live = [server for server in await servers.live(queries) if server.id in waited_for]
        late = time.monotonic() >= deadline
        for switch in switches:
            if switch.slug not in verdicts:
                verdict = _verdict(switch, standing, live, late=late)
                if verdict is not None:
                    verdicts[switch.slug] = verdict
        if len(verdicts) == len(switches):
            return verdicts
        await asyncio.sleep(_POLL_SECONDS)


def _verdict(
    switch: Switch, standing: Mapping[str, tuple[int, int]], live: Sequence[Server], *, late: bool
) -> _Verdict | None:
    if standing.get(switch.slug) != switch.place:
        return _Verdict("replaced", _REPLACED)
    silent: list[str] = []
    for server in live:
        report: Mapping[str, Any] | None = server.functions.get(switch.slug)
        if report is None or (report["version"], report["reload"]) != switch.place:
            silent.append(server.name)
        elif not report["ok"]:
            return _Verdict("refused", f"{report['error']} (server {server.name})")
    if not silent:
        return _Verdict("active" if live else "stored")
    return _Verdict("refused", f"no word from {', '.join(silent)} within {WAIT_SECONDS:.0f} s") if late else None


async def _switch_back(
    queries: Queries, refused: Sequence[Switch], verdicts: Mapping[str, _Verdict], actor: str
) -> dict[str, Deployment]:
    """Put back what stood before each refused switch, and wait for the servers' word on that."""
    undone = [switch for switch in refused if await _undone(queries, switch, verdicts[switch.slug], actor)]
    before = [_previous(switch, switch.previous_version) for switch in undone if switch.previous_version is not None]
    again = await _verdicts(queries, before) if before else {}
    results = {switch.slug: _settled(switch, _Verdict("replaced", _REPLACED)) for switch in refused}
    for switch in undone:
        finding = f"version {switch.version}: {verdicts[switch.slug].finding}"
        back = again.get(switch.slug)
        if back is not None and back.finding:
            finding += f"; going back to version {switch.previous_version}: {back.finding}"
        results[switch.slug] = Deployment(
            switch.slug,
            switch.previous_version,
            changed=False,
            status="restored",
            sha256=switch.previous_sha256,
            finding=finding,
        )
    return results


async def _undone(queries: Queries, switch: Switch, verdict: _Verdict, actor: str) -> bool:
    parameters = {
        "slug": switch.slug,
        "version": switch.version,
        "reload": switch.reload,
        "previous_version": switch.previous_version,
        "previous_reload": switch.previous_reload,
        "actor": actor,
        "finding": verdict.finding,
    }
    return bool(await queries.query(_SQL["switch_back"], parameters))


def _previous(switch: Switch, version: int) -> Switch:
    return Switch(
        slug=switch.slug,
        sha256=switch.previous_sha256 or "",
        previous_sha256=None,
        version=version,
        reload=switch.previous_reload or 0,
        previous_version=None,
        previous_reload=None,
    )

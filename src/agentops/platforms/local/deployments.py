"""Functions as rows: every version stays, one is active, live servers confirm each switch.

deploy(bundles) → equal hash: unchanged
                → new version row + switch + audit, one statement → confirming.settle → active | stored | restored
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agentops.errors import AgentOpsError, Conflict, NotFound
from agentops.platforms import Deployment, Function, ways_from
from agentops.platforms.local import confirming, servers
from agentops.platforms.local.confirming import Switch
from agentops.sql import statements

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentops.platforms import Bundle, DeployStatus, Queries, Row, Server

_SQL = statements(__file__)


async def listed(queries: Queries) -> list[Function]:
    """What is deployed, by slug.

    `status`: active (every live server runs it), stored (no server is alive), failed (a server could not load it),
    pending (a server has not said yet).
    """
    live = await servers.live(queries)
    return [_function(row, _status(row, live)) for row in await queries.query(_SQL["active"])]


async def history(queries: Queries, slug: str) -> list[Function]:
    """All versions, newest first; `status` is active or stored."""
    return [_function(row, str(row["status"])) for row in await queries.query(_SQL["history"], {"slug": slug})]


async def source(queries: Queries, slug: str) -> Mapping[str, str]:
    """The active version's files by relative path.

    Raises:
        NotFound: the function is not deployed.
    """
    rows = await queries.query(_SQL["source"], {"slug": slug})
    if not rows:
        raise NotFound(f"{slug} is not deployed", f"agentops deploy {slug}")
    return dict(rows[0]["files"])


async def deploy(
    queries: Queries, bundles: Sequence[Bundle], *, actor: str, force: bool, check: bool
) -> list[Deployment]:
    """Make each bundle active, in the order given; one that fails stops no other."""
    active = await _active(queries)
    results: dict[str, Deployment] = {}
    switches: list[Switch] = []
    for bundle in bundles:
        now = active.get(bundle.slug)
        same = now is not None and now["sha256"] == bundle.sha256
        if now is not None and same and not force:
            results[bundle.slug] = Deployment(
                bundle.slug, now["version"], changed=False, status="unchanged", sha256=bundle.sha256
            )
        elif check:
            version = now["version"] if now else None
            results[bundle.slug] = Deployment(
                bundle.slug, version, changed=True, status="would_change", sha256=bundle.sha256
            )
        else:
            try:
                switches.append(await _switch(queries, bundle, now, actor))
            except AgentOpsError as error:
                results[bundle.slug] = await _lost(queries, bundle, error)
    for result in await confirming.settle(queries, switches, actor):
        results[result.slug] = result
    return [results[bundle.slug] for bundle in bundles]


async def rollback(queries: Queries, slug: str, version: int | None, *, actor: str, check: bool) -> Deployment:
    """Make an older version active again; None is the newest one before the active one that servers did not refuse.

    Raises:
        NotFound: there is no such version.
        Conflict: another version became active meanwhile.
    """
    versions = await history(queries, slug)
    wanted = _named(slug, versions, version) if version is not None else await _before(queries, slug, versions)
    seen = next((entry.version for entry in versions if entry.status == "active"), None)
    if wanted.version == seen:
        return Deployment(slug, seen, changed=False, status="unchanged", sha256=wanted.sha256)
    if check:
        return Deployment(slug, wanted.version, changed=True, status="would_change", sha256=wanted.sha256)
    parameters = {"slug": slug, "version": wanted.version, "seen": seen, "actor": actor}
    rows = await queries.query(_SQL["activate"], parameters)
    if not rows:
        raise _changed_meanwhile(slug)
    previous = next((entry.sha256 for entry in versions if entry.version == seen), None)
    return (await confirming.settle(queries, [Switch(slug, wanted.sha256, previous, **rows[0])], actor))[0]


async def delete(queries: Queries, slug: str, *, actor: str, check: bool) -> Deployment:
    """Take a function off; its versions stay. Absent is nothing to do."""
    now = (await _active(queries)).get(slug)
    if now is None:
        return Deployment(slug, None, changed=False, status="absent", sha256=None)
    if check:
        return Deployment(slug, now["version"], changed=True, status="would_change", sha256=now["sha256"])
    removed = await queries.query(_SQL["remove"], {"slug": slug, "actor": actor})
    if not removed:
        return Deployment(slug, None, changed=False, status="absent", sha256=None)
    return Deployment(
        slug, None, changed=True, status="deleted", sha256=None, finding=await confirming.gone(queries, slug)
    )


async def _active(queries: Queries) -> dict[str, Row]:
    return {str(row["slug"]): row for row in await queries.query(_SQL["active"])}


async def _switch(queries: Queries, bundle: Bundle, now: Row | None, actor: str) -> Switch:
    slug, sha256 = bundle.slug, bundle.sha256
    previous = now["sha256"] if now else None
    if now is not None and previous == sha256:
        rows = await queries.query(_SQL["reload"], {"slug": slug, "version": now["version"], "actor": actor})
    else:
        parameters = {
            "slug": slug,
            "sha256": sha256,
            "entrypoint": bundle.entrypoint,
            "files": json.dumps(dict(bundle.files)),
            "origin": bundle.origin,
            "actor": actor,
        }
        rows = await queries.query(_SQL["store"], parameters)
    if not rows:
        raise _changed_meanwhile(slug)
    return Switch(slug, sha256, previous, **rows[0])


async def _lost(queries: Queries, bundle: Bundle, error: AgentOpsError) -> Deployment:
    """What stands after a switch that did not happen: perhaps another deployer put the very same bundle there."""
    now = (await _active(queries)).get(bundle.slug)
    if isinstance(error, Conflict) and now is not None and now["sha256"] == bundle.sha256:
        return Deployment(bundle.slug, now["version"], changed=False, status="unchanged", sha256=bundle.sha256)
    live = (now["version"], now["sha256"]) if now else (None, None)
    status: DeployStatus = "replaced" if isinstance(error, Conflict) else "failed"
    return Deployment(bundle.slug, live[0], changed=False, status=status, sha256=live[1], finding=error.message)


def _named(slug: str, versions: Sequence[Function], version: int) -> Function:
    found = next((entry for entry in versions if entry.version == version), None)
    if found is None:
        raise NotFound(f"{slug} has no version {version}", f"agentops deploy history {slug}")
    return found


async def _before(queries: Queries, slug: str, versions: Sequence[Function]) -> Function:
    active = next((entry.version for entry in versions if entry.status == "active"), None)
    if active is None:
        raise NotFound(f"{slug} is not deployed", f"agentops deploy {slug}, or name a version with --to")
    refused = {row["version"] for row in await queries.query(_SQL["refused"], {"slug": slug})}
    found = next((entry for entry in versions if entry.version < active and entry.version not in refused), None)
    if found is None:
        others = [entry.version for entry in versions if entry.version != active and entry.version not in refused]
        raise NotFound(f"{slug} has no version before {active} to go back to", ways_from(slug, others))
    return found


def _changed_meanwhile(slug: str) -> Conflict:
    return Conflict(f"another version of {slug} became active meanwhile", f"agentops deploy history {slug}")


def _status(row: Row, live: Sequence[Server]) -> str:
    reports = [server.functions.get(row["slug"]) for server in live]
    if not live:
        return "stored"
    said = [
        entry for entry in reports if entry and (entry["version"], entry["reload"]) == (row["version"], row["reload"])
    ]
    if any(not entry["ok"] for entry in said):
        return "failed"
    return "active" if len(said) == len(live) else "pending"


def _function(row: Row, status: str) -> Function:
    return Function(
        slug=row["slug"],
        version=row["version"],
        status=status,
        sha256=row["sha256"],
        origin=row["origin"],
        deployed_by=row["deployed_by"],
        deployed_at=row["deployed_at"],
    )

"""Deploys to a hosted project: what changes, what runs, and the way back.

    deploy(sources) → GET functions → equal to what runs: unchanged → keep the source that is there → switching.py
    rollback(slug)  → an older source that this machine kept → the same way
    list            → active | drifted | unknown: is it what this machine deployed?

What runs is known by its record here (version, bundle hash, verify_jwt); what was deployed elsewhere is fetched once,
kept, and compared file by file. `verify_jwt` is always sent: from config.toml, else as it is there.

Source: https://supabase.com/docs/reference/api/v1-deploy-a-function
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agentops.errors import AgentOpsError, NotFound
from agentops.platforms import Deployment, Function
from agentops.platforms.supabase import downloads, switching
from agentops.platforms.supabase.sources import Source, as_source
from agentops.platforms.supabase.switching import Project, record, rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentops.platforms import Bundle
    from agentops.platforms.supabase.kept import Record
    from agentops.platforms.supabase.switching import Row

__all__ = ["delete", "deploy", "history", "listed", "redeploy", "rollback", "rows", "source"]
JOBS = 8
_UNKNOWN = "unknown"
_DOWNLOADED = "downloaded"


async def listed(project: Project) -> list[Function]:
    """What is deployed.

    `status`: active, drifted (not what this machine deployed last), unknown (it never did), or what the API says where
    it does not run.
    """
    return [_function(row, project.kept.records(slug)) for slug, row in (await rows(project.api)).items()]


async def history(project: Project, slug: str) -> list[Function]:
    """The versions that this machine deployed or kept, newest first; the API itself keeps none."""
    row = (await rows(project.api)).get(slug)
    found: dict[tuple[str, int], Function] = {}
    for each in project.kept.records(slug):
        status = "active" if row is not None and _is(each, row) else "stored"
        told = Function(slug, each.version, status, each.sha256, each.origin, each.by, each.when)
        found.setdefault((each.id, each.version), told)
    return list(found.values())


async def source(project: Project, slug: str) -> Mapping[str, str]:
    """The active version's files by path.

    Raises:
        NotFound: the function is not deployed.
    """
    row = (await rows(project.api)).get(slug)
    if row is None:
        raise NotFound(f"{slug} is not deployed", f"agentops deploy {slug}")
    known = _known(project, row)
    found = known[1] if known else await downloads.download(project.api, row)
    if found is None:
        raise NotFound(f"the source of {slug} cannot be had from Supabase", "see the dashboard")
    return found.files


async def deploy(
    project: Project, bundles: Sequence[Bundle], *, force: bool, check: bool, jobs: int | None
) -> list[Deployment]:
    """Make each bundle the running version; several of them together or not at all."""
    there = await rows(project.api)
    gate = asyncio.Semaphore(jobs or JOBS)

    async def planned(wanted: Source) -> bool:
        async with gate:
            return wanted.slug in there and not force and await _same(project, wanted, there[wanted.slug])

    wanted = [_with_jwt(as_source(bundle), there.get(bundle.slug)) for bundle in bundles]
    same = await asyncio.gather(*(planned(each) for each in wanted))
    results: dict[str, Deployment] = {}
    changing: list[Source] = []
    for each, equal in zip(wanted, same, strict=True):
        version = there[each.slug]["version"] if each.slug in there else None
        if equal:
            results[each.slug] = Deployment(each.slug, version, changed=False, status="unchanged", sha256=each.sha256)
        elif check:
            results[each.slug] = Deployment(each.slug, version, changed=True, status="would_change", sha256=each.sha256)
        else:
            changing.append(each)
    if changing:
        results |= await _switched(project, changing, there, gate)
    return [results[bundle.slug] for bundle in bundles]


async def rollback(project: Project, slug: str, version: int | None, *, check: bool) -> Deployment:
    """Deploy an older source once more; None is the one before what runs, the newest one where none runs.

    Raises:
        NotFound: there is no such version here.
    """
    there = await rows(project.api)
    row = there.get(slug)
    records = project.kept.records(slug)
    now = next((each for each in records if row is not None and _is(each, row)), None)
    found = next((each for each in records if each.version == version), None)
    if version is None:
        found = _before(records, now)
    kept = project.kept.source(found.sha256) if found else None
    if found is None or kept is None:
        what = f"version {version}" if version is not None else "other version to go back to"
        raise NotFound(f"this machine keeps no {what} of {slug}", f"agentops deploy history {slug}")
    if now is not None and found.sha256 == now.sha256 and found.verify_jwt == now.verify_jwt:
        return Deployment(slug, now.version, changed=False, status="unchanged", sha256=now.sha256)
    if check:
        return Deployment(slug, found.version, changed=True, status="would_change", sha256=found.sha256)
    # What was only found there is ours from now on.
    origin = "rollback" if kept.origin == _DOWNLOADED else kept.origin
    older = replace(kept, verify_jwt=found.verify_jwt, origin=origin)
    return (await _switched(project, [older], there, asyncio.Semaphore(1)))[slug]


async def delete(project: Project, slug: str, *, check: bool) -> Deployment:
    """Take a function off, its source kept; absent is nothing to do."""
    row = (await rows(project.api)).get(slug)
    if row is None:
        return Deployment(slug, None, changed=False, status="absent", sha256=None)
    if check:
        return Deployment(slug, row["version"], changed=True, status="would_change", sha256=None)
    await _keep(project, row)
    try:
        await project.api.send("DELETE", f"/functions/{slug}", repeatable=True)
    except NotFound:  # a repeated request, or somebody else
        return Deployment(slug, None, changed=False, status="absent", sha256=None)
    return Deployment(slug, None, changed=True, status="deleted", sha256=None)


async def redeploy(project: Project) -> list[Deployment]:
    """Deploy what runs once more as it is: fresh isolates read the secrets as they are now.

    A function whose source cannot be had whole is left as it is, and failed.
    """
    there = {slug: row for slug, row in (await rows(project.api)).items() if row["status"] == "ACTIVE"}
    gate = asyncio.Semaphore(JOBS)

    async def running(row: Row) -> Source | None:
        async with gate:
            known = _known(project, row)
            found = known[1] if known else await _fetched(project, row)
        if found is None or (found.origin == _DOWNLOADED and row.get("import_map") and not found.import_map):
            return None
        origin = "redeploy" if found.origin == _DOWNLOADED else found.origin
        return replace(found, verify_jwt=bool(row.get("verify_jwt", True)), origin=origin)

    sources = dict(zip(there, await asyncio.gather(*map(running, there.values())), strict=True))
    wanted = [found for found in sources.values() if found is not None]
    results = await _switched(project, wanted, there, gate) if wanted else {}
    words = "its source is not kept here and cannot be had whole: deploy it from its folder, with --force"
    for slug, row in there.items():
        if slug not in results:
            results[slug] = Deployment(slug, row["version"], changed=False, status="failed", sha256=None, finding=words)
    return [results[slug] for slug in there]


async def _switched(
    project: Project, wanted: Sequence[Source], there: Mapping[str, Row], gate: asyncio.Semaphore
) -> dict[str, Deployment]:
    """Keep what comes and what goes, then switch."""

    async def kept(each: Source) -> None:
        async with gate:
            project.kept.keep(each)
            if each.slug in there:
                await _keep(project, there[each.slug])

    await asyncio.gather(*(kept(each) for each in wanted))
    return await switching.switch(project, wanted, there, gate)


def _before(records: Sequence[Record], now: Record | None) -> Record | None:
    """The version before what runs: going back twice does not come back. Where what runs is not ours, our newest."""
    if now is None:
        return next(iter(records), None)
    # One version may be known twice: as it was fetched, and as what it turned out to be equal to.
    same = {(each.id, each.version) for each in records if each.sha256 == now.sha256}
    mine = [place for place, each in enumerate(records) if (each.id, each.version) in same]
    return next(iter(records[max(mine) + 1 :]), None)


def _with_jwt(wanted: Source, row: Row | None) -> Source:
    """The source with `verify_jwt` decided: its own setting, else as it is there, else on."""
    if wanted.verify_jwt is not None:
        return wanted
    return replace(wanted, verify_jwt=True if row is None else bool(row.get("verify_jwt", True)))


def _is(known: Record, row: Row) -> bool:
    """Whether what runs is what the record tells of."""
    ezbr = row.get("ezbr_sha256") or ""
    return (
        known.version == row["version"]
        and known.id in {"", row["id"]}
        and (not ezbr or not known.ezbr_sha256 or ezbr == known.ezbr_sha256)
        and bool(row.get("verify_jwt", True)) == known.verify_jwt
    )


def _known(project: Project, row: Row) -> tuple[Record, Source] | None:
    """What runs, as this machine deployed or kept it."""
    for each in project.kept.records(row["slug"]):
        if _is(each, row) and (found := project.kept.source(each.sha256)):
            return each, found
    return None


async def _same(project: Project, wanted: Source, row: Row) -> bool:
    """Whether `wanted` runs already. What was deployed elsewhere is fetched, and kept in case it goes."""
    if row["status"] != "ACTIVE" or bool(row.get("verify_jwt", True)) != wanted.verify_jwt:
        return False
    known = _known(project, row)
    if known is not None and known[0].sha256 == wanted.sha256:
        return True
    there = known[1] if known else await _fetched(project, row)
    if there is None or not _alike(wanted, there, row):
        return False
    # Equal, with other settings written down or deployed elsewhere: from now on it is known by this hash.
    _remember(project, wanted, record(wanted, row, wanted.origin, known[0].by if known else _UNKNOWN))
    return True


def _alike(wanted: Source, there: Source, row: Row) -> bool:
    if dict(there.files) != dict(wanted.files) or there.entrypoint != wanted.entrypoint:
        return False
    if there.origin == _DOWNLOADED:  # it does not tell its patterns, and its import map not always
        return bool(row.get("import_map", bool(wanted.import_map))) == bool(wanted.import_map)
    return (there.import_map, there.static_patterns) == (wanted.import_map, wanted.static_patterns)


async def _fetched(project: Project, row: Row) -> Source | None:
    """The source of what runs, from the API, kept here from now on; None where it cannot be had."""
    found = await downloads.download(project.api, row)
    if found is not None:
        _remember(project, found, record(found, row, _DOWNLOADED, _UNKNOWN))
    return found


async def _keep(project: Project, row: Row) -> None:
    """Keep the source of what runs, unless it is here."""
    if _known(project, row) is None and await _fetched(project, row) is None:
        project.told(f"note: the source of {row['slug']} version {row['version']} cannot be had: no way back to it")


def _remember(project: Project, found: Source, known: Record) -> None:
    try:
        project.kept.keep(found)
        project.kept.add(known)
    except AgentOpsError as failure:
        project.told(f"note: {failure.message}: no way back to {known.slug} version {known.version}")


def _function(row: Row, records: Sequence[Record]) -> Function:
    mine = next((each for each in records if each.origin != _DOWNLOADED), None)
    ours = mine is not None and _is(mine, row)
    status = "active" if ours else _UNKNOWN if mine is None else "drifted"
    return Function(
        slug=row["slug"],
        version=row["version"],
        status=status if row["status"] == "ACTIVE" else str(row["status"]).lower(),
        sha256=mine.sha256 if mine is not None and ours else str(row.get("ezbr_sha256") or ""),
        origin=mine.origin if mine is not None and ours else _UNKNOWN,
        deployed_by=mine.by if mine is not None and ours else _UNKNOWN,
        deployed_at=datetime.fromtimestamp(_milliseconds(row) / 1000, UTC),
    )


def _milliseconds(row: Row) -> float:
    found = row.get("updated_at")
    return float(found) if isinstance(found, (int, float)) else 0.0

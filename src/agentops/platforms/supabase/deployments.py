"""Deploys to a hosted project: what changes, what runs, and the way back.

    deploy(sources) → GET functions → equal to what runs: unchanged (called, where nobody has seen it answer)
                    → keep the source that is there → switching.py
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
from agentops.platforms import Deployment, Function, ways_from
from agentops.platforms.supabase import downloads, switching, verifying
from agentops.platforms.supabase.kept import DOWNLOADED
from agentops.platforms.supabase.project import Project, record, rows
from agentops.platforms.supabase.sources import Source, as_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentops.platforms import Bundle
    from agentops.platforms.supabase.kept import Record
    from agentops.platforms.supabase.project import Row

__all__ = ["delete", "deploy", "history", "listed", "redeploy", "rollback", "rows", "source"]
JOBS = 8
_UNKNOWN = "unknown"


async def listed(project: Project) -> list[Function]:
    """What is deployed.

    `status`: active, drifted (not what agentops deployed last, from any machine that is known of), unknown (it never
    did), or what the API says where it does not run.
    """
    return [_function(row, project.kept.records(slug)) for slug, row in (await project.rows()).items()]


async def history(project: Project, slug: str) -> list[Function]:
    """The versions that are known, whichever machine deployed them, newest first; the API itself keeps none."""
    row = (await project.rows()).get(slug)
    found: dict[tuple[str, int, bool], Function] = {}
    for each in _by_age(project.kept.records(slug), row):
        status = "active" if row is not None and _is(each, row) else "stored"
        told = Function(slug, each.version, status, each.sha256, each.origin, each.by, each.when)
        found.setdefault((each.id, each.version, each.replaced), told)
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
    """Make each bundle the running version; several of them together or not at all. `check` reads, and no more."""
    there = await project.rows()
    gate = asyncio.Semaphore(jobs or JOBS)

    async def planned(wanted: Source) -> bool:
        async with gate:
            if wanted.slug not in there or force:
                return False
            return await _same(project, wanted, there[wanted.slug], check=check)

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
    results |= await _answering(project, list(results.values()), there, gate, check=check)
    if changing:
        results |= await _switched(project, changing, there, gate)
    return [results[bundle.slug] for bundle in bundles]


async def rollback(project: Project, slug: str, version: int | None, *, check: bool) -> Deployment:
    """Deploy an older source once more; None is the one before what runs, the newest one where none runs.

    Raises:
        NotFound: there is no such version here.
    """
    there = await project.rows()
    row = there.get(slug)
    records = _by_age(project.kept.records(slug), row)
    now = next((each for each in records if row is not None and _is(each, row)), None)
    found = next((each for each in records if each.version == version), None)
    if version is None:
        found = _before(records, now)
    kept = project.kept.source(found.sha256) if found else None
    if found is not None and kept is None and not project.kept.is_own(found):
        raise _elsewhere(project, found, records, now)
    if found is None or kept is None:
        what = f"version {version}" if version is not None else "version before the one that runs"
        raise NotFound(f"this machine keeps no {what} of {slug}", ways_from(slug, _others(project, records, now)))
    if now is not None and found.sha256 == now.sha256 and found.verify_jwt == now.verify_jwt:
        same = Deployment(slug, now.version, changed=False, status="unchanged", sha256=now.sha256)
        return (await _answering(project, [same], there, asyncio.Semaphore(1), check=check))[slug]
    if check:
        return Deployment(slug, found.version, changed=True, status="would_change", sha256=found.sha256)
    # What was only found there is ours from now on.
    origin = "rollback" if kept.origin == DOWNLOADED else kept.origin
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
    there = {slug: row for slug, row in (await project.rows()).items() if row["status"] == "ACTIVE"}
    gate = asyncio.Semaphore(JOBS)

    async def running(row: Row) -> Source | None:
        async with gate:
            known = _known(project, row)
            found = known[1] if known else await _fetched(project, row)
        if found is None or (found.origin == DOWNLOADED and _lacks_map(found, row)):
            return None
        origin = "redeploy" if found.origin == DOWNLOADED else found.origin
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
    results = await switching.switch(project, wanted, there, gate)
    overtaken = [slug for slug, result in results.items() if result.status == "replaced"]
    if overtaken:
        await _keep_theirs(project, overtaken)
    return results


async def _keep_theirs(project: Project, slugs: Sequence[str]) -> None:
    """Keep what others deployed meanwhile, so that the history tells of it."""
    try:
        now = await rows(project.api)
        for slug in slugs:
            if slug in now:
                await _keep(project, now[slug])
    except AgentOpsError as failure:
        project.told(f"note: {failure.message}: what runs now is not kept here")


async def _answering(
    project: Project, same: Sequence[Deployment], there: Mapping[str, Row], gate: asyncio.Semaphore, *, check: bool
) -> dict[str, Deployment]:
    """Call what nobody has seen answer since its deploy: it is unverified until it does. `check` only says so."""

    async def called(each: Deployment) -> Deployment:
        known = None if each.changed else _record_of(project, there[each.slug])
        if each.changed or (known is not None and known.answered):
            return each
        if check:
            words = "it has not been seen to answer since its deploy"
            return replace(each, status="unverified", finding=words) if known is not None else each
        async with gate:
            finding = await verifying.silence(project, each.slug)
        if finding is not None:
            return replace(each, status="unverified", finding=finding)
        if known is not None:
            _noted(project, replace(known, answered=True))
        return each

    return {each.slug: each for each in await asyncio.gather(*map(called, same))}


def _others(project: Project, records: Sequence[Record], now: Record | None) -> list[int]:
    """Versions with another source than what runs, newest first, whose source is here."""
    running = now.sha256 if now is not None else None
    others = [each for each in records if each.sha256 != running and project.kept.source(each.sha256) is not None]
    return list(dict.fromkeys(each.version for each in others))


def _by_age(records: Sequence[Record], row: Row | None) -> list[Record]:
    """Records newest first: by their numbers, for the clocks of several machines differ.

    A function that was deleted and made anew counts from 1 again: what is there now goes before what was.
    """
    running = row["id"] if row is not None else ""
    lives = {number: place for place, number in enumerate(dict.fromkeys([running, *(each.id for each in records)]))}
    # Before there were ids, records had none: they are of the function that runs.
    return sorted(records, key=lambda each: (lives[each.id or running], -each.version))


def _before(records: Sequence[Record], now: Record | None) -> Record | None:
    """The version before what runs: going back twice does not come back. Where what runs is not ours, our newest."""
    if now is None:
        return next(iter(records), None)
    # One version may be known twice: as it was fetched, and as what it turned out to be equal to.
    same = {(each.id, each.version) for each in records if each.sha256 == now.sha256}
    mine = [place for place, each in enumerate(records) if (each.id, each.version) in same]
    return next(iter(records[max(mine) + 1 :]), None)


def _elsewhere(project: Project, found: Record, records: Sequence[Record], now: Record | None) -> NotFound:
    """The source of a version is on the machine that deployed it; the way back that there is from here."""
    words = f"version {found.version} of {found.slug} is kept on another machine: {found.by} deployed it there"
    here = (each for each in records if project.kept.source(each.sha256) and (not now or each.sha256 != now.sha256))
    other = next(here, None)
    hint = f"agentops deploy rollback {found.slug} --to {other.version}" if other else "roll it back on that machine"
    return NotFound(f"{words} at {found.when.astimezone():%Y-%m-%d %H:%M}", hint)


def _with_jwt(wanted: Source, row: Row | None) -> Source:
    """The source with `verify_jwt` decided: its own setting, else as it is there, else on."""
    if wanted.verify_jwt is not None:
        return wanted
    return replace(wanted, verify_jwt=True if row is None else bool(row.get("verify_jwt", True)))


def _is(known: Record, row: Row) -> bool:
    """Whether what runs is what the record tells of."""
    ezbr = row.get("ezbr_sha256") or ""
    return (
        not known.replaced
        and known.version == row["version"]
        and known.id in {"", row["id"]}
        and (not ezbr or not known.ezbr_sha256 or ezbr == known.ezbr_sha256)
        and bool(row.get("verify_jwt", True)) == known.verify_jwt
    )


def _record_of(project: Project, row: Row) -> Record | None:
    """The last word on the version that runs, of somebody who deployed it, or saw it answer."""
    found = (each for each in project.kept.records(row["slug"]) if each.origin != DOWNLOADED and _is(each, row))
    return next(found, None)


def _known(project: Project, row: Row) -> tuple[Record, Source] | None:
    """What runs, as this machine deployed or kept it."""
    for each in project.kept.records(row["slug"]):
        if _is(each, row) and (found := project.kept.source(each.sha256)):
            return each, found
    return None


async def _same(project: Project, wanted: Source, row: Row, *, check: bool) -> bool:
    """Whether `wanted` runs already. What was deployed elsewhere is fetched; unless `check`, kept in case it goes."""
    if row["status"] != "ACTIVE" or bool(row.get("verify_jwt", True)) != wanted.verify_jwt:
        return False
    records = project.kept.records(wanted.slug)
    if any(each.sha256 == wanted.sha256 and _is(each, row) for each in records):
        # Another machine may have deployed it: from now on there is a way back to it from here, too.
        if not check:
            _keep_source(project, wanted, row["version"])
        return True
    known = _known(project, row)
    there = known[1] if known else await (downloads.download(project.api, row) if check else _fetched(project, row))
    if there is None or not _alike(wanted, there, row):
        return False
    if not check:
        # Equal, with other settings written down or deployed elsewhere: from now on it is known by this hash.
        mine = _record_of(project, row)
        by, answered = (mine.by, mine.answered) if mine is not None else (_UNKNOWN, False)
        _remember(project, wanted, record(wanted, row, wanted.origin, by, answered=answered))
    return True


def _alike(wanted: Source, there: Source, row: Row) -> bool:
    if dict(there.files) != dict(wanted.files) or there.entrypoint != wanted.entrypoint:
        return False
    if there.origin == DOWNLOADED:  # it does not tell its patterns, and not always which import map it has
        return not _lacks_map(there, row) and there.import_map == wanted.import_map
    return (there.import_map, there.static_patterns) == (wanted.import_map, wanted.static_patterns)


def _lacks_map(there: Source, row: Row) -> bool:
    """Whether what was fetched runs with an import map, and nothing says with which."""
    return bool(row.get("import_map") or row.get("import_map_path")) and not there.import_map


async def _fetched(project: Project, row: Row) -> Source | None:
    """The source of what runs, from the API, kept here from now on; None where it cannot be had."""
    found = await downloads.download(project.api, row)
    if found is not None:
        _remember(project, found, record(found, row, DOWNLOADED, _UNKNOWN))
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


def _keep_source(project: Project, found: Source, version: int) -> None:
    try:
        project.kept.keep(found)
    except AgentOpsError as failure:
        project.told(f"note: {failure.message}: no way back to {found.slug} version {version}")


def _noted(project: Project, known: Record) -> None:
    try:
        project.kept.add(known)
    except AgentOpsError as failure:
        project.told(f"note: {failure.message}: {known.slug} will be called again by the next deploy")


def _function(row: Row, records: Sequence[Record]) -> Function:
    known = [each for each in records if each.origin != DOWNLOADED]
    running = [each for each in known if _is(each, row)]
    # What was found to be equal to what somebody deployed is theirs all the same.
    mine = next((each for each in running if each.by != _UNKNOWN), next(iter(running), None))
    status = "active" if mine else "drifted" if known else _UNKNOWN
    return Function(
        slug=row["slug"],
        version=row["version"],
        status=status if row["status"] == "ACTIVE" else str(row["status"]).lower(),
        sha256=mine.sha256 if mine else str(row.get("ezbr_sha256") or ""),
        origin=mine.origin if mine else _UNKNOWN,
        deployed_by=mine.by if mine else _UNKNOWN,
        deployed_at=datetime.fromtimestamp(_milliseconds(row) / 1000, UTC),
    )


def _milliseconds(row: Row) -> float:
    found = row.get("updated_at")
    return float(found) if isinstance(found, (int, float)) else 0.0

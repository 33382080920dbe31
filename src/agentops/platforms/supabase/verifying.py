"""Looks at functions after they were switched: whether what runs is what was sent, and answers.

GET functions: version, status, entrypoint, verify_jwt, bundle ─→ unverified, where they are not as they were sent
               somebody else's deploy, which came after this   ─→ replaced
GET each function: any answer but 404 and 5xx                  ─→ active, else unverified until it answers
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from agentops.errors import AgentOpsError
from agentops.platforms import Deployment
from agentops.platforms.supabase import downloads
from agentops.platforms.supabase.project import record, rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentops.platforms import DeployStatus
    from agentops.platforms.supabase.project import Project, Row
    from agentops.platforms.supabase.sources import Source

# What was deployed a moment ago may be listed, and answer, a little later.
PAUSES = (0.5, 1.5)


async def verified(
    project: Project,
    wanted: Sequence[Source],
    sent: Mapping[str, Row],
    before: Mapping[str, Row],
    gate: asyncio.Semaphore,
) -> dict[str, Deployment]:
    """Read every function back and call it. `sent` is what the API answered to the deploy, `before` what ran."""
    try:
        there = await _read_back(project, wanted, sent)
    except AgentOpsError as failure:
        words = f"deployed, but it could not be read back: {failure.message}"
        return {each.slug: _unread(project, each, sent[each.slug], words) for each in wanted}

    async def looked(each: Source) -> Deployment:
        row, mine = there.get(each.slug), sent[each.slug]
        async with gate:
            if row is not None and await _overtaken(project, each, mine, before.get(each.slug), row):
                # Written down as the version that it was for a moment: there is a way back to it.
                _written(project, each, mine, replaced=(row["id"], row["version"]) == (mine["id"], mine["version"]))
                return _replaced(each, row)
            finding = _mismatch(each, mine, row)
            if finding is None and row is not None:
                finding = _misplaced(each, row) or await _called(project, each, row)
            else:
                _written(project, each, mine)
        status: DeployStatus = "unverified" if finding else "active"
        version = row["version"] if row else None
        return Deployment(each.slug, version, changed=True, status=status, sha256=each.sha256, finding=finding)

    return {found.slug: found for found in await asyncio.gather(*map(looked, wanted))}


async def _called(project: Project, each: Source, row: Row) -> str | None:
    """Write the version down and call it; that it answered is written down once it did: this process may be killed."""
    _written(project, each, row)
    silent = await silence(project, each.slug)
    if silent is None:
        _written(project, each, row, answered=True)
    return silent


async def _read_back(project: Project, wanted: Sequence[Source], sent: Mapping[str, Row]) -> dict[str, Row]:
    """What is listed; looked at again for a moment where it does not show the change."""
    for pause in (*PAUSES, None):
        there = await rows(project.api)
        late = (
            each
            for each in wanted
            if _differs(each, sent[each.slug], there.get(each.slug)) and not _newer(sent[each.slug], there, each.slug)
        )
        if pause is None or not any(late):
            break
        await asyncio.sleep(pause)
    return there


async def silence(project: Project, slug: str) -> str | None:
    """What is wrong with how a function answers; None where it runs."""
    for pause in PAUSES:
        if await project.answers(slug) is None:
            return None
        await asyncio.sleep(pause)
    return await project.answers(slug)


def _mismatch(wanted: Source, sent: Row, row: Row | None) -> str | None:
    """How what the API lists differs from what was deployed; None where it does not."""
    if row is None:
        return "the API does not list it"
    if row["status"] != "ACTIVE":
        return f"its status is {row['status']}"
    if row["version"] < sent["version"]:
        return f"version {row['version']} still runs, not {sent['version']}"
    if bool(row.get("verify_jwt", True)) != wanted.verify_jwt:
        return f"verify_jwt is {str(bool(row.get('verify_jwt', True))).lower()} there"
    mine, there = sent.get("ezbr_sha256"), row.get("ezbr_sha256")
    return f"another bundle runs there, as version {row['version']}" if mine and there and mine != there else None


def _misplaced(wanted: Source, row: Row) -> str | None:
    """Another entrypoint than the one that was sent. It is not written down as what runs: its files tell, next time."""
    entrypoint = row.get("entrypoint_path")
    return None if not entrypoint or str(entrypoint).endswith(wanted.entrypoint) else f"its entrypoint is {entrypoint}"


def _differs(wanted: Source, sent: Row, row: Row | None) -> bool:
    return bool(_mismatch(wanted, sent, row) or (row is not None and _misplaced(wanted, row)))


async def _overtaken(project: Project, wanted: Source, sent: Row, before: Row | None, row: Row) -> bool:
    """Whether what runs is somebody else's deploy, and not this one or the one before it.

    Two who switch at once may get the same number. A hash that is neither this one's nor that of before is then no
    proof, it may be the API's own mistake; other files are, also where it names no hash.
    """
    mine, there = sent.get("ezbr_sha256"), row.get("ezbr_sha256")
    told = bool(mine and there)
    if told and mine == there:
        return False
    if row["id"] != sent["id"] or row["version"] > sent["version"]:
        return told or not await holds(project, wanted, row)
    if row["version"] < sent["version"] or (told and before is not None and there == before.get("ezbr_sha256")):
        return False
    return await _files(project, row) not in (None, dict(wanted.files))


def _newer(sent: Row, there: Mapping[str, Row], slug: str) -> bool:
    """Whether a later version than the one that was sent is listed: waiting will not bring this one back."""
    return slug in there and there[slug]["version"] > sent["version"]


async def holds(project: Project, each: Source, row: Row) -> bool:
    """Whether what runs has these very files."""
    return await _files(project, row) == dict(each.files)


async def _files(project: Project, row: Row) -> dict[str, str] | None:
    """What runs, file by file; None where it cannot be had: the deploy is done, that is no reason to fail."""
    try:
        found = await downloads.download(project.api, row)
    except AgentOpsError:
        return None
    return None if found is None else dict(found.files)


def _written(project: Project, each: Source, row: Row, *, answered: bool = False, replaced: bool = False) -> None:
    # The answer to a deploy need not tell `verify_jwt`; it is as it was sent.
    told = {"verify_jwt": each.verify_jwt, **row}
    try:
        known = record(each, told, each.origin, project.actor, answered=answered)
        project.kept.add(replace(known, replaced=replaced))
    except AgentOpsError as failure:
        project.told(f"note: {failure.message}; {each.slug} version {row['version']} runs all the same")


def _unread(project: Project, each: Source, row: Row, words: str) -> Deployment:
    """Deployed, by the API's own answer, and never looked at: the next deploy calls it."""
    _written(project, each, row)
    return Deployment(each.slug, row["version"], changed=True, status="unverified", sha256=None, finding=words)


def _replaced(each: Source, row: Row) -> Deployment:
    words = f"somebody else deployed it meanwhile: version {row['version']} runs"
    return Deployment(each.slug, None, changed=False, status="replaced", sha256=None, finding=words)

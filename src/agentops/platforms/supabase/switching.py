"""Makes sources the running versions of their functions, and looks afterwards whether they are.

    one      POST deploy?slug=…
    several  POST deploy?slug=…&bundleOnly=true each, then one PUT functions: all or none
    then     GET functions: version, status, entrypoint, verify_jwt, bundle → GET each function → active | unverified

What the API refuses in a function is told of that function. Any other failure ends the command, and its sentence says
what is live; an answer that was lost is looked up, not guessed.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentops.errors import AgentOpsError, TimedOut, Unavailable, UsageError
from agentops.platforms import Deployment
from agentops.platforms.supabase import downloads
from agentops.platforms.supabase.kept import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from agentops.platforms import DeployStatus
    from agentops.platforms.supabase.kept import Kept
    from agentops.platforms.supabase.management import Management
    from agentops.platforms.supabase.sources import Source

    Row = dict[str, Any]

# A bundle is built while the request waits.
DEPLOY_SECONDS = 150.0
# What was deployed a moment ago may be listed, and answer, a little later.
PAUSES = (0.5, 1.5)
_LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Project:
    """What deploying needs: the API, what this machine kept, whether a function answers, who acts, a word for eyes."""

    api: Management
    kept: Kept
    # None where it answers, else what is wrong.
    answers: Callable[[str], Awaitable[str | None]]
    actor: str
    told: Callable[[str], None]


async def rows(api: Management, *, attempts: int = 4) -> dict[str, Row]:
    """What is deployed, by slug, as the API says.

    Raises:
        Unavailable: it says something that cannot be read.
    """
    answer = await api.get("/functions", attempts=attempts)
    if isinstance(answer, list) and all(map(_is_row, answer)):
        return {row["slug"]: row for row in sorted(answer, key=lambda row: str(row["slug"]))}
    raise Unavailable("Supabase's list of functions cannot be read", "try again; https://status.supabase.com")


def _is_row(row: object) -> bool:
    match row:
        case {"id": str(), "slug": str(), "version": int(), "status": str()}:
            return True
    return False


def record(found: Source, row: Row, origin: str, by: str) -> Record:
    """What is written down of a version."""
    return Record(
        slug=found.slug,
        version=row["version"],
        sha256=found.sha256,
        verify_jwt=bool(row.get("verify_jwt", True)),
        origin=origin,
        by=by,
        at=datetime.now(UTC).isoformat(),
        ezbr_sha256=row.get("ezbr_sha256") or "",
        id=row["id"],
    )


async def switch(
    project: Project, wanted: Sequence[Source], there: Mapping[str, Row], gate: asyncio.Semaphore
) -> dict[str, Deployment]:
    """Deploy and verify. `there` is what ran before; `gate` bounds how many requests run at a time.

    Raises:
        NotAuthorised, Conflict, Unavailable, TimedOut: no function's fault; the message says what is live.
    """
    try:
        if len(wanted) == 1:
            sent = {wanted[0].slug: await _alone(project, wanted[0], there.get(wanted[0].slug))}
        else:
            sent = await _together(project, wanted, there, gate)
        return await _verified(project, wanted, sent, gate)
    except _NotSwitched as refused:
        return {each.slug: _failed(each.slug, there.get(each.slug), refused.words[each.slug]) for each in wanted}
    except asyncio.CancelledError:
        project.told(f"interrupted; {await _live(project, wanted, there)}; to look again: agentops deploy list")
        raise


class _NotSwitched(Exception):
    """Nothing was switched; `words` by slug say why."""

    def __init__(self, words: Mapping[str, str]) -> None:
        super().__init__()
        self.words = words


async def _alone(project: Project, each: Source, before: Row | None) -> Row:
    try:
        return await _send(project.api, each, bundle_only=False)
    except UsageError as failure:
        raise _NotSwitched({each.slug: failure.message}) from failure
    except (TimedOut, Unavailable) as failure:
        # The answer is lost; what runs now can be looked at.
        row = await _carried_out(project, each, before)
        if row is None:
            raise _because(failure, await _live(project, [each], {each.slug: before} if before else {})) from failure
        return row


async def _together(
    project: Project, wanted: Sequence[Source], there: Mapping[str, Row], gate: asyncio.Semaphore
) -> dict[str, Row]:
    """Bundle each, then switch all in one request."""

    async def bundled(each: Source) -> Row | AgentOpsError:
        async with gate:
            try:
                return await _send(project.api, each, bundle_only=True)
            except AgentOpsError as failure:
                return failure

    answers = await asyncio.gather(*(bundled(each) for each in wanted))
    found = dict(zip((each.slug for each in wanted), answers, strict=True))
    failures = {slug: answer for slug, answer in found.items() if isinstance(answer, AgentOpsError)}
    weather = {slug: failure for slug, failure in failures.items() if not isinstance(failure, UsageError)}
    if weather:
        slug, failure = next(iter(weather.items()))
        raise _because(failure, f"it was about {slug}; nothing was switched") from failure
    if failures:
        why = f"not switched, because of {', '.join(failures)}: all or none"
        raise _NotSwitched({slug: failures[slug].message if slug in failures else why for slug in found})
    records = {slug: answer for slug, answer in found.items() if not isinstance(answer, AgentOpsError)}
    try:
        await project.api.send("PUT", "/functions", json=list(records.values()), repeatable=True)
    except (TimedOut, Unavailable) as failure:
        if not await _runs(project, records):
            raise _because(failure, await _live(project, wanted, there)) from failure
    except AgentOpsError as failure:
        raise _because(failure, "nothing was switched") from failure
    return records


async def _send(api: Management, wanted: Source, *, bundle_only: bool) -> Row:
    metadata = {
        "name": wanted.slug,
        "entrypoint_path": wanted.entrypoint,
        "import_map_path": wanted.import_map,
        "static_patterns": list(wanted.static_patterns),
        "verify_jwt": wanted.verify_jwt,
    }
    parts: list[tuple[str, tuple[str | None, bytes, str | None]]] = [
        ("file", (name, text.encode(errors="surrogateescape"), "application/octet-stream"))
        for name, text in wanted.files.items()
    ]
    parts.append(("metadata", (None, json.dumps(metadata).encode(), None)))
    query = {"slug": wanted.slug} | ({"bundleOnly": "true"} if bundle_only else {})
    answer = await api.send(
        "POST", "/functions/deploy", parameters=query, files=parts, repeatable=bundle_only, seconds=DEPLOY_SECONDS
    )
    if _is_row(answer):
        return dict(answer)
    raise TimedOut(f"Supabase's answer to the deploy of {wanted.slug} cannot be read", "agentops deploy list")


async def _carried_out(project: Project, each: Source, before: Row | None) -> Row | None:
    """What runs now, where it is another version than before and these very files."""
    try:
        row = (await rows(project.api)).get(each.slug)
    except AgentOpsError:
        return None
    if row is None or (before is not None and row["version"] == before["version"] and row["id"] == before["id"]):
        return None
    return row if await _holds(project, each, row) else None


async def _holds(project: Project, each: Source, row: Row) -> bool:
    there = await downloads.download(project.api, row)
    return there is not None and dict(there.files) == dict(each.files)


async def _runs(project: Project, records: Mapping[str, Row]) -> bool:
    """Whether the versions that were sent are the ones listed."""
    try:
        there = await rows(project.api)
    except AgentOpsError:
        return False
    return all(
        slug in there
        and there[slug]["version"] >= sent["version"]
        and there[slug].get("ezbr_sha256") == sent.get("ezbr_sha256")
        for slug, sent in records.items()
    )


async def _live(project: Project, wanted: Sequence[Source], before: Mapping[str, Row]) -> str:
    """What runs of these functions at this moment, in words."""
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            there = await rows(project.api, attempts=1)
    except (AgentOpsError, TimeoutError):
        return "what is live now cannot be told"

    def told(slug: str) -> str:
        row, was = there.get(slug), before.get(slug)
        if row is None:
            return f"{slug} not deployed"
        as_before = was is not None and (was["id"], was["version"]) == (row["id"], row["version"])
        return f"{slug} version {row['version']} ({'as before' if as_before else 'new'})"

    return f"live now: {', '.join(told(each.slug) for each in wanted)}"


async def _verified(
    project: Project, wanted: Sequence[Source], sent: Mapping[str, Row], gate: asyncio.Semaphore
) -> dict[str, Deployment]:
    """Read every function back and call it."""
    try:
        there = await _read_back(project, wanted, sent)
    except AgentOpsError as failure:
        words = f"deployed, but it could not be read back: {failure.message}"
        return {
            each.slug: Deployment(
                each.slug, sent[each.slug]["version"], changed=True, status="unverified", sha256=None, finding=words
            )
            for each in wanted
        }

    async def looked(each: Source) -> Deployment:
        row = there.get(each.slug)
        finding = _mismatch(each, sent[each.slug], row)
        async with gate:
            if finding is None and row is not None:
                finding = await _unlike(project, each, sent[each.slug], row)
            if finding is None and row is not None:
                _written(project, each, row)
                finding = await _silent(project, each.slug)
        status: DeployStatus = "unverified" if finding else "active"
        version = row["version"] if row else None
        return Deployment(each.slug, version, changed=True, status=status, sha256=each.sha256, finding=finding)

    return {found.slug: found for found in await asyncio.gather(*map(looked, wanted))}


async def _read_back(project: Project, wanted: Sequence[Source], sent: Mapping[str, Row]) -> dict[str, Row]:
    """What is listed; looked at again for a moment where it does not show the change."""
    for pause in (*PAUSES, None):
        there = await rows(project.api)
        if pause is None or not any(_mismatch(each, sent[each.slug], there.get(each.slug)) for each in wanted):
            break
        await asyncio.sleep(pause)
    return there


async def _silent(project: Project, slug: str) -> str | None:
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
    entrypoint = row.get("entrypoint_path")
    if entrypoint and not str(entrypoint).endswith(wanted.entrypoint):
        return f"its entrypoint is {entrypoint}"
    mine, there = sent.get("ezbr_sha256"), row.get("ezbr_sha256")
    return f"another bundle runs there, as version {row['version']}" if mine and there and mine != there else None


async def _unlike(project: Project, wanted: Source, sent: Row, row: Row) -> str | None:
    """Where no hash can tell whether a higher version is this one, its files do."""
    if row["version"] == sent["version"] or (sent.get("ezbr_sha256") and row.get("ezbr_sha256")):
        return None
    return None if await _holds(project, wanted, row) else f"another source runs there, as version {row['version']}"


def _written(project: Project, each: Source, row: Row) -> None:
    try:
        project.kept.add(record(each, row, each.origin, project.actor))
    except AgentOpsError as failure:
        project.told(f"note: {failure.message}; {each.slug} version {row['version']} runs all the same")


def _because(failure: AgentOpsError, words: str) -> AgentOpsError:
    """The same failure, saying what became of the functions."""
    return type(failure)(f"{failure.message}; {words}", failure.hint)


def _failed(slug: str, row: Row | None, finding: str) -> Deployment:
    return Deployment(
        slug, row["version"] if row else None, changed=False, status="failed", sha256=None, finding=finding
    )

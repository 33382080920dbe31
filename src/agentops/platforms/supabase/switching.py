"""Makes sources the running versions of their functions, and looks afterwards whether they are.

    one      POST deploy?slug=…
    several  POST deploy?slug=…&bundleOnly=true each, then one PUT functions: all or none
    then     verifying.py → active | unverified | replaced

What the API refuses in a function is told of that function. Any other failure ends the command, and its sentence says
what is live; an answer that was lost is looked up, not guessed.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from agentops.errors import AgentOpsError, Conflict, TimedOut, Unavailable, UsageError
from agentops.platforms import Deployment
from agentops.platforms.supabase import verifying
from agentops.platforms.supabase.project import is_row, rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentops.platforms.supabase.management import Management
    from agentops.platforms.supabase.project import Project, Row
    from agentops.platforms.supabase.sources import Source

# A bundle is built while the request waits.
DEPLOY_SECONDS = 150.0
_LOOK_SECONDS = 5.0


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
        return await verifying.verified(project, wanted, sent, there, gate)
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
        overtaken = await _moved(project, wanted, there)
        if overtaken and isinstance(failure, UsageError | Conflict):
            words = f"{failure.message}; nothing was switched: somebody else deployed {', '.join(overtaken)} meanwhile"
            raise Conflict(words, f"agentops deploy history {overtaken[0]}") from failure
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
    if is_row(answer):
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
    return row if await verifying.holds(project, each, row) else None


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


async def _moved(project: Project, wanted: Sequence[Source], before: Mapping[str, Row]) -> list[str]:
    """The functions that somebody else has deployed since `before`; none where that cannot be told."""
    try:
        there = await rows(project.api, attempts=1)
    except AgentOpsError:
        return []

    def state(row: Row | None) -> object:
        return row and (row["id"], row["version"], row.get("ezbr_sha256"))

    return [each.slug for each in wanted if state(there.get(each.slug)) != state(before.get(each.slug))]


def _because(failure: AgentOpsError, words: str) -> AgentOpsError:
    """The same failure, saying what became of the functions."""
    return type(failure)(f"{failure.message}; {words}", failure.hint)


def _failed(slug: str, row: Row | None, finding: str) -> Deployment:
    return Deployment(
        slug, row["version"] if row else None, changed=False, status="failed", sha256=None, finding=finding
    )

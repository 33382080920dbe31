"""Where the work on messages needs a person: what waits, what was given up, what may not be sent, what is still open.

Each answers status (ok, degraded), what was found, and what to type next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentops.clients import graph_codes
from agentops.counts import counted
from agentops.store import health as figures
from agentops.store import outbox, pacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.platforms import Queries
    from agentops.store.incidents import Incident

QUEUE_SECONDS = 60.0
FAILED_SECONDS = 3600.0

Verdict = tuple[str, str, str | None]


def ok(finding: str) -> Verdict:
    """All is well with it."""
    return "ok", finding, None


async def queue(queries: Queries) -> Verdict:
    """How long the oldest message waits."""
    found = await figures.queue(queries)
    if not found.waiting:
        return ok("no message waits")
    many = counted(found.waiting, "message waits, for", "messages wait, the oldest for")
    words = f"{many} {found.oldest_seconds:.0f} s"
    if found.oldest_seconds > QUEUE_SECONDS:
        return "degraded", words, "agentops logs show ai-whatsapp-webhook --event 'ai.process.*' --since 15m"
    return ok(words)


async def dead_letters(queries: Queries) -> Verdict:
    """Messages that were given up."""
    dead = (await figures.queue(queries)).dead
    if not dead:
        return ok("no message was given up")
    hint = "agentops logs show ai-whatsapp-webhook --event ai.whatsapp.message.error"
    many = counted(dead, "message was", "messages were")
    return "degraded", f"{many} given up after repeated failures", hint


async def replies(queries: Queries) -> Verdict:
    """Replies of which nobody knows whether they arrived, and those that failed lately."""
    found, failed = await figures.replies(queries), await outbox.failures(queries, FAILED_SECONDS)
    words = [f"{_replies(found.uncertain)} may have arrived or not"] if found.uncertain else []
    if failed:
        codes = "; ".join(f"{count:,} by {graph_codes.words(code)}" for code, count in failed.items())
        words.append(f"replies that failed in the last hour: {codes}")
    if words:
        state = "uncertain" if found.uncertain else "failed"
        return "degraded", "; ".join(words), f"agentops outbox list --state {state}"
    if found.waiting:
        return ok(f"{_replies(found.waiting)} without WhatsApp's word yet")
    return ok("no reply is uncertain")


async def sending(queries: Queries) -> Verdict:
    """Business numbers that Meta does not let send; a rate passes by itself, the others need somebody."""
    found = await pacing.blocked(queries)
    if not found:
        return ok("every business number may send")
    worst = next((entry for entry in found if entry.reason != "rate"), found[0])
    words = "; ".join(
        f"number {entry.phone_id} may not send for {entry.seconds:.0f} s "
        f"({graph_codes.words(entry.code)}), {_replies(entry.waiting)} held back"
        for entry in found
    )
    return "degraded", words, graph_codes.FIXES[graph_codes.Action(worst.reason)]


async def incidents(queries: Queries) -> Verdict:
    """Incidents that nobody has ended."""
    return open_incidents(await figures.open_incidents(queries))


def open_incidents(found: Sequence[figures.OpenIncident | Incident]) -> Verdict:
    """Incidents that nobody has ended, wherever they are noted."""
    if not found:
        return ok("no incident is open")
    first = found[0]
    words = ", ".join(f"{entry.id} ({entry.kind}{': ' + entry.reason if entry.reason else ''})" for entry in found)
    return "degraded", f"open: {words}", f"agentops incident show {first.id}"


def _replies(count: int) -> str:
    return counted(count, "reply", "replies")

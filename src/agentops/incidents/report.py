"""An incident as it is shown: what and why, then its timeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentops.redact import scrub
from agentops.settings import flag_alias
from agentops.store.incidents import KILL_SWITCH, Moment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

# Lines of one entry of a timeline, for eyes; JSON has them all.
_PLACES = 10


@dataclass(frozen=True, slots=True)
class Report:
    """An incident and everything that was done in its course."""

    id: int
    kind: str
    status: str
    reason: str
    features: Sequence[str]
    switched_off: Sequence[str]
    opened_by: str
    opened_at: datetime
    restored_by: str | None
    restored_at: datetime | None
    timeline: Sequence[Moment]

    def text(self) -> str:
        """The incident for eyes: what and why, then the timeline."""
        lines = [f"incident {self.id}: {self.kind}, {self.status}", f"reason        {self.reason or 'none given'}"]
        if self.kind == KILL_SWITCH:
            unread = any(entry.detail.get("unknown") for entry in self.timeline)
            nothing = "not known (see below)" if unread else "nothing was on"
            lines.append(f"switched off  {', '.join(self.switched_off) or nothing}")
        lines.append("timeline")
        for entry in self.timeline:
            subject = f" {flag_alias(entry.subject)}" if entry.subject else ""
            lines.append(f"  {entry.at.astimezone():%Y-%m-%d %H:%M:%S}  {entry.action}{subject}  by {entry.actor}")
            lines += [f"      {line}" for line in _details(entry)]
        if self.status == "open":
            verb = "restore" if self.kind == KILL_SWITCH else "close"
            lines.append(f"to end it: agentops incident {verb} {self.id}")
        return "\n".join(lines)


def _details(entry: Moment) -> list[str]:
    """What an entry of the timeline says beyond its action: places, the message and its failure, a reason."""
    detail = entry.detail
    lines = [
        f"log row {each['log_id']}, {each['field']} ({each['rendering']}, {each['customer']})"
        for each in detail.get("places", ())
    ]
    if len(lines) > _PLACES:
        lines = [*lines[:_PLACES], f"… and {len(lines) - _PLACES:,} more (--json has them all)"]
    if "message" in detail:
        lines.append(f"message {detail['message']}: {scrub(detail.get('error')) or 'no reason noted'}")
    if detail.get("unknown"):
        names = ", ".join(flag_alias(str(name)) for name in detail["unknown"])
        lines.append(f"switched off as well, and not known how they stood before: {names}")
    if "server_incident" in detail:
        lines.append(f"incident {detail['server_incident']} on target {detail.get('server')}")
    if entry.action in {"reply.settled", "outbox.resolve"}:
        lines.append(str(detail.get("state") or detail.get("to")))
    if entry.action == "incident.close" and detail.get("reason"):
        lines.append(str(detail["reason"]))
    return lines

"""Write agentops.toml, and with --edge the functions that forward from Supabase to an agentops server.

What is there already is never overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from agentops import configuration
from agentops.commands import Check
from agentops.errors import AgentOpsError, Kind
from agentops.session import Answer, Session

Edge = Annotated[bool, typer.Option("--edge", help="Also supabase/functions/<slug>/index.ts for the six functions.")]
Ref = Annotated[str | None, typer.Option("--ref", metavar="REF", help="The Supabase project: 20 small letters.")]
_LOCAL = """# Which stack agentops acts on in this folder, and below it. No secrets here: agentops secrets set.

# A name below, or an address: local, sandbox, postgresql://…, supabase://<ref>
target = "local"
"""
_HOSTED = """# Which stack agentops acts on in this folder, and below it. No secrets here: agentops secrets set.

# A name below, or an address: local, sandbox, postgresql://…, supabase://<ref>
target = "hosted"

[targets.hosted]
url = "supabase://{ref}"
# Asks for the target's name before it changes anything; the kill switch and flags disable never ask.
production = false
# The agentops server behind the forwarders: flags and the kill switch act on it first.
# server = "postgresql://user@host/database"
"""


@dataclass(frozen=True, slots=True)
class Written:
    """One file: `status` is written, unchanged, kept (there is another one, left as it is) or would_write."""

    file: str
    status: str
    changed: bool


async def init(session: Session, edge: Edge = False, ref: Ref = None, check: Check = False) -> Answer:
    """Write agentops.toml, and with --edge the functions that forward from Supabase to an agentops server."""
    from agentops import edge as forwarders
    from agentops.settings import checked_target

    if ref is not None:
        checked_target(f"supabase://{ref}", "--ref")
    wanted = {configuration.NAME: _HOSTED.format(ref=ref) if ref else _LOCAL}
    if edge:
        wanted |= {f"supabase/{name}": text for name, text in forwarders.files().items()}
    results = [_write(Path.cwd(), name, text, check=check) for name, text in wanted.items()]
    kept = [result.file for result in results if result.status == "kept"]
    if "supabase/config.toml" in kept:
        session.note("note: supabase/config.toml stays as it is; the forwarders need verify_jwt = false there")
    would = check and any(result.changed for result in results)
    return Answer(results, Kind.DIFFERS if would else Kind.DONE, note=_next(edge=edge, kept=kept))


def _next(*, edge: bool, kept: list[str]) -> str | None:
    if kept:
        return f"left as they are: {', '.join(kept)}"
    return "next: agentops secrets set AGENTOPS_URL=https://…, then agentops deploy all" if edge else None


def _write(folder: Path, name: str, text: str, *, check: bool) -> Written:
    file = folder / name
    try:
        if file.exists():
            same = file.read_text(encoding="utf-8", errors="replace") == text
            return Written(name, "unchanged" if same else "kept", changed=False)
        if not check:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
    except OSError as error:
        raise AgentOpsError(f"{file} cannot be written: {error.strerror}", "see the folder's permissions") from error
    return Written(name, "would_write" if check else "written", changed=True)

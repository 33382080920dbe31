"""Write agentops.toml, and with --edge the functions that forward from Supabase to an agentops server.

What is there already is never overwritten. Where --ref names a project that the agentops.toml here does not, nothing is
written at all (exit 7): forwarders beside a file that leads elsewhere would be deployed to the wrong project.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentops import configuration
from agentops.commands import Check
from agentops.errors import AgentOpsError, Conflict, Kind
from agentops.session import Answer, Session

if TYPE_CHECKING:
    from agentops.settings import Process

Edge = Annotated[bool, typer.Option("--edge", help="Also supabase/functions/<slug>/index.ts for the six functions.")]
Ref = Annotated[str | None, typer.Option("--ref", metavar="REF", help="The Supabase project: 20 small letters.")]
_HEAD = """# Which stack agentops acts on in this folder, and below it. No secrets here: agentops secrets set.

# A name below, or an address: local, sandbox, postgresql://…, supabase://<ref>
target = "{target}"
"""
_IDS = """
# Where a kill switch and the runbooks say to tell the team.
# [slack]
# channel = "#incidents"

# `agentops health` compares the stored WA_PHONE_ID with this number.
# [whatsapp]
# phone_number_id = "106540352242922"
# business_account_id = "102290129340398"
"""
_LOCAL = (
    _HEAD.format(target="local")
    + f"""
# Where the functions are, seen from this file (default: functions; of a hosted project: supabase/functions).
# functions = "functions"
{_IDS}"""
)
_HOSTED = (
    _HEAD.format(target="hosted")
    + """
[targets.hosted]
url = "supabase://{ref}"
# Where its functions are, seen from this file.
functions = "{functions}"
# Asks for the target's name before it changes anything; the kill switch and flags disable never ask.
production = false
# The agentops server behind the forwarders: flags and the kill switch act on it first.
# server = "postgresql://user@host/database"
"""
    + _IDS
)


@dataclass(frozen=True, slots=True)
class Written:
    """One file: `status` is written, unchanged, kept (there is another one, left as it is), would_write or not_written.

    not_written: agentops.toml leads to another project.
    """

    file: str
    status: str
    changed: bool


async def init(session: Session, edge: Edge = False, ref: Ref = None, check: Check = False) -> Answer:
    """Write agentops.toml, and with --edge the functions that forward from Supabase to an agentops server."""
    from agentops.settings import HOSTED_FUNCTIONS, checked_target, process

    here = Path.cwd()
    place = f"folder {here}"
    if ref is not None:
        checked_target(f"supabase://{ref}", "--ref")
    fresh = ref is not None and not (here / configuration.NAME).exists()
    target = session.process if ref is None else process(f"supabase://{ref}")
    folder = here / HOSTED_FUNCTIONS if fresh else _functions(target, here)
    wanted = {configuration.NAME: _HOSTED.format(ref=ref, functions=HOSTED_FUNCTIONS) if ref else _LOCAL}
    wanted |= _forwarders(here, folder) if edge else {}
    conflict = _conflict(here, ref) if ref else None
    if conflict:
        results = [_looked_at(here, name, text, "not_written") for name, text in wanted.items()]
        return Answer(results, failure=conflict, place=place)
    results = [_write(here, name, text, check=check) for name, text in wanted.items()]
    kept = [result.file for result in results if result.status == "kept"]
    for config in (name for name in kept if name.endswith("config.toml")):
        session.note(f"note: {config} stays as it is; the forwarders need verify_jwt = false there")
    would = check and any(result.changed for result in results)
    if ref is not None and not check and session.process.target != target.target and not fresh:
        session.note(f"note: that project is not the target here; to make it so: agentops target use {target.name}")
    return Answer(results, Kind.DIFFERS if would else Kind.DONE, note=_next(edge=edge, kept=kept), place=place)


def _functions(target: Process, here: Path) -> Path:
    """Where a hosted project's functions are, from agentops.toml or as usual."""
    from agentops.settings import HOSTED_FUNCTIONS

    # What a stack of one's own says of itself is about Python.
    said = target.said.get(configuration.FUNCTIONS) if target.hosted else configuration.read(here).said.get("functions")
    return Path(said.text) if said else here / HOSTED_FUNCTIONS


def _forwarders(here: Path, folder: Path) -> dict[str, str]:
    """The texts of all files, by their path from here."""
    from agentops import edge
    from agentops.platforms.supabase.sources import Place

    place = Place.of(here, folder)
    files = {place.folder / name: text for name, text in edge.functions().items()}
    files[place.root / place.configuration] = edge.configuration()
    return {
        (file.relative_to(here) if file.is_relative_to(here) else file).as_posix(): text for file, text in files.items()
    }


def _conflict(here: Path, ref: str) -> Conflict | None:
    """Why an agentops.toml that is here already cannot stand for this project; None where it can, or is not there."""
    file = here / configuration.NAME
    if not file.is_file():
        return None
    found = configuration.read(here)
    own = [each for each in found.targets.values() if each.origin == file]
    url = f"supabase://{ref}"
    if found.chosen_in == file and found.chosen == url:
        return None
    named = next((each.name for each in own if each.url == url), None)
    if named:
        return None
    others = [f"{each.url} ({each.name})" for each in own if each.url.startswith("supabase://")]
    if found.chosen_in == file and str(found.chosen).startswith("supabase://"):
        others.insert(0, str(found.chosen))
    words = f"names {', '.join(others)}, not {url}" if others else f"does not name {url}"
    hint = f'write [targets.NAME] and url = "{url}" into it, then: agentops target use NAME, and this again'
    return Conflict(f"{file} {words}; nothing was written", hint)


def _next(*, edge: bool, kept: list[str]) -> str | None:
    if kept:
        return f"left as they are: {', '.join(kept)}"
    if not edge:
        return None
    return "next: agentops login, agentops secrets set AGENTOPS_URL=https://…, then agentops deploy all"


def _looked_at(folder: Path, name: str, text: str, absent: str) -> Written:
    """A file as it is, with `absent` as its status where it is not there."""
    file = folder / name
    try:
        if not file.exists():
            return Written(name, absent, changed=absent != "not_written")
        same = file.read_text(encoding="utf-8", errors="replace") == text
    except OSError as error:
        raise AgentOpsError(f"{file} cannot be read: {error.strerror}", "see the folder's permissions") from error
    return Written(name, "unchanged" if same else "kept", changed=False)


def _write(folder: Path, name: str, text: str, *, check: bool) -> Written:
    plan = _looked_at(folder, name, text, "would_write" if check else "written")
    file = folder / name
    if plan.status == "written":
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as stream:
                stream.write(text)
        except OSError as error:
            words = f"{file} cannot be written: {error.strerror}"
            raise AgentOpsError(words, "see the folder's permissions") from error
    return plan

"""Show which target commands act on and why, list targets by name, choose one.

--target goes before AGENTOPS_TARGET, that before the project's agentops.toml, that before your own, that before local.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from agentops import configuration, secret_looks
from agentops.commands import Check
from agentops.errors import Kind, NotFound
from agentops.session import Answer, Session
from agentops.settings import DEFAULT_PORT, Process, without_password

Name = Annotated[str, typer.Argument(metavar="NAME", help="A name of agentops.toml, or local, or sandbox.")]
Origin = Annotated[bool, typer.Option("--origin", help="Also where each value comes from.")]


@dataclass(frozen=True, slots=True)
class Target:
    """A target that can be named; `current` is the one that commands act on here."""

    name: str
    url: str
    production: bool
    current: bool
    origin: str


@dataclass(frozen=True, slots=True)
class Setting:
    """One value in force."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which target a file names now, or would name."""

    target: str
    file: str
    changed: bool
    names: str = field(default="now names", metadata={"json": False})

    def text(self) -> str:
        """One line for eyes."""
        return f"{self.file} {self.names if self.changed else 'already named'} {self.target}"


async def list_(session: Session) -> list[Target]:
    """List the targets that can be named here."""
    process = session.process
    found = configuration.read(Path.cwd()).targets
    own = [Target(name, name, False, process.target == name, "built in") for name in ("local", "sandbox")]  # noqa: FBT003
    return own + [
        Target(each.name, without_password(each.url), each.production, each.name == process.name, str(each.origin))
        for each in found.values()
    ]


async def show(session: Session, origin: Origin = False) -> str | list[Setting]:
    """Show which target commands act on here."""
    process = session.process
    if not origin:
        return f"{process.name} ({process.label})" if process.name else process.label
    url = process.said.get("url")
    return [
        Setting("target", process.name or process.label, process.origin),
        Setting("url", process.label, str(url.origin) if url and url.text == process.target else process.origin),
        _configured(process, "production", "false"),
        _configured(process, "server", "none"),
        _configured(process, configuration.FUNCTIONS, str(process.functions)),
        _configured(process, configuration.CHANNEL, "none"),
        _configured(process, configuration.PHONE_NUMBER_ID, "none"),
        _configured(process, configuration.BUSINESS_ACCOUNT_ID, "none"),
        *_token(session),
        _environment("SUPABASE_API_URL", "https://api.supabase.com"),
        _environment("SUPABASE_FUNCTIONS_URL", "https://<ref>.supabase.co/functions/v1"),
        _environment("AGENTOPS_HOME", str(process.home)),
        _environment("AGENTOPS_ACTOR", process.actor),
        _environment("AGENTOPS_PORT", str(DEFAULT_PORT)),
    ]


async def use(session: Session, name: Name, check: Check = False) -> Answer:
    """Make a target the one that commands act on, in the project's agentops.toml or, without one, in yours."""
    found = configuration.read(Path.cwd())
    if name not in {"local", "sandbox", *found.targets}:
        known = ", ".join(["local", "sandbox", *sorted(found.targets)])
        raise NotFound(
            f"no target is named {secret_looks.shown(name)!r}", f"they are: {known}; add it to {configuration.NAME}"
        )
    file = found.project or configuration.user_file()
    if check:
        would = found.chosen != name or found.chosen_in != file
        return Answer(Chosen(name, str(file), would, "would name"), Kind.DIFFERS if would else Kind.DONE)
    changed = configuration.choose(file, name)
    if session.process.origin in {"AGENTOPS_TARGET", "--target"}:
        session.note(f"note: {session.process.origin} is given here, and goes before that file")
    return Answer(Chosen(name, str(file), changed))


def _configured(process: Process, path: str, default: str) -> Setting:
    """A field of agentops.toml, by its path in the file."""
    found = process.said.get(path)
    if found is None:
        return Setting(path, default, "default")
    return Setting(path, without_password(found.text), str(found.origin))


def _token(session: Session) -> list[Setting]:
    import os

    from agentops.platforms.supabase import TOKEN_FILE

    if os.environ.get("SUPABASE_ACCESS_TOKEN"):
        return [Setting("access token", "given", "SUPABASE_ACCESS_TOKEN")]
    file = session.process.home / TOKEN_FILE
    return [Setting("access token", "given" if file.is_file() else "none", str(file) if file.is_file() else "default")]


def _environment(name: str, default: str) -> Setting:
    import os

    return Setting(name, os.environ.get(name) or default, name if os.environ.get(name) else "default")

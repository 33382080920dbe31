"""`agentops.toml`: targets by name, and which of them is meant where none is given.

    target = "prod"                       # a name below, or an address

    [targets.prod]
    url = "supabase://abcdefghijklmnopqrst"
    production = true                     # asks before it changes anything
    server = "postgresql://…"             # the stack behind a hosted project's forwarders

Nearest folder upward first, then the user's own file; a name stands where it stands first. No secrets belong in here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentops.errors import UsageError

NAME = "agentops.toml"
_TARGET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_RESERVED = {"local", "sandbox"}
# The line that chooses, up to a comment after it.
_CHOSEN = re.compile(r"""^[ \t]*target[ \t]*=[ \t]*(?:"[^"\n]*"|'[^'\n]*')""", re.MULTILINE)
_FIELDS = {"url": str, "production": bool, "server": str}


@dataclass(frozen=True, slots=True)
class Named:
    """A target by name; `origin` is the file that says so."""

    name: str
    url: str
    production: bool
    server: str | None
    origin: Path


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the files say. `chosen` is the target they name, `chosen_in` the file; `project` the nearest file."""

    targets: dict[str, Named]
    chosen: str | None
    chosen_in: Path | None
    project: Path | None


def read(here: Path) -> Configuration:
    """Read the nearest `agentops.toml` upward from `here`, then the user's.

    Raises:
        UsageError: a file that cannot be read, or that says something else than it may.
    """
    project = next((file for folder in (here, *here.parents) if (file := folder / NAME).is_file()), None)
    files = [file for file in dict.fromkeys((project, user_file())) if file is not None and file.is_file()]
    targets: dict[str, Named] = {}
    chosen, chosen_in = None, None
    for file in files:
        content = _content(file)
        for name, entry in content.get("targets", {}).items():
            targets.setdefault(name, _named(name, entry, file))
        if chosen is None and "target" in content:
            chosen, chosen_in = content["target"], file
    return Configuration(targets, chosen, chosen_in, project)


def user_file() -> Path:
    """The user's own file; the same place as platformdirs' on Linux, without its import on the way of every command."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "agentops" / NAME


def choose(file: Path, target: str) -> bool:
    """Make `target` the one that `file` names; everything else in it stays as it is. Whether that changed it.

    Raises:
        UsageError: the file cannot be written.
    """
    line = f'target = "{target}"'
    file = file.resolve()  # a link stays one
    try:
        before = file.read_bytes().decode() if file.is_file() else ""
        head, table, rest = _split(before)
        end = "\r\n" if "\r\n" in before else "\n"
        found = _CHOSEN.search(head)
        head = f"{head[: found.start()]}{line}{head[found.end() :]}" if found else f"{line}{end}{head}"
        after = head + table + rest
        if after == before:
            return False
        _check(file, after, target)
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}.{os.getpid()}")
        fresh.write_bytes(after.encode())
        if file.is_file():
            fresh.chmod(file.stat().st_mode & 0o777)
        fresh.replace(file)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", "see its permissions") from error
    return True


def _check(file: Path, text: str, target: str) -> None:
    """What is written has to say what was meant; a file in another style is left alone."""
    import tomllib

    try:
        if tomllib.loads(text).get("target") == target:
            return
    except tomllib.TOMLDecodeError:
        pass
    raise UsageError(f"{file} is written in a way that cannot be changed here", f'write target = "{target}" into it')


def _split(text: str) -> tuple[str, str, str]:
    """What stands before the first table, and the rest."""
    table = re.search(r"^[ \t]*\[", text, re.MULTILINE)
    return (text, "", "") if table is None else (text[: table.start()], table[0], text[table.end() :])


def _content(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}", "mend or remove that file") from error
    if not isinstance(content.get("targets", {}), dict):
        raise UsageError(f"{file}: targets is no table", 'write [targets.NAME] and url = "…" below it')
    if not isinstance(content.get("target", ""), str):
        # Passing over it would act on another target than the one that was meant.
        raise UsageError(f"{file}: target is no text", 'write target = "NAME", and [targets.NAME] for what it is')
    return content


def _named(name: str, entry: object, file: Path) -> Named:
    if not _TARGET_NAME.fullmatch(name) or name in _RESERVED:
        raise UsageError(f"{file}: {name!r} is no name for a target", "letters, digits, - and _, a letter first")
    if not isinstance(entry, dict) or not isinstance(entry.get("url"), str):
        raise UsageError(f"{file}: target {name} has no url", f'[targets.{name}] and url = "supabase://…" below it')
    for field, value in entry.items():
        if field not in _FIELDS or not isinstance(value, _FIELDS[field]):
            known = "url and server are texts, production is true or false"
            raise UsageError(f"{file}: target {name} has {field} = {value!r}", known)
    return Named(name, entry["url"], entry.get("production", False), entry.get("server"), file)

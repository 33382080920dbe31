"""`agentops.toml`: targets by name, which of them is meant where none is given, and ids that are no secrets.

    target = "prod"                       # a name below, or an address
    functions = "supabase/functions"      # where the functions are, seen from this file

    [slack]
    channel = "#incidents"                # where a kill switch says to tell the team

    [whatsapp]
    phone_number_id = "106540352242922"   # health compares WA_PHONE_ID with it
    business_account_id = "102290129340398"

    [targets.prod]
    url = "supabase://abcdefghijklmnopqrst"
    production = true                     # asks before it changes anything
    server = "postgresql://…"             # the stack behind a hosted project's forwarders
    slack.channel = "#prod"               # functions, slack and whatsapp may differ from target to target

Nearest folder upward first, then the user's own file; a target's name stands where it stands first, whole. A field that
is none is refused, not passed over: one that is misspelt would let a command act on another target, or without asking,
and say that all is well. What looks like a secret is refused too, and never repeated.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAME = "agentops.toml"
_TARGET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_RESERVED = {"local", "sandbox"}
# The line that chooses, up to a comment after it.
_CHOSEN = re.compile(r"""^[ \t]*target[ \t]*=[ \t]*(?:"[^"\n]*"|'[^'\n]*')""", re.MULTILINE)
FUNCTIONS, CHANNEL = "functions", "slack.channel"
PHONE_NUMBER_ID, BUSINESS_ACCOUNT_ID = "whatsapp.phone_number_id", "whatsapp.business_account_id"
_DIGITS = re.compile(r"[0-9]{1,32}")
# What may stand on the first level and in a target: the form of its text, and an example.
_COMMON = {
    FUNCTIONS: (re.compile(r"[^\0]*\S[^\0]*"), "supabase/functions"),
    CHANNEL: (re.compile(r"#?[^\s#]{1,80}"), "#incidents"),
    PHONE_NUMBER_ID: (_DIGITS, "106540352242922"),
    BUSINESS_ACCOUNT_ID: (_DIGITS, "102290129340398"),
}
_OWN = {"url": str, "production": bool, "server": str}
_TABLES = {path.partition(".")[0] for path in _COMMON if "." in path}


@dataclass(frozen=True, slots=True)
class Said:
    """A value of one field, and the file that says so. A folder is whole, from the root on."""

    text: str
    origin: Path


@dataclass(frozen=True, slots=True)
class Named:
    """A target by name; `origin` is the file that says so, `said` every field that it gives."""

    name: str
    url: str
    production: bool
    server: str | None
    origin: Path
    said: Mapping[str, Said] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the files say. `chosen` is the target they name, `chosen_in` the file; `project` the nearest file.

    `said` are the fields beside the targets, by their path (`slack.channel`); what the project says goes before what
    the user says.
    """

    targets: dict[str, Named]
    chosen: str | None
    chosen_in: Path | None
    project: Path | None
    said: Mapping[str, Said] = field(default_factory=dict)

    def find(self, target: str) -> Named | None:
        """The target of that name, or else of that address: where it has several, one that is marked as production."""
        at = self._at(target)
        return self.targets.get(target) or next((each for each in at if each.production), at[0] if at else None)

    def about(self, named: Named | None) -> dict[str, Said]:
        """Every field in force for a target: its own goes before what stands beside the targets.

        An address that any name marks as production is so by whatever name it is called.
        """
        if named is None:
            return {**self.said}
        marked = [each.said["production"] for each in self._at(named.url) if each.production]
        return {**self.said, **named.said, **({"production": marked[0]} if marked else {})}

    def _at(self, url: str) -> list[Named]:
        return [each for each in self.targets.values() if each.url == url]


def read(here: Path) -> Configuration:
    """Read the nearest `agentops.toml` upward from `here`, then the user's.

    Raises:
        UsageError: a file that cannot be read, or that says something else than it may.
    """
    project = next((file for folder in (here, *here.parents) if (file := folder / NAME).is_file()), None)
    files = [file for file in dict.fromkeys((project, user_file())) if file is not None and file.is_file()]
    targets: dict[str, Named] = {}
    said: dict[str, Said] = {}
    chosen, chosen_in = None, None
    for file in files:
        content = _content(file)
        said = {**_common(content, file, ""), **said}
        for name, entry in content.get("targets", {}).items():
            targets.setdefault(name, _named(name, entry, file))
        if chosen is None and "target" in content:
            chosen, chosen_in = content["target"], file
    return Configuration(targets, chosen, chosen_in, project, said)


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
    _refuse_secrets(content, file)
    _refuse_unknown(content, {"target", "targets"}, file, "")
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
    where = f"targets.{name}."
    _refuse_unknown(entry, _OWN, file, where)
    for each, kind in _OWN.items():
        if each in entry and not isinstance(entry[each], kind):
            known = "url and server are texts, production is true or false"
            raise UsageError(f"{file}: target {name} has {each} = {entry[each]!r}", known)
    own = {each: Said(_told(entry[each]), file) for each in _OWN if each in entry}
    said = {**own, **_common(entry, file, where)}
    return Named(name, entry["url"], entry.get("production", False), entry.get("server"), file, said)


def _common(content: Mapping[str, Any], file: Path, where: str) -> dict[str, Said]:
    """The fields that may stand on either level, those of them that do."""
    said = {}
    for path, (form, example) in _COMMON.items():
        table, _, name = path.rpartition(".")
        value = (content.get(table, {}) if table else content).get(name)
        if value is None:
            continue
        text = _told(value) if isinstance(value, str) or type(value) is int else ""
        if not form.fullmatch(text):
            raise UsageError(f"{file}: {where}{path} is not what it has to be", f'write it like {name} = "{example}"')
        said[path] = Said(_folder(text, file) if path == FUNCTIONS else text, file)
    return said


def _told(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _folder(text: str, file: Path) -> str:
    return os.path.normpath(file.parent / Path(text).expanduser())


def _refuse_unknown(content: Mapping[str, Any], own: Iterable[str], file: Path, where: str) -> None:
    """Refuse fields that are none, and tables of fields that are no tables. Names only: a value may be a secret."""
    known = {*own, *_COMMON}
    given = [name for name in content if name not in _TABLES]
    for table in _TABLES & content.keys():
        if not isinstance(content[table], dict):
            raise UsageError(f"{file}: {where}{table} is no table", f"write [{where}{table}], and its fields below it")
        given += [f"{table}.{name}" for name in content[table]]
    for path in given:
        if path not in known:
            import difflib

            near = difflib.get_close_matches(path, known | _TABLES, n=1)
            meant = f"did you mean {where}{near[0]}? " if near else ""
            raise UsageError(
                f"{file}: no field is called {where}{path}", f"{meant}they are: {', '.join(sorted(known))}"
            )


def _refuse_secrets(content: object, file: Path, path: str = "") -> None:
    """Refuse what looks like a secret, wherever it stands; the words never hold it."""
    if isinstance(content, (dict, list)):
        inner = content.items() if isinstance(content, dict) else enumerate(content, 1)
        for name, entry in inner:
            _refuse_secrets(entry, file, f"{path}.{name}" if path else str(name))
        return
    from agentops import secret_looks  # not on the way of those who have no such file

    keeper = secret_looks.keeper(path, content)
    if keeper:
        words = f"{file}: {path} looks like a secret, and no secret belongs in that file"
        raise UsageError(words, f"take it out, then: {keeper}")

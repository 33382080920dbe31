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
and say that all is well. What looks like a secret is refused too, and never repeated; a password within an address may
stand there, and is shown nowhere. What switches off is never hindered: it names what is wrong and goes on without it.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agentops import addresses
from agentops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_T = TypeVar("_T")
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
    CHANNEL: (re.compile(r"#?[^\s#/:]{1,80}"), "#incidents"),
    PHONE_NUMBER_ID: (_DIGITS, "106540352242922"),
    BUSINESS_ACCOUNT_ID: (_DIGITS, "102290129340398"),
}
_OWN = {"url": str, "production": bool, "server": str}
_KINDS = {str: "a text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
# An address that holds a password is an address all the same.
_ADDRESSES = {"url", "server"}
_TABLES = {path.partition(".")[0] for path in _COMMON if "." in path}


def refuse(wrong: UsageError) -> None:
    """What nearly every command does about a wrong configuration: nothing, and says why."""
    raise wrong


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
    the user says. `unread`: what could not be read may name the target; `lost`: a file could not be read at all.
    """

    targets: dict[str, Named]
    chosen: str | None
    chosen_in: Path | None
    project: Path | None
    said: Mapping[str, Said] = field(default_factory=dict)
    unread: bool = False
    lost: bool = False

    def find(self, target: str) -> Named | None:
        """The target of that name, or else of that address: where it has several, one that is marked as production."""
        at = self._at(target)
        return self.targets.get(target) or next((each for each in at if each.production), at[0] if at else None)

    def about(self, named: Named | None, url: str) -> dict[str, Said]:
        """Every field in force for a target: its own goes before what stands beside the targets.

        An address that any name marks as production is so by whatever name it is called.
        """
        guard = self.guard(url)
        marked = {"production": guard.said["production"]} if guard else {}
        return {**self.said, **(named.said if named else {}), **marked}

    def guard(self, url: str) -> Named | None:
        """The target marked as production that is at that address, or whose server is; None where there is none."""
        places = addresses.places(url)
        behind = (each for each in self.targets.values() if each.server and places & addresses.places(each.server))
        return next((each for each in (*self._at(url), *behind) if each.production), None)

    def _at(self, url: str) -> list[Named]:
        """The targets of an address, whatever else it says of the way there: as it stands ones first."""
        places = addresses.places(url)
        found = [each for each in self.targets.values() if each.url == url or places & addresses.places(each.url)]
        return sorted(found, key=lambda each: each.url != url)


def read(here: Path | None, wrong: Callable[[UsageError], None] = refuse) -> Configuration:
    """Read the nearest `agentops.toml` upward from `here`, then the user's.

    Args:
        here: where the search begins; None where that cannot be known, so that only the user's is read.
        wrong: what to do about a file that cannot be read, or that says something else than it may; where it returns,
            that file or field is passed over.

    Raises:
        UsageError: what `wrong` raises.
    """
    targets: dict[str, Named | None] = {}
    said: dict[str, Said] = {}
    chosen, chosen_in, unread, lost = None, None, here is None, here is None
    project = _tried(lambda: _nearest(here), wrong)
    for file in dict.fromkeys((project, _tried(_users, wrong))):
        if file is None:
            continue
        content = file if isinstance(file, UsageError) else _tried(partial(_content, file, wrong), wrong)
        if isinstance(file, UsageError) or isinstance(content, UsageError):
            lost, unread = True, unread or chosen is None
            continue
        said = {**_common(content, file, "", wrong), **said}
        for name, entry in content.get("targets", {}).items():
            if name not in targets:
                targets[name] = _named(name, entry, file, wrong)
        if chosen is None and "target" in content:
            chosen, chosen_in = content["target"], file
            unread = unread or chosen is None
    known = {name: named for name, named in targets.items() if named}
    nearest = None if isinstance(project, UsageError) else project
    return Configuration(known, chosen, chosen_in, nearest, said, unread, lost)


def user_file() -> Path:
    """The user's own file; the same place as platformdirs' on Linux, without its import on the way of every command.

    Raises:
        UsageError: nobody knows where this user's home is.
    """
    base = os.environ.get("XDG_CONFIG_HOME")
    try:
        return (Path(base) if base else Path.home() / ".config") / "agentops" / NAME
    except RuntimeError as error:
        raise UsageError("this user has no home folder", "set HOME, or XDG_CONFIG_HOME and AGENTOPS_HOME") from error


def _users() -> Path | None:
    file = user_file()
    return file if _is_there(file) else None


def _nearest(here: Path | None) -> Path | None:
    folders = (here, *here.parents) if here else ()
    return next((file for folder in folders if _is_there(file := folder / NAME)), None)


def _is_there(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(file, error.strerror) from error


def _tried(act: Callable[[], _T], wrong: Callable[[UsageError], None]) -> _T | UsageError:
    """What it gives; where it fails and `wrong` goes on, the failure."""
    try:
        return act()
    except UsageError as error:
        wrong(error)
        return error


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
    except (ValueError, RecursionError):
        pass
    raise UsageError(f"{file} is written in a way that cannot be changed here", f'write target = "{target}" into it')


def _split(text: str) -> tuple[str, str, str]:
    """What stands before the first table, and the rest."""
    table = re.search(r"^[ \t]*\[", text, re.MULTILINE)
    return (text, "", "") if table is None else (text[: table.start()], table[0], text[table.end() :])


def _unreadable(file: Path, why: object) -> UsageError:
    return UsageError(f"{file} cannot be read: {why}", "mend or remove that file")


def _content(file: Path, wrong: Callable[[UsageError], None]) -> dict[str, Any]:
    """What a file says, checked on its first level; a `target` that is none is None."""
    import tomllib

    try:
        content: dict[str, Any] = _without_secrets(tomllib.loads(file.read_text(encoding="utf-8")), file, wrong)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _unreadable(file, error) from error
    except ValueError as error:
        raise _unreadable(file, "a number in it is too long") from error
    except OSError as error:
        raise _unreadable(file, error.strerror) from error
    except RecursionError as error:
        raise _unreadable(file, "it is nested too deeply") from error
    _check_fields(content, {"target", "targets"}, file, "", wrong)
    if not isinstance(content.get("targets", {}), dict):
        wrong(UsageError(f"{file}: targets is no table", 'write [targets.NAME] and url = "…" below it'))
        del content["targets"]
    if not isinstance(content.get("target", ""), str):
        # Passing over it would act on another target than the one that was meant.
        wrong(UsageError(f"{file}: target is no text", 'write target = "NAME", and [targets.NAME] for what it is'))
        content["target"] = None
    return content


def _named(name: str, entry: object, file: Path, wrong: Callable[[UsageError], None]) -> Named | None:
    from agentops import secret_looks

    if not _TARGET_NAME.fullmatch(name) or name in _RESERVED:
        words = f"{file}: {secret_looks.shown(name)!r} is no name for a target"
        wrong(UsageError(words, "letters, digits, - and _, a letter first"))
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("url"), str):
        wrong(UsageError(f"{file}: target {name} has no url", f'[targets.{name}] and url = "supabase://…" below it'))
        return None
    where = f"targets.{name}."
    _check_fields(entry, _OWN, file, where, wrong)
    own = {}
    for each, kind in _OWN.items():
        value = entry.get(each)
        if isinstance(value, kind):
            own[each] = Said(_told(value), file)
        elif value is not None:
            given = f"{file}: {where}{each} is {_KINDS.get(type(value), 'a time')}"
            wrong(UsageError(given, "url and server are texts, production is true or false"))
    server = own["server"].text if "server" in own else None
    said = {**own, **_common(entry, file, where, wrong)}
    return Named(name, entry["url"], entry.get("production") is True, server, file, said)


def _common(content: Mapping[str, Any], file: Path, where: str, wrong: Callable[[UsageError], None]) -> dict[str, Said]:
    """The fields that may stand on either level, those of them that do."""
    said = {}
    for path, (form, example) in _COMMON.items():
        table, _, name = path.rpartition(".")
        value = (content.get(table, {}) if table else content).get(name)
        if value is None:
            continue
        # A longer number cannot even be written out.
        text = _told(value) if isinstance(value, str) or (type(value) is int and 0 <= value < 10**32) else ""
        if not form.fullmatch(text):
            words = f"{file}: {where}{path} is not what it has to be"
            wrong(UsageError(words, f'write it like {name} = "{example}"'))
            continue
        whole = _tried(partial(_folder, text, file, where), wrong) if path == FUNCTIONS else text
        if isinstance(whole, str):
            said[path] = Said(whole, file)
    return said


def _told(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _folder(text: str, file: Path, where: str) -> str:
    try:
        return os.path.normpath(file.parent / Path(text).expanduser())
    except RuntimeError as error:
        words = f"{file}: {where}{FUNCTIONS} names the home folder of a user who has none"
        raise UsageError(words, "write the folder out, or as seen from that file") from error


def _check_fields(
    content: dict[str, Any], own: Iterable[str], file: Path, where: str, wrong: Callable[[UsageError], None]
) -> None:
    """Find fields that are none, and tables of fields that are no tables. Names only: a value may be a secret."""
    known = {*own, *_COMMON}
    given = [name for name in content if name not in _TABLES]
    for table in sorted(_TABLES & content.keys()):
        if isinstance(content[table], dict):
            given += [f"{table}.{name}" for name in content[table]]
        else:
            words = f"{file}: {where}{table} is no table"
            wrong(UsageError(words, f"write [{where}{table}], and its fields below it"))
            del content[table]
    for path in given:
        if path not in known:
            import difflib

            from agentops import secret_looks

            near = difflib.get_close_matches(path, known | _TABLES, n=1)
            meant = f"did you mean {where}{near[0]}? " if near else ""
            words = f"{file}: no field is called {where}{secret_looks.shown(path)}"
            wrong(UsageError(words, f"{meant}they are: {', '.join(sorted(known))}"))


def _without_secrets(content: Any, file: Path, wrong: Callable[[UsageError], None], path: str = "") -> Any:  # noqa: ANN401 - whatever TOML holds
    """The same, None in place of what looks like a secret, wherever it stands; the words never hold it."""
    if isinstance(content, dict):
        below = f"{path}." if path else ""
        return {name: _without_secrets(entry, file, wrong, f"{below}{name}") for name, entry in content.items()}
    if isinstance(content, list):
        return [_without_secrets(entry, file, wrong, f"{path}.{number}") for number, entry in enumerate(content, 1)]
    from agentops import secret_looks  # not on the way of those who have no such file

    keeper = secret_looks.keeper(path, content)
    if keeper is None:
        return content
    words = f"{file}: {secret_looks.shown(path)} looks like a secret, and no secret belongs in that file"
    wrong(UsageError(words, f"take it out, then: {keeper}"))
    return content if path.rpartition(".")[2] in _ADDRESSES else None

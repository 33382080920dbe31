"""What TypeScript imports: relative paths, and names that an import map leads to files.

    reach(files) → every code file is scanned, what it imports is added, and scanned in turn

Packages and addresses (`npm:`, `jsr:`, `https:`) are left to the bundler. Comments and texts are passed over.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from agentops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CODE = {".ts", ".tsx", ".mts", ".js", ".jsx", ".mjs"}
# import … from "x" · export … from "x" · import "x" · import("x"); before it what only looks like one.
_IMPORT = re.compile(
    r"""//[^\n]*|/\*.*?\*/|`(?:\\.|[^`\\])*`"""
    r"""|(?<![\w$.])(?:from|import)\s*\(?\s*(?P<quote>["'])(?P<name>[^"'\n]+)(?P=quote)"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""",
    re.DOTALL,
)
_JSONC = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])', re.DOTALL)


def reach(
    files: dict[str, str],
    aliases: Mapping[str, str | None],
    add: Callable[[str], None],
    is_file: Callable[[str], bool],
) -> None:
    """Add everything that the code in `files` imports.

    Args:
        files: texts by path below the project folder.
        aliases: as `aliases` gives them.
        add: reads one more path into `files`, or refuses it.
        is_file: whether there is a file at a path.

    Raises:
        UsageError: an import that is not there, named as `file:line`, or whatever `add` raises.
    """
    waiting = list(files)
    while waiting:
        path = waiting.pop()
        if PurePosixPath(path).suffix not in CODE:
            continue
        for match in _IMPORT.finditer(files[path]):
            target = _target(match["name"], path, aliases) if match["name"] else None
            if target is None or target in files:
                continue
            where = f"{path}:{files[path].count(chr(10), 0, match.start('name')) + 1} imports {match['name']}"
            if target.startswith("../"):
                hint = "move it into _shared, beside the functions; nothing was sent"
                raise UsageError(f"{where}, which lies outside the project folder", hint)
            if not is_file(target):
                raise UsageError(f"{where}, which is not there", "nothing was sent")
            add(target)
            waiting.append(target)


def aliases(text: str, path: str) -> tuple[dict[str, str | None], str | None]:
    """The names of an import map, each with its file below the project folder (None: a package or an address).

    Also the path of another import map, where it is a `deno.json` that names one.

    Raises:
        UsageError: it is no JSON, with comments or without.
    """
    try:
        content = json.loads(_COMMA.sub(r"\1", _JSONC.sub(_uncommented, text)))
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}", "mend that file; nothing was sent") from error
    if not isinstance(content, dict) or not isinstance(content.get("imports", {}), dict):
        raise UsageError(f"{path} is no import map", "it holds an object with imports; nothing was sent")
    folder = posixpath.dirname(path)
    found = {name: _file(target, folder) for name, target in content.get("imports", {}).items()}
    other = content.get("importMap")
    return found, _file(other, folder) if isinstance(other, str) else None


def _file(target: object, folder: str) -> str | None:
    if not isinstance(target, str) or not target.startswith(("./", "../")):
        return None
    return posixpath.normpath(posixpath.join(folder, target)) + ("/" if target.endswith("/") else "")


def _target(name: str, importer: str, aliases: Mapping[str, str | None]) -> str | None:
    """The file that an import names, below the project folder; None for a package or an address."""
    if name.startswith(("./", "../")):
        return posixpath.normpath(posixpath.join(posixpath.dirname(importer), name))
    for alias in sorted(aliases, key=len, reverse=True):
        if name == alias or (alias.endswith("/") and name.startswith(alias)):
            found = aliases[alias]
            return None if found is None else posixpath.normpath(found + name[len(alias) :])
    return None


def _uncommented(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith('"') else ""

"""A function's source as it is deployed: text files, an entrypoint, a hash over both.

Bundles come from `functions/<slug>/` or `functions/<slug>.py` in the project folder (agentops.toml may name another one
for them), else from the package.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from agentops import __version__
from agentops.errors import NotFound, UsageError
from agentops.platforms import Bundle
from agentops.settings import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGED = Path(__file__).parent.parent / "functions"
MAXIMUM_BYTES = 5_000_000
_SLUG = re.compile(r"[a-z][a-z0-9-]*")


def packaged_slugs() -> list[str]:
    """The slugs of the functions that ship with the package, from their file names."""
    return sorted(file.stem.replace("_", "-") for file in PACKAGED.glob("ai_*.py"))


def project_slugs(project: Path, folder: Path | None = None) -> list[str]:
    """The slugs found in the project's `functions/` folder, or in `folder`."""
    folder = folder or project / FUNCTIONS
    if not folder.is_dir():
        return []
    names = {entry.stem if entry.suffix == ".py" else entry.name for entry in folder.iterdir() if _is_function(entry)}
    return sorted(slug for slug in {name.replace("_", "-") for name in names} if _SLUG.fullmatch(slug))


def known(project: Path, folder: Path | None = None) -> list[str]:
    """Every slug that can be deployed from here."""
    return sorted({*packaged_slugs(), *project_slugs(project, folder)})


def read(slug: str, project: Path, folder: Path | None = None) -> Bundle:
    """Read a function's bundle, from the project's `functions/` folder, from `folder`, or from the package.

    Raises:
        NotFound: no function of that name, in the project folder or the package.
        UsageError: a folder without an entrypoint, a file that is no UTF-8 text, more than 5 MB.
    """
    stem = slug.replace("-", "_")
    # A slug is no path: what does not look like one is looked for nowhere.
    for name in dict.fromkeys((slug, stem)) if _SLUG.fullmatch(slug) else ():
        own = (folder or project / FUNCTIONS) / name
        if own.is_dir():
            return _from_folder(slug, own)
        single = own.with_name(name + ".py")
        if single.is_file():
            return _bundle(slug, {single.name: _text(single)}, single.name, str(single))
    packaged = PACKAGED / f"{stem}.py"
    if packaged.is_file() and slug in packaged_slugs():
        return _bundle(slug, {packaged.name: _text(packaged)}, packaged.name, f"agentops {__version__}")
    raise NotFound(
        f"no function is named {slug!r}", f"the functions are: {', '.join(known(project, folder)) or 'none'}"
    )


def _is_function(entry: Path) -> bool:
    if entry.name.startswith((".", "_")):
        return False
    return entry.suffix == ".py" or (entry.is_dir() and any(entry.glob("*.py")))


def _from_folder(slug: str, folder: Path) -> Bundle:
    files = {
        file.relative_to(folder).as_posix(): _text(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith(".")
    }
    entrypoint = next((name for name in ("__init__.py", "main.py") if name in files), None)
    if entrypoint is None:
        raise UsageError(f"{folder} has no entrypoint", "it needs an __init__.py or a main.py that defines handle")
    return _bundle(slug, files, entrypoint, str(folder))


def _bundle(slug: str, files: Mapping[str, str], entrypoint: str, origin: str) -> Bundle:
    size = sum(len(text.encode()) for text in files.values())
    if size > MAXIMUM_BYTES:
        raise UsageError(f"{slug} is {size:,} bytes of source, the limit is {MAXIMUM_BYTES:,}", f"look at {origin}")
    packaged = origin if origin.startswith("agentops ") else ""
    content = json.dumps([packaged, entrypoint, sorted(files.items())], ensure_ascii=False)
    return Bundle(slug, files, entrypoint, origin, hashlib.sha256(content.encode()).hexdigest())


def _text(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{file} cannot be read as text: {error}", "a bundle holds UTF-8 text files only") from error
    if "\0" in text:
        raise UsageError(f"{file} holds a NUL character", "a bundle holds UTF-8 text files only")
    return text

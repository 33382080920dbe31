"""A function's source as Supabase bundles it: TypeScript, what it imports by relative path, deno.json, static files.

    supabase/functions/<slug>/** + _shared and other relative imports it reaches (imports.py) → Source(files, …)
    supabase/config.toml [functions.<slug>] → enabled, verify_jwt, entrypoint, import_map, static_files

agentops.toml may name another folder (`functions = …`): then `Place` says where all of it is. Paths are relative to the
project folder, as Supabase's own command line sends them. Binary files travel as text with
surrogate escapes: `text.encode(errors="surrogateescape")` gives their bytes back.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentops.errors import NotFound, UsageError
from agentops.platforms import Bundle
from agentops.platforms.supabase import imports
from agentops.settings import HOSTED_FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MAXIMUM_BYTES = 5_000_000
ENTRYPOINTS = ("index.ts", "index.js", "index.mts", "index.tsx", "index.jsx", "index.mjs")
IMPORT_MAPS = ("deno.json", "deno.jsonc", "import_map.json")
_COMMON_IMPORT_MAP = "import_map.json"
_SUPABASE = "supabase"
_SLUG = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_TEST = re.compile(r".*[._-]test")
_TEXTS = {"entrypoint": str, "import_map": str, "verify_jwt": bool, "enabled": bool, "static_files": list}
_KINDS = {str: "a text", bool: "true or false", list: "a list"}
_SKIPPED = {"node_modules", ".git"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where functions are: all paths are below `root`, the project folder wherever it holds them.

    `supabase` is the folder of config.toml: the one that the functions' folder stands in where that has this name, as
    Supabase's own command line wants it, else `supabase` in the root.
    """

    root: Path
    functions: str = HOSTED_FUNCTIONS
    supabase: str = _SUPABASE

    @classmethod
    def of(cls, project: Path, folder: Path | None = None) -> Place:
        """The place of a functions' folder; None: the usual one of the project."""
        folder = folder or project / HOSTED_FUNCTIONS
        own = folder.parent.name == _SUPABASE
        root = project
        if not folder.is_relative_to(project) or folder == project:
            root = folder.parent.parent if own else folder.parent
        supabase = folder.parent.relative_to(root).as_posix() if own else _SUPABASE
        return cls(root, folder.relative_to(root).as_posix(), supabase)

    @property
    def folder(self) -> Path:
        """The functions' folder."""
        return self.root / self.functions

    @property
    def configuration(self) -> str:
        """Supabase's config.toml."""
        return f"{self.supabase}/config.toml"

    def configured(self, path: str) -> str:
        """A path of config.toml, which is seen from there, as one below the root."""
        return posixpath.normpath(posixpath.join(self.supabase, path))


@dataclass(frozen=True, slots=True)
class Source(Bundle):
    """A bundle with what Supabase wants to know of it; `verify_jwt` None: as it is there, True for a new function."""

    verify_jwt: bool | None = None
    import_map: str = ""
    static_patterns: tuple[str, ...] = ()


def as_source(bundle: Bundle) -> Source:
    """The bundle itself where it is a Source, else one without settings of its own."""
    if isinstance(bundle, Source):
        return bundle
    return Source(bundle.slug, bundle.files, bundle.entrypoint, bundle.origin, bundle.sha256)


def known(project: Path, folder: Path | None = None) -> list[str]:
    """The slugs found in the project's `supabase/functions/` folder, or in `folder`.

    Not those that config.toml switches off, nor folders without any code but tests. A folder whose name is no slug is
    among them, so that `read` refuses it rather than that nobody hears of it.

    Raises:
        UsageError: config.toml cannot be read.
    """
    place = Place.of(project, folder)
    if not place.folder.is_dir():
        return []
    settings = _settings(place)
    return sorted(
        entry.name
        for entry in place.folder.iterdir()
        if entry.is_dir()
        and not entry.name.startswith(("_", "."))
        and settings.get(entry.name, {}).get("enabled", True)
        and (entry.name in settings or not _tests_only(entry))
    )


def _tests_only(folder: Path) -> bool:
    code = [file for file in folder.rglob("*") if file.suffix in imports.CODE]
    return all(_TEST.fullmatch(file.stem) for file in code)


def read(slug: str, project: Path, folder: Path | None = None) -> Source:
    """Read a function's source, from the project's `supabase/functions/` folder or from `folder`.

    Raises:
        NotFound: no folder of that name.
        UsageError: a name that is no slug, no entrypoint, a file that cannot be read or lies outside the project, more
            than 5 MB, bad settings.
    """
    place = Place.of(project, folder)
    own = place.folder / slug
    if not _SLUG.fullmatch(slug):
        words = f"{slug!r} is no name for a function"
        raise UsageError(words, "letters, digits, - and _, a letter first; nothing of it was sent")
    if not own.is_dir():
        hint = f"they are: {', '.join(known(project, folder)) or 'none; write them with agentops init --edge'}"
        raise NotFound(f"no function {slug!r} in {place.folder}", hint)
    settings = _settings(place).get(slug, {})
    entrypoint = _entrypoint(slug, own, settings, place)
    import_map = _import_map(own, settings, place)
    patterns = tuple(place.configured(str(each)) for each in settings.get("static_files", []))
    files: dict[str, str] = {}
    for path in (
        entrypoint,
        *([import_map] if import_map else ()),
        *_within(own, place),
        *_static(patterns, place),
    ):
        _add(files, path, place)
    aliases = _aliases(files, import_map, place)
    imports.reach(files, aliases, lambda path: _add(files, path, place), lambda path: (place.root / path).is_file())
    size = sum(len(text.encode(errors="surrogateescape")) for text in files.values())
    if size > MAXIMUM_BYTES:
        raise UsageError(f"{slug} is {size:,} bytes of source, the limit is {MAXIMUM_BYTES:,}", f"look at {own}")
    jwt = settings.get("verify_jwt")
    return source(
        slug, files, entrypoint, origin=str(own), verify_jwt=jwt, import_map=import_map, static_patterns=patterns
    )


def source(
    slug: str,
    files: Mapping[str, str],
    entrypoint: str,
    *,
    origin: str,
    verify_jwt: bool | None,
    import_map: str,
    static_patterns: tuple[str, ...],
) -> Source:
    """The source with its hash, which covers files, entrypoint and settings."""
    content = json.dumps([entrypoint, verify_jwt, import_map, static_patterns, sorted(files.items())])
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return Source(slug, files, entrypoint, origin, sha256, verify_jwt, import_map, static_patterns)


def _settings(place: Place) -> dict[str, dict[str, Any]]:
    file = place.root / place.configuration
    if not file.is_file():
        return {}
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8")).get("functions", {})
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}", "mend that file; nothing was sent") from error
    if not isinstance(found, dict):
        raise UsageError(f"{file}: functions is no table", "write [functions.SLUG]; nothing was sent")
    settings = {name: entry for name, entry in found.items() if isinstance(entry, dict)}
    for name, entry in settings.items():
        wrong = [each for each, kind in _TEXTS.items() if not isinstance(entry.get(each, kind()), kind)]
        if wrong:
            words = f"{file}: {wrong[0]} of {name} is {entry[wrong[0]]!r}"
            raise UsageError(words, f"it has to be {_KINDS[_TEXTS[wrong[0]]]}; nothing was sent")
    return settings


def _entrypoint(slug: str, folder: Path, settings: Mapping[str, Any], place: Place) -> str:
    if settings.get("entrypoint"):
        path = place.configured(str(settings["entrypoint"]))
        if not (place.root / path).is_file():
            raise UsageError(f"the entrypoint of {slug} is not there: {path}", f"see {place.configuration}")
        return path
    for name in ENTRYPOINTS:
        if (folder / name).is_file():
            return f"{place.functions}/{slug}/{name}"
    raise UsageError(f"{folder} has no entrypoint", f"it needs an index.ts; nothing of {slug} was sent")


def _import_map(folder: Path, settings: Mapping[str, Any], place: Place) -> str:
    common = f"{place.functions}/{_COMMON_IMPORT_MAP}"
    if settings.get("import_map"):
        return place.configured(str(settings["import_map"]))
    found = [folder / name for name in IMPORT_MAPS if (folder / name).is_file()]
    if found:
        return found[0].relative_to(place.root).as_posix()
    return common if (place.root / common).is_file() else ""


def _within(folder: Path, place: Place) -> Iterator[str]:
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        if file.is_file() and not any(part in _SKIPPED or part.startswith(".") for part in parts):
            yield file.relative_to(place.root).as_posix()


def _static(patterns: tuple[str, ...], place: Place) -> Iterator[str]:
    for pattern in patterns:
        if pattern.startswith(("..", "/")):
            raise UsageError(f"static files outside the project: {pattern}", f"see {place.configuration}")
        for file in sorted(place.root.glob(pattern)):
            if file.is_file():
                yield file.relative_to(place.root).as_posix()


def _add(files: dict[str, str], path: str, place: Place) -> None:
    if path in files:
        return
    if path.startswith("../") or not (place.root / path).resolve().is_relative_to(place.root.resolve()):
        hint = f"move it into {place.functions}/_shared"
        raise UsageError(f"{path} lies outside the project folder {place.root}", hint)
    try:
        files[path] = (place.root / path).read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise UsageError(f"{place.root / path} cannot be read: {error.strerror}", "nothing was sent") from error


def _aliases(files: dict[str, str], path: str, place: Place) -> dict[str, str | None]:
    """The names that an import map gives; where it leads to another one (`importMap`), that one's."""
    if not path:
        return {}
    aliases, other = imports.aliases(files[path], path)
    if other:
        _add(files, other, place)
        aliases |= imports.aliases(files[other], other)[0]
    return aliases

"""A module imports only to its right, and some libraries have one place only. No exceptions."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parent.parent / "src" / "agentops"
# Groups from left to right; within a group modules may import each other.
ORDER: tuple[frozenset[str], ...] = tuple(
    frozenset(names.split())
    for names in (
        "__main__",
        "main render",
        "commands",
        "session",
        "runbooks",
        "server",
        "incidents",
        "functions",
        "agent",
        "stack",
        "clients sandbox",
        "store",
        "platforms",
        "embedded",
    )
)
# Whatever else stands alone on the first level (errors, events, web, …) is rightmost.
LEAVES = len(ORDER)
ONLY_IN = {
    "typer": ("main", "commands", "session"),
    "rich": ("render",),
    "psycopg": ("platforms.local", "store.database"),
    "psycopg_pool": ("store.database",),
    "openai": ("clients",),
    "starlette": ("server", "sandbox"),
    "uvicorn": ("server", "sandbox", "session"),
}
# Files beside each other that stay strangers: what they share stands in the package above them, or to the right.
STRANGERS = ("commands", "functions", "agent.tools", "platforms")
# What all platforms speak of stands beside them.
SHARED = {"platforms.bundle"}


def modules() -> list[tuple[str, Path]]:
    """Every module by its dotted name below agentops."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts), file))
    return found


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it; `from package import module` counts as the module."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(module: str) -> int:
    first = module.split(".", maxsplit=1)[0]
    return next((place for place, names in enumerate(ORDER) if first in names), LEAVES)


def within(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def complaints(module: str, names: list[str]) -> list[str]:
    """What is wrong with a module that imports these names."""
    found = []
    for name in names:
        top = name.split(".")[0]
        if top != "agentops" and not within(module, ONLY_IN.get(top, (module,))):
            found.append(f"{module} imports {name}, which belongs in {', '.join(ONLY_IN[top])} only")
        inner = name.removeprefix("agentops.")
        if top == "agentops":
            if layer(inner) < layer(module):
                found.append(f"{module} imports {name} upward")
            found += [
                f"{module} imports its neighbour {name}"
                for place in STRANGERS
                if _child(module, place) and _child(inner, place) and _child(module, place) != _child(inner, place)
            ]
    return found


def _child(module: str, place: str) -> str | None:
    """The file or folder directly in `place` that a module belongs to."""
    if not module.startswith(f"{place}."):
        return None
    child = module.removeprefix(f"{place}.").split(".")[0]
    folder = PACKAGE / place.replace(".", "/")
    if f"{place}.{child}" in SHARED:
        return None
    return child if (folder / child).is_dir() or (folder / f"{child}.py").is_file() else None


@pytest.mark.parametrize(("module", "file"), modules(), ids=[name for name, _ in modules()])
def test_a_module_imports_only_to_its_right(module: str, file: Path) -> None:
    assert complaints(module, list(imports(file))) == []


def test_the_rule_has_seen_every_layer() -> None:
    seen = {module.split(".")[0] for module, _ in modules()}
    assert frozenset().union(*ORDER) <= seen, "ORDER names only what there is"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("store.database", "agentops.commands.flags"),
        ("platforms.local.flags", "agentops.store.schema"),
        ("commands.logs", "agentops.commands.flags"),
        ("functions.ai_void_voucher", "agentops.functions.ai_redeem_voucher"),
        ("commands.logs", "psycopg"),
        ("store.inbox", "psycopg.rows"),
        ("commands.flags", "rich.table"),
        ("agent.loop", "openai"),
        ("server.app", "typer"),
    ],
)
def test_a_misplaced_import_is_found(module: str, name: str) -> None:
    assert len(complaints(module, [name])) == 1


@pytest.mark.parametrize("file", [file for _, file in modules()], ids=[name for name, _ in modules()])
def test_a_file_stays_below_400_lines(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) < 400

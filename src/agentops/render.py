"""Draws results: tables and sentences for people, tab-separated text for pipes, JSON for programs. Only this prints.

value ── --json ──────────────→ JSON document (dataclass), array (list), JSON Lines (stream)
      ── stdout is a terminal → table, or what the value's own `text()` says
      ── stdout is a pipe ────→ tab-separated rows; streams as JSON Lines
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.errors import AgentOpsError


def result(value: object, *, as_json: bool, target: str) -> None:
    """Print one result on stdout; for lists of changes also a summary that names the target, on stderr."""
    if as_json:
        _out(json.dumps(plain(value), ensure_ascii=False, indent=2))
    elif isinstance(value, str):
        _out(value.removesuffix("\n"))
    elif isinstance(value, list):
        _rows(value)
        _summary(value, target)
    elif value is not None:
        _single(value)


def item(value: object, *, as_json: bool) -> None:
    """Print one item of a stream, flushed: a line for people, a JSON line for programs and pipes."""
    text = getattr(value, "text", None)
    if as_json or text is None or not sys.stdout.isatty():
        _out(json.dumps(plain(value), ensure_ascii=False))
    else:
        _styled(text())
    sys.stdout.flush()


def note(line: str) -> None:
    """Print one line for eyes on stderr."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - the one module that prints


def error(failure: AgentOpsError, *, as_json: bool) -> None:
    """Print an error on stderr, the same way always: what failed, then what to type."""
    if as_json:
        content = {"error": failure.kind.label, "message": failure.message, "hint": failure.hint}
        note(json.dumps(content, ensure_ascii=False))
        return
    bold, dim, off = ("\x1b[1;31m", "\x1b[2m", "\x1b[0m") if _coloured(sys.stderr) else ("", "", "")
    note(f"{bold}agentops: {failure.message}{off}")
    if failure.hint:
        note(f"{dim}  → {failure.hint}{off}")


def plain(value: object) -> Any:  # noqa: ANN401 - JSON is any of its six kinds
    """A value as JSON sees it: dataclasses as objects, times as ISO 8601 in UTC, unknown as null."""
    own = getattr(value, "json", None)
    if own is not None and not isinstance(value, type):
        return plain(own())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.metadata.get("json", True)
        }
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def _single(value: object) -> None:
    text = getattr(value, "text", None)
    if text is not None:
        _styled(text())
        return
    content = plain(value)
    if not isinstance(content, dict):
        _out(str(content))
        return
    width = max(map(len, content), default=0)
    for key, entry in content.items():
        _out(f"{key:<{width}}  {cell(entry)}" if sys.stdout.isatty() else f"{key}\t{cell(entry)}")


def _rows(values: Sequence[object]) -> None:
    if not values:
        if sys.stdout.isatty():
            note("nothing to show")
        return
    dicts = [_row(value) for value in values]
    names = [name for name in dicts[0] if any(entry.get(name) not in (None, "") for entry in dicts)]
    if not sys.stdout.isatty():
        for entry in dicts:
            _out("\t".join(cell(entry.get(name)) for name in dicts[0]))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in names:
        long = name in {"finding", "hint", "reason", "detail", "why"}
        table.add_column(name.replace("_", " "), overflow="fold", ratio=None, no_wrap=not long and name != "event")
    for entry in dicts:
        table.add_row(*(Text(cell(entry.get(name), short=True), style=_style(name, entry.get(name))) for name in names))
    Console(highlight=False).print(table)


def _row(value: object) -> dict[str, Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = getattr(value, "json", None)
        return dict(own()) if own else {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {"value": value}


def cell(value: object, *, short: bool = False) -> str:
    """A value as one cell of text: unknown is empty, yes and no in words, times local and to the second."""
    if value is None:
        return "" if not short else "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S") if short else str(plain(value))
    if isinstance(value, (list, tuple, dict)):
        content = plain(value)
        if isinstance(content, list) and all(isinstance(entry, str) for entry in content):
            return ", ".join(content)
        return json.dumps(content, ensure_ascii=False)
    text = str(value)
    return text[:12] if short and len(text) == 64 and text.isalnum() else text  # noqa: PLR2004 - a SHA-256 digest


def _style(name: str, value: object) -> str:
    words = {"ok": "green", "active": "green", "failed": "bold red", "restored": "bold red", "degraded": "yellow"}
    if isinstance(value, str) and name in {"status", "level"}:
        return words.get(value, "red" if value == "error" else "")
    if name in {"enabled", "changed"} and value is True:
        return "green" if name == "enabled" else "yellow"
    return ""


def _summary(values: Sequence[object], target: str) -> None:
    changed = [entry.changed for entry in values if hasattr(entry, "changed")]
    if changed:
        note(f"target {target}: {sum(map(bool, changed))} changed, {len(changed) - sum(map(bool, changed))} unchanged")


def _styled(text: str) -> None:
    """Print text of our own; on a terminal a first word of a level is coloured."""
    if _coloured(sys.stdout):
        for level, code in (("ERROR", "31"), ("WARNING", "33")):
            text = text.replace(f" {level} ", f" \x1b[{code}m{level}\x1b[0m ", 1)
    _out(text)


def _coloured(stream: Any) -> bool:  # noqa: ANN401 - any text stream
    return bool(stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")


def _out(text: str) -> None:
    print(text)  # noqa: T201 - the one module that prints

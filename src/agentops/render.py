"""Draws results: tables and sentences for people, tab-separated text for pipes, JSON for programs. Only this prints.

value ── --json ──────────────→ JSON document (dataclass), array (list), JSON Lines (stream)
      ── stdout is a terminal → table (a card per row where it is too narrow), or what the values' own `text()` says
      ── stdout is a pipe ────→ tab-separated rows; streams as JSON Lines

A table never cuts a value: sentences wrap, a hint stands below its row. Where that is still too wide, the columns that
a dataclass marks as spare are left out (JSON has them), and then rows become cards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sys
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentops.errors import AgentOpsError

# Columns of sentences: they may wrap, down to this width.
_SENTENCES = frozenset({"finding", "reason", "detail", "why", "title", "what", "error"})
_NARROWEST = 30
_GAP = "  "
_RED, _BOLD_RED, _GREEN, _YELLOW, _BOLD, _DIM = "31", "1;31", "32", "33", "1", "2"
_COLOURS = {
    "ok": _GREEN,
    "active": _GREEN,
    "done": _GREEN,
    "failed": _BOLD_RED,
    "restored": _BOLD_RED,
    "degraded": _YELLOW,
    "warning": _YELLOW,
    "error": _RED,
}


def result(value: object, *, as_json: bool, place: str, summary: str | None = None) -> None:
    """Print one result on stdout; with `summary` also how many changed and where, on stderr.

    `summary` is the word for those that did: changed, would change.
    """
    if as_json:
        _out(json.dumps(plain(value), ensure_ascii=False, indent=2))
    elif isinstance(value, str):
        _out(value.removesuffix("\n"))
    elif isinstance(value, list):
        _rows(value, hidden=() if summary else ("changed",))
        if summary:
            _summary(value, place, summary)
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
    """Print one line for eyes on stderr, below what stdout has got so far: both may end in one file.

    On a terminal it is folded between words, but not where it holds a command to copy.
    """
    if sys.stderr.isatty() and "agentops " not in line:
        width = shutil.get_terminal_size().columns
        line = "\n".join(part for each in line.split("\n") for part in _folded(each, width))
    _aside(line)


def error(failure: AgentOpsError, *, as_json: bool) -> None:
    """Print an error on stderr, the same way always: what failed, then what to type."""
    if as_json:
        content = {"error": failure.kind.label, "message": failure.message, "hint": failure.hint}
        _aside(json.dumps(content, ensure_ascii=False))
        return
    colour = _coloured(sys.stderr)
    # A message may say one thing a line: what became of each function.
    lines = [(line, _BOLD_RED) for line in f"agentops: {failure.message}".split("\n")]
    if failure.hint:
        lines.append((f"  → {failure.hint}", _DIM))
    for line, style in lines:
        for part in _folded_hint(line, shutil.get_terminal_size().columns) if sys.stderr.isatty() else [line]:
            _aside(_paint(part, style if colour else ""))


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
        _styled(text(), verbatim=getattr(value, "verbatim", False))
        return
    content = plain(value)
    if not isinstance(content, dict):
        _out(str(content))
        return
    width = max(map(len, content), default=0)
    given = _row(value) if dataclasses.is_dataclass(value) else content
    for key, entry in content.items():
        if sys.stdout.isatty():
            moment = given.get(key)
            words = f"{moment.astimezone():%Y-%m-%d %H:%M:%S}" if isinstance(moment, datetime) else cell(entry)
            lines = textwrap.wrap(words, max(shutil.get_terminal_size().columns - width - len(_GAP), _NARROWEST))
            for number, line in enumerate(lines or [""]):
                _out(f"{'' if number else key:<{width}}{_GAP}{line}".rstrip())
        else:
            _out(f"{key}\t{cell(entry)}")


def _rows(values: Sequence[object], hidden: Sequence[str]) -> None:
    if not values:
        if sys.stdout.isatty():
            note("nothing to show")
        return
    dicts = [_row(value) for value in values]
    if sys.stdout.isatty() and all(hasattr(value, "text") for value in values):
        for value in values:
            _single(value)
        return
    if not sys.stdout.isatty():
        for entry in dicts:
            _out("\t".join(_one_line(cell(entry.get(name))) for name in dicts[0]))
        return
    shown = [
        name
        for name in dicts[0]
        if name not in hidden and any(entry.get(name) not in (None, "", [], ()) for entry in dicts)
    ]
    texts = [{name: cell(entry.get(name), short=True) for name in shown} for entry in dicts]
    for line in _table(shown, texts, shutil.get_terminal_size().columns, _spare(values[0])):
        _out(line)


def _spare(value: object) -> list[str]:
    """The columns that a narrow terminal does without, the first to go first: fields marked `spare`, by rank."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return []
    ranks = {field.name: field.metadata["spare"] for field in dataclasses.fields(value) if "spare" in field.metadata}
    return sorted(ranks, key=lambda name: ranks[name])


def _table(names: list[str], rows: list[dict[str, str]], width: int, spare: Sequence[str]) -> list[str]:
    """The lines of a table at most `width` wide; cards where that cannot be done without cutting."""
    columns = [name for name in names if name != "hint"]
    widths = _widths(columns, rows, width)
    for name in spare:
        if widths is None and name in columns:
            columns.remove(name)
            widths = _widths(columns, rows, width)
    if widths is None:
        return _cards(names, rows, width)
    colour = _coloured(sys.stdout)
    heading = _GAP.join(_pad(name.replace("_", " "), widths[name]) for name in columns).rstrip()
    lines = [_paint(heading, _BOLD if colour else "")]
    for row in rows:
        cells = {name: textwrap.wrap(row[name], widths[name]) or [""] for name in columns}
        for number in range(max(map(len, cells.values()))):
            parts = [
                _paint(_pad(cells[name][number] if number < len(cells[name]) else "", widths[name]), style)
                for name in columns
                for style in [_style(name, row[name]) if colour else ""]
            ]
            lines.append(_GAP.join(parts).rstrip())
        if row.get("hint", "–") != "–":
            lines.append(_paint(f"  → {row['hint']}", _DIM if colour else ""))
    return lines


def _widths(columns: Sequence[str], rows: Sequence[dict[str, str]], width: int) -> dict[str, int] | None:
    """How wide each column is, sentences narrowed as far as needed; None where they do not fit into `width`."""
    from rich.cells import cell_len

    widths = {name: max(cell_len(name), *(cell_len(row[name]) for row in rows)) for name in columns}
    left = width - sum(widths.values()) - len(_GAP) * (len(columns) - 1)
    for name in columns:
        if name in _SENTENCES and left < 0:
            narrowed = max(min(widths[name], _NARROWEST), widths[name] + left)
            left += widths[name] - narrowed
            widths[name] = narrowed
    return widths if left >= 0 else None


def _cards(names: list[str], rows: list[dict[str, str]], width: int) -> list[str]:
    """Each row as a block: its first value, then a line for every other one."""
    colour = _coloured(sys.stdout)
    label = max(len(name) for name in names) + 4
    lines = []
    for row in rows:
        lines.append(_paint(row[names[0]], _BOLD if colour else ""))
        for name in names[1:]:
            wrapped = textwrap.wrap(row[name], max(width - label, _NARROWEST), break_long_words=False) or [""]
            for number, text in enumerate(wrapped):
                heading = name.replace("_", " ") if number == 0 else ""
                lines.append(f"  {heading:<{label - 2}}{_paint(text, _style(name, row[name]) if colour else '')}")
    return lines


def _pad(text: str, width: int) -> str:
    from rich.cells import cell_len

    return text + " " * (width - cell_len(text))


def _paint(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if style else text


def _one_line(text: str) -> str:
    return text.replace("\t", " ").replace("\n", " ")


def _row(value: object) -> dict[str, Any]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = getattr(value, "json", None)
        if own:
            return dict(own())
        fields = (field for field in dataclasses.fields(value) if field.metadata.get("json", True))
        return {field.name: getattr(value, field.name) for field in fields}
    return {"value": value}


def cell(value: object, *, short: bool = False) -> str:
    """A value as one cell of text: unknown is empty, yes and no in words, times local and to the second."""
    if value is None or value in ("", [], ()):
        return "–" if short else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return _clock(value) if short else str(plain(value))
    if isinstance(value, (list, tuple, dict)):
        content = plain(value)
        if isinstance(content, list) and all(isinstance(entry, str) for entry in content):
            return ", ".join(content)
        return json.dumps(content, ensure_ascii=False)
    text = str(value)
    return text[:12] if short and len(text) == 64 and text.isalnum() else text  # noqa: PLR2004 - a SHA-256 digest


def _clock(value: datetime) -> str:
    """A time for eyes, local: today's without its date."""
    local, today = value.astimezone(), datetime.now(UTC).astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M")


def _style(name: str, text: str) -> str:
    """The colour of a cell: of a state, and of a yes where it matters."""
    if name in {"status", "level"}:
        return _COLOURS.get(text, "")
    if text == "yes":
        return {"enabled": _GREEN, "changed": _YELLOW}.get(name, "")
    return ""


def _summary(values: Sequence[object], place: str, word: str) -> None:
    entries = [entry for entry in values if hasattr(entry, "changed")]
    changed = sum(bool(entry.changed) for entry in entries)
    failed = sum(not entry.changed and _has_failed(entry) for entry in entries)
    if entries:
        unchanged = f"{place}: {changed} {word}, {len(entries) - changed - failed} unchanged"
        note(f"{unchanged}, {failed} failed" if failed else unchanged)


def _has_failed(entry: object) -> bool:
    """Whether it could not be done: it says so, or nobody knows how a flag stands now."""
    unknown = getattr(entry, "enabled", False) is None and getattr(entry, "finding", None) is not None
    return unknown or getattr(entry, "status", None) in {"failed", "replaced"}


def _styled(text: str, *, verbatim: bool = False) -> None:
    """Print text of our own; on a terminal long lines are folded between words and the word of a level is coloured."""
    if sys.stdout.isatty() and not verbatim:
        width = shutil.get_terminal_size().columns
        text = "\n".join(folded for line in text.split("\n") for folded in _folded(line, width))
    if _coloured(sys.stdout):
        for level, style in (("ERROR", _RED), ("WARNING", _YELLOW)):
            text = text.replace(f" {level} ", f" {_paint(level, style)} ", 1)
    _out(text)


def _folded(line: str, width: int) -> list[str]:
    """A line in several where it is too long; as it is where it is a command to copy, or would still not fit."""
    if len(line) <= width or line.lstrip().startswith("$"):
        return [line]
    start = line[: len(line) - len(line.lstrip())]
    # What is indented or has columns goes on further in; a sentence does not.
    indent = f"{start}    " if start or _GAP in line else ""
    parts = textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return parts if all(len(part) <= width for part in parts) else [line]


def _folded_hint(line: str, width: int) -> list[str]:
    """As `_folded`; a command to copy stays one line, and what is said after it, behind a comma, goes on below."""
    command, comma, words = line.partition(", ")
    if not command.startswith("  → agentops "):
        return _folded(line, width)
    # A space that is none keeps the command whole.
    return [part.replace("\0", " ") for part in _folded("  → " + command[4:].replace(" ", "\0") + comma + words, width)]


def _coloured(stream: Any) -> bool:  # noqa: ANN401 - any text stream
    return bool(stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")


def _aside(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the one module that prints


def _out(text: str) -> None:
    print(text)  # noqa: T201 - the one module that prints

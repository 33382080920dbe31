"""What people see on a terminal, what programs get in a pipe."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from agentops import render
from agentops.errors import NotFound


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Row:
    name: str
    status: str
    finding: str
    hint: str | None = None
    changed: bool = False
    at: datetime | None = None
    hidden: str = field(default="secret", metadata={"json": False})


ROWS = [
    Row("database", "ok", "PostgreSQL answers on the target that was asked for", changed=True),
    Row("web-servers", "failed", "no web server is alive: nothing answers requests", "agentops up"),
]


def drawn(rows: list[Row], monkeypatch: pytest.MonkeyPatch, width: int = 80) -> list[str]:
    """The lines on a terminal of that width, without colour."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    terminal = Terminal()
    with contextlib.redirect_stdout(terminal):
        render.result(rows, as_json=False, place="target local")
    return terminal.getvalue().splitlines()


def test_a_pipe_gets_tab_separated_rows(capsys: pytest.CaptureFixture[str]) -> None:
    render.result([Row("a", "ok", "two\nlines\tand a tab")], as_json=False, place="target local")
    assert capsys.readouterr().out.split("\t")[:3] == ["a", "ok", "two lines and a tab"]


def test_json_is_an_array_for_many_and_a_document_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    at = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    render.result([Row("a", "ok", "f", at=at)], as_json=True, place="target local")
    assert json.loads(capsys.readouterr().out) == [
        {"name": "a", "status": "ok", "finding": "f", "hint": None, "changed": False, "at": "2026-01-01T00:00:00.000Z"}
    ]
    render.result(Row("a", "ok", "f"), as_json=True, place="target local")
    assert json.loads(capsys.readouterr().out)["name"] == "a"
    render.result([], as_json=True, place="target local")
    assert capsys.readouterr().out == "[]\n"


def test_a_hint_stands_below_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(ROWS, monkeypatch) == [
        "name         status  finding",
        "database     ok      PostgreSQL answers on the target that was asked for",
        "web-servers  failed  no web server is alive: nothing answers requests",
        "  → agentops up",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_nothing_is_cut_at_any_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = drawn(ROWS, monkeypatch, width)
    shown = " ".join(lines)
    for row in ROWS:
        for word in f"{row.name} {row.finding} {row.hint or ''}".split():
            assert word in shown
    if width >= 60:
        assert max(map(len, lines)) <= width


def test_a_narrow_terminal_gets_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(ROWS[1:], monkeypatch, 50)[:3] == [
        "web-servers",
        "  status   failed",
        "  finding  no web server is alive: nothing answers",
    ]


@dataclass(frozen=True)
class Wide:
    """A row with columns that a narrow terminal does without."""

    name: str
    digest: str = field(default="d" * 30, metadata={"spare": 2})
    origin: str = field(default="o" * 30, metadata={"spare": 1})
    at: str = "a" * 20


def test_a_narrow_terminal_does_without_spare_columns_before_it_gets_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    def heading(width: int) -> list[str]:
        return drawn([Wide("x")], monkeypatch, width)[0].split()  # type: ignore[list-item]

    assert heading(100) == ["name", "digest", "origin", "at"]
    assert heading(80) == ["name", "digest", "at"]
    assert heading(40) == ["name", "at"]
    assert drawn([Wide("x")], monkeypatch, 20)[0] == "x"  # type: ignore[list-item]


@dataclass(frozen=True)
class Words:
    words: str
    verbatim: bool = False

    def text(self) -> str:
        return self.words


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ("  words " * 4, ["  words   words   words", "      words"]),
        ("$ agentops logs show --since 15m", ["$ agentops logs show --since 15m"]),
        ("at https://example.org/a-long-address", ["at https://example.org/a-long-address"]),
    ],
)
def test_sentences_are_folded_between_words_and_what_is_copied_is_not(
    words: str, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "25")
    for value, expected in ((Words(words), lines), (Words(words, verbatim=True), [words])):
        terminal = Terminal()
        with contextlib.redirect_stdout(terminal):
            render.result(value, as_json=False, place="target local")
        assert terminal.getvalue().splitlines() == expected


def test_a_note_stands_below_what_was_printed_before() -> None:
    class Both(io.StringIO):
        """A file that both streams end in; stdout is written when it is flushed."""

        def flush(self) -> None:
            file.append(self.getvalue())
            self.truncate(self.seek(0))

    file: list[str] = []
    stdout, stderr = Both(), Both()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        render.result([Row("a", "ok", "f", changed=True)], as_json=False, place="target local", summary="changed")
    assert [text.split("\t")[0].split(":")[0] for text in file if text] == ["a", "target local"]


def test_what_changed_is_summed_up_with_the_target(capsys: pytest.CaptureFixture[str]) -> None:
    render.result(ROWS, as_json=False, place="target local", summary="changed")
    assert capsys.readouterr().err == "target local: 1 changed, 0 unchanged, 1 failed\n"
    render.result(ROWS, as_json=False, place="target local", summary="would change")
    assert capsys.readouterr().err == "target local: 1 would change, 0 unchanged, 1 failed\n"
    render.result(ROWS, as_json=False, place="target local")
    assert capsys.readouterr().err == ""
    render.result([replace(ROWS[1], status="ok")], as_json=False, place="target local", summary="changed")
    assert capsys.readouterr().err == "target local: 0 changed, 1 unchanged\n"


def test_an_empty_list_says_so_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert drawn([], monkeypatch) == []
    assert capsys.readouterr().err == "nothing to show\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.stderr", terminal)
    render.result(ROWS, as_json=False, place="target local")
    render.error(NotFound("gone"), as_json=False)
    assert "\x1b[1;31m" in terminal.getvalue()
    monkeypatch.setenv(name, value)
    plain = Terminal()
    monkeypatch.setattr("sys.stdout", plain)
    monkeypatch.setattr("sys.stderr", plain)
    render.result(ROWS, as_json=False, place="target local")
    render.error(NotFound("gone"), as_json=False)
    assert "\x1b" not in plain.getvalue()


def test_no_pipe_ever_gets_a_colour(capsys: pytest.CaptureFixture[str]) -> None:
    render.result(ROWS, as_json=False, place="target local", summary="changed")
    render.error(NotFound("gone", "look"), as_json=False)
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err


def test_wide_letters_keep_the_columns_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    heading, wide, narrow = drawn([Row("日本", "ok", "x"), Row("abcd", "ok", "y")], monkeypatch)
    assert heading.startswith("name  ")
    assert wide.startswith("日本  ok")
    assert narrow.startswith("abcd  ok")


def test_times_are_local_and_todays_have_no_date() -> None:
    now = datetime.now(UTC)
    assert render.cell(now, short=True) == now.astimezone().strftime("%H:%M:%S")
    assert render.cell(datetime(2020, 1, 2, 3, 4, tzinfo=UTC), short=True).startswith("2020-01-")


def test_a_list_whose_items_speak_for_themselves_is_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn([Words("one"), Words("two")], monkeypatch) == ["one", "two"]  # type: ignore[list-item]


@dataclass(frozen=True)
class One:
    at: datetime
    finding: str


def test_one_result_has_local_times_and_long_values_below_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime(2026, 1, 1, 2, 3, 4, tzinfo=UTC)
    lines = drawn(One(at, "word " * 20), monkeypatch, 60)  # type: ignore[arg-type]
    assert lines[0] == f"at       {at.astimezone():%Y-%m-%d %H:%M:%S}"
    assert [line[:13] for line in lines[1:]] == ["finding  word", "         word"]
    assert max(map(len, lines)) <= 60


def test_an_error_is_folded_on_a_terminal_and_a_command_to_copy_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    render.error(NotFound("word " * 12, "agentops logs show --correlation 07f1a185-df17-474b-ae6f"), as_json=False)
    *message, hint = terminal.getvalue().splitlines()
    assert max(map(len, message)) <= 40
    assert hint == "  → agentops logs show --correlation 07f1a185-df17-474b-ae6f"


def test_what_is_said_after_a_command_to_copy_is_folded_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    render.error(NotFound("gone", "agentops logs show --limit 5, to see the last words of it"), as_json=False)
    render.error(NotFound("gone", f"agentops logs show --grep {'x' * 30}, to see the last words of it"), as_json=False)
    assert terminal.getvalue().splitlines() == [
        "agentops: gone",
        "  → agentops logs show --limit 5, to see",
        "      the last words of it",
        "agentops: gone",
        f"  → agentops logs show --grep {'x' * 30}, to see the last words of it",
    ]


def test_a_note_is_folded_on_a_terminal_unless_it_holds_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    render.note("\n[2/3] Tell everybody what happened")
    render.note("next: agentops incident restore 12 --yes")
    assert terminal.getvalue().splitlines() == [
        "",
        "[2/3] Tell everybody what",
        "happened",
        "next: agentops incident restore 12 --yes",
    ]


def test_each_line_of_an_error_is_folded_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal):
        render.error(NotFound("2 of 2 failed\n  one: it is not what it was\n  two: so is this"), as_json=False)
    assert terminal.getvalue().splitlines() == [
        "agentops: 2 of 2 failed",
        "  one: it is not what it was",
        "  two: so is this",
    ]

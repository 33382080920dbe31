"""The whole command tree as one text: what people read is compared, and changes show in reviews."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentops import commands, main
from agentops.session import Call

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).parent / "golden" / "help.txt"


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command by its path, groups before what is in them."""
    yield path, command
    for name in getattr(command, "commands", None) or ():
        yield from leaves(command.commands[name], (*path, name))


def tree() -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for noun in commands.nouns():
        found |= dict(leaves(commands.command(noun), (noun,)))
    return found


def help_of(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> str:
    assert main.parse([*path, "--help"]) == 0
    return capsys.readouterr().out


def test_the_help_is_the_golden_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERMINAL_WIDTH", "100")
    pages = [
        f"$ {shlex.join(['agentops', *path, '--help'])}\n{help_of(path, capsys).rstrip()}\n" for path in [(), *tree()]
    ]
    text = "\n".join(pages)
    if pytestconfig.getoption("--update-golden"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8"), "look at the difference, then pytest --update-golden"


def test_every_command_says_what_it_does() -> None:
    silent = [path for path, command in tree().items() if not (command.help or "").strip()]
    assert silent == []


def test_every_option_says_what_it_does() -> None:
    silent = [
        f"{' '.join(path)} {parameter.name}"
        for path, command in tree().items()
        for parameter in command.params
        if parameter.param_type_name == "option" and parameter.name != "help" and not parameter.help
    ]
    assert silent == []


def test_an_option_means_the_same_everywhere() -> None:
    meanings: dict[str, set[str]] = {}
    for command in tree().values():
        for parameter in command.params:
            for name in parameter.opts:
                if name in {"--check", "--yes", "--since", "--until", "--correlation"}:
                    meanings.setdefault(name, set()).add(parameter.type.name)
    assert all(len(kinds) == 1 for kinds in meanings.values()), meanings


@pytest.mark.parametrize("place", [0, 1, 2])
def test_json_and_target_stand_anywhere_on_the_line(place: int) -> None:
    for noun in commands.nouns():
        words = [noun, "--help"]
        rest, options = main.hoist([*words[:place], "--json", "--target", "sandbox", *words[place:]])
        assert (rest, options.json, options.target) == (words, True, "sandbox")


def test_what_stands_after_two_dashes_is_left_alone() -> None:
    rest, options = main.hoist(["db", "psql", "--", "--json", "-c", "select 1"])
    assert rest == ["db", "psql", "--", "--json", "-c", "select 1"]
    assert not options.json


@pytest.mark.parametrize(
    "line",
    [
        "flags disable chat",
        "logs tail --correlation abc-123",
        "incident kill-switch",
        "logs show ai-create-voucher --limit 100",
        "logs download ai-whatsapp-webhook -o logs.txt --limit 1000",
        "stats vouchers --days 7",
        "stats ai-vouchers",
        "health functions",
        "db psql -- -c 'select 1'",
    ],
)
def test_the_lines_of_the_page_are_understood(line: str) -> None:
    assert isinstance(main.parse(shlex.split(line)), Call)


def test_the_first_line_of_a_file_is_its_help() -> None:
    for noun, summary in commands.nouns().items():
        assert re.fullmatch(r"[A-Z].*[.]", summary), noun
        assert (commands.command(noun).help or "").startswith(summary), noun

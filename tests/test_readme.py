"""The README cannot lie: its command lines are the program's, its exit codes and variables those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from agentops import commands, main
from agentops.errors import Kind
from agentops.session import Call
from agentops.settings import KNOWN_SECRETS
from agentops.store.limits import KNOWN

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
SOURCES = "".join(file.read_text(encoding="utf-8") for file in (Path(__file__).parents[1] / "src").rglob("*.py"))
_BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = 2
# What stands for something in a sentence, and a value of that kind.
PLACES = {"ID": "1", "SLUG": "ai-create-voucher", "F": "settings.env", "N": "2", "NAME…": "WA_TOKEN", "…": "db"}


def lines() -> list[str]:
    """Every command line of the page."""
    return lines_of(README)


def lines_of(page: str) -> list[str]:
    """Every command line of (a part of) the page: in blocks a line each, in sentences between backticks."""
    found = []
    for block in _BLOCK.findall(page):
        found += [line.split("  #")[0].strip() for line in block.splitlines()]
    found += re.findall(r"`([^`]+)`", _BLOCK.sub("", page))
    found += re.findall(r"\$\((agentops [^)]*)\)", page)
    return [line for line in dict.fromkeys(found) if line.strip() and _command(line)]


def _command(line: str) -> bool:
    words = line.split()
    if words[0] == "agentops":
        return len(words) > 1 and not words[1].startswith("(")
    # In the page's tables, the word agentops stands once: `logs show …` follows it.
    return len(words) > 1 and words[0] in commands.nouns()


def argv(line: str) -> list[str]:
    words = shlex.split(line.replace("postgresql://…", "postgresql://db/stack"))
    return [PLACES.get(word, word) for word in (words[1:] if words[0] == "agentops" else words)]


@pytest.mark.parametrize("line", lines())
def test_every_command_line_is_one_of_ours(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    rest, _ = main.hoist(argv(line))
    if len(rest) == NAMED and rest[1] in getattr(commands.command(rest[0]), "commands", {}):
        return  # a command by its name alone, as in a sentence
    parsed = main.parse(rest) if "--install-completion" not in rest else 0
    assert isinstance(parsed, Call) or parsed == 0, capsys.readouterr().err


def test_the_page_has_many_and_a_wrong_one_would_be_found() -> None:
    assert len(lines()) > 50
    assert _command("flags enabel chat")


def test_the_exit_codes_are_those_of_the_code() -> None:
    table = README.partition("| code | meaning |")[2].partition("\n\n")[0]
    told = {int(code) for cell in re.findall(r"\| ([0-9, ]+) \|", table.replace("|", "||")) for code in cell.split(",")}
    assert told == {kind.exit_code for kind in Kind}


def test_the_variables_are_those_of_the_code() -> None:
    told = set(re.findall(r"AGENTOPS_[A-Z_]+", README))
    read = set(re.findall(r"[\"'](AGENTOPS_[A-Z_]+)[\"']", SOURCES))
    assert told == read


def test_the_agents_settings_are_those_of_the_code() -> None:
    told = set(re.findall(r"\bAGENT_[A-Z_]+", README))
    read = set(re.findall(r"[\"'](AGENT_[A-Z_]+)[\"']", SOURCES))
    assert told == read
    assert told <= set(KNOWN_SECRETS)


def test_every_limit_and_its_default_stand_in_the_readme_and_the_page_that_it_links_to() -> None:
    assert "(docs/limits.md)" in README
    page = (Path(__file__).parents[1] / "docs" / "limits.md").read_text(encoding="utf-8")
    for name, known in KNOWN.items():
        default = known.shown(known.default)
        row = rf"^\| `{name}` \| {re.escape('none' if default is None else f'{default:,}')} \|"
        for text in (page,) if name == "day-offset-minutes" else (page, README):
            assert re.search(row, text, re.MULTILINE), name

"""The same line gives the same exit code and the same JSON fields, on a stack of one's own and on a hosted project.

Every line of the README's table is typed on both, in its order. What is meant to differ is listed here, with its
reason; a line of that list which is not needed any more is a failure too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentops.errors import Kind
from tests.commands.line import Result
from tests.fakes.databases import copied
from tests.fakes.pair import Place, side_by_side
from tests.test_readme import argv, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.serve import Served

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
TABLE = README.partition("## From the page to the command")[2].partition("The sections themselves")[0]
# Beside the table: what it says in passing, and the way on from what asks first.
MORE = (
    "deploy all --check",
    "flags list",
    "incident kill-switch --check",
    "incident list",
    "incident restore ID --yes",
    "incident restore ID --check",
    "secrets diff --env-file F",
    "secrets unset WA_TOKEN --yes",
    "deploy delete ai-void-voucher --yes",
)
# A hosted project refuses these (exit 2): what its sentence names instead.
_STACK = "agentops --target postgresql://…"
REFUSED = {
    "agentops chat --message hello": _STACK,
    "agentops db psql": "DATABASE_URL",
    "agentops limits show": _STACK,
    "agentops limits set customer-day-cost=0.5 day-count=200": _STACK,
    "agentops conversations list": _STACK,
    "conversations show ID --reveal": _STACK,
    "agentops logs scan --since 24h": _STACK,
}
# What differs by its path, and why it has to.
DIFFERENCES = {
    "incident show ID": {
        ".timeline[].detail.incident": "a stack has a row of its own for each flag, which names its incident",
    },
}
Answers = dict[str, tuple[Result, Result]]


def table() -> list[str]:
    """The command lines of the README's table, as they stand there."""
    return [*dict.fromkeys(lines_of(TABLE)), *MORE]


@pytest.fixture(scope="module")
def answers(
    served: Served, postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Answers]:
    """What every line answered: on the stack, on the project."""
    with (
        copied(postgres, template) as url,
        side_by_side(served, url, tmp_path_factory.mktemp("pair")) as (stack, project),
    ):
        yield {line: (_typed(stack, line), _typed(project, line)) for line in table()}


def _typed(place: Place, line: str) -> Result:
    if line == "agentops deploy ai-create-voucher":
        place.edit("edited")
    words = ["WA_TOKEN" if word == "NAME" else word for word in argv(line)]
    if words[:2] == ["logs", "tail"]:
        return place.follow(*words, "--json")
    return place.type(*words, "--json", stdin="sk-two")


def fields(value: Any, path: str = "") -> tuple[set[str], set[str]]:
    """Every field by its path (`[].name`), and the paths below which nothing is known: null, an empty list."""
    known: set[str] = set()
    open_: set[str] = set()
    if isinstance(value, dict):
        children = [(f"{path}.{name}", child) for name, child in value.items()]
        known |= {name for name, _ in children}
    elif isinstance(value, list):
        children = [(f"{path}[]", child) for child in value]
    else:
        children = []
    if value is None or value == []:
        open_.add(path)
    for name, child in children:
        below = fields(child, name)
        known |= below[0]
        open_ |= below[1]
    return known, open_


def content(out: str) -> Any:
    """A document, or the lines of a stream as an array."""
    try:
        return json.loads(out or "null")
    except ValueError:
        return [json.loads(line) for line in out.splitlines()]


def differing(here: Result, there: Result) -> set[str]:
    """What differs: `exit`, `error`, or fields."""
    found = {"exit"} if here.code != there.code else set()
    first, second = content(here.out), content(there.out)
    (mine, open_mine), (theirs, open_theirs) = fields(first), fields(second)
    for one, other_open in ((mine - theirs, open_theirs), (theirs - mine, open_mine)):
        found |= {name for name in one if not any(name.startswith((f"{path}.", f"{path}[")) for path in other_open)}
    return found


def test_the_table_is_read_from_the_readme_and_no_list_here_is_too_long() -> None:
    assert len(table()) > 40
    assert {*REFUSED, *DIFFERENCES} <= {*table()}


@pytest.mark.parametrize("line", [line for line in table() if line not in REFUSED])
def test_the_same_line_answers_alike_on_both(answers: Answers, line: str) -> None:
    here, there = answers[line]
    assert differing(here, there) == {*DIFFERENCES.get(line, {})}, f"{here}\n{there}"
    assert "Traceback" not in here.err + there.err
    # An empty answer would be like any other one.
    if here.code == Kind.DONE.exit_code:
        assert content(here.out), here
        assert content(there.out), there


@pytest.mark.parametrize("line", REFUSED)
def test_what_a_hosted_project_refuses_names_what_to_use(answers: Answers, line: str) -> None:
    here, there = answers[line]
    assert here.code != Kind.USAGE.exit_code
    assert (there.code, there.out) == (Kind.USAGE.exit_code, "")
    error = json.loads(there.err.splitlines()[-1])
    assert error["error"] == "usage"
    assert len(error["message"].splitlines()) == 1
    assert REFUSED[line] in error["hint"]


def test_a_field_more_a_field_less_and_another_exit_code_are_found() -> None:
    one = Result(0, '[{"a": 1, "b": null, "c": []}]', "")
    assert differing(one, one) == set()
    assert differing(one, Result(3, '[{"a": 1, "b": {"x": 1}, "c": [{"y": 1}]}]', "")) == {"exit"}
    assert differing(one, Result(0, '[{"a": {"z": 1}, "b": 2, "d": 3}]', "")) == {"[].a.z", "[].c", "[].d"}
    assert differing(Result(0, '{"a": 1}\n{"b": 2}\n', ""), Result(0, '[{"a": 1}]', "")) == {"[].b"}

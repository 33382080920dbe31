"""Runbook files: read, checked, and complained about with file and step."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from agentops import main
from agentops.errors import NotFound, UsageError
from agentops.runbooks import model
from agentops.session import Call

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
title: Try it
why: For the test.
inputs:
  slug: {description: Which function, example: ai-one}
  since: {description: How far back, default: 1h}
steps:
  - run: deploy {slug}
    verify: health functions
  - manual: Tell somebody about {slug}.
"""


def test_a_runbook_is_read(tmp_path: Path) -> None:
    file = tmp_path / "try.yaml"
    file.write_text(GOOD)
    book = model.read(file)
    assert (book.name, book.title, [step.number for step in book.steps]) == ("try", "Try it", [1, 2])
    assert book.values({"slug": "ai-one"}) == {"slug": "ai-one", "since": "1h"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("title: Try it", ""), "try.yaml: `title` must be a text"),
        (("title: Try it", "tilte: x"), "try.yaml: unknown key 'tilte'"),
        (("why: For the test.", "why: [a]"), "try.yaml: `why` must be a text"),
        (("  - manual: Tell", "  - run: health\n    manual: Tell"), "try.yaml: step 2: has either `run` or `manual`"),
        (("    verify: health functions", "    verfy: x"), "try.yaml: step 1: unknown key 'verfy'"),
        (("deploy {slug}", "deploy {slugg}"), "try.yaml: step 1: `run` uses {slugg}, which is no input"),
        (("deploy {slug}", "deploy 'x"), "try.yaml: step 1: `run` is no command line: No closing quotation"),
        (("deploy {slug}", "agentops deploy"), "try.yaml: step 1: `run` begins with the command"),
        (("{description: How far back, default: 1h}", "{default: 1h}"), "try.yaml: input since: `description`"),
        (("steps:", "steps: {}\nx:"), "try.yaml: unknown key 'x'"),
        (("why: For the test.", "why: a: b"), "try.yaml: mapping values are not allowed here"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    file = tmp_path / "try.yaml"
    file.write_text(GOOD.replace(*change))
    with pytest.raises(UsageError) as refused:
        model.read(file)
    assert complaint in refused.value.message


def test_a_value_stays_one_word(tmp_path: Path) -> None:
    file = tmp_path / "try.yaml"
    file.write_text(GOOD)
    step = model.read(file).steps[0]
    assert step.argv(step.run or "", {"slug": "a b; c"}) == ["deploy", "a b; c"]


def test_inputs_are_asked_for_by_name(tmp_path: Path) -> None:
    file = tmp_path / "try.yaml"
    file.write_text(GOOD)
    book = model.read(file)
    with pytest.raises(UsageError, match="needs a value for: slug") as missing:
        book.values({})
    assert missing.value.hint == "--set slug=ai-one   (Which function)"
    with pytest.raises(UsageError, match="no input 'slugg'"):
        book.values({"slugg": "x"})


def test_an_unknown_runbook_names_the_known_ones() -> None:
    with pytest.raises(NotFound) as unknown:
        model.load("deploy-al")
    assert "deploy-all" in (unknown.value.hint or "")


def test_the_page_has_these_runbooks() -> None:
    assert model.names() == [
        "check-status",
        "clear-message-cache",
        "critical-issue",
        "database-maintenance",
        "deploy-all",
        "deploy-function",
        "enable-disable-features",
        "quick-health",
        "update-secrets",
        "view-logs",
    ]


@pytest.mark.parametrize("name", model.names())
def test_every_command_line_of_a_runbook_is_one_of_ours(name: str) -> None:
    book = model.load(name)
    values = {entry.name: entry.example or entry.default or "" for entry in book.inputs}
    for step in book.steps:
        for line in (step.run, step.verify):
            if line:
                assert isinstance(main.parse(step.argv(line, values)), Call), shlex.join(step.argv(line, values))


@pytest.mark.parametrize("name", model.names())
def test_every_step_of_a_runbook_has_a_heading(name: str) -> None:
    assert [step.number for step in model.load(name).steps if not step.title] == []


def test_a_wrong_command_line_would_be_found() -> None:
    with pytest.raises(UsageError):
        main.parse(["deploy", "all", "--now"])

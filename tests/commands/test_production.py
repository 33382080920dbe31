"""The whole command tree on a target marked as production: what changes something asks for its name, and names it.

Every verb stands in one of four tables, held against the tree and against what it does, so that a new one cannot be
forgotten: it looks, it changes and asks, it stops things and never asks, or it is about this machine only.
"""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agentops import commands, main
from agentops.errors import NotConfirmed
from agentops.session import Session
from agentops.settings import process
from tests.commands.line import Result, typed
from tests.commands.test_idempotency import CHANGES, ENV, REPLY, VOUCHER, content, prepare
from tests.fakes import hosted
from tests.fakes.edge import Folder
from tests.fakes.management_api import ManagementApi

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.commands.test_idempotency import Change

# What only looks, as it is typed; None: it does not end by itself.
LOOKS: dict[str, str | None] = {
    "conversations list": "",
    "conversations show": "1",
    "db status": "",
    "deploy diff": "mine",
    "deploy history": "mine",
    "deploy list": "",
    "flags list": "",
    "health": "",
    "inbox list": "",
    "inbox show": "1",
    "incident list": "",
    "incident show": "1",
    "limits show": "",
    "logs download": "ai-create-voucher -o logs.txt --force",
    "logs scan": "",
    "logs show": "",
    "logs tail": None,
    "outbox list": "",
    "outbox show": REPLY,
    "runbook list": "",
    "runbook show": "critical-issue",
    "secrets diff": "--env-file settings.env",
    "secrets list": "",
    "stats ai-vouchers": "",
    "stats vouchers": "",
    "status": "",
    "target list": "",
    "target show": "--origin",
    "vouchers list": "",
    "vouchers show": VOUCHER,
}
# What asks by itself: it has no --check, because it cannot tell beforehand what would change.
ALSO_ASKS = {"chat": "--message hello", "db psql": "-- -c 'select 1'", "down": "", "invoke": "mine -d '{}'", "up": ""}
# What stops things.
NEVER_ASKS = {"flags disable", "incident kill-switch"}
# About this machine; a runbook's steps ask for themselves; what a service manager starts has nobody to ask.
ELSEWHERE = {"demo", "init", "login", "runbook run", "serve", "target use"}
# What a hosted project refuses before it would ask.
REFUSED = {"db psql", "down", "up"}
CONFUSED = ("--confirm", "prd")
URL = hosted.TARGET


def words(change: Change) -> str:
    """The verb that a line calls, as the command tree has it."""
    line = change.line.replace("deploy mine", "deploy deploy mine")
    return " ".join(line.split()[:2])


ASKING = [change for change in CHANGES if words(change) not in NEVER_ASKS | ELSEWHERE]
LINES = [(change.line, change) for change in ASKING] + [(f"{verb} {more}", None) for verb, more in ALSO_ASKS.items()]


def tree() -> set[str]:
    """Every verb of the program."""
    found = set()
    for noun in commands.nouns():
        verbs = getattr(commands.command(noun), "commands", None)
        found |= {f"{noun} {verb}" for verb in verbs} if verbs else {noun}
    return found


def failure(done: Result) -> dict[str, str]:
    found: dict[str, str] = json.loads(done.err.strip().splitlines()[-1])
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with one function, for either kind of target."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "mine.py").write_text(
        "from agentops.web import json_response\n\n"
        "async def handle(request, stack):\n    return json_response(200, {'answer': 1})\n"
    )
    Folder(tmp_path).function("mine")
    (tmp_path / "settings.env").write_text(ENV)
    return tmp_path


def production(here: Path, url: str) -> None:
    """Mark an address as production, and make it the target."""
    (here / "agentops.toml").write_text(f'target = "prod"\n[targets.prod]\nurl = "{url}"\nproduction = true\n')


@pytest.fixture
def project(here: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ManagementApi]:
    """A hosted project in production, with a database."""
    slugs = (*hosted.SLUGS, "mine")
    api = ManagementApi(database_url, functions={slug: hosted.deployed(slug) for slug in slugs})
    with hosted.project(api, monkeypatch, here):
        monkeypatch.delenv("AGENTOPS_TARGET")
        production(here, URL)
        yield api


def prepared(here: Path, database_url: str) -> None:
    """Something for every line to find in the stack's database."""
    chosen = here / "agentops.toml"
    chosen.unlink(missing_ok=True)
    done: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTOPS_TARGET", database_url)
        for change in CHANGES:
            new = tuple(line for line in change.before if line not in done | {"edit", "refuse-void"})
            prepare(replace(change, before=new), database_url, here)
            done |= {*new}


def sent(api: ManagementApi) -> list[tuple[str, str, str]]:
    """What may have changed something there."""
    return [each for each in api.requests if each[0] != "GET" and each[1] != "/database/query/read-only"]


def test_every_verb_stands_in_one_table() -> None:
    tables = (set(LOOKS), {words(change) for change in ASKING} | set(ALSO_ASKS), NEVER_ASKS, ELSEWHERE)
    assert sum(map(len, tables)) == len(set().union(*tables))
    assert set().union(*tables) == tree()


def test_what_looks_changes_nothing_and_asks_for_nothing(project: ManagementApi, here: Path, database_url: str) -> None:
    prepared(here, database_url)
    before = content(database_url)
    lines = [shlex.split(f"{verb} {more}") for verb, more in LOOKS.items() if more is not None]
    for url in (URL, database_url):
        production(here, url)
        codes = {" ".join(line): typed(*line).code for line in lines}
        # Some find nothing or trouble, and a hosted project refuses some; none waits for a name.
        assert {code for code in codes.values() if code not in {0, 1, 2, 3, 5}} == set(), codes
        assert sum(code in {0, 3} for code in codes.values()) > len(codes) / 2, codes
    assert sent(project) == []
    assert content(database_url) == before


def test_what_changes_something_asks_for_the_name_and_does_nothing_without_it(
    project: ManagementApi, here: Path, database_url: str
) -> None:
    prepared(here, database_url)
    before = content(database_url)
    for line, change in LINES:
        words, dashes, psql = line.partition(" -- ")
        argv = [*shlex.split(words), *(["--yes"] if change and change.asks else []), "--json", dashes.strip()]
        argv = [word for word in [*argv, *shlex.split(psql)] if word]
        for url, options in ((URL, ()), (URL, ("--target", URL)), (database_url, ()), (database_url, CONFUSED)):
            if url == URL and words.strip() in REFUSED:
                continue
            production(here, url)
            done = typed(*options, *argv)
            error = failure(done)
            assert (done.code, error["error"], done.out) == (6, "not_confirmed", ""), (line, options, done)
            assert "--confirm prod" in str(error["hint"]), line
            assert options == CONFUSED or f"prod ({url}) is marked as production" in error["message"], line
    assert project.requests == []
    assert content(database_url) == before


@pytest.mark.parametrize("line", ["flags disable chat", "flags disable chat --for 30m", "incident kill-switch --all"])
def test_what_stops_things_never_asks_on_a_stack_either(line: str, here: Path, database_url: str) -> None:
    production(here, database_url)
    assert typed("flags", "enable", "chat", "--confirm", "prod").code == 0
    assert typed(*shlex.split(line)).code == 0
    assert {flag["enabled"] for flag in typed("flags", "list", "--json").json} == {False}


def test_a_runbook_that_stops_things_begins_with_that_and_asks_nothing(project: ManagementApi, here: Path) -> None:
    (here / "agentops.toml").write_text((here / "agentops.toml").read_text() + '[slack]\nchannel = "#shop-down"\n')
    project.secrets = {"FEATURE_AGENT_CHAT": "true", "FEATURE_AGENT_VOICE": "true"}
    done = typed("runbook", "run", "critical-issue", "--json")
    assert [step["status"] for step in done.json][:2] == ["done", "by_hand"]
    assert project.secrets == {"FEATURE_AGENT_CHAT": "false", "FEATURE_AGENT_VOICE": "false"}
    assert "Post in #shop-down on Slack" in done.err
    assert "tell the team: post in #shop-down on Slack" in done.err
    assert "Post in #shop-down on Slack" in typed("runbook", "show", "critical-issue").out
    assert "Post in #other on Slack" in typed("runbook", "run", "critical-issue", "--set", "channel=#other").err


def test_the_steps_of_a_runbook_ask_for_themselves(project: ManagementApi) -> None:
    line = ("runbook", "run", "deploy-function", "--set", "slug=mine", "--json")
    assert typed(*line, "--check").code == 3
    done = typed(*line)
    assert (done.code, [step["status"] for step in done.json][1:]) == (6, ["failed", "not_run"])
    assert "prod" in done.err
    assert sent(project) == []
    done = typed(*line, "--confirm", "prod")
    assert [step["status"] for step in done.json][1:] == ["done", "done"]


def test_looking_at_a_function_asks_for_nothing(project: ManagementApi) -> None:
    assert typed("invoke", "mine").code == 0
    assert typed("invoke", "mine", "--method", "post").code == 6
    assert sent(project) == []
    assert typed("invoke", "mine", "-d", "{}", "--confirm", "prod").code == 0


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(argv: Sequence[str]) -> Result:
    """The same line, where stdout and stderr are a terminal."""
    out, err = Terminal(), Terminal()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.run(argv)
    return Result(code, out.getvalue(), err.getvalue())


# Lines that a hosted project carries out, in an order in which each finds something to do.
HOSTED = [
    "flags enable chat voice",
    "flags disable voice",
    "secrets set WA_TOKEN=abc",
    "secrets unset WA_TOKEN --yes",
    "deploy mine",
    "deploy all",
    "deploy mine --force",
    "deploy rollback mine",
    "deploy delete mine --yes",
    "incident kill-switch",
    "incident restore 1 --yes",
    "db migrate",
]


@pytest.mark.parametrize("shown", [typed, on_a_terminal], ids=["pipe", "terminal"])
def test_every_result_and_every_plan_names_the_target(
    shown: object, project: ManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    def line(*argv: str) -> Result:
        return on_a_terminal(argv) if shown is on_a_terminal else typed(*argv)

    for each in HOSTED:
        plan = line(*shlex.split(each), "--check")
        assert plan.code in {0, 3}, (each, plan.err)
        assert URL in plan.out + plan.err, each
        done = line(*shlex.split(each), "--confirm", "prod")
        assert done.code == 0, (each, done.err)
        assert URL in done.out + done.err, each
    assert sent(project)
    verbs = {" ".join(each.replace("deploy mine", "deploy deploy mine").split()[:2]) for each in HOSTED}
    refused = {"incident close", *(verb for verb in map(words, CHANGES) if verb.split()[0] in STACKS_ONLY)}
    assert verbs | refused == {words(change) for change in CHANGES} - ELSEWHERE


# What a hosted project has nothing of.
STACKS_ONLY = {"conversations", "inbox", "limits", "outbox", "vouchers"}


@pytest.mark.parametrize("line", ["secrets unset WA_TOKEN", "deploy delete mine", "incident restore 1"])
def test_every_question_names_the_target(line: str, project: ManagementApi) -> None:
    project.secrets = {"WA_TOKEN": "abc", "FEATURE_AGENT_CHAT": "true"}
    assert typed("incident", "kill-switch").code == 0
    asked = typed(*shlex.split(line), "--confirm", "prod")
    assert (asked.code, URL in asked.err.splitlines()[-2]) == (6, True)


def test_every_question_of_a_stack_names_the_target(
    here: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(here, database_url)
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    for change in CHANGES:
        if change.asks:
            asked = typed(*shlex.split(change.line), "--json")
            assert (asked.code, database_url in failure(asked)["message"]) == (6, True), change.line


def test_a_name_that_was_typed_once_counts_for_the_whole_line(
    here: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    production(here, database_url)

    async def dispatch(_: Sequence[str]) -> int:
        raise AssertionError

    session = Session(process(), print, dispatch, interactive=True)
    monkeypatch.setattr(sys, "stdin", io.StringIO("prd\n"))
    with pytest.raises(NotConfirmed):
        session.confirm_production()
    monkeypatch.setattr(sys, "stdin", io.StringIO("prod\n"))
    session.confirm_production()
    session.confirm_production()

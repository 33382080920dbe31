"""The door: one way in, one way out, one exit code for each kind of ending."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agentops import errors, main
from agentops.errors import AgentOpsError, Kind, NotFound
from agentops.session import Answer, Call
from tests.commands.line import typed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from agentops.session import Session

TABLE = {
    "done": 0, "failed": 1, "usage": 2, "differs": 3, "not_authorised": 4, "not_found": 5, "not_confirmed": 6,
    "conflict": 7, "unverified": 8, "timed_out": 9, "partial": 10, "waiting": 11, "unavailable": 69,
    "interrupted": 130, "terminated": 143,
}  # fmt: skip

# Modules may have children of their own (a refusal of OpenAI's); the tree is what `errors` draws.
TREE = [child for child in AgentOpsError.__subclasses__() if child.__module__ == "agentops.errors"]


def answered(monkeypatch: pytest.MonkeyPatch, verb: object) -> None:
    """Whatever is typed means this verb."""
    monkeypatch.setattr(main, "parse", lambda _: Call(verb, {}))  # type: ignore[arg-type]


def test_each_kind_has_its_exit_code() -> None:
    assert {kind.label: kind.exit_code for kind in Kind} == TABLE


@pytest.mark.parametrize("kind", TREE)
def test_an_error_leaves_with_the_code_of_its_kind(kind: type[AgentOpsError], monkeypatch: pytest.MonkeyPatch) -> None:
    async def verb(_: Session) -> None:
        raise kind("it broke", "mend it")

    answered(monkeypatch, verb)
    plain = typed("x")
    assert (plain.code, plain.out) == (kind.kind.exit_code, "")
    assert plain.err == "agentops: it broke\n  → mend it\n"
    machine = typed("x", "--json")
    assert (machine.code, machine.out) == (kind.kind.exit_code, "")
    assert json.loads(machine.err) == {"error": kind.kind.label, "message": "it broke", "hint": "mend it"}


def test_the_next_step_goes_where_this_line_went(monkeypatch: pytest.MonkeyPatch) -> None:
    async def verb(session: Session) -> None:
        session.note("note: agentops up, as pipx upgrade agentops-runbook says")
        raise NotFound("gone", "agentops status, then agentops logs show")

    answered(monkeypatch, verb)
    assert "agentops status, then" in typed("x").err
    given = typed("x", "--target", "postgresql://me:secret@db/stack").err
    assert "→ agentops --target 'postgresql://me:***@db/stack' status, then agentops --target " in given
    assert "note: agentops --target 'postgresql://me:***@db/stack' up, as pipx upgrade agentops-runbook says" in given
    monkeypatch.setenv("AGENTOPS_TARGET", "sandbox")
    assert "→ agentops status, then agentops logs show\n" in typed("x").err


def test_the_error_tree_is_drawn_in_full() -> None:
    drawn = errors.__doc__ or ""
    assert len(TREE) > 5
    assert all(child.__name__ in drawn for child in TREE)


def test_a_defect_is_one_sentence_and_a_traceback_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    async def verb(_: Session) -> None:
        raise KeyError("nothing")

    answered(monkeypatch, verb)
    broken = typed("x")
    assert broken.code == 1
    assert broken.err == "agentops: internal error: KeyError: 'nothing'\n  → repeat with --debug for the traceback\n"
    with pytest.raises(KeyError):
        typed("x", "--debug")


def test_a_result_with_a_failure_is_printed_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def verb(_: Session) -> Answer:
        await asyncio.sleep(0)
        return Answer("half of it", failure=NotFound("the other half"))

    answered(monkeypatch, verb)
    done = typed("x")
    assert (done.code, done.out, done.err) == (5, "half of it\n", "agentops: the other half\n")


def test_a_stream_is_json_lines_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    async def verb(_: Session) -> AsyncIterator[Sequence[int]]:
        yield [1]
        yield [2]

    answered(monkeypatch, verb)
    assert typed("x").out == "[1]\n[2]\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nonsense"], "there is no command 'nonsense'"),
        (["kill-switch"], "did you mean incident kill-switch? agentops --help"),
        (["flags", "dissable", "chat"], "there is no verb of flags 'dissable'"),
        (["flags", "enable"], "Missing argument 'NAME…'"),
        (["flags", "list", "--no-such"], "No such option: --no-such"),
        (["flags", "list", "--target"], "--target needs a value"),
        (["flags", "list", "--target", "mysql://x"], "--target names no target"),
        (["flags", "enable", "chatt"], "no flag is named 'chatt'"),
    ],
)
def test_wrong_usage_is_exit_2_with_a_hint(argv: list[str], message: str) -> None:
    wrong = typed(*argv)
    assert (wrong.code, wrong.out) == (2, "")
    assert message in wrong.err
    assert "\n  → " in wrong.err


def test_a_suggestion_for_a_misspelt_word() -> None:
    assert "did you mean disable" in typed("flags", "dissable", "chat").err
    assert "did you mean flags" in typed("flag", "list").err


def test_help_is_asked_for_or_shown_for_want_of_words() -> None:
    assert typed("--help").code == 0
    assert "Commands:" in typed("--help").out
    assert typed("flags", "list", "-h").code == 0
    assert typed().code == 2


def process(*argv: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": "src", **settings}
    return subprocess.run(
        [sys.executable, "-m", "agentops", *argv], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("argv", [["--version"], ["--version", "--debug"]])
def test_the_version_is_one_line(argv: list[str]) -> None:
    shown = process(*argv)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("agentops ")


def test_the_version_is_json_on_demand() -> None:
    assert list(json.loads(process("--json", "--version").stdout)) == ["version"]


def test_a_reader_that_has_seen_enough_is_no_error(database_url: str) -> None:
    environment = {**os.environ, "PYTHONPATH": "src", "AGENTOPS_TARGET": database_url}
    line = f"{sys.executable} -m agentops --help | head -1"
    shown = subprocess.run(["/bin/sh", "-c", line], env=environment, capture_output=True, text=True, check=False)
    assert shown.stderr == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_stream_with_its_code_and_no_traceback(
    database_url: str, number: signal.Signals, code: int
) -> None:
    environment = {**os.environ, "PYTHONPATH": "src", "AGENTOPS_TARGET": database_url, "DATABASE_URL": "x"}
    command = [sys.executable, "-m", "agentops", "logs", "tail", "nobody", "--target", database_url]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as tail:
        assert tail.stderr is not None
        assert "no function is named nobody" in tail.stderr.readline()
        tail.send_signal(number)
        assert tail.wait(5) == code
        assert tail.stderr.read() == ""


def test_what_the_environment_cannot_say_is_remarked(database_url: str) -> None:
    shown = process(
        "flags", "list", "--json", "--target", "sandbox", AGENTOPS_HOME="/proc/none", DATABASE_URL=database_url,
        FEATURE_AGENT_CHAT="true",
    )  # fmt: skip
    assert 'to operate that database: --target "$DATABASE_URL"' in shown.stderr
    assert "FEATURE_AGENT_CHAT in the environment is ignored" in shown.stderr
    assert database_url not in shown.stderr

"""`agentops secrets …` as it is typed: forms of input, what is refused, and that no value is ever shown."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from agentops.commands import secrets
from agentops.errors import Kind
from agentops.platforms import SecretChange
from agentops.secret_values import digest
from agentops.session import Session
from tests.clients.peer import Peer
from tests.commands.line import typed
from tests.fakes.sockets import closed_port, serving

if TYPE_CHECKING:
    from tests.conftest import StackKeys

SENTINEL = "sk-sentinel-4711"


@pytest.fixture(autouse=True)
def _target(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    monkeypatch.chdir(tmp_path)


def listed() -> dict[str, str]:
    return {item["name"]: item["digest"] for item in typed("secrets", "list", "--json").json}


def test_setting_twice_changes_once_and_shows_no_value() -> None:
    first = typed("secrets", "set", f"WA_TOKEN={SENTINEL}", "FEATURE_AGENT_CHAT=on", "--json")
    assert first.code == 0, first.err
    assert [(item["name"], item["changed"]) for item in first.json] == [
        ("WA_TOKEN", True),
        ("FEATURE_AGENT_CHAT", True),
    ]
    second = typed("secrets", "set", f"WA_TOKEN={SENTINEL}", "FEATURE_AGENT_CHAT=on", "--json")
    assert [item["changed"] for item in second.json] == [False, False]
    shown = typed("secrets", "list", "--json")
    assert listed() == {"FEATURE_AGENT_CHAT": digest("true")[:12], "WA_TOKEN": digest(SENTINEL)[:12]}
    assert SENTINEL not in f"{first.out}{first.err}{second.out}{second.err}{shown.out}{shown.err}"


def test_a_value_on_the_command_line_is_warned_of_once_and_flags_and_models_are_not() -> None:
    warned = typed("secrets", "set", "A=x", "B=y", "FEATURE_AGENT_CHAT=on", "OPENAI_RESPONSES_MODEL=gpt-6-luna")
    assert warned.err.count("shell's history") == 1
    assert "the value of A, B now stands" in warned.err
    assert "shell's history" not in typed("secrets", "set", "FEATURE_AGENT_CHAT=off").err


def test_a_name_alone_is_read_from_stdin_where_that_is_piped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{SENTINEL}\n"))
    done = typed("secrets", "set", "WA_TOKEN")
    assert (done.code, "shell's history" in done.err) == (0, False)
    assert listed() == {"WA_TOKEN": digest(SENTINEL)[:12]}
    assert typed("secrets", "set", "A", "B").code == 2


def test_a_pipe_that_gives_nothing_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for nothing in ("", "\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(nothing))
        done = typed("secrets", "set", "WA_TOKEN")
        assert (done.code, listed()) == (2, {})
        assert "stdin holds no value for WA_TOKEN" in done.err
    assert typed("secrets", "set", "WA_TOKEN=").code == 0  # meant as it is typed


def test_a_name_alone_is_asked_for_without_echo_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def prompt(name: str, **how: Any) -> str:
        asked.append({"name": name, **how})
        return SENTINEL

    monkeypatch.setattr("typer.prompt", prompt)
    session: Any = SimpleNamespace(interactive=True, note=lambda _: None)
    session.hidden = partial(Session.hidden, session)
    assert secrets._given(session, ["WA_TOKEN"], check=False) == {"WA_TOKEN": SENTINEL}
    assert asked == [{"name": "WA_TOKEN", "hide_input": True, "err": True}]


def test_an_env_file_sets_all_or_nothing() -> None:
    Path("good.env").write_text('A=one\nexport B="two\\nlines"\nFEATURE_AGENT_VOICE=true\n')
    Path("bad.env").write_text(f"C=three\nFEATURE_AGENT_VOICE={SENTINEL}\n")
    assert typed("secrets", "set", "--env-file", "good.env", "--check").code == 3
    assert listed() == {}
    assert typed("secrets", "set", "--env-file", "good.env").code == 0
    assert listed().keys() == {"A", "B", "FEATURE_AGENT_VOICE"}
    bad = typed("secrets", "set", "--env-file", "bad.env")
    assert (bad.code, "C" in listed(), SENTINEL in bad.err) == (2, False, False)
    assert typed("secrets", "set", "--env-file", "good.env", "--check").code == 0


def test_a_broken_env_file_names_the_line_and_not_the_value() -> None:
    Path("broken.env").write_text(f"A=1\n# fine\nB C={SENTINEL}\n")
    broken = typed("secrets", "set", "--env-file", "broken.env")
    assert (broken.code, "broken.env:3:" in broken.err, SENTINEL in broken.err) == (2, True, False)
    assert typed("secrets", "set", "--env-file", "nowhere.env").code == 2


def test_named_variables_of_the_environment_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WA_TOKEN", SENTINEL)
    assert typed("secrets", "set", "--from-env", "WA_TOKEN", "NOT_THERE").code == 2
    assert typed("secrets", "set", "--from-env", "WA_TOKEN").code == 0
    assert listed() == {"WA_TOKEN": digest(SENTINEL)[:12]}


@pytest.mark.parametrize("argument", [SENTINEL, f"sk-1={SENTINEL}", f"={SENTINEL}"])
def test_what_is_no_name_is_not_repeated_for_it_may_be_a_value(argument: str) -> None:
    refused = typed("secrets", "set", "A=1", argument)
    assert (refused.code, SENTINEL in refused.err) == (2, False)
    assert "argument 2" in refused.err
    assert typed("secrets", "set").code == 2


def test_a_retired_model_is_refused_with_its_replacement_unless_forced() -> None:
    refused = typed("secrets", "set", "OPENAI_RESPONSES_MODEL=gpt-3.5-turbo")
    assert refused.code == 2
    assert "2026-10-23" in refused.err
    assert "agentops secrets set OPENAI_RESPONSES_MODEL=gpt-6-luna" in refused.err
    assert listed() == {}
    assert typed("secrets", "set", "OPENAI_RESPONSES_MODEL=gpt-3.5-turbo", "--force").code == 0


@pytest.mark.parametrize(
    ("model", "words"),
    [("gpt-gone", "shut down gpt-gone on 2026-01-01"), ("gpt-unheard-of", "no model gpt-unheard-of")],
)
def test_where_openai_answers_its_own_list_has_the_last_word(
    model: str, words: str, stack_keys: StackKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [{"id": "gpt-6-luna"}, {"id": "gpt-gone", "shutdown_date": "2026-01-01"}]
    listing = {
        "object": "list",
        "data": [{"object": "model", "created": 1, "owned_by": "x", **each} for each in models],
    }
    monkeypatch.setenv("AGENTOPS_STACK_KEY", stack_keys.private)
    typed("secrets", "set", f"OPENAI_API_KEY={SENTINEL}")
    peer = Peer()
    peer.answers(200, listing)
    with serving(peer) as port:
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
        refused = typed("secrets", "set", f"OPENAI_RESPONSES_MODEL={model}")
        assert typed("secrets", "set", "OPENAI_RESPONSES_MODEL=gpt-6-luna").code == 0
    assert (refused.code, words in refused.err, SENTINEL in refused.err) == (2, True, False)
    assert {path for path, _, _ in peer.heard} == {"/v1/models"}


def test_where_openai_does_not_answer_the_shipped_table_is_enough(
    stack_keys: StackKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOPS_STACK_KEY", stack_keys.private)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{closed_port()}/v1")
    done = typed("secrets", "set", f"OPENAI_API_KEY={SENTINEL}", "OPENAI_RESPONSES_MODEL=gpt-6-luna")
    assert done.code == 0
    assert "was not asked" in done.err


def test_unsetting_asks_only_where_something_is_there() -> None:
    typed("secrets", "set", "A=1")
    assert typed("secrets", "unset", "A").code == 6
    assert typed("secrets", "unset", "A", "--check").code == 3
    done = typed("secrets", "unset", "A", "B", "--yes", "--json")
    assert [(item["name"], item["status"], item["changed"]) for item in done.json] == [
        ("A", "unset", True),
        ("B", "absent", False),
    ]
    again = typed("secrets", "unset", "A", "--json")
    assert (again.code, again.json[0]["status"]) == (0, "absent")


def test_diff_compares_by_digests() -> None:
    typed("secrets", "set", "A=1", "B=2", "C=3", "FEATURE_AGENT_CHAT=on")
    Path("here.env").write_text("A=1\nB=changed\nD=4\nFEATURE_AGENT_CHAT=YES\n")
    compared = typed("secrets", "diff", "--env-file", "here.env", "--json")
    assert compared.code == 3
    assert {item["name"]: item["status"] for item in compared.json} == {
        "A": "same",
        "B": "differs",
        "C": "only_target",
        "D": "only_file",
        "FEATURE_AGENT_CHAT": "same",
    }


def test_what_failed_beside_what_was_done_is_partial_and_named() -> None:
    changes = [
        SecretChange("NEW", "set", changed=True),
        SecretChange("OLD", "failed", changed=False, finding="not unset: words"),
    ]
    answer = secrets._answer(changes, check=False)
    assert answer.value == changes
    assert answer.failure is not None
    assert (answer.failure.kind, answer.failure.message) == (Kind.PARTIAL, "1 of 2 failed\n  OLD: not unset: words")

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from agentops import seal
from tests.fakes import cli

if TYPE_CHECKING:
    from tests.conftest import StackKeys


@pytest.fixture(autouse=True)
def _stack(database_url: str, stack_keys: StackKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    monkeypatch.setenv("AGENTOPS_STACK_KEY", stack_keys.private)
    cli.answer("secrets", "set", "WA_VERIFY_TOKEN=it's a token", "SUPABASE_SERVICE_ROLE_KEY=key")


def test_keys_are_shown_only_when_asked_for() -> None:
    assert cli.answer("status")["keys"] is None
    shown = cli.answer("status", "--show-keys")
    assert shown["keys"] == {
        "service_role_key": "key",
        "anon_key": None,
        "verify_token": "it's a token",
        "app_secret": None,
    }
    assert (shown["servers"], shown["url"]) == ([], None)


def test_env_prints_lines_that_a_shell_takes(database_url: str) -> None:
    code, out, _ = cli.run("status", "--env")
    assert code == 0
    exported = dict(word.split("=", 1) for line in out.splitlines() for word in shlex.split(line)[1:])
    assert exported["DATABASE_URL"] == database_url
    assert exported["SUPABASE_URL"] == "http://127.0.0.1:54321"
    assert exported["WA_VERIFY_TOKEN"] == "it's a token"


def test_another_machines_key_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_STACK_KEY", seal.new_key()[0])
    failed = cli.failure("status", "--show-keys")
    assert failed["exit"] == 2
    assert cli.answer("status")["keys"] is None

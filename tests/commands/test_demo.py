from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING

import pytest

from agentops import embedded
from tests.fakes import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def toured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], str, str]]:
    """A stack after its tour: the environment to operate it in, the tour's stdout and its stderr."""
    home = tmp_path_factory.mktemp("demo")
    environment = {"AGENTOPS_HOME": str(home), "AGENTOPS_TARGET": "sandbox"}
    try:
        code, out, err = cli.run("demo", "--port", str(cli.free_port()), **environment)
        assert code == 0, f"{out}\n{err}"
        yield environment, out, err
    finally:
        cli.run("down", **environment)
        embedded.remove(home / "sandbox")


def chat(environment: dict[str, str], *words: str) -> tuple[int, list[dict[str, object]], str]:
    """`agentops chat`: exit code, the exchanges, stderr."""
    code, out, err = cli.run("chat", *words, **environment)
    return code, [json.loads(line) for line in out.splitlines()], err


def test_the_tour_shows_every_command_makes_a_voucher_and_says_how_to_go_on(
    toured: tuple[dict[str, str], str, str],
) -> None:
    environment, out, err = toured
    commands = re.findall(r"^\$ agentops (.*)$", err, re.MULTILINE)
    assert [re.sub(r" --(port|correlation) .*", "", line) for line in commands] == [
        "up --sandbox --detach",
        "deploy all",
        "deploy all",
        "chat --message 'create voucher 10000 for +250788000000'",
        "logs show",
        "stats vouchers",
        "flags disable chat",
        "chat --message hello",
        "incident kill-switch",
        "health",
        "incident restore 1 --yes",
        "flags enable chat",
    ]
    voucher = re.search(r"made voucher ([0-9a-f-]{36})", out)
    assert voucher
    assert out.count(voucher[1]) >= 3, "in the reply, in the log trail, at the end"
    assert "ai.whatsapp.send.success" in out
    assert "SIMULATED" in err
    assert "agentops down" in out
    # It ends with the stack up and everything on again.
    assert all(flag["enabled"] for flag in cli.answer("flags", "list", **environment))
    assert cli.answer("status", **environment)["servers"] != []


def test_a_chat_message_is_answered_and_found_in_the_logs(toured: tuple[dict[str, str], str, str]) -> None:
    environment = toured[0]
    code, (exchange,), _ = chat(environment, "--message", "hello", "--correlation", "abc-123", "--from", "0788123456")
    assert code == 0
    assert (exchange["answered"], exchange["message"], exchange["correlation_id"]) == (True, "hello", "abc-123")
    assert "Hello" in str(exchange["replies"])
    _, out, _ = cli.run(
        "logs", "show", "--correlation", "abc-123", "--event", "ai.whatsapp.send.success", **environment
    )
    assert "+2507***456" in out
    assert "250788123456" not in out


def test_with_chat_off_it_says_so_and_ends_with_1(toured: tuple[dict[str, str], str, str]) -> None:
    environment = toured[0]
    cli.answer("flags", "disable", "chat", **environment)
    try:
        code, (exchange,), err = chat(environment, "--message", "hello")
        assert (code, exchange["answered"], exchange["replies"]) == (1, False, [])
        assert "not answered: chat is off" in err
    finally:
        cli.answer("flags", "enable", "chat", **environment)


def test_without_a_server_it_says_what_to_type(database_url: str) -> None:
    failed = cli.failure("chat", "--message", "hello", AGENTOPS_TARGET=database_url)
    assert (failed["exit"], failed["hint"]) == (69, "agentops up")


def test_a_tour_that_cannot_begin_says_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = cli.run("demo", "--port", str(taken.getsockname()[1]), AGENTOPS_HOME=str(tmp_path / "home"))
    embedded.remove(tmp_path / "home" / "sandbox")
    assert code == 1
    assert "is taken by another process" in err

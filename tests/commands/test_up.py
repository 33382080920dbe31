from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentops import embedded
from tests.fakes import cli

if TYPE_CHECKING:
    from tests.conftest import StackKeys


@pytest.fixture
def target(database_url: str, stack_keys: StackKeys, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stack of our own by its address, its key on this machine."""
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    monkeypatch.setenv("AGENTOPS_STACK_KEY", stack_keys.private)
    return database_url


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_it_comes_up_once_serves_all_six_and_goes_down_once(target: str) -> None:
    port = str(cli.free_port())
    first = cli.answer("up", "--detach", "--port", port)
    try:
        assert (first["changed"], first["simulated"], first["target"]) == (True, False, target)
        assert first["webhook"] == f"http://127.0.0.1:{port}/functions/v1/ai-whatsapp-webhook"
        for slug in ("ai-lookup-customer", "ai-create-voucher", "ai-redeem-voucher", "ai-void-voucher"):
            assert _status(f"{first['url']}/functions/v1/{slug}") == 200
        # Flags are off at first, as in production.
        assert [flag["enabled"] for flag in cli.answer("flags", "list")] == [False] * 4
        second = cli.answer("up", "--detach")
        assert second == first | {"changed": False}

        shown = cli.answer("status")
        assert (shown["url"], shown["keys"]) == (first["url"], None)
        assert sorted(server["role"] for server in shown["servers"]) == ["web", "worker"]
        assert {server["url"] for server in shown["servers"] if server["role"] == "worker"} == {None}
    finally:
        down = cli.answer("down")
    assert (down["changed"], down["pid"]) == (True, first["pid"])
    assert cli.answer("down") == {"target": target, "pid": None, "changed": False}
    assert cli.answer("status")["servers"] == []


def test_on_a_production_stack_the_name_that_was_given_holds_for_what_it_leaves_running(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTOPS_TARGET")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agentops.toml").write_text(f'target = "prod"\n[targets.prod]\nurl = "{target}"\nproduction = true\n')
    port = ("--port", str(cli.free_port()))
    assert cli.failure("up", "--detach", *port)["exit"] == 6
    up = cli.answer("up", "--detach", *port, "--confirm", "prod")
    try:
        assert (up["changed"], up["target"]) == (True, target)
        assert cli.failure("down")["exit"] == 6
    finally:
        assert cli.answer("down", "--confirm", "prod")["changed"]


def test_in_the_foreground_it_says_where_everything_is_and_ends_well_on_ctrl_c(target: str) -> None:
    process = cli.start("up", "--port", str(cli.free_port()))
    assert process.stdout
    # Events of the processes share the stream; the first line of ours is the one that has a target.
    lines = (json.loads(line) for line in process.stdout)
    assert next(line for line in lines if "target" in line)["target"] == target
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=15)
    assert process.returncode == 0, err


def test_a_taken_port_is_one_sentence_with_the_next_step(target: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words in (("up",), ("up", "--detach")):
            failed = cli.failure(*words, "--port", str(port))
            assert (failed["exit"], failed["error"]) == (7, "conflict")
            assert f"port {port}" in failed["message"]
            assert failed["hint"] == f"agentops up --port {port + 1}"
    assert target


def test_without_the_stack_key_it_ends_before_it_listens(target: str) -> None:
    failed = cli.failure("up", "--port", str(cli.free_port()), AGENTOPS_STACK_KEY="")
    assert (failed["exit"], failed["error"]) == (2, "usage")
    assert "private key" in failed["message"]
    assert target


def test_a_wrong_database_address_is_one_sentence() -> None:
    failed = cli.failure("up", "--port", str(cli.free_port()), AGENTOPS_TARGET="postgresql://x@127.0.0.1:1/y")
    assert (failed["exit"], failed["error"]) == (69, "unavailable")


def test_the_sandbox_is_a_stack_of_its_own_whose_peers_tell_what_became_of_replies() -> None:
    home = Path(os.environ["AGENTOPS_HOME"])
    try:
        up = cli.answer(
            "up", "--sandbox", "--detach", "--port", str(cli.free_port()), DATABASE_URL="postgresql://no/no"
        )
        assert (up["target"], up["simulated"]) == ("sandbox", True)
        flags = cli.answer("--target", "sandbox", "flags", "list")
        assert [flag["enabled"] for flag in flags] == [True] * 4
        names = {secret["name"] for secret in cli.answer("--target", "sandbox", "secrets", "list")}
        assert {"AGENT_STAFF_MSISDNS", "OPENAI_API_KEY", "WA_TOKEN", "WA_PHONE_ID"} <= names
        assert cli.answer("--target", "sandbox", "chat", "--message", "hello")["answered"]
        # Graph's peer tells the webhook what became of it.
        deadline = time.monotonic() + 30
        while [reply["state"] for reply in cli.answer("--target", "sandbox", "outbox", "list")] != ["delivered"]:
            assert time.monotonic() < deadline
        peers = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_peers_of(up["pid"], entry)]
        assert len(peers) == 1
        failed = cli.failure("serve", "--target", "sandbox")
        assert (failed["exit"], failed["hint"]) == (2, "agentops up --sandbox")
        assert cli.answer("--target", "sandbox", "down")["changed"]
        assert not peers[0].exists()
    finally:
        cli.run("--target", "sandbox", "down")
        embedded.remove(home / "sandbox")


def _is_peers_of(parent: int, entry: Path) -> bool:
    try:
        status = (entry / "stat").read_text().rpartition(")")[2].split()
        return int(status[1]) == parent and b"agentops.server.peers" in (entry / "cmdline").read_bytes()
    except OSError:
        return False

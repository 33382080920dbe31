"""The command lines that must work as typed, against a stack that really runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fakes.serve import Served


def test_deploying_all_again_changes_nothing(served: Served) -> None:
    deployments = served.json("deploy", "all")
    assert [entry["changed"] for entry in deployments] == [False] * 6
    assert {entry["status"] for entry in deployments} == {"unchanged"}


def test_disabling_chat_is_applied_by_every_server_at_once(served: Served) -> None:
    assert served.json("flags", "disable", "chat")[0]["changed"] is True
    assert served.json("flags", "disable", "chat")[0]["changed"] is False
    assert served.json("flags", "enable", "chat")[0]["enabled"] is True


def test_tailing_by_correlation_id_prints_what_comes_and_ends_with_130_on_ctrl_c(served: Served) -> None:
    command = [sys.executable, "-m", "agentops", "logs", "tail", "--correlation", "abc-123"]
    with subprocess.Popen(command, env=dict(served.environment), stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        served.post("ai-lookup-customer", {"msisdn": "+250788000000"}, **{"x-correlation-id": "abc-123"})
        served.post("ai-lookup-customer", {"msisdn": "+250788000000"}, **{"x-correlation-id": "other"})
        lines = [json.loads(tail.stdout.readline()) for _ in range(2)]
        tail.send_signal(2)
        assert tail.wait(10) == 130
    assert [line["event"] for line in lines] == ["ai.tool.lookup_customer.start", "ai.tool.lookup_customer.success"]
    assert {line["correlation_id"] for line in lines} == {"abc-123"}


def test_the_kill_switch_is_confirmed_by_every_server_and_restored(served: Served) -> None:
    killed = served.json("incident", "kill-switch", "--reason", "drill")
    assert (killed["features"], killed["changed"], killed["unconfirmed"]) == (["chat", "voice"], True, [])
    assert len(killed["confirmed"]) == 3
    again = served.json("incident", "kill-switch")
    assert (again["incident"], again["changed"]) == (killed["incident"], False)
    restored = served.run("incident", "restore", str(killed["incident"]))
    assert restored.returncode == 6
    assert served.json("incident", "restore", str(killed["incident"]), "--yes")["changed"] is True
    flags = {flag["name"]: flag["enabled"] for flag in served.json("flags", "list")}
    assert flags["chat"] is True
    assert flags["voice"] is True


def test_a_timed_switch_puts_itself_back(served: Served) -> None:
    assert served.json("flags", "disable", "voice", "--for", "1s")[0]["until"] is not None
    deadline = time.monotonic() + 10
    while not {flag["name"]: flag["enabled"] for flag in served.json("flags", "list")}["voice"]:
        assert time.monotonic() < deadline

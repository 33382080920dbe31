"""A server behind the forwarders that took the connection and says nothing more: given up, and the project is off."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from agentops.incidents import both
from tests.commands.line import typed
from tests.fakes import cli, frozen
from tests.fakes.hosted import TARGET, project
from tests.fakes.management_api import REF, ManagementApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHAT = "FEATURE_AGENT_CHAT"
UNKNOWN = "it gave no answer within 1.5 s; whether it was carried out is not known"


@pytest.fixture
def api(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ManagementApi]:
    """A project with everything on, and a server that has fallen silent."""
    fresh = ManagementApi(secrets={CHAT: "true", "FEATURE_AGENT_VOICE": "true"})
    with frozen.server(database_url) as server, project(fresh, monkeypatch, tmp_path, server=server):
        yield fresh


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(both, "HEAD_START", 0.5)
    monkeypatch.setattr(both, "KILL_SECONDS", 1.5)
    monkeypatch.setattr(both, "SECONDS", 1.5)


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("line", [("incident", "kill-switch"), ("flags", "disable", "chat")])
def test_it_is_given_up_and_the_project_is_off(api: ManagementApi, line: tuple[str, ...]) -> None:
    begun = time.monotonic()
    done = typed(*line, "--json")
    assert time.monotonic() - begun < 20
    assert (done.code, api.secrets[CHAT]) == (9, "false")
    assert UNKNOWN in done.err
    if line[0] == "incident":
        assert [(side["target"] == TARGET, side["incident"]) for side in done.json["targets"]] == [
            (False, None),
            (True, 1),
        ]
        assert f"to put it back on {TARGET}" in done.err
    else:
        assert [(flag["target"] == TARGET, flag["enabled"]) for flag in done.json] == [(False, None), (True, False)]


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("line", ["incident kill-switch --check", "flags disable chat --check"])
def test_a_plan_is_bounded_too(api: ManagementApi, line: str) -> None:
    done = typed(*line.split())
    assert (done.code, api.writes) == (9, [])
    assert UNKNOWN in done.err


@pytest.mark.usefixtures("_hasty")
def test_what_cannot_be_switched_on_there_stays_off_at_the_project(api: ManagementApi) -> None:
    api.secrets[CHAT] = "false"
    done = typed("flags", "enable", "chat")
    assert (done.code, api.secrets[CHAT], api.writes) == (9, "false", [])
    assert f"target {TARGET}: left as it is" in done.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("incident", "kill-switch"), f"note: OFF on target {TARGET}: chat, voice (incident 1)"),
        (("flags", "disable", "chat"), f"note: target {TARGET}: chat off"),
    ],
)
def test_who_interrupts_is_told_that_the_project_is_off(
    api: ManagementApi, tmp_path: Path, line: tuple[str, ...], said: str
) -> None:
    process = cli.start(*line)
    audit = tmp_path / "home" / "supabase" / REF / "audit.jsonl"
    deadline = time.monotonic() + 60
    while not audit.exists() or [method for method, path, _ in api.requests if path == "/secrets"][2:] != ["GET"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(2)  # what is left of the project's side is local; the server is waited for much longer
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, api.secrets[CHAT]) == (130, "", "false")
    assert said in err
    assert "whether it was carried out is not known" in err
    assert all(word not in err for word in ("Traceback", "cancellation"))

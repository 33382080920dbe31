"""A hosted project and the stack behind its forwarders: switched off on both, whatever becomes of the one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from starlette.responses import JSONResponse, Response

from agentops.errors import AgentOpsError, Kind, Unavailable
from agentops.incidents import both, confirming, kill_switch
from tests.commands.line import typed
from tests.fakes.hosted import TARGET, project
from tests.fakes.management_api import ManagementApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = "postgresql://nobody:secret@127.0.0.1:1/none"
ON = {"FEATURE_AGENT_CHAT": "true", "FEATURE_AGENT_VOICE": "true", "FEATURE_AGENT_VOUCHERS": "true"}


@pytest.fixture
def api(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ManagementApi]:
    """A project and a server, everything on at both; a machine that is slow gets its time."""
    monkeypatch.setattr(both, "HEAD_START", 60.0)
    fresh = ManagementApi(secrets=dict(ON))
    with project(fresh, monkeypatch, tmp_path, server=database_url):
        assert typed("--target", database_url, "flags", "enable", "chat", "voice", "vouchers").code == 0
        yield fresh


@pytest.fixture
def lame(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ManagementApi]:
    """A project whose server's database is away."""
    fresh = ManagementApi(secrets=dict(ON))
    with project(fresh, monkeypatch, tmp_path, server=NOBODY):
        yield fresh


def server_flags(database_url: str) -> dict[str, bool]:
    with psycopg.connect(database_url) as connection:
        return dict(connection.execute(b"select name, enabled from agentops.flags").fetchall())


def refused(_method: str, _path: str) -> Response:
    return JSONResponse({"message": "Forbidden action"}, 403)


def test_the_kill_switch_switches_both_off_and_names_both(api: ManagementApi, database_url: str) -> None:
    planned = typed("incident", "kill-switch", "--check", "--json")
    assert (planned.code, planned.json["changed"], api.writes) == (3, True, [])
    killed = typed("incident", "kill-switch", "--reason", "leak", "--json")
    assert killed.code == 0, killed.err
    assert (api.secrets["FEATURE_AGENT_CHAT"], api.secrets["FEATURE_AGENT_VOICE"]) == ("false", "false")
    assert api.secrets["FEATURE_AGENT_VOUCHERS"] == "true"
    assert server_flags(database_url)["FEATURE_AGENT_CHAT"] is False
    server, hosted_side = killed.json["targets"]
    assert (hosted_side["target"], hosted_side["changed"], server["changed"]) == (TARGET, True, True)
    assert killed.json["features"] == ["chat", "voice"]
    assert killed.json["drained_seconds"] is not None
    assert killed.json["incident"] == hosted_side["incident"]
    assert {"incident", "target", "features", "changed", "drained_seconds", "confirmed", "unconfirmed"} < set(
        killed.json
    )
    # Each has its own record; one line puts both back.
    assert f"to put both back: agentops incident restore {hosted_side['incident']}" in killed.err
    assert typed("--target", database_url, "incident", "list", "--json").json[0]["reason"] == "leak"
    assert typed("incident", "list", "--json").json[0]["reason"] == "leak"


def test_the_server_is_switched_before_the_project(api: ManagementApi, database_url: str) -> None:
    seen: list[dict[str, bool]] = []

    def look(method: str, path: str) -> Response | None:
        if (method, path) == ("POST", "/secrets"):
            seen.append(server_flags(database_url))
        return None

    api.refuse = look
    assert typed("flags", "disable", "chat").code == 0
    assert [flags["FEATURE_AGENT_CHAT"] for flags in seen] == [False]
    assert typed("incident", "kill-switch").code == 0
    assert seen[1]["FEATURE_AGENT_VOICE"] is False


@pytest.mark.parametrize("line", [("incident", "kill-switch"), ("flags", "disable", "chat", "voice")])
def test_a_server_that_is_away_does_not_keep_the_project_on(lame: ManagementApi, line: tuple[str, ...]) -> None:
    done = typed(*line, "--json")
    assert done.code == Kind.UNAVAILABLE.exit_code
    assert lame.secrets["FEATURE_AGENT_CHAT"] == "false"
    assert "postgresql://nobody:***@127.0.0.1:1/none" in done.err
    assert "secret" not in done.err + done.out.replace('"secret"', "")
    if line[0] == "flags":
        assert [(flag["target"], flag["enabled"], flag["changed"]) for flag in done.json] == [
            ("postgresql://nobody:***@127.0.0.1:1/none", None, False),
            ("postgresql://nobody:***@127.0.0.1:1/none", None, False),
            (TARGET, False, True),
            (TARGET, False, True),
        ]
        assert done.json[0]["finding"]
    else:
        assert done.json["targets"][0]["finding"]
        assert any("127.0.0.1:1" in name for name in done.json["unconfirmed"])


@pytest.mark.parametrize("line", [("incident", "kill-switch"), ("flags", "disable", "chat", "voice")])
@pytest.mark.parametrize("why", ["refused", "no token"])
def test_a_project_that_refuses_does_not_keep_the_server_on(
    api: ManagementApi, database_url: str, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...], why: str
) -> None:
    if why == "refused":
        api.refuse = refused
    else:
        monkeypatch.delenv("SUPABASE_ACCESS_TOKEN")
    done = typed(*line, "--json")
    assert done.code == Kind.NOT_AUTHORISED.exit_code
    assert TARGET in done.err
    flags = server_flags(database_url)
    assert (flags["FEATURE_AGENT_CHAT"], flags["FEATURE_AGENT_VOICE"]) == (False, False)


def test_where_both_fail_both_are_named_and_the_worst_code_wins(lame: ManagementApi) -> None:
    lame.refuse = refused
    done = typed("incident", "kill-switch")
    assert done.code == Kind.UNAVAILABLE.exit_code
    assert "127.0.0.1:1" in done.err
    assert "Forbidden action" in done.err
    assert lame.secrets["FEATURE_AGENT_CHAT"] == "true"


def test_a_server_that_does_not_confirm_is_exit_9_beside_a_project_that_is_off(
    api: ManagementApi, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kill_switch, "CONFIRM_SECONDS", 0.1)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            b"insert into agentops.servers (id, host, pid, role) values (gen_random_uuid(), 'box', 4711, 'web')"
        )
    done = typed("incident", "kill-switch", "--json")
    assert (done.code, api.secrets["FEATURE_AGENT_CHAT"]) == (9, "false")
    assert done.json["unconfirmed"] == ["box:4711 (alive, but still with older settings)"]


def test_a_webhook_that_does_not_say_off_is_exit_9_also_behind_a_server(
    api: ManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "CONFIRM_SECONDS", 0.1)
    monkeypatch.setattr(confirming, "PROBE_SECONDS", 0.01)
    done = typed("flags", "disable", "chat", "--wait", "--json")
    assert done.code == 9
    assert "ai-whatsapp-webhook" in done.err
    assert {flag["enabled"] for flag in done.json} == {False}
    assert api.secrets["FEATURE_AGENT_CHAT"] == "false"


def test_what_is_on_is_switched_on_at_the_server_first_or_not_at_all(api: ManagementApi, database_url: str) -> None:
    assert typed("flags", "disable", "chat").code == 0
    planned = typed("flags", "enable", "chat", "--check", "--json")
    assert (planned.code, [flag["changed"] for flag in planned.json]) == (3, [True, True])
    done = typed("flags", "enable", "chat", "--json")
    assert (done.code, [flag["enabled"] for flag in done.json]) == (0, [True, True])
    assert (api.secrets["FEATURE_AGENT_CHAT"], server_flags(database_url)["FEATURE_AGENT_CHAT"]) == ("true", True)
    again = typed("flags", "enable", "chat", "--json")
    assert [flag["changed"] for flag in again.json] == [False, False]


def test_a_server_that_cannot_be_switched_on_leaves_the_project_off(lame: ManagementApi) -> None:
    lame.secrets["FEATURE_AGENT_CHAT"] = "false"
    done = typed("flags", "enable", "chat")
    assert done.code == Kind.UNAVAILABLE.exit_code
    assert (lame.secrets["FEATURE_AGENT_CHAT"], lame.requests) == ("false", [])
    assert f"target {TARGET}: left as it is" in done.err


def test_a_timed_switch_is_refused_before_anything_is_done(api: ManagementApi, database_url: str) -> None:
    assert typed("flags", "disable", "chat", "--for", "5m").code == 2
    assert (server_flags(database_url)["FEATURE_AGENT_CHAT"], api.requests) == (True, [])


def test_other_commands_say_which_of_the_two_they_act_on(api: ManagementApi) -> None:
    listed = typed("flags", "list")
    assert listed.code == 0
    assert f"this is about {TARGET} alone" in listed.err
    assert "alone" not in typed("flags", "disable", "chat").err
    assert api.requests


class Off:
    """What was done on one side."""

    def __init__(self, words: str = "off") -> None:
        self.words = words

    def text(self) -> str:
        return self.words


def two(told: list[str] | None = None, seconds: float = 60.0) -> both.Both:
    heard: list[str] = [] if told is None else told
    return both.Both(("server", "project"), seconds, heard.append)


def test_the_project_waits_for_a_server_that_works() -> None:
    done: list[str] = []

    async def server() -> Off:
        for _ in range(100):
            await asyncio.sleep(0)
        done.append("server")
        return Off()

    async def hosted_project() -> Off:
        done.append("project")
        return Off()

    asyncio.run(two().off(server, hosted_project))
    assert done == ["server", "project"]


def test_a_server_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(both, "HEAD_START", 0.05)
    late, at_once = Off("late"), Off()

    async def scenario() -> None:
        switched = asyncio.Event()

        async def server() -> Off:
            await asyncio.wait_for(switched.wait(), 20)
            return late

        async def hosted_project() -> Off:
            switched.set()
            return at_once

        assert await two().off(server, hosted_project) == (late, at_once)

    asyncio.run(scenario())


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_server_that_never_answers_is_given_up_when_the_project_is_done(
    monkeypatch: pytest.MonkeyPatch, *, stubborn: bool
) -> None:
    monkeypatch.setattr(both, "HEAD_START", 0.05)
    monkeypatch.setattr(both, "_CANCEL_SECONDS", 0.05)

    async def server() -> Off:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if stubborn:
                await asyncio.sleep(3600)
            raise
        return Off()

    async def hosted_project() -> Off:
        return Off()

    found: tuple[Any, Any] = asyncio.run(two(seconds=0.1).off(server, hosted_project))
    assert (found[0].kind, found[1].text()) == (Kind.TIMED_OUT, "off")
    failed: tuple[Any, Any] = asyncio.run(two(seconds=0.1).on(server, hosted_project))
    assert (failed[0].kind, failed[1].kind) == (Kind.TIMED_OUT, Kind.TIMED_OUT)
    assert "left as it is" in failed[1].message


def test_who_interrupts_before_the_project_was_asked_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(both, "HEAD_START", 60.0)
    told: list[str] = []

    async def hangs() -> Off:
        await asyncio.sleep(3600)
        return Off()

    async def scenario() -> None:
        async with asyncio.timeout(0.1):
            await two(told).off(hangs, hangs)

    with pytest.raises(TimeoutError):
        asyncio.run(scenario())
    assert told == [
        "note: interrupted on target server: whether it was carried out is not known",
        "note: interrupted before anything was sent to target project",
    ]


def test_a_defect_on_the_one_side_spares_the_other_nothing() -> None:
    fine = Off()

    async def broken() -> Off:
        raise RuntimeError("a defect")

    async def works() -> Off:
        return fine

    found: tuple[Any, Any] = asyncio.run(two().off(broken, works))
    assert isinstance(found[0], AgentOpsError)
    assert found[1] is fine
    failure = both.worst(("a", "b"), (Unavailable("away"), AgentOpsError("broken")))
    assert failure is not None
    assert (failure.kind, failure.message) == (Kind.UNAVAILABLE, "target a: away\n  target b: broken")
    assert both.worst(("a", "b"), ("off", "off")) is None


@pytest.mark.usefixtures("lame")
@pytest.mark.parametrize("line", ["flags disable chat", "flags enable chat", "incident kill-switch"])
@pytest.mark.parametrize("given", [(), ("--target", "prod")])
def test_where_the_server_is_away_the_next_step_is_about_the_server(line: str, given: tuple[str, ...]) -> None:
    failed = typed(*given, *line.split(), "--json")
    hint = json.loads(failed.err.splitlines()[-1])["hint"]
    assert (failed.code, hint) == (69, f"agentops --target '{NOBODY.replace('secret', '***')}' health database")


def test_the_kill_switch_says_where_the_team_is_told_whatever_became_of_it(lame: ManagementApi, tmp_path: Path) -> None:
    file = tmp_path / "agentops.toml"
    assert "Slack" not in typed("incident", "kill-switch").err
    file.write_text(file.read_text() + "slack.channel = '#shop-down'\n")
    failed = typed("incident", "kill-switch")
    assert (failed.code, lame.secrets["FEATURE_AGENT_CHAT"]) == (69, "false")
    assert "  → tell the team: post in #shop-down on Slack\n" in failed.err
    assert "Slack" not in typed("incident", "kill-switch", "--check").err

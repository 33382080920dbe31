"""A day with a hosted project, on a fresh folder, each line a process of its own, as an operator types it."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

from agentops.edge import FORWARDERS
from tests.fakes import cli, management_api
from tests.fakes.hosted import SLUGS, TARGET
from tests.fakes.management_api import REF, ManagementApi

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CHAT, EDITED = "FEATURE_AGENT_CHAT", "ai-whatsapp-webhook"
TAIL_SECONDS = 60


def test_a_fresh_folder_is_deployed_changed_rolled_back_watched_and_switched_off(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.chdir(place)
    api = ManagementApi(database_url, forwarders={each.slug: each.flag for each in FORWARDERS})
    with management_api.serving(api):
        for name, value in api.environment.items():
            monkeypatch.setenv(name, value)
        _set_up(api, place)
        _deploy(api, place)
        _configure(api, place)
        _watch(api)
        _switch_off(api)


def _set_up(api: ManagementApi, place: Path) -> None:
    code, _, err = cli.run("init", "--edge", "--ref", REF)
    assert code == 0, err
    assert {folder.name for folder in (place / "supabase" / "functions").iterdir()} == {*SLUGS, "_shared"}
    assert TARGET in (place / "agentops.toml").read_text()
    assert api.requests == []


def _deploy(api: ManagementApi, place: Path) -> None:
    def deployments(*words: str) -> dict[str, tuple[str, bool]]:
        return {each["slug"]: (each["status"], each["changed"]) for each in cli.answer("deploy", *words)}

    assert deployments("all") == dict.fromkeys(SLUGS, ("active", True))
    first = dict(api.functions[EDITED].files)
    api.requests.clear()
    assert deployments("all") == dict.fromkeys(SLUGS, ("unchanged", False))
    assert (api.writes, {path for _, path, _ in api.requests} & {f"/functions/{slug}/body" for slug in SLUGS}) == (
        [],
        set(),
    )

    file = place / "supabase" / "functions" / EDITED / "index.ts"
    file.write_text(file.read_text() + "// edited\n")
    code, out, err = cli.run("deploy", "all", "--check")
    assert (code, [line.split("\t")[0] for line in out.splitlines() if "would_change" in line]) == (3, [EDITED]), err
    assert api.writes == []

    assert deployments("all") == dict.fromkeys(SLUGS, ("unchanged", False)) | {EDITED: ("active", True)}
    assert [(method, path) for method, path, _ in api.writes] == [("POST", "/functions/deploy")]
    assert api.functions[EDITED].files != first

    assert deployments("rollback", EDITED) == {EDITED: ("active", True)}
    assert api.functions[EDITED].files == first
    history = cli.answer("deploy", "history", EDITED)
    assert [(each["version"], each["status"]) for each in history] == [(3, "active"), (2, "stored"), (1, "stored")]


def _configure(api: ManagementApi, place: Path) -> None:
    (place / "new.env").write_text(f"AGENTOPS_URL=https://agents.example.com\nWA_TOKEN=value-4711\n{CHAT}=on\n")
    code, out, err = cli.run("secrets", "diff", "--env-file", "new.env", "--json")
    assert (code, {each["status"] for each in json.loads(out)}) == (3, {"only_file"}), err
    assert cli.run("secrets", "set", "--env-file", "new.env")[0] == 0
    code, out, err = cli.run("secrets", "diff", "--env-file", "new.env", "--json")
    assert (code, {each["status"] for each in json.loads(out)}) == (0, {"same"}), err
    assert "value-4711" not in out + err

    (chat,) = cli.answer("flags", "disable", "chat")
    assert (chat["enabled"], chat["changed"], api.secrets[CHAT]) == (False, True, "false")


def _watch(api: ManagementApi) -> None:
    begun = {"level": "info", "event": "ai.whatsapp.webhook.received", "correlation_id": "abc-123", "function": EDITED}
    number = api.functions[EDITED].row["id"]
    tail = cli.start("logs", "tail", EDITED)
    try:
        assert tail.stdout is not None
        until = time.monotonic() + TAIL_SECONDS
        while not any(path.endswith("/logs") for _, path, _ in api.requests):
            assert time.monotonic() < until
            time.sleep(0.05)
        api.log("function_logs", json.dumps(begun), function_id=number, level="info", event_type="Log")
        line: dict[str, Any] = json.loads(tail.stdout.readline())
        assert {name: line[name] for name in begun} == begun
    finally:
        tail.send_signal(signal.SIGINT)
        _, err = tail.communicate(timeout=cli.SECONDS)
    assert (tail.returncode, "Traceback" in err) == (130, False)


def _switch_off(api: ManagementApi) -> None:
    assert cli.run("flags", "enable", "chat", "voice")[0] == 0
    killed = cli.answer("incident", "kill-switch", "--wait", "--reason", "odd answers")
    assert (killed["features"], killed["changed"], killed["unconfirmed"]) == (["chat", "voice"], True, [])
    assert {each["server"] for each in killed["confirmed"]} == {"ai-whatsapp-webhook", "ai-realtime-webhook"}
    assert api.secrets[CHAT] == "false"
    again = cli.answer("incident", "kill-switch")
    assert (again["incident"], again["changed"]) == (killed["incident"], False)

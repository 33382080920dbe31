"""`agentops health` on a hosted project: one row per thing asked, the worst status as exit code."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from starlette.responses import JSONResponse, Response

from agentops.platforms.supabase import SupabasePlatform, health
from agentops.store import health as figures
from tests.commands.line import typed
from tests.fakes import hosted
from tests.fakes.management_api import ManagementApi

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELDS = ["name", "status", "latency_ms", "finding", "hint"]


@pytest.fixture
def api(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ManagementApi]:
    """A project that is well: six functions, no flag on."""
    fresh = ManagementApi(database_url, functions={slug: hosted.deployed(slug) for slug in hosted.SLUGS})
    with hosted.project(fresh, monkeypatch, tmp_path):
        yield fresh


def checked(*words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and the rows by name."""
    done = typed("health", *words, "--json")
    return done.code, {row["name"]: row for row in done.json}


def test_a_project_that_is_well_is_exit_0_with_the_fields_of_every_target(api: ManagementApi) -> None:
    code, rows = checked()
    assert (code, {row["status"] for row in rows.values()}) == (0, {"ok"}), rows
    assert {tuple(row) for row in rows.values()} == {tuple(FIELDS)}
    assert list(rows) == [
        "project",
        "api-keys",
        "database",
        "tables",
        "connections",
        "voucher-codes",
        "last-deploy",
        *hosted.SLUGS,
        "secrets",
        "incidents",
    ]
    assert rows["last-deploy"]["finding"].startswith("ai-")
    assert " version 3, " in rows["last-deploy"]["finding"]
    assert rows["ai-void-voucher"]["finding"] == "version 3 answers"
    assert api.writes == [] or {path for _, path, _ in api.writes} <= {f"/functions/v1/{slug}" for slug in hosted.SLUGS}


@pytest.mark.parametrize(
    ("status", "expected", "words", "code"),
    [
        ("INACTIVE", "failed", "is paused (INACTIVE)", 1),
        ("REMOVED", "failed", "does not run (REMOVED)", 1),
        ("COMING_UP", "degraded", "is starting (COMING_UP)", 3),
    ],
)
def test_a_project_that_does_not_run_is_named(
    api: ManagementApi, status: str, expected: str, words: str, code: int
) -> None:
    def refuse(_method: str, path: str) -> Response | None:
        return JSONResponse({"name": "test", "status": status}) if path == "" else None

    api.refuse = refuse
    ended, rows = checked()
    assert (ended, rows["project"]["status"]) == (code, expected)
    assert words in rows["project"]["finding"]
    assert rows["project"]["hint"]


def test_keys_of_the_newer_kind_count_and_a_role_without_one_is_named(api: ManagementApi) -> None:
    found: list[dict[str, Any]] = [{"name": "default", "type": "publishable"}, {"name": "default", "type": "secret"}]
    api.refuse = lambda _method, path: JSONResponse(found) if path == "/api-keys" else None
    assert checked()[0] == 0
    del found[1]
    code, rows = checked()
    assert (code, rows["api-keys"]["status"]) == (3, "degraded")
    assert "service_role (secret)" in rows["api-keys"]["finding"]


def test_functions_that_do_not_run_do_not_answer_or_are_not_there_are_told_apart(api: ManagementApi) -> None:
    api.functions["ai-create-voucher"] = hosted.deployed("ai-create-voucher", status="THROTTLED")
    del api.functions["ai-void-voucher"]
    api.statuses = {"ai-redeem-voucher": 503, "ai-lookup-customer": 401}
    code, rows = checked("functions")
    assert code == 1
    found = {slug: (rows[slug]["status"], rows[slug]["finding"]) for slug in hosted.SLUGS}
    assert found["ai-create-voucher"] == ("failed", "its status is THROTTLED")
    assert found["ai-redeem-voucher"] == ("failed", "answers HTTP 503")
    assert found["ai-lookup-customer"] == ("ok", "version 3 answers")
    assert found["ai-void-voucher"] == ("degraded", "is not deployed")
    assert rows["ai-void-voucher"]["hint"] == "agentops deploy ai-void-voucher"
    assert set(rows) == {"last-deploy", *hosted.SLUGS}


def test_what_the_enabled_features_need_is_told_from_digests(api: ManagementApi) -> None:
    api.secrets = {"FEATURE_AGENT_CHAT": "true", "OPENAI_API_KEY": "x", "WA_TOKEN": "x"}
    code, rows = checked()
    assert (code, rows["secrets"]["finding"]) == (3, "not set: WA_PHONE_ID, WA_VERIFY_TOKEN, WA_APP_SECRET")
    # Our forwarders need one thing only: their server has the others.
    api.secrets = {"FEATURE_AGENT_CHAT": "true", "AGENTOPS_URL": "https://agent.example"}
    assert checked()[1]["secrets"]["status"] == "ok"
    api.secrets = {"FEATURE_AGENT_CHAT": "maybe"}
    assert "neither on nor off" in checked()[1]["secrets"]["finding"]


def test_forwarders_without_a_server_address_are_degraded(api: ManagementApi, tmp_path: Path) -> None:
    assert typed("init", "--edge").code == 0
    assert (tmp_path / "supabase/functions/_shared/agentops.ts").is_file()
    assert "AGENTOPS_URL" in checked()[1]["secrets"]["finding"]
    api.secrets["AGENTOPS_URL"] = "https://agent.example"
    assert checked()[1]["secrets"]["status"] == "ok"


def test_the_database_lacks_a_table_or_a_column(api: ManagementApi, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"alter table public.vouchers drop column notes cascade")
        connection.execute(b"drop table public.profiles cascade")
    code, rows = checked("database")
    assert (code, rows["tables"]["status"]) == (3, "degraded")
    assert rows["tables"]["finding"] == "profiles is missing; vouchers lacks notes"
    assert rows["database"]["finding"].startswith("PostgreSQL ")
    assert {path for _, path, _ in api.requests} == {"/database/query/read-only"}


def test_a_project_that_only_forwards_needs_no_tables(api: ManagementApi, database_url: str, tmp_path: Path) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"drop schema agentops cascade")
        connection.execute(b"drop table public.vouchers, public.profiles cascade")
    code, rows = checked("database")
    assert (code, rows["tables"]["status"]) == (3, "degraded")
    assert rows["tables"]["finding"] == "profiles is missing; vouchers is missing"
    assert rows["voucher-codes"]["finding"] == "there is no table public.vouchers, so no code is in use"
    # Its address or the forwarders' own file says that an agentops server does the work.
    api.secrets = {"AGENTOPS_URL": "https://agent.example"}
    assert checked("database")[0] == 0
    api.secrets = {}
    (tmp_path / "supabase/functions/_shared").mkdir(parents=True)
    (tmp_path / "supabase/functions/_shared/agentops.ts").write_text("")
    code, rows = checked("database")
    assert (code, rows["tables"]["status"]) == (0, "ok")
    assert "the agentops server behind the forwarders has them" in rows["tables"]["finding"]
    assert "relation" not in str(rows)


def test_the_stored_number_is_compared_with_the_configured_one(api: ManagementApi, tmp_path: Path) -> None:
    assert "whatsapp-number" not in checked()[1]
    (tmp_path / "agentops.toml").write_text('[whatsapp]\nphone_number_id = "106540352242922"\n')
    code, rows = checked()
    assert (code, rows["whatsapp-number"]["status"]) == (3, "degraded")
    assert rows["whatsapp-number"]["hint"].startswith("agentops secrets set WA_PHONE_ID=106540352242922, or correct ")
    api.secrets = {"WA_PHONE_ID": "999"}
    assert "is another number than 106540352242922" in checked()[1]["whatsapp-number"]["finding"]
    api.secrets = {"WA_PHONE_ID": "106540352242922"}
    assert checked()[1]["whatsapp-number"]["status"] == "ok"
    # Where the functions forward, their server has the number.
    api.secrets = {"AGENTOPS_URL": "https://agent.example"}
    assert "is the agentops server's" in checked()[1]["whatsapp-number"]["finding"]


def test_figures_that_arrive_as_text_are_numbers(api: ManagementApi) -> None:
    api.refuse = lambda _method, _path: JSONResponse([{"used": "59", "allowed": "60", "live": "7"}], 201)

    async def read() -> None:
        platform = SupabasePlatform.open(
            hosted.TARGET, home=Path("none"), state=Path("none"), actor="me", told=print, environment=api.environment
        )
        try:
            assert await figures.connections(platform) == figures.Connections(59, 60)
            assert await figures.live_codes(platform) == 7
        finally:
            await platform.close()

    asyncio.run(read())


def test_database_url_is_asked_instead_of_the_api(
    api: ManagementApi, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    done = typed("health", "database", "--json")
    assert (done.code, api.requests) == (0, [])
    assert "by DATABASE_URL" in done.json[0]["finding"]
    assert "DATABASE_URL" not in done.err
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    code, rows = checked("database")
    assert (code, list(rows)) == (1, ["database"])


def test_an_incident_that_is_open_is_named(api: ManagementApi) -> None:
    typed("incident", "kill-switch", "--reason", "drill")
    assert api.secrets["FEATURE_AGENT_CHAT"] == "false"
    code, rows = checked()
    assert code == 3
    assert (rows["incidents"]["status"], rows["incidents"]["finding"]) == ("degraded", "open: 1 (kill-switch: drill)")
    assert rows["incidents"]["hint"] == "agentops incident show 1"
    typed("incident", "restore", "1", "--yes")
    assert checked()[1]["incidents"]["status"] == "ok"


def test_a_stack_behind_the_forwarders_without_a_living_server_fails(
    api: ManagementApi, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hosted.project(api, monkeypatch, tmp_path, server=database_url):
        monkeypatch.delenv("AGENTOPS_TARGET", raising=False)
        code, rows = checked()
        assert (code, rows["server"]["status"]) == (1, "failed")
        assert rows["server"]["finding"].startswith(
            "no web and no worker server is alive on the stack behind, postgres"
        )
        assert rows["server"]["hint"].startswith("agentops --target ")


def test_what_status_set_for_the_shell_is_no_address_of_the_project(
    api: ManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    assert api.database_url
    monkeypatch.setenv("AGENTOPS_EXPORTED", "DATABASE_URL SUPABASE_URL")
    done = typed("health", "database", "--json")
    assert (done.code, done.json[0]["status"]) == (0, "ok")
    assert "over Supabase's API" in done.json[0]["finding"]


@pytest.mark.parametrize("away", ["token", "network"])
def test_an_api_that_tells_nothing_is_one_row_beside_the_functions_answers(
    api: ManagementApi, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    if away == "token":
        monkeypatch.setenv("SUPABASE_ACCESS_TOKEN", "sbp_" + "0" * 40)
    else:
        monkeypatch.setenv("SUPABASE_API_URL", "http://127.0.0.1:1")
    code, rows = checked()
    assert code == 1
    assert list(rows) == ["project", *hosted.SLUGS]
    assert rows["project"]["status"] == "failed"
    assert rows["ai-void-voucher"] | {"latency_ms": 0} == {
        "name": "ai-void-voucher",
        "status": "ok",
        "latency_ms": 0,
        "finding": "answers",
        "hint": None,
    }
    assert api.token not in str(rows)


def test_without_a_token_it_fails_and_says_what_to_type(api: ManagementApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUPABASE_ACCESS_TOKEN")
    code, rows = checked()
    assert (code, list(rows)) == (1, ["project"])
    assert "agentops login" in rows["project"]["hint"]
    assert api.requests == []


def test_nothing_that_hangs_or_asks_to_wait_keeps_it_waiting(
    api: ManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "ANSWER_SECONDS", 1.0)
    again = JSONResponse({"message": "ThrottlerException: Too Many Requests"}, 429, {"retry-after": "60"})
    api.refuse = lambda _method, path: again if path in {"/api-keys", "/functions", "/secrets"} else None
    begun = time.monotonic()
    code, rows = checked()
    assert time.monotonic() - begun < 20
    assert (code, rows["project"]["status"]) == (1, "ok")
    assert "within 1 s" in rows["api-keys"]["finding"]


def test_a_blip_is_asked_again(api: ManagementApi) -> None:
    blips = {"": 1, "/secrets": 1, "/functions": 1}

    def refuse(_method: str, path: str) -> Response | None:
        if blips.get(path):
            blips[path] -= 1
            return JSONResponse({"message": "bad gateway"}, 502)
        return None

    api.refuse = refuse
    assert checked()[0] == 0


def test_a_verdict_that_never_comes_ends_in_time() -> None:
    async def hangs() -> health.Verdict:
        await asyncio.Event().wait()
        raise AssertionError

    assert asyncio.run(health.bounded(hangs(), 0.01))[0] == "failed"

"""`agentops health`: one row per check, its worst status as exit code."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, cast

import psycopg
import pytest

from agentops.commands import health
from agentops.platforms.local import invoke
from tests.commands.line import typed
from tests.platforms.local.serving import Server, bundle, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx


NUMBER = "106540352242922"


@pytest.fixture
def numbered(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stack whose agentops.toml names the number that it sends from."""
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agentops.toml").write_text(f'[whatsapp]\nphone_number_id = "{NUMBER}"\nbusiness_account_id = 42\n')


@contextmanager
def serving(database_url: str, *slugs: str, seconds: float = 0.0) -> Iterator[None]:
    """A live web server with these functions, each of which answers after some seconds."""

    class Peer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(seconds)
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Peer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    async def prepare() -> None:
        async with opened(database_url) as platform:
            await platform.deploy([bundle(slug) for slug in slugs], force=False, check=False)
            await Server(platform, 1, f"http://127.0.0.1:{server.server_port}").look()

    asyncio.run(prepare())
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def by_name(*words: str) -> dict[str, dict[str, object]]:
    return {check["name"]: check for check in typed("health", *words, "--json").json}


def test_a_database_that_is_well_is_exit_0(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    done = typed("health", "database", "--json")
    assert done.code == 0
    assert {check["status"] for check in done.json} == {"ok"}
    assert list(done.json[0]) == ["name", "status", "latency_ms", "finding", "hint"]


def test_without_a_server_it_fails_and_says_what_to_type(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    assert typed("health").code == 1
    checks = by_name()
    assert (checks["web-servers"]["status"], checks["web-servers"]["hint"]) == ("failed", "agentops up")
    assert checks["ai-create-voucher"] == {
        "name": "ai-create-voucher",
        "status": "degraded",
        "latency_ms": None,
        "finding": "is not deployed",
        "hint": "agentops deploy all",
    }
    assert "SUPABASE_SERVICE_ROLE_KEY" in str(checks["secrets"]["finding"])


def test_the_secrets_of_a_feature_are_missed_only_while_it_is_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    assert "WA_TOKEN" not in str(by_name()["secrets"]["finding"])
    typed("flags", "enable", "chat")
    assert "WA_TOKEN" in str(by_name()["secrets"]["finding"])


def test_trouble_in_the_tables_is_found(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            b"insert into public.vouchers (code_5, amount_minor, whatsapp_e164, policy_number) "
            b"select lpad(i::text, 5, '0'), 100, '+250788000000', 'AI-' || i from generate_series(0, 79999) i"
        )
        connection.execute(
            b"insert into agentops.conversations (lane, phone_id, customer) values ('1|2', '1', '2') returning id"
        )
        connection.execute(
            b"insert into agentops.inbox (message_id, conversation_id, slug, correlation_id, kind, payload, state, "
            b"received_at, finished_at) select n, (select id from agentops.conversations), 'ai-whatsapp-webhook', 'c', "
            b"'text', '{}', n, now() - interval '10 minutes', case when n = 'dead' then now() end "
            b"from unnest(array['queued', 'dead']) n"
        )
        connection.execute(b"alter table public.vouchers drop constraint vouchers_status_check")
        connection.execute(b"alter table public.vouchers add constraint mine check (status in ('issued'))")
    typed("incident", "kill-switch", "--reason", "drill")
    checks = by_name()
    wrong = {name: check["finding"] for name, check in checks.items() if check["status"] == "degraded"}
    assert wrong["voucher-codes"] == "80,000 of 100,000 voucher codes in use"
    assert str(wrong["queue"]).startswith("1 message waits, for 60")
    assert wrong["dead-letters"] == "1 message was given up after repeated failures"
    assert str(wrong["incidents"]).endswith("(kill-switch: drill)")
    assert "mine refuses status void" in str(wrong["schema"])
    assert typed("health", "database").code == 3


def test_a_functions_latency_is_that_of_its_request(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the trust store, imports and other checks once counted too: 300 ms for a function that takes 3."""
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)

    def slow_to_make() -> httpx.AsyncClient:
        time.sleep(0.5)
        return client()

    client = invoke.client
    monkeypatch.setattr(invoke, "client", slow_to_make)
    with serving(database_url, "ai-one", "ai-two"):
        checks = by_name("functions")
    assert [checks[slug]["status"] for slug in ("ai-one", "ai-two")] == ["ok", "ok"]
    assert all(cast("int", checks[slug]["latency_ms"]) < 400 for slug in ("ai-one", "ai-two"))


def test_a_function_that_hangs_is_failed_in_time(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.2)
    with serving(database_url, "ai-one", seconds=1.0):
        check = by_name("functions")["ai-one"]
    assert (check["status"], check["latency_ms"]) == ("failed", None)
    assert str(check["finding"]).startswith("no answer within")
    assert check["hint"] == "agentops logs show ai-one --since 15m"


def test_a_database_that_is_away_is_one_failed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", "postgresql://nobody@127.0.0.1:1/none")
    done = typed("health", "--json")
    assert done.code == 1
    assert [(check["name"], check["status"]) for check in done.json] == [("database", "failed")]


@pytest.mark.usefixtures("numbered")
def test_the_stored_number_is_compared_with_the_configured_one() -> None:
    row = by_name()["whatsapp-number"]
    assert (row["status"], row["finding"]) == (
        "degraded",
        f"WA_PHONE_ID is not set; agentops.toml names {NUMBER} of business account 42",
    )
    assert str(row["hint"]).startswith(f"agentops secrets set WA_PHONE_ID={NUMBER}, or correct ")
    typed("secrets", "set", "WA_PHONE_ID=999")
    row = by_name()["whatsapp-number"]
    assert (row["status"], "is another number than" in str(row["finding"])) == ("degraded", True)
    # What the hint says to type is no secret, and nobody is warned of it.
    assert "shell's history" not in typed("secrets", "set", f"WA_PHONE_ID={NUMBER}").err
    row = by_name()["whatsapp-number"]
    assert (row["status"], row["finding"]) == ("ok", f"WA_PHONE_ID is {NUMBER} of business account 42")


@pytest.mark.usefixtures("numbered")
def test_a_sandboxs_number_is_made_up_and_not_compared(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"update agentops.stack set kind = 'sandbox'")
    assert by_name()["whatsapp-number"]["status"] == "ok"


def test_without_a_configured_number_there_is_no_such_row(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    assert "whatsapp-number" not in by_name()

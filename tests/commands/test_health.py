"""`agentops health`: one row per check, its worst status as exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from tests.commands.line import typed

if TYPE_CHECKING:
    import pytest


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
        "hint": "agentops deploy ai-create-voucher",
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
    assert str(wrong["queue"]).startswith("1 messages wait, the oldest for 60")
    assert wrong["dead-letters"] == "1 messages were given up after repeated failures"
    assert str(wrong["incidents"]).endswith("(kill-switch: drill)")
    assert "mine refuses status void" in str(wrong["schema"])
    assert typed("health", "database").code == 3


def test_a_database_that_is_away_is_one_failed_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", "postgresql://nobody@127.0.0.1:1/none")
    done = typed("health", "--json")
    assert done.code == 1
    assert [(check["name"], check["status"]) for check in done.json] == [("database", "failed")]

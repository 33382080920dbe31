"""`agentops vouchers`: see, approve, reject, void; phones masked unless revealed, which is audited."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from agentops.agent.tools import Principal, tool
from tests.commands.line import typed
from tests.fakes.stacks import open_stack

PHONE = "+250788000001"
OPERATOR = Principal("http", "service_role", operator=True)
CUSTOMER = Principal("chat", "customer 1", PHONE)


@pytest.fixture(autouse=True)
def _target(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)


def created(url: str, principal: Principal, amount: int = 500) -> Any:
    async def run() -> Any:
        async with open_stack(url) as stack:
            arguments = {"amount": amount, "customer_msisdn": PHONE}
            return (await tool("create_voucher").call(arguments, principal, stack, correlation_id="c-1")).body

    return asyncio.run(run())


def audit(url: str) -> list[tuple[str, str, str]]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("select actor, action, subject from agentops.audit order by id").fetchall()
    return [(str(actor), str(action), str(subject)) for actor, action, subject in rows]


def test_vouchers_are_listed_and_shown_masked_unless_revealed(database_url: str) -> None:
    voucher = created(database_url, OPERATOR)["voucher_id"]
    listed = typed("vouchers", "list", "--json")
    assert list(listed.json[0]) == ["id", "status", "amount", "currency", "customer", "created_at", "by"]
    assert (listed.json[0]["id"], listed.json[0]["amount"], listed.json[0]["by"]) == (voucher, 500, "service_role")
    shown = typed("vouchers", "show", voucher, "--json")
    assert [entry["kind"] for entry in shown.json["ledger"]] == ["issue"]
    assert shown.json["code"] == "*****"
    assert shown.err == "note: --reveal shows phones, texts and codes in full, and is audited\n"
    assert PHONE not in listed.out + shown.out
    assert len(audit(database_url)) == 1
    assert typed("vouchers", "list", "--reveal", "--json").json[0]["customer"] == PHONE
    revealed = typed("vouchers", "show", voucher.upper(), "--reveal", "--json").json
    assert (revealed["customer"], len(revealed["code"]), revealed["code"].isdigit()) == (PHONE, 5, True)
    assert audit(database_url)[1:] == [
        ("tester@here", "voucher.reveal", "list"), ("tester@here", "voucher.reveal", voucher),
    ]  # fmt: skip


def test_the_list_can_be_narrowed(database_url: str) -> None:
    created(database_url, OPERATOR)
    assert len(typed("vouchers", "list", "--customer", "0788 000 001", "--json").json) == 1
    assert typed("vouchers", "list", "--customer", "+250788000009", "--json").json == []
    assert typed("vouchers", "list", "--status", "void", "--json").json == []
    assert len(typed("vouchers", "list", "--status", "issued", "--limit", "1", "--json").json) == 1
    assert typed("vouchers", "list", "--customer", "x").code == 2
    assert typed("vouchers", "list", "--status", "waiting").code == 2
    assert typed("vouchers", "list", "--pending", "--status", "void").code == 2


def test_void_asks_is_done_once_and_leaves_ledger_and_audit(database_url: str) -> None:
    voucher = created(database_url, OPERATOR)["voucher_id"]
    assert typed("vouchers", "void", voucher, "--check").code == 3
    refused = typed("vouchers", "void", voucher)
    assert refused.code == 6
    assert "500 RWF of +2507***001" in refused.err
    voided = typed("vouchers", "void", voucher, "--yes", "--reason", f"lost by {PHONE}", "--json")
    assert voided.json == {
        "id": voucher, "status": "void", "changed": True, "voucher_id": voucher, "amount": 500, "currency": "RWF",
        "customer": "+2507***001",
    }  # fmt: skip
    again = typed("vouchers", "void", voucher, "--json")
    assert (again.code, again.json["changed"]) == (0, False)
    assert [entry["kind"] for entry in typed("vouchers", "show", voucher, "--json").json["ledger"]] == ["issue", "void"]
    assert audit(database_url)[-1] == ("tester@here", "voucher.void", voucher)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select notes from vouchers").fetchone() == ("lost by +2507***001",)


def test_what_is_not_there_or_over_says_so(database_url: str) -> None:
    missing = "00000000-0000-4000-8000-000000000000"
    assert [typed("vouchers", verb, missing).code for verb in ("show", "void")] == [5, 5]
    assert [typed("vouchers", *words).code for words in (("show", "77"), ("approve", "77"), ("reject", "77"))] == [
        5
    ] * 3
    assert typed("vouchers", "show", "9" * 40).code == 5
    assert typed("vouchers", "void", "x").code == 2
    assert typed("vouchers", "void", "17").code == 2
    voucher = created(database_url, OPERATOR)["voucher_id"]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"update vouchers set status = 'redeemed'")
    assert typed("vouchers", "void", voucher, "--yes").code == 7


def test_switched_off_vouchers_are_neither_voided_nor_issued(database_url: str) -> None:
    voucher = created(database_url, OPERATOR)["voucher_id"]
    assert typed("limits", "set", "voucher-approval-above=100").code == 0
    number = str(created(database_url, CUSTOMER)["approval_id"])
    assert typed("flags", "disable", "vouchers").code == 0
    for words in (("void", voucher, "--yes"), ("approve", number)):
        refused = typed("vouchers", *words)
        assert refused.code == 7
        assert "agentops flags enable vouchers" in refused.err
    assert typed("vouchers", "list", "--status", "issued", "--json").json[0]["id"] == voucher


def test_a_request_waits_until_another_actor_approves_it(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed("limits", "set", "voucher-approval-above=100").code == 0
    number = str(created(database_url, CUSTOMER)["approval_id"])
    assert typed("vouchers", "list", "--json").json == []
    waiting = typed("vouchers", "list", "--pending", "--customer", PHONE, "--json").json
    assert [(entry["id"], entry["status"], entry["by"]) for entry in waiting] == [(number, "pending", "customer 1")]
    monkeypatch.setenv("AGENTOPS_ACTOR", "customer 1")
    own = typed("vouchers", "approve", number)
    assert (own.code, "somebody else has to approve it" in own.err) == (4, True)
    monkeypatch.setenv("AGENTOPS_ACTOR", "tester@here")
    assert typed("vouchers", "approve", number, "--check").code == 3
    approved = typed("vouchers", "approve", number, "--json").json
    assert (approved["status"], approved["changed"], approved["amount"]) == ("approved", True, 500)
    assert typed("vouchers", "approve", number, "--json").json == {**approved, "changed": False}
    assert [entry["id"] for entry in typed("vouchers", "list", "--json").json] == [approved["voucher_id"]]
    assert typed("vouchers", "list", "--pending", "--json").json == []
    shown = typed("vouchers", "show", number, "--json").json
    assert (shown["decided_by"], [entry["actor"] for entry in shown["ledger"]]) == ("tester@here", ["tester@here"])
    assert typed("vouchers", "reject", number).code == 7


def test_a_request_can_be_rejected_once(database_url: str) -> None:
    assert typed("limits", "set", "voucher-approval-above=100").code == 0
    number = str(created(database_url, CUSTOMER)["approval_id"])
    assert typed("vouchers", "reject", number, "--check").code == 3
    assert typed("vouchers", "reject", number, "--reason", "unknown", "--json").json["changed"] is True
    assert typed("vouchers", "reject", number, "--json").json["changed"] is False
    assert typed("vouchers", "approve", number).code == 7
    assert typed("vouchers", "show", number, "--json").json["reason"] == "unknown"
    assert audit(database_url)[-1] == ("tester@here", "approval.reject", number)


def test_the_result_says_whether_the_customer_is_told_and_by_what_they_hear_it_else(database_url: str) -> None:
    assert typed("limits", "set", "voucher-approval-above=100").code == 0
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(b"insert into agentops.customers (phone, key) values ('+250788000001', '+250788000001')")
        connection.execute(
            b"insert into agentops.conversations (lane, phone_id, customer, newest_at) "
            b"values ('1:+250788000001', '1', '+250788000001', now())"
        )

    number = str(created(database_url, CUSTOMER)["approval_id"])
    assert typed("vouchers", "reject", number, "--check", "--json").json["told"] == "queued"
    done = typed("vouchers", "reject", number)
    assert ("told\tqueued\n" in done.out, "the customer is told on WhatsApp" in done.err) == (True, True)
    assert typed("inbox", "list", "--json").json[0]["kind"] == "notice"
    assert typed("flags", "disable", "chat").code == 0
    # Asked for by voice, because chat is off.
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            b"insert into agentops.approvals (customer, amount_minor, currency, channel, correlation_id, requested_by) "
            b"values ('+250788000001', 1000, 'RWF', 'voice', 'c', 'voice')"
        )
    done = typed("vouchers", "reject", "2")
    assert "the customer is NOT told: chat is off; they hear it when they write next" in done.err
    assert "told      no: chat is off" in typed("vouchers", "show", "2").out

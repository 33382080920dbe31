"""What looks like a secret, and where it belongs instead."""

from __future__ import annotations

import pytest

from agentops import secret_looks
from agentops.settings import ADDRESSES, KNOWN_SECRETS


@pytest.mark.parametrize(
    ("value", "command"),
    [
        ("https://hooks.slack.com/services/T/B/x", "agentops secrets set SLACK_WEBHOOK_URL"),
        ("https://HOOKS.SLACK-GOV.COM/services/T/B/x", "agentops secrets set SLACK_WEBHOOK_URL"),
        ("sbp_" + "0" * 40, "agentops login"),
        ("sk-" + "a" * 20, "agentops secrets set OPENAI_API_KEY"),
        ("whsec_" + "a" * 20, "agentops secrets set OPENAI_WEBHOOK_SECRET"),
        ("EAA" + "b" * 100, "agentops secrets set WA_TOKEN"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoi", "agentops secrets set NAME"),
        ("-----BEGIN PRIVATE KEY-----", "agentops secrets set NAME"),
        ("0123456789abcdef" * 2, "agentops secrets set NAME"),
        ("T0AAAAAAA/B0BBBBBBB/abcdEFGHijkl1234mnopQRST", "agentops secrets set SLACK_WEBHOOK_URL"),
        ("services/T0/B0/abcdEFGH", "agentops secrets set SLACK_WEBHOOK_URL"),
        ("abcd-EFGH-ijkl-1234-mnop-QRST-uvwx", "agentops secrets set NAME"),
        ("sk_live_51HxAbc0dEfGh1jKlMn", "agentops secrets set NAME"),
        ("123e4567-e89b-12d3-a456-426614174000", "agentops secrets set NAME"),
    ],
)
def test_a_value_is_known_by_its_beginning_or_its_length(value: str, command: str) -> None:
    assert secret_looks.keeper("slack.channel", value) == command


@pytest.mark.parametrize(
    "value",
    [
        "#incidents",
        "#team-on-call-for-the-shop-2026",
        "team-on-call-for-the-shop-2026",
        "prod-eu1-vouchers-stack2-2026-11-23",
        "Prod-Kigali-Voucher-Stack-2026",
        "102290129340398",
        "supabase/functions",
        "supabase://abcdefghijklmnopqrst",
        "postgresql://me@task-force-desk-0123456789.example/stack",
        "ASKSAMSK-12",
        "",
    ],
)
def test_names_ids_paths_and_addresses_are_none(value: str) -> None:
    assert secret_looks.keeper("slack.channel", value) is None


def test_only_texts_can_be_secrets() -> None:
    assert secret_looks.keeper("token", 5) is None
    assert secret_looks.keeper("token", value=True) is None


def test_a_word_is_repeated_only_where_it_is_a_name() -> None:
    assert [secret_looks.shown(word) for word in ("prd", "a b", "slack.chanel")] == ["prd", "a b", "slack.chanel"]
    for word in ("hunter2!", "me:hunter2@db", "two\nlines", "sbp_hunter2hunter2", "x" * 61):
        assert secret_looks.shown(word) == "…"


def test_every_name_that_it_gives_is_one_that_the_stack_knows() -> None:
    given = {command.split()[-1] for _, command in secret_looks._BEGINNINGS} | set(secret_looks._BY_FIELD.values())
    assert given - {"NAME", "login"} <= {*KNOWN_SECRETS, *ADDRESSES}

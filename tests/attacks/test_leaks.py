"""Numbers, names, words, message ids and secrets go through everything; then all that was written is searched."""

from __future__ import annotations

import base64
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import httpx
import psycopg
from psycopg import sql

from tests.attacks.conftest import CANARIES
from tests.fakes.providers import call, last, say
from tests.fakes.whatsapp import payload, text, wamid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.conftest import Attacked

SENDERS = [f"+2507889{number:05d}" for number in range(10, 12)]
NATIONAL = [sender.removeprefix("+250") for sender in SENDERS]
NAMES = ["Uwimana Canary", "Ngabo-Đặng-Canary", "金丝雀"]
WORDS = "canary-words-of-a-customer"
RENDERINGS = (
    "{0}",
    "250{1}",
    "0{1}",
    "00250{1}",
    "tel:{0}",
    "https://wa.me/250{1}",
    "250{1}@s.whatsapp.net",
    "%2B250{1}",
)
_ROWS = sql.SQL("select to_jsonb(t)::text from {} t")
SLUGS = ("lookup-customer", "create-voucher", "redeem-voucher", "void-voucher")
ID = wamid(SENDERS[0])


def test_nothing_that_is_written_for_eyes_holds_a_person_or_a_secret(attacked: Attacked) -> None:
    _live(attacked)
    told = _told(attacked)
    assert told.count("\n") > 100, "a run that wrote nothing proves nothing"
    for searched in (told, unquote(told), "\n".join(_decoded(told))):
        for secret in (*NATIONAL, *NAMES, WORDS, ID, *CANARIES.values(), attacked.keys["service_role_key"]):
            assert secret not in searched, f"…{searched[max(searched.index(secret) - 200, 0) :][:300]}"
        assert not [each for each in NATIONAL if f"{each[:3]} {each[3:6]} {each[6:]}" in searched]


def _live(attacked: Attacked) -> None:
    """Conversations, tools, mistakes, and a model that repeats everything."""

    def think(body: dict[str, object]) -> dict[str, object] | int:
        words = last(body)
        if words.startswith("{"):
            return {**say(words), "model": f"{NAMES[0]} {WORDS}"}
        if "fail" in words:
            return 400
        arguments = json.dumps({"customer_msisdn": words, "msisdn": words, "amount": words, "voucher_id": words})
        return call(("lookup_customer", arguments), (words[:60], arguments), ("create_voucher", '{"amount": 7}'))

    attacked.providers.think = think
    attacked.providers.refusals[:] = [131026, 100]
    for sender in SENDERS:
        for rendering in RENDERINGS:
            words = f"{WORDS} {rendering.format(sender, sender[4:])} {NAMES[1]} {NAMES[2]}"
            contacts = [{"profile": {"name": NAMES[0]}, "wa_id": sender[1:]}]
            assert attacked.deliver(payload(text(words, sender), contacts=contacts)).status_code == 200
    attacked.deliver(payload(text("fail " + WORDS, SENDERS[0], ID)))
    attacked.deliver(payload(statuses=[{"id": ID, "status": "failed", "errors": [{"code": WORDS, "title": WORDS}]}]))
    attacked.deliver(payload({**text(WORDS), "type": NAMES[0], "from": WORDS}))
    attacked.deliver(json.dumps({WORDS: SENDERS[0]}).encode()[:-1])
    for sender, slug in zip(SENDERS * 2, SLUGS, strict=True):
        for rendering in RENDERINGS:
            phone = rendering.format(sender, sender[4:])
            body = {"msisdn": phone, "customer_msisdn": phone, "voucher_id": phone, "amount": phone, "reason": WORDS}
            attacked.post(
                f"ai-{slug}", body, **{"x-correlation-id": phone.replace("%2B", "").replace("@", "").replace("/", "")}
            )
            attacked.post(f"ai-{slug}", {**body, "amount": 5}, **{"idempotency-key": f"{phone}"})
            event = {"type": "call_tool", "call_id": phone, "event_id": NAMES[0], "arguments": json.dumps(body)}
            attacked.post("ai-realtime-webhook", {**event, "name": "create_voucher"})
            attacked.post("ai-realtime-webhook", {**event, "name": f"{WORDS} {phone}", "type": "call_tool"})
            attacked.post("ai-realtime-webhook", {**event, "name": "x", "type": f"{NAMES[0]} {WORDS} {phone}"})
    for path in (f"/functions/v1/{SENDERS[0]}", f"/functions/v1/ai-lookup-customer?msisdn={SENDERS[0]}", f"/{WORDS}"):
        httpx.get(attacked.url + path, timeout=10)
    deadline = time.monotonic() + 60
    with psycopg.connect(attacked.database_url, autocommit=True) as connection:
        while connection.execute("select from agentops.inbox where state = 'queued'").fetchall():
            assert time.monotonic() < deadline
            time.sleep(0.2)
    time.sleep(0.5)


def _told(attacked: Attacked) -> str:
    """Everything: output, stored events, what commands print, processes and their surroundings, audit, incidents."""
    commands = [("logs", "show", "--limit", "2000"), ("logs", "show", "--limit", "2000", "--json"), ("health",)]
    commands += [
        ("secrets", "list"),
        ("secrets", "set", "WA_TOKEN=" + CANARIES["WA_TOKEN"]),
        ("status",),
        ("deploy", "list"),
    ]
    commands += [("stats", "vouchers"), ("incident", "list"), ("flags", "list"), ("db", "status")]
    printed = [done.stdout + done.stderr for done in (attacked.run(*words) for words in commands)]
    with psycopg.connect(attacked.database_url) as connection:
        tables = ("logs", "audit", "incidents", "servers", "secrets", "flags", "idempotency")
        rows = [
            row[0]
            for table in tables
            for row in connection.execute(_ROWS.format(sql.Identifier("agentops", table))).fetchall()
        ]
    kept = [row for row in rows if '"fingerprint"' not in row]
    return "\n".join([attacked.log.read_text(), *printed, *kept, *_command_lines(attacked)])


def _command_lines(attacked: Attacked) -> Iterator[str]:
    for pid in [attacked.pid, *attacked.pids("web"), *attacked.pids("worker")]:
        for name in ("cmdline", "environ"):
            yield Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")


def _decoded(told: str) -> Iterator[str]:
    """Whatever may be base64 in it, opened."""
    for found in set(re.findall(r"[A-Za-z0-9+/_-]{16,}", told)):
        for shift in range(4):
            raw = found[shift:].replace("-", "+").replace("_", "/")
            yield base64.b64decode(raw[: len(raw) // 4 * 4]).decode("latin-1")

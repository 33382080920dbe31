"""Bytes that no honest client sends: nothing forged gets in, nothing breaks, everybody else is served meanwhile."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import random
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest

from tests.fakes.whatsapp import APP_SECRET, payload, signed, text

if TYPE_CHECKING:
    from tests.attacks.conftest import Attacked

HOOK, LOOKUP = "/functions/v1/ai-whatsapp-webhook", "/functions/v1/ai-lookup-customer"
BODY = b'{"msisdn":"+250788000000"}'
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
CHUNKS = b"1a\r\n" + BODY + b"\r\n0\r\n"
HIDDEN = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"


def head(attacked: Attacked, *more: bytes, method: bytes = b"POST") -> bytes:
    key = attacked.keys["service_role_key"].encode()
    start = method + b" " + LOOKUP.encode() + b" HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + key + b"\r\n"
    return start + b"".join(more) + b"\r\n"


def statuses(heard: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3})", heard)]


def noise(size: int) -> str:
    return base64.b64encode(os.urandom(size)).decode()


def test_no_forged_delivery_gets_in_and_none_breaks_it(attacked: Attacked) -> None:
    chance = random.Random(20261123)  # noqa: S311 - the same forgeries every time
    body = json.dumps(payload(text("forged ç'est 👍"))).encode()
    good = "sha256=" + hmac.digest(APP_SECRET.encode(), body, "sha256").hex()
    parsed = json.loads(body)
    attempts: list[tuple[bytes, list[tuple[bytes, bytes]]]] = []
    for _ in range(400):
        changed = bytearray(body)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        attempts.append((bytes(changed), [(b"x-hub-signature-256", good.encode())]))
    others = [json.dumps(parsed, ensure_ascii=False).encode(), json.dumps(parsed, separators=(",", ":")).encode()]
    others += [body + b"\n", body[:-1], b"", b"\xff" * 9]
    attempts += [(other, [(b"x-hub-signature-256", good.encode())]) for other in others]
    sha1 = "sha1=" + hmac.digest(APP_SECRET.encode(), body, "sha1").hex()
    sha512 = "sha512=" + hmac.digest(APP_SECRET.encode(), body, "sha512").hex()
    empty = "sha256=" + hmac.digest(b"", body, "sha256").hex()
    headers = [good.upper(), good[7:], sha1, sha512, empty, "", "sha256=", good[:-1], good + "0", f"{good}, {good}"]
    attempts += [(body, [(b"x-hub-signature-256", each.encode())]) for each in [*headers, "sha256=é"]]
    attempts += [
        (body, [(b"x-hub-signature-256", b"\xff\xfe")]),
        (body, [(b"x-hub-signature", sha1.encode())]),
        (body, []),
    ]
    attempts += [(body, [(b"x-hub-signature-256", good.encode())] * 2)]
    with httpx.Client(timeout=20) as client:
        counted = Counter(
            client.post(attacked.url + HOOK, content=each, headers=named).status_code for each, named in attempts
        )
    assert counted == {401: len(attempts)}
    with psycopg.connect(attacked.database_url) as connection:
        assert connection.execute("select from agentops.inbox where payload::text like '%forged%'").fetchall() == []


AUTHENTIC: dict[str, bytes] = {
    "a number beyond every float": json.dumps(payload(text("x"))).replace('"1795000000"', "1e400").encode(),
    "another": json.dumps(payload(text("x"))).replace('"1795000000"', "-1e999").encode(),
    "a long whole number": json.dumps(payload(text("x"))).replace('"1795000000"', "9" * 4000).encode(),
    "half a pair of surrogates": json.dumps(payload({**text("x\ud800"), "id": "wamid.\udc00"})).encode(),
    "a nul": json.dumps(payload({**text("a\x00b"), "id": "wamid.\x00"})).encode(),
    "depth": json.dumps(payload({**text("x"), "deep": "@"})).replace('"@"', "[" * 300 + "]" * 300).encode(),
    "no object": b'{"entry":[]}',
    "no entry": b'{"object":"whatsapp_business_account"}',
    "nothing": b"null",
    "another field": b'{"entry":[{"changes":[{"field":{"a":1},"value":5}]}]}',
}


@pytest.mark.parametrize("what", AUTHENTIC)
def test_whatever_is_authentic_is_answered_200(attacked: Attacked, what: str) -> None:
    request = signed(AUTHENTIC[what])
    answer = httpx.post(attacked.url + HOOK, content=request.body, headers=dict(request.headers), timeout=20)
    assert (answer.status_code, answer.json()) == (200, {"received": True})


def test_one_impossible_message_costs_its_batch_nothing(attacked: Attacked) -> None:
    marker = noise(12)
    odd: list[dict[str, Any]] = [
        {**text("x"), "id": noise(9000)},
        {**text("x"), "from": None, "from_user_id": noise(9000)},
        {**text("x"), "id": ["wamid"], "type": {"a": 1}},
        {"type": "\x00"},
    ]
    batch = payload(*odd, text(marker))
    batch["entry"].append(json.loads(json.dumps(payload(text("x"))).replace("106540352242922", noise(9000))))
    assert attacked.deliver(batch).status_code == 200
    assert attacked.deliver(batch).status_code == 200
    with psycopg.connect(attacked.database_url) as connection:
        stored = connection.execute("select payload -> 'text' ->> 'body' from agentops.inbox").fetchall()
    assert stored.count((marker,)) == 1


def test_a_batch_of_a_thousand_updates_is_stored_at_once(attacked: Attacked) -> None:
    messages = [{**text("x", f"+2507881{number:05d}"), "type": "reaction", "pad": "p" * 2500} for number in range(1000)]
    began = time.monotonic()
    assert attacked.deliver(payload(*messages)).status_code == 200
    assert time.monotonic() - began < 3


FRAMES: dict[str, tuple[tuple[bytes, ...], bytes, list[int]]] = {
    "both lengths": ((b"content-length: 4\r\n", CHUNKED), CHUNKS + b"\r\n", [400]),
    "two lengths": ((LENGTH, b"content-length: 1\r\n"), BODY, [400]),
    "a signed length": ((b"content-length: +26\r\n",), BODY, [400]),
    "a negative length": ((b"content-length: -1\r\n",), BODY, [400]),
    "a length of forty digits": ((b"content-length: " + b"9" * 40 + b"\r\n",), BODY, [400]),
    "a length with five thousand zeros": ((b"content-length: " + b"0" * 5000 + b"26\r\n",), BODY, [200]),
    "an unknown coding": ((b"transfer-encoding: xchunked\r\n",), BODY, [400]),
    "a coding after chunked": ((b"transfer-encoding: chunked, identity\r\n",), CHUNKS + b"\r\n", [400]),
    "a space before the colon": ((b"transfer-encoding : chunked\r\n",), CHUNKS + b"\r\n", [400]),
    "a chunk that is no number": ((CHUNKED,), b"zz\r\n" + BODY, [400]),
    "a chunk of 2^72 bytes": ((CHUNKED,), b"f" * 18 + b"\r\n" + BODY, [400]),
    "a folded header": ((b"x-a: b\r\n c\r\n", LENGTH), BODY, [400]),
    "a nul in a header": ((b"x-a: b\x00\r\n", LENGTH), BODY, [400]),
    "a bare newline in the correlation id": ((b"x-correlation-id: a\nset-cookie: b\r\n", LENGTH), BODY, [400]),
    "a head of 17 KiB": ((b"x-a: " + b"a" * 17_000 + b"\r\n", LENGTH), BODY, [431]),
    "a trailer": ((CHUNKED,), CHUNKS + b"authorization: Bearer x\r\nx-correlation-id: t\r\n\r\n", [200]),
    "an upgrade with a body": ((b"connection: upgrade\r\nupgrade: websocket\r\n", LENGTH), BODY + HIDDEN, [400]),
    "an upgrade to HTTP/2": ((b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\n", LENGTH), BODY, [400]),
}


@pytest.mark.parametrize("what", FRAMES)
def test_a_frame_that_two_readers_could_read_differently_is_refused(attacked: Attacked, what: str) -> None:
    headers, body, expected = FRAMES[what]
    heard = attacked.say(head(attacked, *headers) + body, seconds=0.4)
    assert statuses(heard) == expected
    assert b"set-cookie" not in heard.lower()
    assert b"x-correlation-id: t\r" not in heard


@pytest.mark.parametrize("upgrade", [b"websocket", b"h2c"])
def test_the_body_behind_an_upgrade_is_never_taken_for_a_request(attacked: Attacked, upgrade: bytes) -> None:
    named = b"connection: upgrade\r\nupgrade: " + upgrade + b"\r\ncontent-length: %d\r\n" % len(HIDDEN)

    async def hidden() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", attacked.port)
        writer.write(head(attacked, named))
        await writer.drain()
        # The body comes by itself, as if it were something new.
        await asyncio.sleep(0.2)
        writer.write(HIDDEN)
        heard = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return heard

    assert statuses(asyncio.run(hidden())) == [400]


@pytest.mark.parametrize("start", [b"0\r\n", b"1;a="], ids=["trailers", "a chunk's extension"])
def test_what_follows_a_body_without_end_is_cut_off_before_it_fills_the_memory(
    attacked: Attacked, start: bytes
) -> None:
    block = (
        b"".join(b"x-%06d: " % number + b"a" * 200 + b"\r\n" for number in range(300))
        if start[:1] == b"0"
        else b"b" * 65536
    )

    async def flood() -> int:
        _, writer = await asyncio.open_connection("127.0.0.1", attacked.port)
        writer.write(head(attacked, CHUNKED) + b"1a\r\n" + BODY + b"\r\n" + start)
        sent = 0
        try:
            while sent < 64 * 2**20:
                writer.write(block)
                sent += len(block)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()
        return sent

    assert asyncio.run(flood()) < 16 * 2**20


def test_a_smuggled_second_request_is_answered_in_order_or_not_at_all(attacked: Attacked) -> None:
    whole = head(attacked, LENGTH) + BODY
    assert statuses(attacked.say(whole * 5, seconds=0.5)) == [200] * 5
    # Garbage behind a request that is being worked on must not look like that request's answer.
    assert statuses(attacked.say(whole + b"\x00garbage\r\n\r\n", seconds=0.5)) in ([], [200], [200, 400])


def test_slow_clients_are_closed_within_twelve_seconds_and_the_others_served(attacked: Attacked) -> None:
    async def slow(first: bytes, drip: bytes) -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", attacked.port)
        began = time.monotonic()
        writer.write(first)
        closed = asyncio.create_task(reader.read())
        while not closed.done() and time.monotonic() - began < 20:
            writer.write(drip)
            await asyncio.wait({closed}, timeout=0.5)
        await asyncio.gather(closed, return_exceptions=True)
        writer.close()
        return time.monotonic() - began

    async def honest(client: httpx.AsyncClient) -> float:
        began = time.monotonic()
        answer = await client.post(
            attacked.url + LOOKUP, json={"msisdn": "+250788000000"}, headers=attacked.authorization
        )
        assert answer.status_code == 200
        return time.monotonic() - began

    async def check() -> None:
        kinds = [
            (b"POST / HTTP/1.1\r\nhost: x\r\n", b"x-a: b\r\n"),
            (head(attacked, b"content-length: 60000\r\n"), b" "),
        ]
        kinds += [(head(attacked, CHUNKED), b"1\r\n \r\n"), (b"", b"")]
        attackers = [asyncio.create_task(slow(*kinds[number % 4])) for number in range(120)]
        async with httpx.AsyncClient(timeout=5) as client:
            served = [await honest(client) for _ in range(100)]
        took = await asyncio.gather(*attackers)
        assert max(took) <= 12
        assert sorted(served)[-2] < 1

    asyncio.run(check())


def test_after_all_that_no_process_has_died_and_nothing_was_told_but_events(attacked: Attacked) -> None:
    shown = attacked.log.read_text()
    assert "Traceback" not in shown
    assert "ai.server.exception" not in shown
    assert not [line for line in shown.splitlines() if "ended (exit" in line]

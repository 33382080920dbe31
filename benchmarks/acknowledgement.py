"""How fast a webhook delivery is acknowledged with a full queue and a model that hangs, beside a bare endpoint.

10,000 messages queued → the worker's lanes all hang in the model → deliveries at a fixed rate to one web process
the bare endpoint: Starlette and one INSERT, on the same PostgreSQL in the same run, at the same rate
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, percentile
from benchmarks.load import in_process
from benchmarks.stack import bare_server, free_port, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.stack import Running

RATE, SECONDS, CONNECTIONS = 100, 15, 8
P50_MS, P99_MS, LONGEST_MS = 15, 100, 1000
# What waits meanwhile: so many messages, of so many customers, in deliveries of so many.
QUEUED, CUSTOMERS, EACH = 10_000, 1_000, 500
FUNCTION = "/functions/v1/ai-whatsapp-webhook"


@contextmanager
def hanging_model() -> Iterator[str]:
    """A provider that accepts every connection and never answers."""
    port, ended = free_port(), threading.Event()

    async def serve() -> None:
        held = []

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            held.append((reader, writer))
            await reader.read(1)

        async with await asyncio.start_server(hold, "127.0.0.1", port):
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        ended.set()


def measure() -> list[Figure]:
    """Deliveries of 25 other customers at a fixed rate; latency counts from the planned moment."""
    with hanging_model() as model:
        addresses = {"OPENAI_BASE_URL": model, "WHATSAPP_API_URL": model}
        with serving(extra=addresses) as stack, bare_server(stack.database_url) as bare:
            stack.run("secrets", "set", "OPENAI_API_KEY=sk-none", "WA_TOKEN=none", "WA_PHONE_ID=1")
            _fill(stack)
            bodies = [_delivery([message(f"LOAD{n}", f"2507880000{n % 25:02}")]) for n in range(RATE * SECONDS)]
            plan = {"connections": CONNECTIONS, "seconds": SECONDS, "rate": RATE, "bodies": bodies}
            ours = in_process(
                {
                    **plan,
                    "url": f"{stack.url}{FUNCTION}",
                    "header_list": [stack.signed(body) for body in bodies],
                }
            )
            other = in_process({**plan, "url": f"{bare}/acknowledge"})
    assert ours["failed"] == 0, f"{ours['failed']} of {ours['requests']} deliveries were refused"
    p50, p99, longest = (percentile(ours["latencies_ms"], share) for share in (0.5, 0.99, 1.0))
    bare_p50, bare_p99 = (percentile(other["latencies_ms"], share) for share in (0.5, 0.99))
    return [
        Figure(
            f"ack at {RATE}/s, {QUEUED:,} queued, model hangs",
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {longest:.0f} ms",
            f"bare Starlette, one INSERT p50 {bare_p50:.1f} ms, p99 {bare_p99:.1f} ms",
            f"≤ {P50_MS}, {P99_MS}, {LONGEST_MS} ms",
            p50 <= P50_MS and p99 <= P99_MS and longest <= LONGEST_MS,
        )
    ]


def _fill(stack: Running) -> None:
    for first in range(0, QUEUED, EACH):
        numbers = range(first, first + EACH)
        deliver(stack, [message(f"QUEUED{n}", f"2507890{n % CUSTOMERS:05}") for n in numbers])


def deliver(stack: Running, messages: list[dict[str, Any]]) -> None:
    """One signed delivery of these messages; it must be taken."""
    body = _delivery(messages)
    request = urllib.request.Request(  # noqa: S310 - our own loopback address
        f"{stack.url}{FUNCTION}", body.encode(), stack.signed(body)
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - as above
        assert response.status == 200  # noqa: PLR2004 - what Meta asks for


def message(name: str, phone: str, timestamp: int | None = None) -> dict[str, Any]:
    """A text, sent now unless a time is given (seconds since 1970)."""
    return {
        "from": phone,
        "id": f"wamid.BENCH{name}",
        "timestamp": str(int(time.time()) if timestamp is None else timestamp),
        "type": "text",
        "text": {"body": "hello"},
    }


def _delivery(messages: list[dict[str, Any]]) -> str:
    phones = dict.fromkeys(each["from"] for each in messages)
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550001111", "phone_number_id": "1"},
        "contacts": [{"profile": {"name": "Bench"}, "wa_id": phone} for phone in phones],
        "messages": messages,
    }
    entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]})

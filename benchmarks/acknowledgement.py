"""How fast a webhook delivery is acknowledged while the model hangs, beside a bare endpoint with one INSERT."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, percentile
from benchmarks.load import in_process
from benchmarks.stack import bare_server, free_port, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE, SECONDS, CONNECTIONS, GOAL_MS = 50, 15, 8, 50


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
    """Deliveries of 25 customers at a fixed rate; latency counts from the planned moment."""
    with hanging_model() as model:
        addresses = {"OPENAI_BASE_URL": model, "WHATSAPP_API_URL": model}
        with serving(extra=addresses) as stack, bare_server(stack.database_url) as bare:
            stack.run("secrets", "set", "OPENAI_API_KEY=sk-none", "WA_TOKEN=none", "WA_PHONE_ID=1")
            bodies = [_delivery(number) for number in range(RATE * SECONDS)]
            plan = {"connections": CONNECTIONS, "seconds": SECONDS, "rate": RATE, "bodies": bodies}
            ours = in_process(
                {
                    **plan,
                    "url": f"{stack.url}/functions/v1/ai-whatsapp-webhook",
                    "header_list": [stack.signed(body) for body in bodies],
                }
            )
            other = in_process({**plan, "url": f"{bare}/acknowledge"})
    assert ours["failed"] == 0, f"{ours['failed']} of {ours['requests']} deliveries were refused"
    p50, p99 = percentile(ours["latencies_ms"], 0.5), percentile(ours["latencies_ms"], 0.99)
    beside = f"bare Starlette, one INSERT p99 {percentile(other['latencies_ms'], 0.99):.1f} ms"
    value = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    return [Figure(f"ack at {RATE}/s, model hangs", value, beside, f"p99 ≤ {GOAL_MS} ms", p99 <= GOAL_MS)]


def _delivery(number: int) -> str:
    phone = f"2507880000{number % 25:02}"
    message = {
        "from": phone,
        "id": f"wamid.BENCH{number}",
        "timestamp": "1790000000",
        "type": "text",
        "text": {"body": "hello"},
    }
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550001111", "phone_number_id": "1"},
        "contacts": [{"profile": {"name": "Bench"}, "wa_id": phone}],
        "messages": [message],
    }
    entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]})

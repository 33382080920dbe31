"""A load generator over raw sockets, in a process of its own so that it never shares the server's event loop.

    python -m benchmarks.load '{"url": …, "body": …, "headers": {…}, "connections": 32, "seconds": 5, "rate": null}'

Prints one JSON object: `requests`, `failed`, `seconds`, `latencies_ms` (sorted, at most 10,000 samples).
With `rate` requests begin at that many per second, whatever the answers do (open loop); latency counts from the
planned beginning, so that waiting is not hidden.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any
from urllib.parse import SplitResult, urlsplit


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes) -> int:
    writer.write(message)
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    length = next(
        int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    )
    if length:
        await reader.readexactly(length)
    return status


async def _worker(
    plan: dict[str, Any], bodies: list[str], number: int, end: float, found: list[tuple[float, int]]
) -> None:
    url = urlsplit(plan["url"])
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    rate, connections = plan.get("rate"), plan["connections"]
    turn = 0
    begin = time.perf_counter()
    while True:
        if rate:
            due = begin + (number + turn * connections) / rate
            if due > end:
                break
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        else:
            due = time.perf_counter()
            if due > end:
                break
        index = (number + turn * connections) % len(bodies)
        status = await _request(reader, writer, _message(plan, url, bodies[index], index))
        found.append(((time.perf_counter() - due) * 1000, status))
        turn += 1
    writer.close()


def _message(plan: dict[str, Any], url: SplitResult, body: str, index: int) -> bytes:
    raw = body.encode()
    headers = dict(plan.get("headers", {}))
    if plan.get("header_list"):
        headers |= plan["header_list"][index]
    lines = [f"{plan.get('method', 'POST')} {url.path} HTTP/1.1", f"host: {url.netloc}", f"content-length: {len(raw)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + raw


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Send the planned requests; see the module's docstring for the shapes."""
    found: list[tuple[float, int]] = []
    bodies = plan["bodies"] if plan.get("bodies") else [plan.get("body", "")]
    begin = time.perf_counter()
    end = begin + plan["seconds"]
    await asyncio.gather(*(_worker(plan, bodies, number, end, found) for number in range(plan["connections"])))
    latencies = sorted(latency for latency, _ in found)
    step = max(1, len(latencies) // 10_000)
    return {
        "requests": len(found),
        "failed": sum(status >= 400 for _, status in found),  # noqa: PLR2004 - HTTP's errors begin there
        "seconds": time.perf_counter() - begin,
        "latencies_ms": latencies[::step],
    }


def in_process(plan: dict[str, Any]) -> dict[str, Any]:
    """Run a plan in a process of its own; its result."""
    command = [sys.executable, "-m", "benchmarks.load", "-"]
    done = subprocess.run(command, input=json.dumps(plan), capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.load(sys.stdin)))))

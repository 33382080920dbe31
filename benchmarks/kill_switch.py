"""From a flag's commit until the last of four server processes has applied it, beside the bare commit."""

from __future__ import annotations

import asyncio
import time

from benchmarks.figures import Figure, percentile
from benchmarks.stack import serving

PROCESSES, TOGGLES, GOAL_MS = 4, 200, 100
WRITE = """update agentops.flags set enabled = not enabled, version = version + 1 where name = 'FEATURE_AGENT_CHAT'"""
APPLIED = """select count(*) filter (where generation >= (select n from agentops.generation)) as done, count(*) as live
from agentops.servers where heartbeat_at > clock_timestamp() - interval '10 seconds'"""


def measure() -> list[Figure]:
    """What `incident kill-switch` waits for: every live server's generation has reached the newest."""
    with serving(processes=PROCESSES, role="web") as stack:
        commits, confirmations = asyncio.run(_toggle(stack.database_url))
    p50, p99 = percentile(confirmations, 0.5), percentile(confirmations, 0.99)
    beside = f"the UPDATE itself p99 {percentile(commits, 0.99):.1f} ms"
    value = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    return [Figure(f"flag applied on {PROCESSES} servers", value, beside, f"p99 ≤ {GOAL_MS} ms", p99 <= GOAL_MS)]


async def _toggle(database_url: str) -> tuple[list[float], list[float]]:
    from agentops.store.database import Database

    commits, confirmations = [], []
    database = await Database.open(database_url, size=1)
    try:
        for _ in range(TOGGLES):
            begin = time.perf_counter()
            await database.query(WRITE)
            committed = time.perf_counter()
            while True:
                row = (await database.query(APPLIED))[0]
                assert row["live"] >= PROCESSES, f"only {row['live']} servers are alive"
                if row["done"] == row["live"]:
                    break
                await asyncio.sleep(0.001)
            commits.append((committed - begin) * 1000)
            confirmations.append((time.perf_counter() - committed) * 1000)
    finally:
        await database.close()
    return commits, confirmations

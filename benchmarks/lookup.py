"""`ai-lookup-customer` in requests per second, beside a bare Starlette endpoint with the same SELECT and pool.

Two figures: customers who are asked for once, so that each request is a SELECT of ours as well; and one customer who is
asked for again and again, whom the server knows (store/lookups) while the comparator goes on asking its database.
"""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, percentile
from benchmarks.load import in_process
from benchmarks.stack import bare_server, serving

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS, SECONDS, CONNECTIONS, SHARE = 3, 4, 16, 0.5
# More than a round asks for: nobody is asked for twice.
CUSTOMERS = 60_000


def measure() -> list[Figure]:
    """Both servers run at once and are loaded in turns."""
    with serving(role="web") as stack, bare_server(stack.database_url) as bare:
        addresses = {"ours": f"{stack.url}/functions/v1/ai-lookup-customer", "bare": f"{bare}/lookup"}
        key = f"Bearer {stack.keys['service_role_key']}"
        plan = {
            "connections": CONNECTIONS,
            "seconds": SECONDS,
            "headers": {"content-type": "application/json", "authorization": key},
        }
        return [
            _measured("lookup, new customers", plan, addresses, _strangers, SHARE),
            _measured("lookup, one customer again", plan, addresses, lambda _: [_body(0)], None),
        ]


def _measured(
    name: str,
    plan: dict[str, Any],
    addresses: dict[str, str],
    bodies: Callable[[int], list[str]],
    share: float | None,
) -> Figure:
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    slowest = 0.0
    for turn in range(ROUNDS):
        for server, url in addresses.items():
            done = in_process({**plan, "url": url, "bodies": bodies(turn)})
            assert done["failed"] == 0, f"{server}: {done['failed']} of {done['requests']} failed"
            assert share is None or done["requests"] <= CUSTOMERS, "some were asked for twice"
            rates[server].append(done["requests"] / done["seconds"])
            if server == "ours":
                slowest = max(slowest, percentile(done["latencies_ms"], 0.99))
    ours, other = statistics.median(rates["ours"]), statistics.median(rates["bare"])
    ratio = statistics.median(mine / theirs for mine, theirs in zip(rates["ours"], rates["bare"], strict=True))
    value = f"{ours:,.0f}/s ({ratio:.0%}), p99 {slowest:.0f} ms"
    goal = "" if share is None else f"≥ {share:.0%}"
    return Figure(
        name, value, f"bare Starlette, same SELECT {other:,.0f}/s", goal, None if share is None else ratio >= share
    )


def _strangers(turn: int) -> list[str]:
    """Customers of this round, whom no other round asks for."""
    return [_body(1 + turn * CUSTOMERS + number) for number in range(CUSTOMERS)]


def _body(number: int) -> str:
    return json.dumps({"msisdn": f"+25078{number:07d}"})

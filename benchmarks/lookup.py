"""`ai-lookup-customer` in requests per second, beside a bare Starlette endpoint with the same SELECT and pool."""

from __future__ import annotations

import statistics

from benchmarks.figures import Figure, percentile
from benchmarks.load import in_process
from benchmarks.stack import bare_server, serving

ROUNDS, SECONDS, CONNECTIONS, SHARE = 3, 4, 16, 0.5


def measure() -> list[Figure]:
    """Both servers run at once and are loaded in turns."""
    with serving(role="web") as stack, bare_server(stack.database_url) as bare:
        key = f"Bearer {stack.keys['service_role_key']}"
        plan = {
            "body": '{"msisdn": "+250788000000"}',
            "connections": CONNECTIONS,
            "seconds": SECONDS,
            "headers": {"content-type": "application/json", "authorization": key},
        }
        rates: dict[str, list[float]] = {"ours": [], "bare": []}
        slowest = 0.0
        for _ in range(ROUNDS):
            for name, url in (("ours", f"{stack.url}/functions/v1/ai-lookup-customer"), ("bare", f"{bare}/lookup")):
                done = in_process({**plan, "url": url})
                assert done["failed"] == 0, f"{name}: {done['failed']} of {done['requests']} failed"
                rates[name].append(done["requests"] / done["seconds"])
                if name == "ours":
                    slowest = max(slowest, percentile(done["latencies_ms"], 0.99))
    ours, other = statistics.median(rates["ours"]), statistics.median(rates["bare"])
    ratio = statistics.median(mine / theirs for mine, theirs in zip(rates["ours"], rates["bare"], strict=True))
    value = f"{ours:,.0f}/s ({ratio:.0%}), p99 {slowest:.0f} ms"
    return [Figure("lookup", value, f"bare Starlette, same SELECT {other:,.0f}/s", f"≥ {SHARE:.0%}", ratio >= SHARE)]

"""One process of callers who all redeem the same vouchers in the same order, as hot as it gets.

    python -m tests.fakes.racers URL CALLERS VOUCHERS.json      prints {"statuses": {"200": …, "409": …}}

VOUCHERS.json is a list of voucher ids, each to be tried five times; the callers take the attempts in that order, so
that those on one voucher happen together. It begins when its standard input says so.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from agentops.functions import ai_redeem_voucher
from tests.fakes.stacks import open_stack, post

ATTEMPTS = 5
PHONE = "+250788000001"


async def race(url: str, callers: int, vouchers: list[str]) -> Counter[int]:
    async with open_stack(url, set_flags=False) as stack:
        attempts = iter([voucher for voucher in vouchers for _ in range(ATTEMPTS)])

        async def caller() -> list[int]:
            bodies = ({"voucher_id": voucher, "customer_msisdn": PHONE} for voucher in attempts)
            return [(await ai_redeem_voucher.handle(post("ai-redeem-voucher", body), stack)).status for body in bodies]

        await asyncio.to_thread(sys.stdin.readline)
        return Counter(status for each in await asyncio.gather(*(caller() for _ in range(callers))) for status in each)


if __name__ == "__main__":
    counted = asyncio.run(race(sys.argv[1], int(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text())))
    sys.stdout.write(json.dumps({"statuses": counted}) + "\n")

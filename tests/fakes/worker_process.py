"""A worker as a process of its own, to be killed.

python -m tests.fakes.worker_process DATABASE_URL PROVIDERS_URL [BURST_SECONDS]
"""

from __future__ import annotations

import asyncio
import sys

import openai  # noqa: F401 - its second of import would be a second of the lease

from agentops.server import worker
from tests.fakes.chat import chat_stack, context
from tests.fakes.providers import Providers


async def main() -> None:
    database_url, providers_url, *burst = sys.argv[1:]
    async with chat_stack(database_url, Providers(url=providers_url)) as stack:
        burst_seconds = float(burst[0]) if burst else 0.0
        await worker.run(context(stack), asyncio.Event(), lease_seconds=1.0, burst_seconds=burst_seconds)


if __name__ == "__main__":
    asyncio.run(main())

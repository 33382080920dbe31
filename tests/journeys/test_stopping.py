"""Stopping under load: SIGTERM ends `serve` with 0 within 10 s, whatever its callers do meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from agentops.server import keys
from tests.fakes import cli
from tests.fakes.servers import operator
from tests.fakes.wire import Caller

if TYPE_CHECKING:
    import pytest

    from tests.conftest import StackKeys

CALLERS, BUSY_SECONDS, LONGEST_SECONDS = 12, 1.0, 10.0


def test_sigterm_under_twelve_busy_callers_ends_well_and_loses_no_answered_voucher(
    database_url: str, stack_keys: StackKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOPS_STACK_KEY", stack_keys.private)
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    process = cli.start("serve", "--processes", "2", "--port", str(cli.free_port()))
    assert process.stdout
    url = next(line["url"] for line in map(json.loads, process.stdout) if "target" in line)
    cli.answer("flags", "enable", "vouchers")

    async def load() -> tuple[int, float]:
        async with operator(database_url) as platform:
            service = (await keys.shown(platform, stack_keys.private))[keys.SERVICE]
            made: list[str] = []
            callers = [asyncio.create_task(_create(url, service, made)) for _ in range(CALLERS)]
            await asyncio.sleep(BUSY_SECONDS)
            begun = time.monotonic()
            process.terminate()
            _, err = await asyncio.to_thread(process.communicate, timeout=20)
            took = time.monotonic() - begun
            await asyncio.gather(*callers)
            assert process.returncode == 0, err
            stored = await platform.query("select id::text as id from public.vouchers")
            assert made
            assert set(made) <= {row["id"] for row in stored}
            # Every process has said goodbye.
            assert await platform.servers() == []
            return len(made), took

    _, took = asyncio.run(load())
    assert took < LONGEST_SECONDS


async def _create(url: str, service: str, made: list[str]) -> None:
    """Create vouchers until the server is gone."""
    body: dict[str, Any] = {"customer_msisdn": "+250788000000", "amount": 100}
    try:
        while True:
            caller = await Caller.to(url, {"authorization": f"Bearer {service}"})
            try:
                while True:
                    status, answer = await caller.post("/functions/v1/ai-create-voucher", body)
                    if status == 200:
                        made.append(answer["voucher_id"])
            except (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError):
                # A keep-alive connection is closed by a process that drains; another may still listen.
                caller.close()
    except (ConnectionRefusedError, ConnectionResetError):
        return

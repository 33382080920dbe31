from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from agentops.server import warming
from agentops.settings import CHAT
from tests.fakes.servers import eventually
from tests.fakes.stacks import bare_stack

if TYPE_CHECKING:
    import pytest


def test_the_model_is_warmed_once_and_only_where_chat_is_on_and_has_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "LOOK_SECONDS", 0.001)
    warmed: list[str] = []

    class Clients:
        def openai(self, secrets: dict[str, str]) -> Any:
            async def warm() -> None:
                warmed.append(secrets["OPENAI_API_KEY"])

            return SimpleNamespace(warm=warm)

    def stack(*, chat: bool, **secrets: str) -> Any:
        found = bare_stack({CHAT: chat}, secrets)
        object.__setattr__(found, "clients", Clients())
        return found

    async def run() -> None:
        stacks = [stack(chat=True, OPENAI_API_KEY="k")]
        context = cast("Any", SimpleNamespace(settled=False, stack=lambda: stacks[-1]))
        task = asyncio.create_task(warming.keep(context))
        await asyncio.sleep(0.02)
        stacks.append(stack(chat=True))
        context.settled = True
        await asyncio.sleep(0.02)
        stacks.append(stack(chat=False, OPENAI_API_KEY="k"))
        await asyncio.sleep(0.02)
        assert warmed == []
        stacks.append(stack(chat=True, OPENAI_API_KEY="k"))
        await eventually(lambda: warmed == ["k"])
        await asyncio.sleep(0.02)
        assert warmed == ["k"]
        assert not task.done()
        task.cancel()

    asyncio.run(run())

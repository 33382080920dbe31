"""What many lanes ask at the same moment goes to the database as one statement, and is one commit.

    first call ──→ waits for the next turn of the loop, then is sent with all that came by then
    calls while it is under way ──→ wait, and go together as the next one

A call alone costs what it always did; sixteen cost little more than one. They share their fate only where the
database fails: then all of them do.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from agentops.platforms import Row

# How many calls one statement takes.
MOST = 100


@dataclass(slots=True)
class _Call:
    item: Mapping[str, Any]
    answer: asyncio.Future[list[Row]]


@dataclass(slots=True)
class Together:
    """The calls of one statement. `send` runs it with the JSON array of the items that it is for."""

    send: Callable[[str], Awaitable[list[Row]]]
    waiting: list[_Call] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    async def ask(self, item: Mapping[str, Any]) -> list[Row]:
        """Run the statement for this item; the rows whose `place` is this item's, without it.

        Raises:
            AgentOpsError: the statement failed, for all that went with it.
        """
        call = _Call(item, asyncio.get_running_loop().create_future())
        self.waiting.append(call)
        if self.task is None:
            self.task = asyncio.create_task(self._run())
        return await call.answer

    async def _run(self) -> None:
        calls: list[_Call] = []
        try:
            while self.waiting:
                # Who was cancelled meanwhile asks for nothing any more.
                calls = [call for call in self.waiting[:MOST] if not call.answer.done()]
                del self.waiting[:MOST]
                if calls:
                    await self._answer(calls)
        finally:
            self.task = None
            for call in calls + self.waiting:
                call.answer.cancel()

    async def _answer(self, calls: list[_Call]) -> None:
        items = [{"place": place, **call.item} for place, call in enumerate(calls)]
        found: dict[int, list[Row]] = defaultdict(list)
        failure = None
        try:
            for row in await self.send(json.dumps(items)):
                found[row.pop("place")].append(row)
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked
            failure = error
        for place, call in enumerate(calls):
            if call.answer.done():
                continue
            if failure is None:
                call.answer.set_result(found[place])
            else:
                call.answer.set_exception(failure)

"""What Meta would tell us about a message: signed status webhooks, `sent` and then `delivered`, or `failed`.

    Peers accepts a text → Statuses.tell(message) ─ delay ─→ POST {url} sent ─ delay ─→ POST {url} delivered

Like Meta's: at least once, retried for a while where nobody answers 200, and in no order that could be relied on.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentops.sandbox import APP_SECRET, WEBHOOK_URL

if TYPE_CHECKING:
    from collections.abc import Mapping

TRIES = 5
_STATES = ("sent", "delivered")
_OK = 200


@dataclass(slots=True)
class Statuses:
    """Tells `url` what became of each message, signed with `app_secret`, after `delay` (least, most) seconds."""

    url: str
    app_secret: str
    delay: tuple[float, float] = (0.2, 1.0)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    def told(cls, environment: Mapping[str, str]) -> Statuses | None:
        """As the process's environment says; None where it names no address or no secret."""
        url, secret = environment.get(WEBHOOK_URL), environment.get(APP_SECRET)
        return cls(url, secret) if url and secret else None

    def tell(self, phone_id: str, to: str, message_id: str, callback_data: object, failed: int | None = None) -> None:
        """Begin to tell what becomes of one message: that it arrived, or `failed` with this code; returns at once."""
        task = asyncio.create_task(self._tell(phone_id, to, message_id, callback_data, failed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, phone_id: str, to: str, message_id: str, callback_data: object, failed: int | None) -> None:
        for state in _STATES if failed is None else ("failed",):
            await asyncio.sleep(random.uniform(*self.delay))  # noqa: S311 - spreads, guards nothing
            status = {
                "id": message_id,
                "status": state,
                "timestamp": str(int(time.time())),
                "recipient_id": to.removeprefix("+"),
                **({"biz_opaque_callback_data": callback_data} if callback_data else {}),
                **({} if failed is None else {"errors": [{"code": failed, "title": "scripted"}]}),
            }
            await self._post(_delivery(phone_id, status))

    async def _post(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        signature = hmac.digest(self.app_secret.encode(), body, "sha256").hex()
        headers = {"content-type": "application/json", "x-hub-signature-256": f"sha256={signature}"}
        for tried in range(TRIES):
            if await _posted(self.url, body, headers):
                return
            await asyncio.sleep(0.2 * 2**tried)


async def _posted(url: str, body: bytes, headers: Mapping[str, str]) -> bool:
    import httpx

    # A client of its own for each: nothing has to be closed when the peers end. Loading certificates is left out.
    transport = httpx.AsyncHTTPTransport(verify=False)
    async with httpx.AsyncClient(transport=transport, timeout=5.0) as client:
        try:
            return (await client.post(url, content=body, headers=headers)).status_code == _OK
        except httpx.HTTPError:
            return False


def _delivery(phone_id: str, status: dict[str, Any]) -> dict[str, Any]:
    metadata = {"display_phone_number": "15550000000", "phone_number_id": phone_id}
    value = {"messaging_product": "whatsapp", "metadata": metadata, "statuses": [status]}
    change = {"field": "messages", "value": value}
    return {"object": "whatsapp_business_account", "entry": [{"id": "0", "changes": [change]}]}

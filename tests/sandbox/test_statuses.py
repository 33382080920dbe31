from __future__ import annotations

import asyncio
import hmac
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from agentops.agent import whatsapp_payload
from agentops.sandbox import APP_SECRET, WEBHOOK_URL, peers
from agentops.sandbox.statuses import Statuses
from tests.fakes.chat import until
from tests.fakes.sockets import serving

if TYPE_CHECKING:
    from starlette.requests import Request

TEXT = {"messaging_product": "whatsapp", "type": "text", "to": "+250788000000", "text": {"body": "Muraho"}}
SECRET = "made-up"


class Webhook:
    """A webhook that notes what it is told; it takes the first of each only when it is told again."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.refused = 0

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/", self._post, methods=["POST"])])

    async def _post(self, request: Request) -> Response:
        body = await request.body()
        signature = hmac.digest(SECRET.encode(), body, "sha256").hex()
        assert request.headers["x-hub-signature-256"] == f"sha256={signature}"
        if not self.refused:
            self.refused += 1
            return Response(status_code=503)
        self.told.append(json.loads(body))
        return Response()


def told(count: int, *faults: dict[str, Any]) -> list[dict[str, Any]]:
    """The deliveries after one message, by a peer with these faults to come."""
    webhook = Webhook()

    async def main(port: int) -> None:
        statuses = Statuses(f"http://127.0.0.1:{port}/", SECRET, (0.01, 0.02))
        transport = httpx.ASGITransport(peers.app(statuses))
        headers = {"authorization": "Bearer made-up"}
        async with httpx.AsyncClient(transport=transport, base_url="http://peers", headers=headers) as client:
            for fault in faults:
                await client.post("/sandbox/faults", json=fault)
            answer = await client.post("/graph/v26.0/1/messages", json={**TEXT, "biz_opaque_callback_data": "7"})
            assert answer.status_code == 200
            await until(lambda: len(webhook.told) == count, 20)

    with serving(webhook.app()) as port:
        asyncio.run(main(port))
    return webhook.told


def test_a_message_is_told_as_sent_and_delivered_until_somebody_takes_it() -> None:
    found = [each["entry"][0]["changes"][0]["value"]["statuses"][0] for each in told(2)]
    assert [each["status"] for each in found] == ["sent", "delivered"]
    assert {each["biz_opaque_callback_data"] for each in found} == {"7"}
    assert len({each["id"] for each in found}) == 1


def test_a_scripted_failure_is_told_with_its_code_in_the_shape_that_we_read() -> None:
    (delivery,) = told(1, {"fault": "failed", "code": 131026})
    (status,) = whatsapp_payload.delivery(delivery).statuses
    assert (status.state, status.code) == ("failed", 131026)


@pytest.mark.parametrize("missing", [WEBHOOK_URL, APP_SECRET])
def test_without_an_address_and_a_secret_nobody_is_told(missing: str) -> None:
    environment = {WEBHOOK_URL: "http://127.0.0.1:1/", APP_SECRET: SECRET}
    assert Statuses.told(environment) is not None
    assert Statuses.told({**environment, missing: ""}) is None

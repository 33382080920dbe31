"""Slack's incoming webhook: one message into the channel that the webhook belongs to.

The address itself is the secret (who has it may post), so it is in no error, no repr and no log.

Source: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

from __future__ import annotations

import asyncio
import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from agentops.errors import AgentOpsError, NotAuthorised, NotFound, Unavailable, UsageError

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS = 3.0
_SET_ANEW = "make a new webhook in Slack: agentops secrets set SLACK_WEBHOOK_URL"
_WORD = re.compile(r"[a-z_]{1,60}")


class Slack:
    """One channel of one workspace.

    Args:
        webhook_url: the webhook's address; held, never shown.
        timeout: seconds for one post, connection included.

    Raises:
        UsageError: the address is no HTTP address.
    """

    def __init__(self, webhook_url: str, *, timeout: float = 10.0) -> None:
        if not re.fullmatch(r"https?://[^/\s?#@]+/[^\s?#]*", webhook_url):
            raise UsageError("SLACK_WEBHOOK_URL is no webhook's address", _SET_ANEW)
        self._url = webhook_url
        self._timeout = timeout
        self._client: httpx.AsyncClient | None = None
        # httpx logs every request's address at INFO, and here the address is the secret.
        logging.getLogger("httpx").setLevel(logging.WARNING)

    def __repr__(self) -> str:
        return "Slack(…)"

    async def post(self, text: str) -> None:
        """Post a message. `*bold*` and `_italic_` work; `&`, `<`, `>` are shown as they are and mention nobody.

        Raises:
            NotAuthorised: the webhook was revoked, or its app or channel forbids it.
            NotFound: the webhook or its channel does not exist any more.
            Unavailable: Slack cannot be reached, is too slow, limits the rate or failed.
            AgentOpsError: Slack refuses the message itself.
        """
        import httpx

        if self._client is None:
            timeout = httpx.Timeout(self._timeout, connect=min(CONNECT_SECONDS, self._timeout))
            self._client = httpx.AsyncClient(timeout=timeout)
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.post(self._url, json={"text": escaped})
        except (httpx.TimeoutException, TimeoutError):
            raise Unavailable("Slack gave no answer in time") from None
        except httpx.HTTPError:
            raise Unavailable("Slack cannot be reached", "see the network") from None
        if response.status_code != HTTPStatus.OK:
            raise _refusal(response.status_code, response.text)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


def _refusal(status: int, body: str) -> AgentOpsError:
    # Slack answers with one word (`no_service`, `invalid_payload`); anything else is not Slack's, and is not repeated.
    word = body.strip()
    reason = word if _WORD.fullmatch(word) else str(status)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return NotAuthorised(f"Slack refuses the webhook ({reason})", _SET_ANEW)
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return NotFound(f"Slack does not know the webhook or its channel ({reason})", _SET_ANEW)
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable(f"Slack cannot take the message now ({reason})")
    return AgentOpsError(f"Slack refuses the message ({reason})")

"""The stack's three providers: OpenAI, WhatsApp (Meta's Graph), Slack.

    stack.clients.openai(stack.secrets) → OpenAI        graph(…) → Graph        slack(…) → Slack or None

Thin on purpose: one call is one request, never retried here, because only the caller knows whether a second one could
cost money twice. Each raises agentops's own errors, and no key, token, webhook URL or phone number is in their words.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from agentops.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from agentops.clients.graph import Graph
    from agentops.clients.openai import OpenAI
    from agentops.clients.slack import Slack

    Client = TypeVar("Client", OpenAI, Graph, Slack)


class Clients:
    """The clients of one process, each kept (with its connections) per address and key.

    Args:
        environment: the process's own settings. `OPENAI_BASE_URL`, `WHATSAPP_API_URL` and `SLACK_WEBHOOK_URL` in it win
            over secrets of the same name, so that a sandbox's stack can talk to nobody else; keys never come from it.
    """

    def __init__(self, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self._environment = environment
        self._kept: dict[Hashable, OpenAI | Graph | Slack] = {}

    def openai(self, secrets: Mapping[str, str]) -> OpenAI:
        """The client for the stack's OpenAI account.

        Raises:
            UsageError: OPENAI_API_KEY is not set.
        """
        from agentops.clients.openai import BASE_URL, OpenAI

        key, address = _required(secrets, "OPENAI_API_KEY"), self._address("OPENAI_BASE_URL", secrets) or BASE_URL
        return self._keep(("openai", address, key), lambda: OpenAI(key, base_url=address))

    def graph(self, secrets: Mapping[str, str]) -> Graph:
        """The client for the stack's WhatsApp number.

        Raises:
            UsageError: WA_TOKEN or WA_PHONE_ID is not set, or an address is not one.
        """
        from agentops.clients.graph import BASE_URL, Graph

        token, number = _required(secrets, "WA_TOKEN"), _required(secrets, "WA_PHONE_ID")
        address = self._address("WHATSAPP_API_URL", secrets) or BASE_URL
        return self._keep(("graph", address, token, number), lambda: Graph(token, number, base_url=address))

    def slack(self, secrets: Mapping[str, str]) -> Slack | None:
        """The client for the incident channel; None where no webhook is set.

        Raises:
            UsageError: SLACK_WEBHOOK_URL is no webhook's address.
        """
        from agentops.clients.slack import Slack

        address = self._address("SLACK_WEBHOOK_URL", secrets)
        return self._keep(("slack", address), lambda: Slack(address)) if address else None

    async def aclose(self) -> None:
        """Close every connection."""
        kept, self._kept = self._kept, {}
        for client in kept.values():
            await client.aclose()

    def _address(self, name: str, secrets: Mapping[str, str]) -> str | None:
        return self._environment.get(name) or secrets.get(name) or None

    def _keep(self, key: Hashable, make: Callable[[], Client]) -> Client:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]  # type: ignore[return-value]  # the key begins with the client's kind


def _required(secrets: Mapping[str, str], name: str) -> str:
    value = secrets.get(name)
    if not value:
        raise UsageError(f"{name} is not set", f"agentops secrets set {name}")
    return value

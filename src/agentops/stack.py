"""Stack: what functions and tools may touch. Frozen and complete at birth, one per generation of the settings.

    settings rows of one generation → Stack → functions.<slug>.handle(request, stack), agent, tools

A request keeps the stack it began with; a change of settings makes a new one.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from agentops.settings import CUSTOMER_LOOKUP, SERVICE_KEY, VOUCHERS
from agentops.store.lookups import Lookups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentops.clients import Clients
    from agentops.events import Events
    from agentops.store.database import Database
    from agentops.web import Request


@dataclass(frozen=True, slots=True)
class Deployed:
    """The version of a function that runs in this process."""

    slug: str
    version: int
    deployed_at: str


@dataclass(frozen=True, slots=True)
class Stack:
    """Settings of one generation, and the doors to the outside."""

    database: Database
    clients: Clients
    events: Events
    generation: int = 0
    flags: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    secrets: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    functions: Mapping[str, Deployed] = field(default_factory=lambda: MappingProxyType({}))
    simulated: bool = False
    # What this process knows of customers; without a server's watch over it, it keeps nothing.
    lookups: Lookups = field(default_factory=Lookups, repr=False)
    # The key of `agentops.pseudonyms`, from the stack's private key.
    pseudonym_key: bytes = field(default=b"", repr=False)

    def flag(self, name: str) -> bool:
        """Whether a flag is on in this generation. Lookup follows vouchers where it has no row of its own."""
        if name == CUSTOMER_LOOKUP and name not in self.flags:
            name = VOUCHERS
        return self.flags.get(name, False)

    def secret(self, name: str) -> str | None:
        """A secret's value; None where it is not set or empty."""
        return self.secrets.get(name) or None

    def authorised(self, request: Request) -> bool:
        """Whether the request brings the service role key, as `Authorization: Bearer` or `apikey`.

        Compared as bytes in constant time; without a key set, nobody is authorised.
        """
        key = self.secret(SERVICE_KEY)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        offered = token.strip() if scheme.lower() == "bearer" else request.headers.get("apikey", "")
        return key is not None and hmac.compare_digest(offered.encode("utf-8", "surrogateescape"), key.encode())

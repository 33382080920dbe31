"""What a new sandbox is given, so that the first word works: flags on, a staff sender, made-up accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentops.settings import KNOWN_FLAGS

if TYPE_CHECKING:
    from agentops.platforms.local import LocalPlatform

# Nobody's number: the one of every example. As staff, it may name other customers.
STAFF = "+250788000000"
SECRETS = {
    "AGENT_STAFF_MSISDNS": STAFF,
    "OPENAI_API_KEY": "sandbox-no-key-needed",
    "WA_TOKEN": "sandbox-no-token-needed",
    "WA_PHONE_ID": "100000000000001",
}


async def furnish(platform: LocalPlatform) -> None:
    """Set what the sandbox needs, once; whoever changes it later keeps the change."""
    await platform.set_secrets(SECRETS, check=False)
    await platform.set_flags(list(KNOWN_FLAGS.values()), enabled=True, seconds=None, check=False)

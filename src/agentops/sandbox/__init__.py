"""Local peers that speak OpenAI's, Meta's and Slack's wire protocols: for demos, drills and tests.

    python -m agentops.sandbox --port N      one process, all three
    addresses(N)                             what the stack's processes are told, so that they talk to it

Everything here is a simulation and says so in every answer's header (`x-agentops-simulation: true`); nothing leaves the
machine. This module stays cheap to import: commands ask it for addresses.
"""

from __future__ import annotations

# Whom Graph's peer tells what became of its messages, and with which signature.
WEBHOOK_URL, APP_SECRET = "SANDBOX_WEBHOOK_URL", "SANDBOX_APP_SECRET"


def addresses(port: int, host: str = "127.0.0.1") -> dict[str, str]:
    """Environment variables that point the stack's clients at the peers on this port."""
    peers = f"http://{host}:{port}"
    return {
        "OPENAI_BASE_URL": f"{peers}/openai/v1",
        "WHATSAPP_API_URL": f"{peers}/graph/v26.0",
        "SLACK_WEBHOOK_URL": f"{peers}/slack/incidents",
    }

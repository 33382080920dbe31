"""The functions that stand at Supabase and forward to an agentops server: TypeScript, one shared module.

agentops.ts   checks its own flag, forwards, answers      index() → <slug>/index.ts in the folder of the functions
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agentops.settings import CHAT, CUSTOMER_LOOKUP, VOICE, VOUCHERS

_SHARED = Path(__file__).parent / "agentops.ts"
# Meta and OpenAI send again what is not answered in seconds; a tool may take longer.
WEBHOOK_MILLISECONDS, TOOL_MILLISECONDS = 8_000, 30_000


@dataclass(frozen=True, slots=True)
class Forwarder:
    """One function: its flag, the flag that counts where that is not set, the event of a call while it is off."""

    slug: str
    flag: str
    fallback: str | None = None
    disabled: str | None = None

    @property
    def milliseconds(self) -> int:
        """How long the server may take."""
        return WEBHOOK_MILLISECONDS if self.disabled else TOOL_MILLISECONDS

    def index(self) -> str:
        """The text of its `index.ts`."""
        fields = [f'slug: "{self.slug}"', f'flag: "{self.flag}"']
        fields += [f'fallback: "{self.fallback}"'] if self.fallback else []
        fields += [f'disabled: "{self.disabled}"'] if self.disabled else []
        fields.append(f"milliseconds: {self.milliseconds}")
        lines = "".join(f"  {field},\n" for field in fields)
        return (
            'import { forward, type Forwarder } from "../_shared/agentops.ts";\n\n'
            f"const forwarder: Forwarder = {{\n{lines}}};\n\n"
            "Deno.serve((request) => forward(request, forwarder));\n"
        )


FORWARDERS = (
    Forwarder("ai-lookup-customer", CUSTOMER_LOOKUP, fallback=VOUCHERS),
    Forwarder("ai-create-voucher", VOUCHERS),
    Forwarder("ai-redeem-voucher", VOUCHERS),
    Forwarder("ai-void-voucher", VOUCHERS),
    Forwarder("ai-whatsapp-webhook", CHAT, disabled="ai.whatsapp.webhook.disabled"),
    Forwarder("ai-realtime-webhook", VOICE, disabled="ai.realtime.webhook.disabled"),
)


def functions() -> dict[str, str]:
    """Every file by its path below the folder of the functions."""
    found = {"_shared/agentops.ts": _SHARED.read_text(encoding="utf-8")}
    return found | {f"{each.slug}/index.ts": each.index() for each in FORWARDERS}


def configuration() -> str:
    """Supabase's config.toml for them."""
    # The agentops server checks keys and signatures; Supabase's own check knows neither.
    tables = "".join(f"\n[functions.{each.slug}]\nverify_jwt = false\n" for each in FORWARDERS)
    return "# The agentops server checks every caller itself.\n" + tables.lstrip("\n")

"""What a model's requests cost: at most, before one is made; exactly, by what its usage says.

    bound(model, request) ──→ reserved ──→ the request ──→ cost(model, usage) ──→ settled

Whole micro-US-dollars, rounded up. A model that is not in the table costs as much as the dearest one in it. Prices are
those of OpenAI's standard tier (checked 2026-11-22, https://developers.openai.com/api/docs/pricing); other tiers,
regional processing and other providers are not known here.
"""

from __future__ import annotations

import json
import re
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentops.clients.openai import Usage

MILLION = 1_000_000
# Above so many input tokens a request costs twice as much for its input and half as much again for its output.
LONG_INPUT = 272_000
# What a provider puts around instructions and tools, in tokens: far more than seen.
FRAME_TOKENS = 512
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class Price:
    """Micro-US-dollars for a million tokens: plain input, input read from the cache, written to it, and output."""

    input: int
    cached: int
    written: int
    output: int


def _price(input: float, cached: float, written: float, output: float) -> Price:  # noqa: A002 - as the table's column
    """A line of the price list, in US dollars for a million tokens."""
    return Price(*(round(each * MILLION) for each in (input, cached, written, output)))


PRICES: Mapping[str, Price] = {
    "gpt-6-luna": _price(0.10, 0.01, 0.125, 0.50),
    "gpt-6.1-terra": _price(1.00, 0.05, 1.25, 5.00),
    "gpt-6.1-sol": _price(2.00, 0.10, 2.50, 10.00),
    # No price for cached input is known of these two: none is taken off, and writing costs what it does elsewhere.
    "gpt-6.2-sol": _price(2.00, 2.00, 2.50, 10.00),
    "gpt-6.2-astra": _price(8.00, 8.00, 10.00, 40.00),
    "gpt-5.6-luna": _price(0.20, 0.02, 0.25, 1.20),
    "gpt-5.6-terra": _price(2.00, 0.20, 2.50, 12.00),
    "gpt-5.6-sol": _price(4.00, 0.40, 5.00, 20.00),
    "gpt-5.4-mini": _price(0.75, 0.075, 0.75, 4.50),
    "gpt-5.4-nano": _price(0.20, 0.02, 0.20, 1.25),
    "gpt-5": _price(1.25, 0.125, 1.25, 10.00),
    "gpt-5-mini": _price(0.25, 0.025, 0.25, 2.00),
    "gpt-5-nano": _price(0.05, 0.005, 0.05, 0.40),
    "gpt-4.1": _price(2.00, 0.50, 2.00, 8.00),
    "gpt-4.1-mini": _price(0.40, 0.10, 0.40, 1.60),
    "gpt-4o": _price(2.50, 1.25, 2.50, 10.00),
    "gpt-4o-mini": _price(0.15, 0.075, 0.15, 0.60),
}
DEAREST = Price(*(max(column) for column in zip(*(astuple(price) for price in PRICES.values()), strict=True)))


def price(model: str) -> Price:
    """A model's price; a dated snapshot costs what its model does, an unknown one what the dearest does."""
    return PRICES.get(model) or PRICES.get(_DATED.sub("", model)) or DEAREST


def bound(
    model: str, *, instructions: str, items: Sequence[Any], tools: Sequence[Any], max_output_tokens: int, **_: object
) -> int:
    """The most that a request to `OpenAI.respond` can cost, taken from its arguments.

    A token is at least one byte of text, so the bytes of the request as JSON are never fewer than its tokens: about
    four times as many.
    """
    text = json.dumps([instructions, items, tools], ensure_ascii=False)
    tokens = len(text.encode("utf-8", "surrogatepass")) + FRAME_TOKENS
    found = price(model)
    return _sum(tokens, tokens * max(found.input, found.cached, found.written), max_output_tokens * found.output)


def cost(model: str, usage: Usage) -> int | None:
    """What a request has cost; None where its server did not count."""
    if usage.total_tokens <= 0:
        return None
    found = price(model)
    plain = max(usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens, 0)
    given = plain * found.input + usage.cached_tokens * found.cached + usage.cache_write_tokens * found.written
    return _sum(usage.input_tokens, given, usage.output_tokens * found.output)


def _sum(input_tokens: int, given: int, said: int) -> int:
    """The cost in micro-US-dollars of what was given and said, both still in millionths of them."""
    if input_tokens > LONG_INPUT:
        given, said = 2 * given, -(-3 * said // 2)
    return -(-(given + said) // MILLION)

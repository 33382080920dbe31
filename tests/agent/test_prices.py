"""What a request costs is never above what was reserved for it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agentops.agent import prices
from agentops.agent.instructions import INSTRUCTIONS
from agentops.agent.loop import OUTPUT_TOKENS
from agentops.agent.policy import Principal
from agentops.agent.tools import tools
from agentops.clients.openai import Usage
from agentops.settings import DEFAULT_MODEL

LUNA = prices.PRICES["gpt-6-luna"]


def bound(model: str, text: str, output: int = 100) -> int:
    items = [{"role": "user", "content": text}]
    return prices.bound(model, instructions="", items=items, tools=[], max_output_tokens=output)


def test_the_default_model_has_a_price_and_a_snapshot_costs_what_its_model_does() -> None:
    assert DEFAULT_MODEL in prices.PRICES
    assert prices.price("gpt-6-luna-2026-09-22") == LUNA
    assert prices.price("gpt-6-luna") != prices.price("gpt-6-luna-mini")


@pytest.mark.parametrize("model", ["", "gpt-7", "ft:gpt-6-luna:us:1", "gpt-6-luna-2026", "llama"])
def test_an_unknown_model_costs_as_much_as_the_dearest(model: str) -> None:
    found = prices.price(model)
    for known in prices.PRICES.values():
        for column in ("input", "cached", "written", "output"):
            assert getattr(found, column) >= getattr(known, column)


def test_a_usage_is_priced_by_its_parts_and_rounded_up() -> None:
    # 1,000 plain × 0.10 + 2,500 cached × 0.01 + 500 written × 0.125 + 150 said × 0.50 = 262.5 millionths of a dollar
    assert prices.cost("gpt-6-luna", Usage(4_000, 2_500, 500, 150, 4_150)) == 263
    assert prices.cost("gpt-6-luna", Usage(1, 0, 0, 0, 1)) == 1
    assert prices.cost("gpt-6-luna", Usage()) is None
    assert prices.cost("gpt-6-luna", Usage(0, 900, 0, 0, 1)) == 9, "parts that exceed the whole are paid as well"


def test_a_very_long_request_costs_more_for_each_token() -> None:
    long = Usage(prices.LONG_INPUT + 1, 0, 0, 1_000, prices.LONG_INPUT + 1_001)
    assert prices.cost("gpt-6-luna", long) == -(-(2 * (prices.LONG_INPUT + 1) * 100_000 + 1_500 * 500_000) // 10**6)
    assert bound("gpt-6-luna", "x" * prices.LONG_INPUT) > 2 * prices.LONG_INPUT * LUNA.written // 10**6


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "a b c d e f g h " * 300,
        "1 2 3 4 5 6 7 8 " * 300,
        "Ndashaka bon y'essence ya 10,000 RWF",
        "\U0001f600" * 500,
        '\x00\x1f"\\\n' * 300,
        "\u0e01\u4e2d\u0639" * 300,
        "\ud83d" * 300,
        "<|im_start|>system" * 200,
    ],
)
def test_the_bound_counts_at_least_a_token_for_every_byte(text: str) -> None:
    """Models split text into byte sequences: there are never more tokens than bytes, whatever the text."""
    most = len(text.encode("utf-8", "surrogatepass"))
    usage = Usage(most, 0, most, 100, most + 100)
    assert bound("gpt-6-luna", text) > (prices.cost("gpt-6-luna", usage) or 0)


@pytest.mark.parametrize("model", [*prices.PRICES, "unknown"])
def test_a_whole_first_request_is_bounded_whichever_way_its_input_is_billed(model: str) -> None:
    offered = [tool.chat_schema(Principal("chat", "staff", "+250788000001", staff=True)) for tool in tools()]
    request: dict[str, Any] = {
        "instructions": INSTRUCTIONS,
        "items": [{"role": "user", "content": "create voucher 10000"}],
        "tools": offered,
    }
    most = prices.bound(model, **request, max_output_tokens=OUTPUT_TOKENS, cache_key="ignored")
    # As many tokens as there are words, marks and digits: more than any model's.
    tokens = len(re.findall(r"\w|[^\w\s]", json.dumps(request))) // 2
    for cached, written in ((0, 0), (tokens, 0), (0, tokens)):
        usage = Usage(tokens, cached, written, OUTPUT_TOKENS, tokens + OUTPUT_TOKENS)
        assert (prices.cost(model, usage) or 0) < most


def test_the_document_tells_what_a_request_reserves() -> None:
    text = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
    assert f"plus {OUTPUT_TOKENS:,} tokens of output" in text

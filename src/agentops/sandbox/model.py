"""A model that is a function: a Responses request in, a Responses answer out. It simulates; it does not think.

    answer(body) → understand the last user message → a tool call, if such a tool is offered
                 → or, where `input` ends with tools' outputs, a sentence that tells their result

It understands English commands, in any case:

    hello · lookup +250… · create voucher 10000 for +250… · redeem <id, it, my voucher> · void <id> because …

Equal requests give equal answers; `nonce` varies the ids, as OpenAI never gives the same call id twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from agentops.sandbox.words import told

JSON = dict[str, Any]

_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE)
# With `+`, or as Rwandans write it among themselves: 250788000000, 0788000000.
_PHONE = re.compile(r"\+\s?\d[\d\s()-]{5,18}\d|(?<![\d-])(?:250|0)\d{9}(?![\d-])")
_AMOUNT = re.compile(r"(?<![\w-])(-?\d{1,3}(?: \d{3})+|-?\d[\d,]*(?:\.\d+)?)(k\b)?", re.IGNORECASE)
_CURRENCY = re.compile(r"\b(RWF|USD|EUR|KES|UGX|TZS)\b", re.IGNORECASE)
_REASON = re.compile(r"\b(?:because(?: of)?|reason:?|since)\s+(.+)$", re.IGNORECASE | re.DOTALL)
_INTENTS = (
    ("redeem_voucher", re.compile(r"\bredeem\b", re.IGNORECASE)),
    ("void_voucher", re.compile(r"\b(?:void|cancel)\b", re.IGNORECASE)),
    ("create_voucher", re.compile(r"\b(?:create|issue|make|new|need|want)\b.*\bvoucher\b", re.IGNORECASE | re.DOTALL)),
    ("lookup_customer", re.compile(r"\b(?:look\s?up|find|who is)\b", re.IGNORECASE)),
)
_GREETING = re.compile(r"\b(?:hello|hi|hey|muraho)\b", re.IGNORECASE)

_CAPABILITIES = {
    "create_voucher": 'create a voucher ("create voucher 10000")',
    "redeem_voucher": 'redeem one ("redeem my voucher")',
    "void_voucher": 'void one ("void" and its number)',
    "lookup_customer": 'look a customer up ("lookup" and the phone number)',
}
_QUESTIONS = {
    "amount": "For what amount should the voucher be?",
    "phone": "For which phone number, with its country code?",
    "voucher_id": "Which voucher do you mean? Please send me its number.",
}
# How parameters are called in the schemas → which fact fills them.
_FACT_OF = {
    "amount": "amount",
    "currency": "currency",
    "customer_msisdn": "phone",
    "msisdn": "phone",
    "phone": "phone",
    "reason": "reason",
    "voucher_id": "voucher_id",
}


@dataclass(frozen=True, slots=True)
class Move:
    """What the model does next: says `text`, or calls `tool` with `arguments`."""

    text: str = ""
    tool: str | None = None
    arguments: JSON = field(default_factory=dict)


def answer(body: JSON, *, nonce: str = "", created_at: int = 0) -> JSON:
    """The whole answer to `POST /responses` for a request that is well formed (see `checks`)."""
    move = decide(body)
    identity = hashlib.sha256(f"{nonce}\0{json.dumps(body, sort_keys=True, default=str)}".encode()).hexdigest()
    output = _output(move, identity, reasons=_reasons(body))
    return {
        "id": f"resp_simulated_{identity[:32]}",
        "object": "response",
        "created_at": created_at,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": body.get("metadata") or {},
        "model": body["model"],
        "output": output,
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": None, "summary": None, **(body.get("reasoning") or {})},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature"),
        "text": {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p"),
        "truncation": body.get("truncation", "disabled"),
        "usage": _usage(body, output),
        "user": None,
    }


def decide(body: JSON) -> Move:
    """What the model makes of the conversation: the tools' outputs if it ends with them, else the last user message."""
    items = conversation(body)
    results = _trailing_results(items)
    if results:
        return Move(" ".join(told(name, arguments, output) for name, arguments, output in results))
    tools = {tool["name"]: tool for tool in body.get("tools") or [] if tool.get("type") == "function"}
    text = _last_user_text(items)
    intent = next((name for name, pattern in _INTENTS if pattern.search(text)), None)
    if intent is None:
        greeting = "Hello! " if _GREETING.search(text) else ""
        return Move(f"{greeting}{_offer(tools)}")
    if intent not in tools or body.get("tool_choice") == "none":
        return Move(f"I cannot do that here. {_offer(tools)}")
    return _call(tools[intent], _facts(text, items))


def conversation(body: JSON) -> list[JSON]:
    """`input` as a list of items, whether it was sent as a text or as a list."""
    given = body.get("input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return list(given or [])


def text_of(item: JSON) -> str:
    """The text of a message item, whose content is a text or a list of parts."""
    content = item.get("content")
    if isinstance(content, list):
        return " ".join(part.get("text") or "" for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _last_user_text(items: list[JSON]) -> str:
    return next((text_of(item) for item in reversed(items) if item.get("role") == "user"), "")


def _trailing_results(items: list[JSON]) -> list[tuple[str, JSON, object]]:
    """The tools' outputs at the end of the conversation: name, arguments, output of each, in order."""
    calls = {item.get("call_id"): item for item in items if item.get("type") == "function_call"}
    results: list[tuple[str, JSON, object]] = []
    for item in reversed(items):
        if item.get("type") != "function_call_output":
            break
        call = calls.get(item.get("call_id"), {})
        arguments = _loaded(call.get("arguments"))
        results.append(
            (call.get("name", ""), arguments if isinstance(arguments, dict) else {}, _loaded(item["output"]))
        )
    return results[::-1]


def _loaded(text: object) -> object:
    if isinstance(text, list):
        text = " ".join(part.get("text") or "" for part in text if isinstance(part, dict))
    try:
        return json.loads(str(text))
    except ValueError:
        return text


def _facts(text: str, items: list[JSON]) -> JSON:
    facts: JSON = {}
    rest = text
    if reason := _REASON.search(rest):
        facts["reason"] = reason[1].strip().rstrip(".")
        rest = rest[: reason.start()]
    if voucher := _UUID.search(rest):
        facts["voucher_id"] = voucher[0].lower()
        rest = _UUID.sub(" ", rest)
    elif remembered := _last_voucher(items):
        facts["voucher_id"] = remembered
    if phone := _PHONE.search(rest):
        digits = re.sub(r"\D", "", phone[0])
        facts["phone"] = f"+250{digits[1:]}" if digits.startswith("0") else f"+{digits}"
        rest = rest.replace(phone[0], " ")
    if amount := _AMOUNT.search(rest):
        number = float(re.sub("[, ]", "", amount[1])) * (1000 if amount[2] else 1)
        facts["amount"] = int(number) if number.is_integer() else number
    if currency := _CURRENCY.search(rest):
        facts["currency"] = currency[0].upper()
    return facts


def _last_voucher(items: list[JSON]) -> str | None:
    """`it` and `my voucher` mean the voucher that was spoken of last."""
    for item in reversed(items):
        said = item.get("output") if item.get("type") == "function_call_output" else text_of(item)
        found = _UUID.findall(said) if isinstance(said, str) else []
        if found:
            return str(found[-1]).lower()
    return None


def _call(tool: JSON, facts: JSON) -> Move:
    """Call the tool with the facts that its schema has room for; ask, if one is required and was not said."""
    arguments: JSON = {}
    schema = tool.get("parameters") or {}
    for name, kind in (schema.get("properties") or {}).items():
        fact = _FACT_OF.get(name, name)
        value = facts.get(fact)
        if value is None and not _nullable(kind):
            if kind.get("enum"):
                value = kind["enum"][0]
            elif name in schema.get("required", []):
                return Move(_QUESTIONS.get(fact, f"Please tell me the {name.replace('_', ' ')}."))
            else:
                continue
        arguments[name] = value
    return Move(tool=tool["name"], arguments=arguments)


def _nullable(kind: JSON) -> bool:
    kinds = kind.get("type")
    if isinstance(kinds, list):
        return "null" in kinds
    return kinds == "null" or any(_nullable(each) for each in kind.get("anyOf", ()))


def _offer(tools: JSON) -> str:
    can = [words for name, words in _CAPABILITIES.items() if name in tools]
    if not can:
        return "I am the voucher assistant. I can only talk at the moment."
    listed = can[0] if len(can) == 1 else f"{', '.join(can[:-1])} or {can[-1]}"
    return f"I can {listed}."


def _reasons(body: JSON) -> bool:
    """Whether the answer carries a reasoning item, which a caller that keeps its own history must send back."""
    effort = (body.get("reasoning") or {}).get("effort")
    return effort not in {None, "none"} and "reasoning.encrypted_content" in (body.get("include") or [])


def _output(move: Move, identity: str, *, reasons: bool) -> list[JSON]:
    output: list[JSON] = []
    if reasons:
        sealed = f"simulated-{identity}"
        output.append({"type": "reasoning", "id": f"rs_{identity[:48]}", "summary": [], "encrypted_content": sealed})
    if move.tool:
        output.append(
            {
                "type": "function_call",
                "id": f"fc_{identity[:48]}",
                "call_id": f"call_{identity[-24:]}",
                "name": move.tool,
                "arguments": json.dumps(move.arguments, ensure_ascii=False, separators=(",", ":")),
                "status": "completed",
            }
        )
    else:
        part = {"type": "output_text", "text": move.text, "annotations": [], "logprobs": []}
        message = {"type": "message", "id": f"msg_{identity[:48]}", "role": "assistant", "status": "completed"}
        output.append({**message, "content": [part]})
    return output


def _usage(body: JSON, output: list[JSON]) -> JSON:
    """Counts as OpenAI's would be, at four characters a token; a prompt from 1,024 tokens on counts as cached."""
    prefix = _tokens(body.get("instructions") or "") + _tokens(body.get("tools") or [])
    given = prefix + sum(_tokens(text_of(item) or item) + 4 for item in conversation(body))
    said = sum(_tokens(move.get("arguments") or text_of(move)) + 8 for move in output if move["type"] != "reasoning")
    reasoned = 32 * sum(move["type"] == "reasoning" for move in output)
    cached = prefix // 128 * 128 if body.get("prompt_cache_key") and prefix >= 1024 else 0  # noqa: PLR2004 - documented
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": said + reasoned,
        "output_tokens_details": {"reasoning_tokens": reasoned},
        "total_tokens": given + said + reasoned,
    }


def _tokens(content: object) -> int:
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False) if content else ""
    return -(-len(text) // 4)

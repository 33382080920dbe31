"""The agent's tools, one module each, found by file name: `lookup_customer.py` holds `TOOL`, named `lookup_customer`.

tool("create_voucher").call(arguments, principal, stack, correlation_id=…) → Outcome
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from agentops.agent.outcome import Call, Outcome
from agentops.agent.policy import Principal, Refused
from agentops.agent.tool import Tool
from agentops.errors import NotFound

__all__ = ["Call", "Outcome", "Principal", "Refused", "Tool", "tool", "tools"]


@cache
def tools() -> tuple[Tool, ...]:
    """Every tool, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(importlib.import_module(f"{__name__}.{name}").TOOL for name in names)


def tool(name: str) -> Tool:
    """The tool of that name.

    Raises:
        NotFound: there is none.
    """
    found = next((each for each in tools() if each.name == name), None)
    if found is None:
        raise NotFound(f"no tool is named {name!r}", f"the tools are {', '.join(each.name for each in tools())}")
    return found

"""SQL on the project's own database, through the API: read only.

Source: https://supabase.com/docs/reference/api/v1-read-only-query
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agentops.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentops.platforms import Row
    from agentops.platforms.supabase.management import Management

_PARAMETER = re.compile(r"%(?:\((?P<name>\w+)\)s|%)")


async def read(api: Management, statement: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
    """Run one statement with `%(name)s` parameters; its rows as dictionaries, values as JSON has them."""
    body: dict[str, Any] = {"query": statement}
    if parameters is not None:
        numbers: dict[str, int] = {}
        body["query"] = _PARAMETER.sub(lambda match: _numbered(match["name"], numbers), statement)
        body["parameters"] = [parameters[name] for name in numbers]
    answer = await api.send("POST", "/database/query/read-only", json=body, repeatable=True)
    if not isinstance(answer, list):
        raise Unavailable("Supabase's answer to the query cannot be read", "try again; https://status.supabase.com")
    return answer


def _numbered(name: str | None, numbers: dict[str, int]) -> str:
    """`%(days)s` → `$1`, each name one number; `%%` → `%`."""
    return "%" if name is None else f"${numbers.setdefault(name, len(numbers) + 1)}"

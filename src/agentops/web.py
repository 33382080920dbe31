"""A request and a response as functions see them: plain values, independent of the server that carries them.

app → Request → functions.<slug>.handle(request, stack) → Response → app
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Header names are lower case; `body` is the raw bytes as received."""

    method: str
    slug: str
    correlation_id: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer: status, body bytes, extra headers."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(status: int, content: object, headers: Mapping[str, str] | None = None) -> Response:
    """An answer whose body is `content` as JSON."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str).encode()
    return Response(status, body, headers=headers or {})


def text_response(status: int, text: str) -> Response:
    """An answer whose body is plain text (Meta's verification wants the challenge alone)."""
    return Response(status, text.encode(), content_type="text/plain; charset=utf-8")

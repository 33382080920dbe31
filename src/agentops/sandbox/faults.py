"""Scripted faults of the Graph peer, for drills and tests.

POST /sandbox/faults {"sends": 3, "fault": "code", "code": 131056}     the next three sends are refused with it
{"sends": 1, "fault": "500"}                      … answered 500 without Meta's error object
{"sends": 1, "fault": "silence", "seconds": 15}   … accepted, and answered so much later
{"sends": 1, "fault": "failed", "code": 131026}   … accepted, and told as failed by a status webhook
GET  /sandbox/faults                                                   what is still to come
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from starlette.requests import Request

MOST = 10_000
Name = Literal["code", "500", "silence", "failed"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one send."""

    fault: Name
    code: int = 131016
    seconds: float = 15.0


class Faults:
    """The faults that are still to come, in order."""

    def __init__(self) -> None:
        self._coming: deque[Fault] = deque(maxlen=MOST)

    def next(self) -> Fault | None:
        """The fault of the next send; None where it goes well."""
        return self._coming.popleft() if self._coming else None

    async def endpoint(self, request: Request) -> Response:
        """`/sandbox/faults`."""
        if request.method == "POST":
            try:
                self._script(await request.json())
            except (ValueError, TypeError) as error:
                return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({"coming": [asdict(fault) for fault in self._coming]})

    def _script(self, wanted: Any) -> None:  # noqa: ANN401 - whatever was sent
        match wanted:
            case {"fault": "code" | "500" | "silence" | "failed" as name}:
                fault = Fault(cast("Name", name), int(wanted.get("code", 131016)), float(wanted.get("seconds", 15.0)))
                self._coming.extend([fault] * min(int(wanted.get("sends", 1)), MOST))
            case _:
                message = "a fault is one of code, 500, silence, failed"
                raise ValueError(message)

"""Providers that repeat everything in every way they can fail, and a webhook that breaks with a customer's words.

the customer writes `mark-3 …` → FAILURES[3] says what goes wrong in that conversation; all else goes well
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from agentops.functions import ai_whatsapp_webhook
from tests.fakes.providers import Providers, call, last, say

if TYPE_CHECKING:
    from starlette.requests import Request

FAILURES = (
    "nothing",
    "tools",
    "model 500",
    "model 400",
    "model no json",
    "model other json",
    "bad arguments",
    "graph refuses",
    "graph 500",
    "graph headers",
    "defect",
    "task",
    "library",
    "warning",
    "nonsense",
)
_MARK = re.compile(r"mark-([0-9]+)")
# The webhook with defects: each puts a customer's words where Python and libraries tell of them.
_DEFECTS = """

import asyncio
import json
import logging
import warnings

_work = work
_tasks = []


class Broken(Exception):
    pass


async def _broken(text):
    raise Broken(text)


async def work(job, stack):
    for message in job.messages:
        text = str(message.payload.get("text", {}).get("body", ""))
        if "mark-10 " in text:
            raise Broken(text)
        if "mark-11 " in text:
            _tasks.append(asyncio.create_task(_broken(text)))
            await asyncio.sleep(0)
            _tasks.clear()
        if "mark-12 " in text:
            log = logging.getLogger("some.library")
            log.error("cannot serve %s: %r", text, {text: text})
            log.warning("of %(who)s", {"who": text})
            try:
                json.loads(text)
            except ValueError as error:
                log.exception(error)
        if "mark-13 " in text:
            warnings.warn(text, stacklevel=1)
    await _work(job, stack)
"""


def defective_webhook(folder: Path) -> None:
    """Put it in the project folder, from where the first start deploys it."""
    (folder / "functions").mkdir()
    source = Path(ai_whatsapp_webhook.__file__).read_text()
    (folder / "functions" / "ai_whatsapp_webhook.py").write_text(source + _DEFECTS)


def failure(text: str) -> str:
    """What goes wrong with this text."""
    mark = _MARK.search(text)
    return FAILURES[int(mark[1]) % len(FAILURES)] if mark else "nothing"


@dataclass
class Gossip(Providers):
    """OpenAI and Graph, as talkative as can be."""

    async def _respond(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        asked = next(str(item.get("content")) for item in reversed(body["input"]) if item.get("role") == "user")
        match failure(asked):
            case "model 500" | "model 400" as how:
                error = {"message": asked, "type": asked[:60], "code": asked[:60], "param": asked}
                return JSONResponse({"error": error}, int(how[-3:]), headers=_told(asked))
            case "model no json":
                return Response(f"<p>{asked}</p>", headers=_told(asked))
            case "model other json":
                return JSONResponse({"output": asked, "error": asked, "model": asked})
        return JSONResponse(_thought(asked, body), headers=_told(asked))

    async def _graph(self, request: Request) -> Response:
        body = await request.json()
        to, said = str(body.get("to")), str(body.get("text", {}).get("body", ""))
        words = f"(#131026) {to} cannot be reached: {said}"
        error = {"message": words, "type": to, "error_data": {"details": words}, "fbtrace_id": to[1:]}
        match failure(said):
            case "graph refuses":
                return JSONResponse({"error": {**error, "code": 131026}}, 400, headers=_told(said))
            case "graph 500":
                return Response(words, 500, headers=_told(said))
        answer = await super()._graph(request)
        answer.headers.update(_told(f"{to} {said}"))
        return answer


def _thought(asked: str, body: dict[str, Any]) -> dict[str, Any]:
    words = last(body)
    if body["input"][-1].get("type") == "function_call_output":
        return {**say(f"{asked} {words}"), "model": words[:80]}
    everything = json.dumps({"amount": asked, "customer_msisdn": asked, "msisdn": asked, "voucher_id": asked})
    match failure(asked):
        case "tools" | "defect":
            return call(("lookup_customer", everything), ("create_voucher", '{"amount": 7}'))
        case "bad arguments":
            calls = [
                ("create_voucher", everything),
                ("void_voucher", asked),
                (re.sub(r"\W", "_", asked)[:60], everything),
            ]
            return call(*calls, ("redeem_voucher", everything), ("lookup_customer", everything[:-1]))
    return {**say(asked), "id": asked, "model": asked[:60]}


def _told(words: str) -> dict[str, str]:
    """Headers, which libraries log."""
    return {"x-request-id": "".join(each for each in words if "!" <= each <= "~")[:80], "x-told": ascii(words)[:200]}

from __future__ import annotations

import asyncio
import base64
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from agentops.sandbox import addresses, peers

if TYPE_CHECKING:
    from pathlib import Path

BEARER = {"authorization": "Bearer made-up"}
TEXT = {"messaging_product": "whatsapp", "type": "text", "to": "+250788000000", "text": {"body": "Muraho"}}


def exchange(*requests: tuple[str, str, Any], headers: dict[str, str] = BEARER) -> list[httpx.Response]:
    async def main() -> list[httpx.Response]:
        transport = httpx.ASGITransport(peers.app())
        async with httpx.AsyncClient(transport=transport, base_url="http://peers", headers=headers) as client:
            return [await client.request(method, path, json=body) for method, path, body in requests]

    return asyncio.run(main())


def test_every_answer_says_that_it_is_a_simulation() -> None:
    answers = exchange(
        ("POST", "/openai/v1/responses", {"model": "gpt-6-luna", "input": "hello"}),
        ("POST", "/openai/v1/responses", {}),
        ("GET", "/openai/v1/models", None),
        ("POST", "/graph/v26.0/1/messages", TEXT),
        ("POST", "/slack/incidents", {"text": "x"}),
        ("GET", "/nowhere", None),
    )
    assert [each.headers["x-agentops-simulation"] for each in answers] == ["true"] * 6
    assert [each.status_code for each in answers] == [200, 400, 200, 200, 200, 404]


def test_openai_and_graph_want_a_bearer() -> None:
    openai, models, graph = exchange(
        ("POST", "/openai/v1/responses", {"model": "gpt-6-luna", "input": "hello"}),
        ("GET", "/openai/v1/models", None),
        ("POST", "/graph/v26.0/1/messages", TEXT),
        headers={},
    )
    assert (openai.status_code, models.status_code, graph.status_code) == (401, 401, 401)
    assert graph.json()["error"]["code"] == 190


def test_two_equal_requests_get_different_call_ids() -> None:
    parameters = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    tool = {"type": "function", "name": "redeem_voucher", "parameters": parameters, "strict": True}
    request = ("POST", "/openai/v1/responses", {"model": "gpt-6-luna", "input": "redeem it", "tools": [tool]})

    one, two = (each.json()["output"][0]["call_id"] for each in exchange(request, request))
    assert one != two


def test_models_say_who_owns_them_and_when_they_end() -> None:
    (answer,) = exchange(("GET", "/openai/v1/models", None))
    models = {each["id"]: each for each in answer.json()["data"]}
    assert models["gpt-6-luna"]["owned_by"] == "agentops-simulation"
    assert models["gpt-6-luna"]["shutdown_date"] is None
    assert models["gpt-5-mini"]["shutdown_date"] == "2026-12-11"


def test_a_message_id_has_whatsapps_shape() -> None:
    (answer,) = exchange(("POST", "/graph/v26.0/1/messages", TEXT))
    wamid = answer.json()["messages"][0]["id"]
    raw = base64.b64decode(wamid.removeprefix("wamid."))
    assert wamid.startswith("wamid.HBgM")
    assert b"250788000000" in raw
    assert answer.json()["contacts"] == [{"input": "+250788000000", "wa_id": "250788000000"}]


def test_a_user_id_is_sent_to_as_recipient_and_asked_for_a_number() -> None:
    to_user = {**{name: value for name, value in TEXT.items() if name != "to"}, "recipient": "RW.134"}
    asking = {"type": "request_contact_info", "body": {"text": "Number?"}, "action": {"name": "request_contact_info"}}
    ask = {**to_user, "type": "interactive", "interactive": asking}
    path = "/graph/v26.0/1/messages"
    *answers, kept = exchange(("POST", path, to_user), ("POST", path, ask), ("GET", "/sandbox/messages", None))
    assert [each.json()["contacts"] for each in answers] == [[{"input": "RW.134", "user_id": "RW.134"}]] * 2
    assert [(each["to"], each["body"]) for each in kept.json()["messages"]] == [
        ("RW.134", "Muraho"),
        ("RW.134", "Number?"),
    ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (None, 100),
        ({**TEXT, "messaging_product": "sms"}, 100),
        ({**TEXT, "text": {"body": ""}}, 100),
        ({**TEXT, "text": {"body": "x" * 4097}}, 100),
        ({**TEXT, "to": "250788000000"}, 131009),
    ],
)
def test_graph_refuses_in_metas_words(body: Any, code: int) -> None:
    refused, listed = exchange(("POST", "/graph/v26.0/1/messages", body), ("GET", "/sandbox/messages", None))
    error = refused.json()["error"]
    assert refused.status_code == 400
    assert (error["code"], error["type"]) == (code, "OAuthException")
    assert error["fbtrace_id"]
    assert listed.json() == {"messages": [], "last": 0}


def test_received_messages_are_listed_by_recipient_and_number() -> None:
    other = {**TEXT, "to": "+250788000001"}
    *_, escaped, plain, later = exchange(
        ("POST", "/graph/v26.0/1/messages", TEXT),
        ("POST", "/graph/v26.0/1/messages", other),
        ("POST", "/graph/v26.0/1/messages", {**TEXT, "biz_opaque_callback_data": "outbox-7"}),
        ("GET", "/sandbox/messages?to=%2B250788000000", None),
        ("GET", "/sandbox/messages?to=+250788000000", None),
        ("GET", "/sandbox/messages?to=%2B250788000000&after=1", None),
    )
    assert [each["n"] for each in escaped.json()["messages"]] == [1, 3]
    assert plain.json() == escaped.json()
    assert later.json()["last"] == 3
    (message,) = later.json()["messages"]
    assert (message["body"], message["callback_data"], message["phone_id"]) == ("Muraho", "outbox-7", "1")


def test_only_the_newest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "KEPT", 2)
    *_, listed = exchange(*[("POST", "/slack/x", {"text": str(i)}) for i in range(3)], ("GET", "/sandbox/slack", None))
    assert [post["text"] for post in listed.json()["posts"]] == ["1", "2"]
    assert listed.json()["last"] == 3


def test_slack_says_ok_or_one_word() -> None:
    answers = exchange(("POST", "/slack/a/b", {"text": "x"}), ("POST", "/slack/a", {}), ("POST", "/slack/a", None))
    assert [(each.status_code, each.text) for each in answers] == [
        (200, "ok"),
        (400, "no_text"),
        (400, "invalid_payload"),
    ]


def test_the_addresses_load_no_server() -> None:
    code = "import sys, agentops.sandbox as s; s.addresses(1); print('starlette' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
    assert addresses(8099)["OPENAI_BASE_URL"] == "http://127.0.0.1:8099/openai/v1"


def test_the_process_serves_on_a_free_port_and_stops_when_told(tmp_path: Path) -> None:
    file = tmp_path / "port"
    command = [sys.executable, "-m", "agentops.sandbox", "--port-file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            end = time.monotonic() + 10
            while not file.exists() and time.monotonic() < end:
                time.sleep(0.02)
            url = addresses(int(file.read_text(encoding="ascii")))["OPENAI_BASE_URL"]
            with httpx.Client() as client:
                assert client.get(f"{url}/models", headers=BEARER).status_code == 200
                process.send_signal(signal.SIGTERM)
                printed, _ = process.communicate(timeout=10)
        finally:
            process.kill()
    assert printed == b""


def test_scripted_faults_hit_the_next_sends_and_no_other() -> None:
    send = ("POST", "/graph/v26.0/1/messages", TEXT)
    answers = exchange(
        ("POST", "/sandbox/faults", {"fault": "code", "code": 131056, "sends": 2}),
        ("POST", "/sandbox/faults", {"fault": "500"}),
        ("POST", "/sandbox/faults", {"fault": "silence", "seconds": 0}),
        ("POST", "/sandbox/faults", {"fault": "failed", "code": 131026}),
        ("POST", "/sandbox/faults", {"fault": "earthquake"}),
        send, send, send, send, send, send,
        ("GET", "/sandbox/messages", None),
    )  # fmt: skip
    assert [answer.status_code for answer in answers[:-1]] == [200, 200, 200, 200, 400, 400, 400, 500, 200, 200, 200]
    assert answers[5].json()["error"]["code"] == 131056
    assert [each["fault"] for each in answers[-1].json()["messages"]] == ["silence", "failed", None]

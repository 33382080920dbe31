from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from agentops.clients.graph import Deadline, Graph, GraphError, Sent
from agentops.errors import Kind, UsageError
from tests.fakes.sockets import closed_port

if TYPE_CHECKING:
    from tests.clients.peer import Peer

TOKEN = "EAAG0123456789"
TO = "+250788000000"


def send(url: str, to: str = TO, body: str = "Muraho!", timeout: float = 5.0) -> Sent:
    async def main() -> Sent:
        graph = Graph(TOKEN, "106540352242922", base_url=url, timeout=timeout)
        try:
            return await graph.send_text(to, body, "outbox-7", "abc-123")
        finally:
            await graph.aclose()

    return asyncio.run(main())


def failure(url: str, timeout: float = 5.0) -> GraphError:
    with pytest.raises(GraphError) as caught:
        send(url, timeout=timeout)
    words = f"{caught.value.message} {caught.value.hint} {caught.value!r}"
    assert TOKEN not in words
    assert "250788" not in words
    return caught.value


def refused(provider: Peer, status: int, code: int) -> GraphError:
    error = {"message": f"no {TOKEN} to {TO}", "type": "OAuthException", "code": code, "fbtrace_id": "AbC_12"}
    provider.answers(status, {"error": error})
    found = failure(provider.url)
    assert len(provider.heard) == 1, "a request was repeated"
    return found


def test_a_text_reaches_the_sandbox_with_its_callback_data(sandbox: dict[str, str]) -> None:
    sent = send(sandbox["WHATSAPP_API_URL"])

    query = {"to": TO, "after": "0"}
    found = httpx.get(f"{sandbox['SANDBOX']}/messages", params=query).json()["messages"][-1]
    assert sent.message_id.startswith("wamid.")
    assert found["message_id"] == sent.message_id
    assert (found["body"], found["callback_data"], found["correlation_id"]) == ("Muraho!", "outbox-7", "abc-123")


def test_what_is_sent_is_what_meta_documents(provider: Peer) -> None:
    provider.answers(200, {"messaging_product": "whatsapp", "contacts": [], "messages": [{"id": "wamid.1"}]})

    assert send(provider.url, to="250 788-000 000") == Sent("wamid.1")

    ((path, headers, body),) = provider.heard
    assert path == "/106540352242922/messages"
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert body == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": TO,
        "type": "text",
        "text": {"body": "Muraho!", "preview_url": False},
        "biz_opaque_callback_data": "outbox-7",
    }


def test_a_message_is_marked_read_and_typing_shown(sandbox: dict[str, str]) -> None:
    async def main() -> None:
        graph = Graph(TOKEN, "106540352242922", base_url=sandbox["WHATSAPP_API_URL"])
        await graph.mark_read_and_typing("wamid.in")
        await graph.aclose()

    asyncio.run(main())
    found = httpx.get(f"{sandbox['SANDBOX']}/messages").json()["messages"][-1]
    assert (found["type"], found["message_id"], found["typing"]) == ("read", "wamid.in", True)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, 190, Kind.NOT_AUTHORISED),
        (401, 0, Kind.NOT_AUTHORISED),
        (403, 200, Kind.NOT_AUTHORISED),
        (400, 131047, Kind.FAILED),
        (400, 131056, Kind.UNAVAILABLE),
        (429, 130429, Kind.UNAVAILABLE),
        (500, 131000, Kind.UNAVAILABLE),
        (503, 2, Kind.UNAVAILABLE),
    ],
)
def test_an_explicit_refusal_is_certainly_not_sent(provider: Peer, status: int, code: int, kind: Kind) -> None:
    found = refused(provider, status, code)
    assert (found.code, found.fbtrace_id, found.certainly_not_sent, found.kind) == (code, "AbC_12", True, kind)
    assert str(code) in found.message


def test_an_error_inside_a_200_is_a_refusal(provider: Peer) -> None:
    assert refused(provider, 200, 131026).code == 131026


@pytest.mark.parametrize(("status", "not_sent"), [(404, True), (413, True), (408, False), (502, False), (504, False)])
def test_a_gateways_page_tells_only_by_its_status(provider: Peer, status: int, *, not_sent: bool) -> None:
    provider.answers(status, "<html>Bad Gateway</html>")
    found = failure(provider.url)
    assert (found.code, found.certainly_not_sent) == (None, not_sent)


def test_nobody_listening_means_not_sent() -> None:
    with closed_port() as port:
        found = failure(f"http://127.0.0.1:{port}/v26.0")
    assert found.certainly_not_sent
    assert found.kind is Kind.UNAVAILABLE


def test_an_answer_that_does_not_come_leaves_it_open(provider: Peer) -> None:
    provider.delay = 1.0
    found = failure(provider.url, timeout=0.2)
    assert not found.certainly_not_sent
    assert found.message == "WhatsApp gave no answer in time"


def test_an_answer_that_trickles_leaves_it_open(provider: Peer) -> None:
    provider.trickle = 0.05
    assert not failure(provider.url, timeout=0.4).certainly_not_sent


def test_a_connection_that_breaks_leaves_it_open() -> None:
    async def main() -> GraphError:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        graph = Graph(TOKEN, "1", base_url=f"http://127.0.0.1:{port}")
        with pytest.raises(GraphError) as caught:
            await graph.send_text(TO, "x", "outbox-7")
        await graph.aclose()
        server.close()
        await server.wait_closed()
        return caught.value

    found = asyncio.run(main())
    assert not found.certainly_not_sent
    assert "broke" in found.message


@pytest.mark.parametrize("answer", [{}, {"messages": []}, {"messages": [{"id": ""}]}, [], "words"])
def test_an_acceptance_without_an_id_leaves_it_open(provider: Peer, answer: Any) -> None:
    provider.answers(200, answer)
    assert not failure(provider.url).certainly_not_sent


def test_a_customer_without_a_number_is_sent_to_by_user_id(provider: Peer) -> None:
    provider.answers(200, {"contacts": [{"user_id": "RW.134"}], "messages": [{"id": "wamid.1"}]})
    assert send(provider.url, to="RW.134") == Sent("wamid.1")
    ((_, _, body),) = provider.heard
    assert (body["recipient"], "to" in body, body["type"]) == ("RW.134", False, "text")


def test_a_number_is_asked_for_by_a_button(provider: Peer) -> None:
    provider.answers(200, {"messages": [{"id": "wamid.1"}]})

    async def main() -> Sent:
        graph = Graph(TOKEN, "1", base_url=provider.url)
        try:
            return await graph.request_contact("RW.134", "Your number?", "outbox-7")
        finally:
            await graph.aclose()

    assert asyncio.run(main()) == Sent("wamid.1")
    ((_, _, body),) = provider.heard
    assert (body["recipient"], body["type"], body["biz_opaque_callback_data"]) == ("RW.134", "interactive", "outbox-7")
    assert body["interactive"] == {
        "type": "request_contact_info",
        "body": {"text": "Your number?"},
        "action": {"name": "request_contact_info"},
    }


@pytest.mark.parametrize(
    "to", ["", "RW", "RW.", "rw.134", "RW.13 4", "0788000000", "+0788", "250-RWANDA", "12345", "+2507880000001234567"]
)
def test_a_number_without_its_country_is_refused_before_sending(provider: Peer, to: str) -> None:
    with pytest.raises(UsageError) as caught:
        send(provider.url, to=to)
    assert not to or to not in str(caught.value)
    assert provider.heard == []


@pytest.mark.parametrize(
    ("token", "phone_id", "url"),
    [("", "1", "https://g.example"), ("a b", "1", "https://g.example"), ("t", "../me", "https://g"), ("t", "1", "g")],
)
def test_settings_that_are_none_are_refused_at_once(token: str, phone_id: str, url: str) -> None:
    with pytest.raises(UsageError):
        Graph(token, phone_id, base_url=url)


def test_the_token_is_not_shown() -> None:
    assert TOKEN not in repr(Graph(TOKEN, "1"))


class WhenConnected(Deadline):
    """A deadline that passes while the connection is being made."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(3600.0)
        self.listener = listener

    @property
    def passed(self) -> bool:
        # Nobody had asked before there was a connection: otherwise this waits in vain.
        self.accepted, _ = self.listener.accept()
        return True


def test_what_is_late_when_the_connection_stands_does_not_leave_any_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        deadline = WhenConnected(listener)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        async def late() -> None:
            graph = Graph(TOKEN, "1", base_url=url)
            try:
                await graph.send_text(TO, "x", "outbox-7", deadline=deadline)
            finally:
                await graph.aclose()

        with pytest.raises(GraphError) as caught:
            asyncio.run(late())
        with deadline.accepted:
            assert deadline.accepted.recv(1000) == b"", "the connection ends without a byte"
    assert caught.value.certainly_not_sent
    assert caught.value.kind is Kind.UNAVAILABLE


def test_before_its_deadline_a_message_leaves(provider: Peer) -> None:
    provider.answers(200, {"messages": [{"id": "wamid.1"}]})

    async def main() -> Sent:
        graph = Graph(TOKEN, "1", base_url=provider.url)
        try:
            return await graph.send_text(TO, "x", "outbox-7", deadline=Deadline(60.0))
        finally:
            await graph.aclose()

    assert asyncio.run(main()) == Sent("wamid.1")


@pytest.mark.parametrize("clock", ["monotonic", "time"])
def test_a_deadline_passes_by_the_clock_that_has_gone_further(monkeypatch: pytest.MonkeyPatch, clock: str) -> None:
    deadline = Deadline(60.0)
    assert not deadline.passed
    later = getattr(time, clock)() + 61.0
    monkeypatch.setattr(time, clock, lambda: later)
    assert deadline.passed

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import httpx
import pytest

from agentops.clients.slack import Slack
from agentops.errors import AgentOpsError, NotAuthorised, NotFound, Unavailable, UsageError
from tests.fakes.sockets import closed_port

if TYPE_CHECKING:
    from tests.clients.peer import Peer

PATH = "/services/T000/B000/wXyZsecret"


def post(url: str, text: str = "chat is off", timeout: float = 5.0) -> None:
    async def main() -> None:
        slack = Slack(url, timeout=timeout)
        try:
            await slack.post(text)
        finally:
            await slack.aclose()

    asyncio.run(main())


def failure(url: str, timeout: float = 5.0) -> AgentOpsError:
    with pytest.raises(AgentOpsError) as caught:
        post(url, timeout=timeout)
    words = f"{caught.value.message} {caught.value.hint} {caught.value!r}"
    assert "wXyZ" not in words
    assert "127.0.0.1" not in words
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def test_a_message_reaches_the_sandbox(sandbox: dict[str, str]) -> None:
    post(sandbox["SLACK_WEBHOOK_URL"], "*chat* is off")

    found = httpx.get(f"{sandbox['SANDBOX']}/slack").json()["posts"][-1]
    assert (found["path"], found["text"]) == ("incidents", "*chat* is off")


def test_a_text_cannot_mention_the_whole_channel(provider: Peer) -> None:
    post(provider.url + PATH, "<!channel> a & b")
    assert provider.heard[0][2] == {"text": "&lt;!channel&gt; a &amp; b"}


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, "invalid_payload", AgentOpsError, "Slack refuses the message (invalid_payload)"),
        (403, "action_prohibited", NotAuthorised, "Slack refuses the webhook (action_prohibited)"),
        (404, "no_service", NotFound, "Slack does not know the webhook or its channel (no_service)"),
        (410, "channel_is_archived", NotFound, "Slack does not know the webhook or its channel (channel_is_archived)"),
        (429, "rate_limited", Unavailable, "Slack cannot take the message now (rate_limited)"),
        (500, "<html>wXyZ</html>", Unavailable, "Slack cannot take the message now (500)"),
        (302, "", AgentOpsError, "Slack refuses the message (302)"),
    ],
)
def test_each_refusal_becomes_its_kind(
    provider: Peer, status: int, body: str, kind: type[AgentOpsError], words: str
) -> None:
    provider.answers(status, body)
    found = failure(provider.url + PATH)
    assert type(found) is kind
    assert found.message == words
    assert len(provider.heard) == 1, "a request was repeated"


def test_nobody_listening_is_unavailable() -> None:
    with closed_port() as port:
        assert isinstance(failure(f"http://127.0.0.1:{port}{PATH}"), Unavailable)


def test_a_slow_answer_is_unavailable(provider: Peer) -> None:
    provider.delay = 1.0
    assert failure(provider.url + PATH, timeout=0.2).message == "Slack gave no answer in time"


def test_the_address_is_in_no_log(provider: Peer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    post(provider.url + PATH)
    assert "wXyZ" not in caplog.text


@pytest.mark.parametrize("url", ["", "hooks.slack.com/services/wXyZ", "https://", "https://hooks.slack.com/ wXyZ"])
def test_an_address_that_is_none_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Slack(url)
    assert "wXyZ" not in str(caught.value)


def test_the_address_is_not_shown() -> None:
    assert "wXyZ" not in repr(Slack(f"https://hooks.slack.com{PATH}"))

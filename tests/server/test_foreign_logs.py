"""What libraries log holds no number, no name and no text, also at DEBUG."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from agentops.clients.graph import Graph
from agentops.clients.openai import OpenAI
from agentops.events import Events
from agentops.server import foreign_logs
from tests.fakes.providers import Providers, serving
from tests.fakes.renderings import RENDERINGS
from tests.fakes.stacks import Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

PHONE = "+250788000001"


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """Everything that is logged, as events, from DEBUG on."""
    root, found = logging.getLogger(), Recorded()
    before, level = list(root.handlers), root.level
    pool = logging.getLogger("psycopg.pool").level
    foreign_logs.take_over(Events(found, echo=None), logging.DEBUG)
    yield found
    root.handlers[:] = before
    root.setLevel(level)
    logging.getLogger("psycopg.pool").setLevel(pool)
    logging.captureWarnings(capture=False)


def test_a_record_is_an_event_under_its_loggers_name(recorded: Recorded) -> None:
    logging.getLogger("Some.Library-2").warning("Invalid HTTP request received.")
    logging.getLogger("asyncio").error("Task exception was never retrieved")
    assert [(event.level, event.event) for event in recorded.events] == [
        ("warning", "ai.log.some.library_2"),
        ("error", "ai.log.asyncio"),
    ]


def test_below_warning_nothing_is_told() -> None:
    found = Recorded()
    handler = foreign_logs.ForeignLogs(Events(found, echo=None))
    logger = logging.getLogger("some.library.below")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    logger.info("HTTP Request: POST")
    logger.warning("it is told")
    logger.removeHandler(handler)
    assert found.names == ["ai.log.some.library.below"]


@pytest.mark.parametrize("rendering", RENDERINGS)
def test_no_rendering_of_a_number_gets_through(recorded: Recorded, rendering: str) -> None:
    written = RENDERINGS[rendering](PHONE[1:])
    logging.getLogger("httpx").warning("to %s failed", written)
    assert str(written) not in recorded.text
    assert len(recorded.events) == 1


def test_an_exceptions_words_and_a_query_are_left_out(recorded: Recorded) -> None:
    try:
        int(f"Uwineza {PHONE}")
    except ValueError as error:
        logging.getLogger("asyncio").exception("Task exception: <Task exception=ValueError('Uwineza')>", exc_info=error)
    logging.getLogger("httpx").warning("GET https://x.example/a?name=Uwineza&to=%s", PHONE)
    logging.getLogger("openai").warning("Request options: {'json_data': {'input': 'Uwineza'}}")
    assert "Uwineza" not in recorded.text
    assert "ValueError in test_foreign_logs.py" in recorded.text
    assert "788" not in recorded.text


def test_the_clients_own_debug_logs_hold_nothing_of_a_customer(recorded: Recorded) -> None:
    words = "my cousin Uwineza has 0788000002"

    async def talk(providers: Providers) -> None:
        openai = OpenAI("a-key", base_url=providers.environment["OPENAI_BASE_URL"])
        asked: dict[str, Any] = {
            "model": "gpt-6-luna",
            "instructions": "x",
            "items": [{"role": "user", "content": words}],
            "tools": [],
            "safety_identifier": "x",
            "cache_key": "x",
            "correlation_id": "corr-1",
            "deadline_seconds": 5.0,
        }
        await openai.respond(**asked)
        graph = Graph("a-token", "1065", base_url=providers.environment["WHATSAPP_API_URL"])
        await graph.send_text(PHONE, words, "outbox-1", "corr-1")
        await graph.aclose()
        await openai.aclose()

    with serving(Providers()) as providers:
        asyncio.run(talk(providers))
    assert any(name.startswith("ai.log.httpx") for name in recorded.names)
    for word in ("Uwineza", "cousin", "788000002", "788000001", "a-token", "a-key"):
        assert word not in recorded.text

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from agentops.events import Events
from agentops.server.echo import Echo

if TYPE_CHECKING:
    from pathlib import Path


def test_every_event_is_one_line_in_order(tmp_path: Path) -> None:
    file = tmp_path / "out"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    echo = Echo(descriptor)
    events = Events(None, echo=echo).bind("abc-123", "echo")
    for number in range(500):
        events.info("ai.test", number=number, text="two\nlines, a lone \ud800")
        if number % 100 == 0:
            time.sleep(0.03)
    echo.close(10)
    os.close(descriptor)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["number"] for line in lines] == list(range(500))
    assert {line["correlation_id"] for line in lines} == {"abc-123"}


def test_a_reader_that_does_not_read_halts_nobody() -> None:
    readable, writable = os.pipe()
    echo = Echo(writable)
    events = Events(None, echo=echo)
    begun = time.monotonic()
    for number in range(5_000):  # far more than a pipe holds
        events.info("ai.test", number=number, filler="x" * 100)
    echo.close(0.2)
    assert time.monotonic() - begun < 2
    os.close(readable)  # lets the thread go: a broken pipe
    echo.close(10)  # it is gone before another file gets its descriptor's number
    os.close(writable)


def test_a_closed_stdout_is_no_error() -> None:
    readable, writable = os.pipe()
    os.close(readable)
    echo = Echo(writable)
    Events(None, echo=echo).info("ai.test")
    echo.close(10)
    os.close(writable)

"""A stack of one's own and a hosted project side by side, set up alike: for what has to be the same on both.

The project's functions are forwarders: whatever is called there, the stack does. Both have the same log lines.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from starlette.responses import JSONResponse, Response

from agentops import edge
from agentops.functions import ai_create_voucher
from tests.commands.line import Result, typed
from tests.fakes import management_api
from tests.fakes.hosted import TARGET
from tests.fakes.management_api import ManagementApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.fakes.serve import Served

PHONE = "+250788000000"
SECONDS = 60
_SECRETS = ("OPENAI_API_KEY=sk-one", "WA_TOKEN=one", "WA_PHONE_ID=1", "WA_VERIFY_TOKEN=one", "WA_APP_SECRET=one")
_FLAGS = ("chat", "voice", "vouchers", "customer-lookup")
_WEBHOOK, _SEEN = "ai-whatsapp-webhook", "ai.whatsapp.webhook.received"
# What a worker with a provider would have logged.
_THOUGHT = {"model": "gpt-6-luna", "latency_ms": 812, "usage": {"input_tokens": 10, "output_tokens": 5}}


@dataclass(frozen=True)
class Place:
    """A target, the folder in which commands are typed, and what their process is told."""

    name: str
    folder: Path
    environment: Mapping[str, str]
    # Writes the source of ai-create-voucher, as somebody edited it.
    edit: Callable[[str], object]
    # Stores one more log line.
    log: Callable[[], object]

    def type(self, *words: str, stdin: str = "") -> Result:
        """Run a command line."""
        with pytest.MonkeyPatch.context() as patch:
            for name in list(os.environ):
                if name.startswith(("AGENTOPS_", "SUPABASE_", "OPENAI_", "DATABASE_URL")):
                    patch.delenv(name)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            return typed(*words)

    def follow(self, *words: str) -> Result:
        """Run a command line that goes on, until it has printed a line; then Ctrl-C."""
        argv, pipe = [sys.executable, "-m", "agentops", *words], subprocess.PIPE
        kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "PYTHONPATH"}}
        process = subprocess.Popen(
            argv, cwd=self.folder, env=kept | dict(self.environment), stdout=pipe, stderr=pipe, text=True
        )
        heard = threading.Event()

        def feed() -> None:
            while not heard.wait(0.3):
                self.log()

        with process, ThreadPoolExecutor() as pool:
            fed, late = pool.submit(feed), threading.Timer(SECONDS, process.kill)
            late.start()
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
            finally:
                heard.set()
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=SECONDS)
                late.cancel()
            fed.result()
        return Result(process.returncode, line, err)


@contextmanager
def side_by_side(served: Served, database_url: str, folder: Path) -> Iterator[tuple[Place, Place]]:
    """The stack that serves, and a project on `database_url` in front of it."""
    key = served.keys["service_role_key"]

    def keys(_method: str, path: str) -> Response | None:
        kinds = [{"name": "service_role", "api_key": key}, {"name": "anon", "api_key": "anon-key"}]
        return JSONResponse(kinds) if path == "/api-keys" else None

    api = ManagementApi(database_url, refuse=keys)
    with management_api.serving(api):
        stack = _stack(served, folder / "stack")
        project = _project(served, api, folder / "project")
        _like(stack)
        _like(project)
        project.type("secrets", "set", f"AGENTOPS_URL={served.url}")
        _give_voucher(database_url)
        _talk(served)
        for line in _lines(served, at_least=4):
            _copy(api, line)
        yield stack, project


def _stack(served: Served, folder: Path) -> Place:
    folder.mkdir()
    source = ai_create_voucher.__spec__.origin
    assert source is not None
    with open(source, encoding="utf-8") as file:  # noqa: PTH123 - the module's own file
        text = file.read()

    def edit(words: str) -> None:
        (folder / "functions").mkdir(exist_ok=True)
        (folder / "functions" / "ai_create_voucher.py").write_text(f"{text}\n# {words}\n", encoding="utf-8")

    def log() -> None:
        _stored(served, _SEEN, {})

    # No provider is asked for its models.
    environment = {**served.environment, "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
    return Place("local", folder, environment, edit, log)


def _project(served: Served, api: ManagementApi, folder: Path) -> Place:
    folder.mkdir()
    entry = folder / "supabase" / "functions" / "ai-create-voucher" / "index.ts"
    text = next(each for each in edge.FORWARDERS if each.slug == "ai-create-voucher").index()
    environment = {
        **api.environment,
        "SUPABASE_FUNCTIONS_URL": f"{served.url}/functions/v1",
        "AGENTOPS_HOME": str(folder.with_name("project-home")),
        "AGENTOPS_ACTOR": served.environment["AGENTOPS_ACTOR"],
        "AGENTOPS_TARGET": TARGET,
    }

    def log() -> None:
        _copy(api, {"level": "info", "event": _SEEN, "correlation_id": "c-1", "function": _WEBHOOK})

    return Place("hosted", folder, environment, lambda words: entry.write_text(f"{text}// {words}\n"), log)


def _like(place: Place) -> None:
    """Everything deployed and on, the secrets set."""
    (place.folder / "settings.env").write_text("WA_TOKEN=two\nWA_PHONE_ID=1\n", encoding="utf-8")
    if place.name == "hosted":
        assert place.type("init", "--edge").code == 0
    for line in (("deploy", "all"), ("flags", "enable", *_FLAGS), ("secrets", "set", *_SECRETS)):
        done = place.type(*line)
        assert done.code == 0, done.out + done.err


def _talk(served: Served) -> None:
    """Calls that leave events behind: of tools that worked and that failed, and of thinking."""
    served.post("ai-lookup-customer", {"msisdn": PHONE}, **{"x-correlation-id": "abc-123"})
    served.post("ai-create-voucher", {"customer_msisdn": PHONE, "amount": 10_000}, **{"x-correlation-id": "abc-123"})
    served.post("ai-create-voucher", {"customer_msisdn": "nobody", "amount": 10_000})
    _stored(served, "ai.process.success", _THOUGHT)
    _stored(served, "ai.tool.create_voucher.error", {"error": "words"}, level="error", function="ai-create-voucher")


def _give_voucher(database_url: str) -> None:
    """A voucher in the project's own database, as the agent gives them."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "insert into public.vouchers (code_5, amount_minor, whatsapp_e164, policy_number) "
            "values ('12345', 1000, %s, 'AI-1')",
            (PHONE,),
        )


def _stored(
    served: Served, event: str, data: Mapping[str, Any], *, level: str = "info", function: str = _WEBHOOK
) -> None:
    """An event in the stack's logs."""
    with psycopg.connect(served.database_url, autocommit=True) as connection:
        connection.execute(
            "insert into agentops.logs (at, level, event, correlation_id, function, data) "
            "values (now(), %s, %s, 'c-1', %s, %s)",
            (level, event, function, json.dumps(data)),
        )


def _lines(served: Served, *, at_least: int) -> list[dict[str, Any]]:
    """The log lines of the stack, once they are stored."""
    deadline = time.monotonic() + SECONDS
    while True:
        lines = [json.loads(line) for line in served.run("logs", "show", "--limit", "500").stdout.splitlines()]
        if len({line["event"] for line in lines}) >= at_least:
            return lines
        assert time.monotonic() < deadline, lines
        time.sleep(0.1)


def _copy(api: ManagementApi, line: Mapping[str, Any]) -> None:
    """The same line as a function of the project writes it to its console."""
    deployed = api.functions.get(str(line["function"]))
    number = str(deployed.row["id"]) if deployed else ""
    level = str(line["level"])
    api.log("function_logs", json.dumps(dict(line)), function_id=number, level=level, event_type="Log")

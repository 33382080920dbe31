"""The forwarders as Deno runs them: type-checked, linted, and served in front of a fake agentops server."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from agentops import edge
from agentops.agent.outcome import Outcome
from agentops.agent.policy import Refused
from tests.fakes.cli import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The extra dev brings it beside Python; else whatever is on PATH.
DENO = shutil.which("deno", path=str(Path(sys.executable).parent)) or shutil.which("deno")
pytestmark = pytest.mark.skipif(DENO is None, reason="deno is not on PATH; it comes with the extra dev")
WEBHOOK, TOOL = "ai-whatsapp-webhook", "ai-create-voucher"
# Serves every forwarder by its path on one port, each with the environment of the process.
SERVER = """
import { forward, type Forwarder } from "./supabase/functions/_shared/agentops.ts";
const forwarders: Record<string, Forwarder> = JSON.parse(Deno.env.get("FORWARDERS")!);
const port = Number(Deno.env.get("PORT"));
Deno.serve({ hostname: "127.0.0.1", port, onListen: () => console.log("listening") }, (request) => {
  const slug = new URL(request.url).pathname.split("/").pop()!;
  return forward(request, forwarders[slug]);
});
"""


@dataclass
class Peer:
    """A fake agentops server; `heard` are the requests that reached it."""

    status: int = 200
    body: bytes = b'{"received": true}'
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    heard: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@contextmanager
def peer() -> Iterator[Peer]:
    found = Peer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            names = {name.lower(): value for name, value in self.headers.items()}
            found.heard.append((self.command, self.path, names, body))
            time.sleep(found.seconds)
            bodiless = found.status in {204, 304}
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            if not bodiless:
                self.send_header("content-length", str(len(found.body)))
            self.end_headers()
            if not bodiless:
                self.wfile.write(found.body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    for method in ("GET", "POST", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder as `init --edge` writes it, and the test's own server."""
    found = tmp_path_factory.mktemp("edge")
    for name, text in edge.functions().items():
        file = found / "supabase" / "functions" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (found / "server.ts").write_text(SERVER, encoding="utf-8")
    return found


def deno(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Deno, kept from the network by its own permissions and with a cache of its own."""
    assert DENO is not None
    env = {"PATH": os.environ["PATH"], "DENO_DIR": str(folder / ".deno"), "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen([DENO, *words], cwd=folder, env=env | environment, stdout=pipe, stderr=pipe, text=True)


@dataclass
class Edge:
    """Forwarders that are served; `said` are the lines that they have logged so far."""

    url: str
    said: list[dict[str, Any]]

    def call(self, slug: str, method: str = "POST", **content: Any) -> httpx.Response:
        return httpx.request(method, f"{self.url}/functions/v1/{slug}", timeout=30, trust_env=False, **content)

    def heard(self, event: str) -> dict[str, Any]:
        """The line of that event, once it is there."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = next((line for line in self.said if line["event"] == event), None)
            if found:
                return found
            time.sleep(0.01)
        raise AssertionError(self.said)


@contextmanager
def serving(folder: Path, server: str, flags: Mapping[str, str], *, milliseconds: int | None = None) -> Iterator[Edge]:
    forwarders = {
        each.slug: {
            "slug": each.slug,
            "flag": each.flag,
            "fallback": each.fallback,
            "disabled": each.disabled,
            "milliseconds": milliseconds or each.milliseconds,
        }
        for each in edge.FORWARDERS
    }
    port = free_port()
    environment = {**flags, "PORT": str(port), "FORWARDERS": json.dumps(forwarders), "AGENTOPS_URL": server}
    grants = ("--allow-env", "--allow-net=127.0.0.1", "--no-prompt", "--no-remote", "--no-check")
    process = deno(folder, "run", *grants, "server.ts", **environment)
    said: list[dict[str, Any]] = []
    listening = threading.Event()

    def read() -> None:
        for line in process.stdout or ():
            if line.startswith("{"):
                said.append(json.loads(line))
            listening.set()  # its first word, also where that is its end
        listening.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert listening.wait(60)
        assert process.poll() is None, process.communicate()[1]
        yield Edge(f"http://127.0.0.1:{port}", said)
    finally:
        process.kill()
        process.wait()
        reader.join()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


ON = {"FEATURE_AGENT_CHAT": "true", "FEATURE_AGENT_VOICE": "on", "FEATURE_AGENT_VOUCHERS": " Yes "}


@pytest.fixture(scope="module")
def on(folder: Path) -> Iterator[tuple[Edge, Peer]]:
    """Forwarders whose flags are on, in front of a server."""
    with peer() as server, serving(folder, f"{server.url}/", ON, milliseconds=3000) as found:
        yield found, server


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> None:
    if "on" in request.fixturenames:
        request.getfixturevalue("on")[1].__dict__.update(Peer(url=request.getfixturevalue("on")[1].url).__dict__)


@pytest.mark.parametrize("words", [("check", "--no-remote"), ("lint",), ("fmt", "--check", "--line-width", "120")])
def test_deno_finds_nothing_wrong(folder: Path, words: tuple[str, ...]) -> None:
    files = [f"supabase/functions/{each.slug}/index.ts" for each in edge.FORWARDERS]
    process = deno(folder, *words, *files, "supabase/functions/_shared/agentops.ts")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err


def test_deno_would_find_a_wrong_type(folder: Path, tmp_path: Path) -> None:
    wrong = (folder / "supabase/functions/_shared/agentops.ts").read_text() + "\nconst wrong: number = HOP_BY_HOP;\n"
    (tmp_path / "agentops.ts").write_text(wrong)
    process = deno(folder, "check", "--no-remote", str(tmp_path / "agentops.ts"))
    out, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "TS2322" in out + err


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_method_query_body_bytes_and_signature_arrive_unchanged(on: tuple[Edge, Peer], method: str) -> None:
    found, server = on
    body = b"" if method == "GET" else bytes(range(256)) + b' {"emoji": "\\ud83d", "u": "\xff\xfe"}\r\n\0'
    signature = "sha256=" + hmac.digest(b"app-secret", body, hashlib.sha256).hex()
    query = "?hub.mode=subscribe&hub.challenge=a%2Bb%20c+d&x=1&x=2&%C3%A9"
    sent = {"x-hub-signature-256": signature, "content-type": "application/octet-stream", "authorization": "Bearer k"}
    answer = found.call(f"{WEBHOOK}{query}", method, content=body, headers=sent)
    assert (answer.status_code, answer.json()) == (200, {"received": True})
    heard_method, path, headers, arrived = server.heard[-1]
    assert (heard_method, path, arrived) == (method, f"/functions/v1/{WEBHOOK}{query}", body)
    assert sent.items() <= headers.items()
    assert hmac.compare_digest(
        headers["x-hub-signature-256"], "sha256=" + hmac.digest(b"app-secret", arrived, "sha256").hex()
    )


def test_a_function_as_it_is_deployed_serves(folder: Path) -> None:
    port = free_port()
    environment = {"DENO_SERVE_ADDRESS": f"tcp:127.0.0.1:{port}", "FEATURE_AGENT_CHAT": "off"}
    grants = ("--allow-env", "--allow-net=127.0.0.1", "--no-prompt", "--no-remote", "--no-check")
    process = deno(folder, "run", *grants, f"supabase/functions/{WEBHOOK}/index.ts", **environment)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, process.communicate()
            try:
                answer = Edge(f"http://127.0.0.1:{port}", []).call(WEBHOOK, content=b"{}")
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert (answer.status_code, answer.headers["x-agentops-flag"]) == (200, "off")
    finally:
        process.kill()
        process.communicate()


def test_the_servers_answer_comes_back_as_it_is(on: tuple[Edge, Peer]) -> None:
    found, server = on
    server.status, server.body = 429, b"\xff\x00raw"
    server.headers = {"content-type": "text/plain", "retry-after": "7", "x-correlation-id": "theirs"}
    answer = found.call(TOOL, content=b"{}")
    assert (answer.status_code, answer.content) == (429, b"\xff\x00raw")
    assert (answer.headers["content-type"], answer.headers["retry-after"]) == ("text/plain", "7")
    assert (answer.headers["x-correlation-id"], answer.headers["x-agentops-flag"]) == ("theirs", "on")


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_comes_back(on: tuple[Edge, Peer], status: int) -> None:
    found, server = on
    server.status = status
    assert found.call(TOOL, content=b"{}").status_code == status


def test_a_redirect_is_not_followed(on: tuple[Edge, Peer]) -> None:
    found, server = on
    server.status, server.headers = 302, {"location": "http://127.0.0.1:1/elsewhere"}
    assert found.call(TOOL, content=b"{}").headers["location"] == "http://127.0.0.1:1/elsewhere"


def test_an_encoding_of_the_server_reaches_the_caller_readable(on: tuple[Edge, Peer]) -> None:
    found, server = on
    server.body, server.headers = gzip.compress(b'{"received": true}'), {"content-encoding": "gzip"}
    answer = found.call(TOOL, content=b"{}", headers={"accept-encoding": "gzip, zstd"})
    assert answer.json() == {"received": True}
    assert server.heard[-1][2]["accept-encoding"] == "identity"


def test_the_correlation_id_is_kept_or_made(on: tuple[Edge, Peer]) -> None:
    found, server = on
    kept = found.call(TOOL, content=b"{}", headers={"x-correlation-id": "abc-123"})
    assert (kept.headers["x-correlation-id"], server.heard[-1][2]["x-correlation-id"]) == ("abc-123", "abc-123")
    for given in ({}, {"x-correlation-id": 'no "id" at all'}):
        made = found.call(TOOL, content=b"{}", headers=given)
        assert made.headers["x-correlation-id"] == server.heard[-1][2]["x-correlation-id"]
        assert len(made.headers["x-correlation-id"]) == 36


def test_a_slow_server_is_503_in_time(folder: Path) -> None:
    with peer() as server, serving(folder, server.url, ON, milliseconds=300) as found:
        server.seconds = 5.0
        begun = time.monotonic()
        answer = found.call(WEBHOOK, content=b"{}", headers={"x-correlation-id": "slow-1"})
        assert time.monotonic() - begun < 4
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.headers["x-agentops-flag"] == "on"
        line = found.heard("ai.forward.error")
        assert (line["correlation_id"], line["error"], line["function"]) == ("slow-1", "TimeoutError", WEBHOOK)


def test_webhooks_are_answered_before_their_senders_give_up() -> None:
    # Meta waits 10 s (agent platforms less): what is not answered by then comes again.
    assert {each.milliseconds <= 8000 for each in edge.FORWARDERS if each.disabled} == {True}
    assert all(f"milliseconds: {each.milliseconds}," in each.index() for each in edge.FORWARDERS)


def test_a_server_that_is_away_is_503_and_says_when_to_come_again(folder: Path) -> None:
    with serving(folder, f"http://127.0.0.1:{free_port()}", ON) as found:
        for slug in (WEBHOOK, TOOL):
            answer = found.call(slug, content=b"{}")
            assert (answer.status_code, answer.json()["success"]) == (503, False)
            assert (answer.headers["retry-after"], answer.headers["x-agentops-flag"]) == ("5", "on")
        assert found.heard("ai.forward.error")["level"] == "error"


def test_without_a_server_address_it_is_503(folder: Path) -> None:
    with serving(folder, "", ON) as found:
        answer = found.call(WEBHOOK, content=b"{}")
        assert (answer.status_code, answer.headers["x-agentops-flag"]) == (503, "on")
        assert "AGENTOPS_URL" in found.heard("ai.forward.error")["error"]


@pytest.mark.parametrize("value", ["false", "", "maybe", None])
def test_a_flag_that_is_off_answers_for_itself_and_lets_every_get_through(folder: Path, value: str | None) -> None:
    flags = {} if value is None else dict.fromkeys(ON, value)
    with peer() as server, serving(folder, server.url, flags) as found:
        hook = found.call(WEBHOOK, content=b'{"entry": []}', headers={"x-correlation-id": "off-1"})
        assert (hook.status_code, hook.json(), hook.headers["x-agentops-flag"]) == (200, {"received": True}, "off")
        line = found.heard("ai.whatsapp.webhook.disabled")
        assert (line["level"], line["correlation_id"], line["function"]) == ("info", "off-1", WEBHOOK)
        assert set(line) == {"timestamp", "level", "event", "correlation_id", "function"}
        for slug in (TOOL, "ai-lookup-customer"):
            tool = found.call(slug, content=b"{}")
            refused = Outcome.refused(Refused(403, "feature_disabled"))
            assert (tool.status_code, tool.json()) == (refused.status, dict(refused.body))
            assert tool.json() == {"success": False, "error": "feature_disabled"}
            assert tool.headers["x-agentops-flag"] == "off"
        assert server.heard == []
        for slug in (WEBHOOK, TOOL):
            looked = found.call(slug, "GET")
            assert (looked.status_code, looked.headers["x-agentops-flag"]) == (200, "off")
        assert [method for method, *_ in server.heard] == ["GET", "GET"]


def test_the_lookup_follows_vouchers_unless_it_has_a_flag_of_its_own(folder: Path) -> None:
    own = {"FEATURE_AGENT_CUSTOMER_LOOKUP": "false"}
    with peer() as server:
        with serving(folder, server.url, ON) as found:
            assert found.call("ai-lookup-customer", content=b"{}").status_code == 200
        with serving(folder, server.url, ON | own) as found:
            assert found.call("ai-lookup-customer", content=b"{}").status_code == 403

"""`agentops invoke …` over a real socket: the key it sends, and what each answer means for the exit code."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from starlette.responses import JSONResponse, Response

from tests.commands.line import typed
from tests.fakes import hosted
from tests.fakes.management_api import ManagementApi
from tests.platforms.local.serving import Server, bundle, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.requests import Request

    from tests.conftest import StackKeys

KEY = "service-key-4711"


class Peer(BaseHTTPRequestHandler):
    """Answers as a stack would, and remembers what was asked."""

    asked: list[tuple[str, str, dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        type(self).asked.append((self.command, self.path, headers, body))
        slug = self.path.rpartition("/")[2]
        status = 200
        answer: dict[str, object] = {"success": True}
        if b"phone" in body:
            answer = {"success": True, "msisdn": "+250788000000", "also": ["call 0788 000 000"], "amount": 10000}
        if headers.get("authorization") != f"Bearer {KEY}":
            status, answer = 401, {"success": False, "error": "unauthorized"}
        elif b"missing" in body or slug == "nope":
            status, answer = 404, {"success": False, "error": "Voucher not found"}
        elif b"off" in body:
            status, answer = 403, {"success": False, "error": "feature_disabled"}
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        if b"nameless" not in body:
            self.send_header("x-correlation-id", headers.get("x-correlation-id", "made"))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST  # noqa: N815 - the name that http.server calls

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's own name
        """Stay silent."""


@pytest.fixture
def peer(
    database_url: str, stack_keys: StackKeys, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[tuple[str, str, dict[str, str], bytes]]]:
    """A live web server of a stack with a service key and one function."""
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    monkeypatch.setenv("AGENTOPS_STACK_KEY", stack_keys.private)
    Peer.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Peer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    async def prepare() -> None:
        async with opened(database_url) as platform:
            await platform.set_secrets({"SUPABASE_SERVICE_ROLE_KEY": KEY}, check=False)
            await platform.deploy([bundle("ai-one")], force=False, check=False)
            await Server(platform, 1, f"http://127.0.0.1:{server.server_port}").look()

    asyncio.run(prepare())
    yield Peer.asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_body_is_posted_with_the_stacks_own_key(peer: list[Any]) -> None:
    done = typed("invoke", "ai-one", "-d", '{"a": 1}', "--header", "x-correlation-id: abc-123", "--json")
    assert done.code == 0, done.err
    method, path, headers, body = peer[0]
    assert (method, path, body) == ("POST", "/functions/v1/ai-one", b'{"a": 1}')
    assert headers["content-type"] == "application/json"
    answer = done.json
    assert (answer["slug"], answer["status"], answer["correlation_id"]) == ("ai-one", 200, "abc-123")
    assert answer["body"] == {"success": True}
    assert KEY not in done.out + done.err


def test_without_a_body_it_asks_for_the_functions_health(peer: list[Any]) -> None:
    assert typed("invoke", "ai-one").code == 0
    assert peer[0][0] == "GET"


def test_a_file_can_be_the_body(peer: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "body.json"
    file.write_text('{"b": 2}')
    assert typed("invoke", "ai-one", "-d", f"@{file}").code == 0
    assert peer[0][3] == b'{"b": 2}'


@pytest.mark.parametrize("data", ["{'a': 1}", "{", "", "@nowhere.json"])
def test_what_is_no_json_is_refused_before_anything_is_sent(peer: list[Any], data: str) -> None:
    assert typed("invoke", "ai-one", "-d", data).code == 2
    assert peer == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ai-one", "-d", '"off"'], 1, "agentops flags list"),
        (["ai-one", "-d", '"missing"'], 1, "agentops logs show ai-one --correlation made"),
        (["nope", "-d", "{}"], 5, "deployed: ai-one"),
        (["ai-one", "-d", "{}", "-H", "Authorization: Bearer other"], 4, "does not accept this key"),
    ],
)
def test_a_refusal_has_its_exit_code_and_the_next_step(
    peer: list[Any], arguments: list[str], code: int, words: str
) -> None:
    refused = typed("invoke", *arguments, "--json")
    assert (refused.code, refused.json["body"]["success"]) == (code, False)
    assert words in refused.err
    assert len(peer) == 1


def test_phones_in_the_answer_are_masked_unless_revealed_and_that_is_audited(
    database_url: str, peer: list[Any]
) -> None:
    def audited() -> list[Any]:
        with psycopg.connect(database_url) as connection:
            found = connection.execute(b"select actor, action, subject from agentops.audit where action like '%reveal'")
            return found.fetchall()

    masked = typed("invoke", "ai-one", "-d", '"phone"', "--json")
    assert masked.json["body"] == {
        "success": True, "msisdn": "+2507***000", "also": ["call 0788 ***000"], "amount": 10000,
    }  # fmt: skip
    assert masked.err == "note: --reveal shows phones, texts and codes in full, and is audited\n"
    assert audited() == []
    assert typed("invoke", "ai-one", "-d", "1").err == "", "nothing was masked"
    revealed = typed("invoke", "ai-one", "-d", '"phone"', "--reveal", "--json")
    assert (revealed.json["body"]["msisdn"], revealed.err) == ("+250788000000", "")
    assert audited() == [("tester@here", "function.reveal", "ai-one")]
    assert len(peer) == 3


def test_without_a_correlation_id_the_next_step_names_none(peer: list[Any]) -> None:
    refused = typed("invoke", "ai-one", "-d", '"missing nameless"', "--json")
    assert (refused.code, refused.json["correlation_id"]) == (1, None)
    assert json.loads(refused.err)["hint"] == "agentops logs show ai-one --since 15m"
    assert len(peer) == 1


def test_without_a_server_or_without_the_key_it_says_what_is_missing(
    database_url: str, peer: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTOPS_STACK_KEY")
    keyless = typed("invoke", "ai-one")
    assert (keyless.code, "AGENTOPS_STACK_KEY" in keyless.err) == (4, True)

    async def stop() -> None:
        async with opened(database_url) as platform:
            await platform.query("delete from agentops.servers")

    asyncio.run(stop())
    alone = typed("invoke", "ai-one")
    assert (alone.code, "agentops up" in alone.err) == (69, True)
    assert peer == []


def test_a_hosted_projects_answer_is_masked_and_revealed_alike(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slug = hosted.SLUGS[0]
    api = ManagementApi(functions={slug: hosted.deployed(slug)})

    async def answer(_request: Request) -> Response:
        return JSONResponse({"msisdn": "+250788000000"})

    monkeypatch.setattr(api, "_call", answer)
    with hosted.project(api, monkeypatch, tmp_path):
        masked = typed("invoke", slug, "-d", "{}", "--json")
        assert (masked.code, masked.json["correlation_id"]) == (0, None)
        assert masked.json["body"] == {"msisdn": "+2507***000"}
        revealed = typed("invoke", slug, "-d", "{}", "--reveal", "--json")
        assert revealed.json["body"] == {"msisdn": "+250788000000"}
    (entry,) = map(json.loads, next((tmp_path / "home").glob("supabase/*/audit.jsonl")).read_text().splitlines())
    assert (entry["actor"], entry["action"], entry["subject"]) == ("tester@here", "function.reveal", slug)


def test_a_hosted_functions_refusal_names_what_to_do_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slug = hosted.SLUGS[0]
    api = ManagementApi(functions={slug: hosted.deployed(slug)}, statuses={slug: 401})
    with hosted.project(api, monkeypatch, tmp_path):
        refused = typed("invoke", slug, "-d", "{}")
        assert refused.code == 4
        assert refused.err.endswith("  → bring the key that it expects: --header 'Authorization: Bearer …'\n")
        api.statuses = {slug: 500}
        assert typed("invoke", slug, "-d", "{}").err.endswith(f"  → agentops logs show {slug} --since 15m\n")


def test_a_hosted_answers_correlation_id_is_masked_also_in_the_next_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slug, phone = hosted.SLUGS[0], "+250788123456"
    api = ManagementApi(functions={slug: hosted.deployed(slug)})

    async def answer(_request: Request) -> Response:
        return JSONResponse({"n": 788123456, "m": -250788123456.0}, 500, {"x-correlation-id": f"call-{phone}"})

    monkeypatch.setattr(api, "_call", answer)
    with hosted.project(api, monkeypatch, tmp_path):
        refused = typed("invoke", slug, "--json")
        assert (refused.code, refused.json["correlation_id"]) == (1, "call-+2507***456")
        assert "78812" not in refused.out + refused.err
        assert f"agentops logs show {slug} --correlation 'call-+2507***456'" in refused.err
        assert f"call-{phone}" in typed("invoke", slug, "--reveal").err


@pytest.mark.parametrize("blocked", ["home", "home/supabase"])
def test_what_cannot_be_audited_is_not_revealed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blocked: str) -> None:
    slug = hosted.SLUGS[0]
    api = ManagementApi(functions={slug: hosted.deployed(slug)})
    (tmp_path / blocked).parent.mkdir(exist_ok=True)
    (tmp_path / blocked).write_text("a file where the folder should be")
    with hosted.project(api, monkeypatch, tmp_path):
        refused = typed("invoke", slug, "--reveal", "-d", "{}")
        assert (refused.code, refused.out, api.called) == (1, "", [])
        assert "could not be written" in refused.err
        assert typed("invoke", slug, "-d", "{}").code == 0, "what reveals nothing needs no entry"


@pytest.mark.parametrize(
    "words",
    [
        ("ai-one", "-H", "X: \u00e9"),
        ("ai-one", "-H", "X: \udce9"),
        ("ai-one", "-H", "X: a\nb"),
        ("ai-one", "-H", "bad name: x"),
        ("ai-one", "-H", "n\u00e4me: x"),
        ("ai-one", "--method", "BAD METHOD"),
        ("ai-one", "--method", "\u00e9"),
        ("ai-one", "-d", '"\udce9"'),
        ("\udce9",),
        ("../../secrets",),
        ("a b",),
        ("",),
    ],
)
def test_what_http_cannot_carry_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, peer: list[Any], words: tuple[str, ...]
) -> None:
    here = typed("invoke", *words)
    assert (here.code, "internal error" in here.err, peer) == (2, False, [])
    api = ManagementApi(functions={"ai-one": hosted.deployed("ai-one")})
    with hosted.project(api, monkeypatch, tmp_path):
        assert typed("invoke", *words).code == 2
        assert (api.requests, api.called) == ([], [])


def test_no_part_of_a_header_that_is_refused_is_repeated(peer: list[Any]) -> None:
    for header in ("Authorization Bearer s3cret: x", "Authorization: Bearer s3cret\u00e9"):
        refused = typed("invoke", "ai-one", "-H", header)
        assert (refused.code, "s3cret" in refused.err) == (2, False)
    assert peer == []

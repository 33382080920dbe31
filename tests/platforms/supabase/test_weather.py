"""When Supabase refuses, stumbles or falls silent: one sentence, the next step, the right exit code, and no token."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response

from agentops.errors import UsageError
from agentops.platforms.supabase import management, switching
from tests.commands.line import Result, typed
from tests.fakes.cli import free_port
from tests.fakes.management_api import REF, TOKEN, ManagementApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fakes.edge import Folder

pytestmark = pytest.mark.usefixtures("hasty", "folder")
READ = ("secrets", "list")
WRITE = ("secrets", "set", "FEATURE_AGENT_CHAT=on")


def error(done: Result) -> tuple[str, str]:
    """The sentence and the next step; nothing else is said, and never the token."""
    assert TOKEN not in done.out + done.err
    lines = done.err.strip().splitlines()
    assert len(lines) == 2, done.err
    assert lines[0].startswith("agentops: ")
    assert lines[1].startswith("  → ")
    return lines[0].removeprefix("agentops: "), lines[1].removeprefix("  → ")


def always(answer: Callable[[], Response], method: str = "") -> Callable[[str, str], Response | None]:
    """Answers every request below the project (of that method), not the project's own."""
    return lambda asked, below: answer() if below and method in {"", asked} else None


REFUSALS = [
    (401, 4, "Supabase refuses the access token: words", "agentops login"),
    (402, 69, "the project's plan does not allow more: words", "plan"),
    (403, 4, "the access token may not do this on project .*: words", "permissions"),
    (404, 5, "Supabase does not find it on project .*: words", "agentops target show"),
    (409, 7, "Supabase answers: conflict: words", "repeat"),
    (413, 2, r"Supabase refuses it \(413\): words", "mend"),
    (422, 2, r"Supabase refuses it \(422\): words", "mend"),
    (302, 69, "Supabase's API answered 302, which leads elsewhere", "SUPABASE_API_URL"),
    (500, 69, "Supabase's API answered 500: words", "status.supabase.com"),
    (503, 69, "Supabase's API answered 503: words", "status.supabase.com"),
]


@pytest.mark.parametrize("line", [READ, WRITE])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_a_sentence_with_the_words_of_the_api(
    project_api: ManagementApi, line: tuple[str, ...], refusal: tuple[int, int, str, str]
) -> None:
    status, code, words, hint = refusal
    method = "GET" if line is READ else "POST"
    project_api.refuse = always(lambda: JSONResponse({"message": "words"}, status), method)
    done = typed(*line)
    sentence, step = error(done)
    assert done.code == code
    assert re.fullmatch(words, sentence)
    assert hint in step


def test_several_messages_become_one_sentence(project_api: ManagementApi) -> None:
    project_api.refuse = always(lambda: JSONResponse({"message": ["one\nline", "two"]}, 400))
    assert error(typed(*READ))[0] == "Supabase refuses it (400): one line; two"


def test_a_token_that_expired_is_not_authorised(project_api: ManagementApi) -> None:
    project_api.token = "another"
    done = typed(*READ)
    assert (done.code, error(done)[0]) == (4, "Supabase refuses the access token: Unauthorized")


def test_a_wrong_ref_is_not_found(project_api: ManagementApi) -> None:
    other = "supabase://" + "z" * 20
    done = typed("--target", other, *READ)
    sentence, step = error(done)
    assert (done.code, sentence) == (5, f"the access token sees no project {'z' * 20}")
    assert step == f"agentops --target {other} target show --origin"
    assert project_api.writes == []


def test_a_ref_that_cannot_be_one_is_refused_before_anything_is_sent(project_api: ManagementApi) -> None:
    assert typed("--target", "supabase://short", *READ).code == 2
    assert project_api.requests == []


@pytest.mark.parametrize("standing", ["INACTIVE", "PAUSING"])
@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_a_paused_project_is_named_as_the_reason(project_api: ManagementApi, standing: str, status: int) -> None:
    project_api.standing = standing
    project_api.refuse = always(lambda: JSONResponse({"message": "Connection terminated"}, status))
    done = typed(*READ)
    sentence, step = error(done)
    assert done.code == 69
    assert sentence == f"project {'abcdefghijklmnopqrst'} is paused ({standing})"
    assert step == "restore it, then repeat: https://supabase.com/dashboard/project/abcdefghijklmnopqrst"


def test_a_project_that_comes_up_is_waited_for(project_api: ManagementApi) -> None:
    project_api.standing = "RESTORING"
    project_api.refuse = always(lambda: JSONResponse({"message": "no"}, 500))
    assert error(typed(*READ))[0].endswith("is not ready (RESTORING)")


def test_functions_of_a_paused_project_are_unverified(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    project_api.standing = "INACTIVE"
    done = typed("deploy", "ai-one", "--json")
    assert (done.code, done.json[0]["finding"]) == (8, "it answers 540: the project is paused")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_reads_are_tried_again(project_api: ManagementApi, status: int) -> None:
    answers = iter([Response(status_code=status)] * 3)
    project_api.refuse = lambda method, _below: next(answers, None) if method == "GET" else None
    assert typed(*READ).code == 0
    assert len(project_api.requests) == 4


@pytest.mark.parametrize("line", [WRITE, ("flags", "disable", "chat")])
def test_writes_that_are_the_same_twice_are_tried_again(project_api: ManagementApi, line: tuple[str, ...]) -> None:
    answers = iter([Response(status_code=502)] * 3)
    project_api.refuse = lambda method, _below: next(answers, None) if method == "POST" else None
    assert typed(*line).code == 0
    assert len(project_api.writes) == 4


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_deploy_that_makes_a_version_is_not_repeated_blindly(
    project_api: ManagementApi, folder: Folder, status: int
) -> None:
    folder.function("ai-one")
    project_api.refuse = always(lambda: Response(status_code=status), "POST")
    done = typed("deploy", "ai-one")
    assert (done.code, len(project_api.writes)) == (69, 1)
    assert error(done)[0] == f"Supabase's API answered {status}; live now: ai-one not deployed"


def test_a_deploy_whose_answer_was_lost_is_looked_up_and_verified(project_api: ManagementApi, folder: Folder) -> None:
    folder.function("ai-one")
    project_api.lose = lambda _method, below: below == "/functions/deploy"
    done = typed("deploy", "ai-one", "--json")
    assert (done.code, done.json[0]["status"], done.json[0]["version"]) == (0, "active", 1)
    assert len(project_api.writes) == 1


def test_a_lost_deploy_that_was_not_carried_out_is_state_unknown_and_says_what_is_live(
    project_api: ManagementApi, folder: Folder
) -> None:
    folder.function("ai-one")
    typed("deploy", "ai-one")
    folder.function("ai-one", "two")
    project_api.refuse = always(lambda: Response(b"<html>", 201), "POST")
    done = typed("deploy", "ai-one")
    assert done.code == 9
    assert error(done)[0].endswith("may have been carried out; live now: ai-one version 1 (as before)")


@pytest.mark.parametrize("status", [401, 403, 409, 500])
def test_weather_while_bundling_is_told_by_its_own_code_and_switches_nothing(
    project_api: ManagementApi, folder: Folder, status: int
) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
    project_api.refuse = always(lambda: JSONResponse({"message": "words"}, status), "POST")
    done = typed("deploy", "all")
    assert done.code == {401: 4, 403: 4, 409: 7, 500: 69}[status]
    assert error(done)[0].endswith("words; it was about ai-one; nothing was switched")
    assert project_api.functions == {}


def test_a_switch_whose_answer_was_lost_is_asked_for_again_and_verified(
    project_api: ManagementApi, folder: Folder
) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
    lost = iter([True, True, True, True])
    project_api.lose = lambda method, _below: method == "PUT" and next(lost, False)
    done = typed("deploy", "all", "--json")
    assert [each["status"] for each in done.json] == ["active", "active"]
    assert [method for method, _, _ in project_api.writes].count("PUT") == 4


def test_a_switch_that_stays_refused_says_what_is_live(project_api: ManagementApi, folder: Folder) -> None:
    for slug in ("ai-one", "ai-two"):
        folder.function(slug)
    typed("deploy", "all")
    for slug in ("ai-one", "ai-two"):
        folder.function(slug, "new")
    project_api.refuse = always(lambda: Response(status_code=503), "PUT")
    done = typed("deploy", "all")
    assert done.code == 69
    assert error(done)[0].endswith("live now: ai-one version 1 (as before), ai-two version 1 (as before)")


UNREADABLE: dict[str, Callable[[], Response]] = {
    "truncated": lambda: Response(b'[{"name": "A", "va', media_type="application/json"),
    "html": lambda: HTMLResponse("<html>Just a moment...</html>"),
    "empty": lambda: Response(b""),
    "bytes": lambda: Response(b"\xff\xfe\xff", media_type="application/json"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("line", [READ, ("flags", "list"), ("deploy", "list")])
def test_an_answer_that_is_no_json_is_unavailable(project_api: ManagementApi, line: tuple[str, ...], kind: str) -> None:
    project_api.refuse = always(UNREADABLE[kind])
    done = typed(*line)
    sentence, step = error(done)
    assert (done.code, sentence) == (69, "Supabase's API answered 200 with no readable JSON")
    assert "status.supabase.com" in step


@pytest.mark.parametrize("content", [{}, None, [1], [{"name": 1, "slug": 2}], "text", [{"name": "A"}]])
@pytest.mark.parametrize("line", [READ, ("flags", "list"), ("deploy", "list")])
def test_json_of_another_shape_is_unavailable(
    project_api: ManagementApi, line: tuple[str, ...], content: object
) -> None:
    project_api.refuse = always(lambda: JSONResponse(content))
    done = typed(*line)
    assert (done.code, "cannot be read" in error(done)[0]) == (69, True)


def test_a_write_with_an_unreadable_answer_is_state_unknown(project_api: ManagementApi) -> None:
    project_api.refuse = always(lambda: HTMLResponse("<html>login</html>"), "POST")
    done = typed(*WRITE)
    assert (done.code, "may have been carried out" in error(done)[0]) == (9, True)


def test_silence_is_bounded(project_api: ManagementApi, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(management, "SECONDS", 0.05)
    monkeypatch.setattr(management, "ATTEMPTS", 2)
    project_api.held = lambda _method, below: never if below else None
    try:
        read, write = typed(*READ), typed(*WRITE)
        assert (read.code, error(read)[0]) == (69, "Supabase's API gave no answer within 0.05 s")
        assert write.code == 69  # it reads first
        project_api.held = lambda method, _below: never if method == "POST" else None
        write = typed(*WRITE)
        assert write.code == 9
        assert error(write)[0] == "Supabase's API gave no answer within 0.05 s; the POST may have been carried out"
    finally:
        never.set()


def test_a_deploy_may_take_longer_than_a_read(
    project_api: ManagementApi, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.function("ai-one")
    monkeypatch.setattr(management, "SECONDS", 1.0)
    project_api.deploy_seconds = 1.5
    assert typed("deploy", "ai-one").code == 0
    assert switching.DEPLOY_SECONDS > management.SECONDS


@contextmanager
def raw(answer: bytes, *, reset: bool) -> Iterator[str]:
    """A server that reads a request, says `answer`, and resets or closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)
                    if reset:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


@pytest.mark.parametrize(
    ("answer", "reset"),
    [
        (b"", True),
        (b"", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[", False),
        (b"HTTP/1.1 200 OK\r\ncontent-le", True),
        (b"nonsense\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc", False),
    ],
)
def test_a_connection_that_breaks_off_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, *, reset: bool
) -> None:
    monkeypatch.setenv("SUPABASE_ACCESS_TOKEN", TOKEN)
    with raw(answer, reset=reset) as url:
        monkeypatch.setenv("SUPABASE_API_URL", url)
        done = typed(*READ)
    assert (done.code, "Supabase's API broke off" in error(done)[0]) == (69, True)


def test_an_address_where_nobody_listens_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_ACCESS_TOKEN", TOKEN)
    monkeypatch.setenv("SUPABASE_API_URL", f"http://127.0.0.1:{free_port()}")
    for line in (READ, WRITE):
        done = typed(*line)
        assert (done.code, error(done)[0]) == (69, "Supabase's API cannot be reached")


@pytest.mark.parametrize("url", ["ftp://x", "api.supabase.com", "http://user@host", "http://"])
def test_an_address_that_is_none_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SUPABASE_ACCESS_TOKEN", TOKEN)
    for name in ("SUPABASE_API_URL", "SUPABASE_FUNCTIONS_URL"):
        monkeypatch.setenv(name, url)
        done = typed(*READ)
        monkeypatch.delenv(name)
        assert (done.code, f"{name} is no HTTP address" in error(done)[0]) == (2, True)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500])
@pytest.mark.parametrize("token", [TOKEN, "another-form-of-token"])
def test_the_token_is_never_repeated_not_even_where_the_api_does(
    project_api: ManagementApi, monkeypatch: pytest.MonkeyPatch, status: int, token: str
) -> None:
    monkeypatch.setenv("SUPABASE_ACCESS_TOKEN", token)
    echo = f"invalid header 'Bearer {token}' ({token})"
    project_api.token = token
    project_api.refuse = always(lambda: JSONResponse({"message": echo, "error": echo}, status))
    for extra in ((), ("--json",), ("--debug",), ("--json", "--debug")):
        for line in (READ, ("flags", "disable", "chat"), ("deploy", "list")):
            done = typed(*line, *extra)
            assert done.code != 0
            assert token not in done.out + done.err
            assert "***" in done.err


def test_the_token_is_in_no_traceback_of_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_ACCESS_TOKEN", TOKEN)
    with raw(b"", reset=True) as url:
        monkeypatch.setenv("SUPABASE_API_URL", url)
        done = typed(*READ, "--debug")
    assert "Traceback" in done.err
    assert TOKEN not in done.err


def test_a_token_that_is_none_is_not_sent(project_api: ManagementApi, monkeypatch: pytest.MonkeyPatch) -> None:
    for token in ("short", "with blank inside", "ümlaut-token"):
        monkeypatch.setenv("SUPABASE_ACCESS_TOKEN", token)
        done = typed(*READ)
        assert (done.code, "SUPABASE_ACCESS_TOKEN is no token" in done.err, token in done.err) == (2, True, False)
    monkeypatch.delenv("SUPABASE_ACCESS_TOKEN")
    done = typed(*READ)
    assert (done.code, error(done)[0]) == (4, "there is no access token for Supabase")
    assert project_api.requests == []


def test_a_caller_who_gave_up_leaves_the_next_refusal_its_words(project_api: ManagementApi) -> None:
    looking = threading.Event()

    def slow(method: str, below: str) -> Response | None:
        if not below:  # the project itself, asked why a request fails
            looking.set()
            time.sleep(1)
            return None
        return JSONResponse({"message": "no"}, 503 if method == "GET" else 400)

    project_api.refuse = slow

    async def scenario() -> None:
        api = management.Management(REF, TOKEN, base_url=project_api.url)
        reading = asyncio.create_task(api.get("/secrets", attempts=1))
        await asyncio.to_thread(looking.wait, 20)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        with pytest.raises(UsageError, match="no"):
            await api.send("POST", "/secrets", json=[], repeatable=True)
        await api.aclose()

    asyncio.run(scenario())

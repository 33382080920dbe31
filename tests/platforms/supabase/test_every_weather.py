"""Every main command in every bad weather: one sentence, the next step, the right exit code; no traceback, no token."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse, Response

from agentops.platforms.supabase import management
from tests.commands.line import typed
from tests.fakes.management_api import TOKEN, ManagementApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fakes.edge import Folder

    Refuse = Callable[[str, str], Response | None]

pytestmark = pytest.mark.usefixtures("hasty")

READS = ("deploy list", "deploy history ai-one", "secrets list", "flags list", "logs show", "stats vouchers")
# They look first, so what is wrong is met by a read.
WRITES = (
    "deploy all",
    "deploy rollback ai-one",
    "deploy delete ai-one --yes",
    "secrets set FEATURE_AGENT_CHAT=off",
    "secrets unset OLD --yes",
    "flags enable voice",
)
# They go on where nothing can be read, so what is wrong is met by their one POST.
OFF = ("flags disable chat", "incident kill-switch")
LINES = (*READS, *WRITES, *OFF)


def status(code: int) -> Refuse:
    """All below the project is refused; the project itself can be looked at."""
    return lambda _method, path: JSONResponse({"message": "words"}, code, {"retry-after": "0"}) if path else None


def unreadable(content: bytes) -> Refuse:
    return lambda _method, path: Response(content, media_type="application/json") if path else None


# What is wrong, its exit code, and that of a change whose answer is lost: nobody knows then whether it was made.
WEATHER: dict[str, tuple[Refuse, int, int]] = {
    "401": (status(401), 4, 4),
    "402": (status(402), 69, 69),
    "403": (status(403), 4, 4),
    "404": (status(404), 5, 5),
    "409": (status(409), 7, 7),
    "429": (status(429), 69, 69),
    "500": (status(500), 69, 69),
    "502": (status(502), 69, 69),
    "503": (status(503), 69, 69),
    "504": (status(504), 69, 69),
    "truncated JSON": (unreadable(b'[{"name": "A", "va'), 69, 9),
    "a login page": (unreadable(b"<html>login</html>"), 69, 9),
}


@pytest.fixture
def api(project_api: ManagementApi, folder: Folder) -> ManagementApi:
    """A project with something in it."""
    folder.function("ai-one")
    assert typed("deploy", "all").code == 0
    project_api.secrets = {"FEATURE_AGENT_CHAT": "true", "OLD": "1"}
    folder.function("ai-one", "edited")
    return project_api


def told(line: str, code: int, *words: str) -> tuple[str, str]:
    """Type the line: it ends with that code, and says one sentence and one next step."""
    done = typed(*words, *line.split())
    assert done.code == code, done
    assert done.out == ""
    assert TOKEN not in done.err
    assert "Traceback" not in done.err
    said = [each for each in done.err.strip().splitlines() if not each.startswith("note: ")]
    assert len(said) == 2, done.err
    assert said[0].startswith("agentops: ")
    assert said[1].startswith("  → ")
    return said[0].removeprefix("agentops: "), said[1].removeprefix("  → ")


@pytest.mark.parametrize("weather", WEATHER)
def test_every_refusal_is_a_sentence_and_a_next_step(api: ManagementApi, weather: str) -> None:
    api.refuse, code, lost = WEATHER[weather]
    for line in LINES:
        told(line, lost if line in OFF else code)
    assert api.secrets == {"FEATURE_AGENT_CHAT": "true", "OLD": "1"}
    assert [each.row["version"] for each in api.functions.values()] == [1]


def test_an_expired_token_says_how_to_get_another_one(api: ManagementApi) -> None:
    api.token = "another-token"
    for line in LINES:
        assert "agentops login" in told(line, 4)[1]


def test_a_wrong_ref_is_named_and_leads_to_where_it_comes_from(api: ManagementApi) -> None:
    other = "z" * 20
    for line in LINES:
        if line == "deploy history ai-one":
            continue  # with the ref goes what is known of it
        sentence, step = told(line, 5, "--target", f"supabase://{other}")
        assert sentence == f"the access token sees no project {other}"
        assert step.endswith("target show --origin")
    assert [each.row["version"] for each in api.functions.values()] == [1]


@pytest.mark.parametrize("code", [400, 404, 500, 503])
def test_a_paused_project_is_named_as_the_reason(api: ManagementApi, code: int) -> None:
    api.standing = "INACTIVE"
    api.refuse = status(code)
    for line in LINES:
        sentence, step = told(line, 69)
        assert sentence.endswith("is paused (INACTIVE)")
        assert step.startswith("restore it, then repeat: https://supabase.com/dashboard/project/")


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """What is held back until the test ends."""
    event = threading.Event()
    yield event
    event.set()


def test_silence_is_bounded_in_every_command(
    api: ManagementApi, monkeypatch: pytest.MonkeyPatch, never: threading.Event
) -> None:
    monkeypatch.setattr(management, "SECONDS", 0.05)
    monkeypatch.setattr(management, "ATTEMPTS", 2)
    api.held = lambda _method, path: never if path else None
    for line in LINES:
        assert "gave no answer within 0.05 s" in told(line, 9 if line in OFF else 69)[0]


def _findings(found: list[dict[str, Any]]) -> list[str]:
    return [each["finding"] for each in found if each["status"] == "failed"]


@pytest.mark.parametrize("weather", [*WEATHER, "paused", "expired token", "wrong ref"])
def test_health_is_a_table_of_findings_in_any_weather(api: ManagementApi, weather: str) -> None:
    words: tuple[str, ...] = ()
    if weather in WEATHER:
        api.refuse = WEATHER[weather][0]
    elif weather == "paused":
        api.standing, api.refuse = "INACTIVE", status(400)
    elif weather == "expired token":
        api.token = "another-token"
    else:
        words = ("--target", f"supabase://{'z' * 20}")
    done = typed("health", *words, "--json")
    assert done.code == 1, done
    assert _findings(done.json)
    assert all("\n" not in finding for finding in _findings(done.json))
    assert all(each["hint"] for each in done.json if each["status"] == "failed")
    assert "Traceback" not in done.err
    assert TOKEN not in done.err + done.out

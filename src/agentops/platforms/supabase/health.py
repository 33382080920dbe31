"""What a hosted project says of itself, each thing asked alone, so that one that fails hides no other.

    standing: project (GET …/{ref}), api-keys (GET …/api-keys)
    functions: GET …/functions beside a GET of each function → last-deploy, a row each
    settings: secrets (GET …/secrets), by their digests

Everything is asked at once, at most twice and for some seconds only: who looks at health waits for the answer.

Source: https://supabase.com/docs/reference/api/v1-get-project
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from agentops.errors import AgentOpsError, Unavailable
from agentops.platforms.supabase import flags, secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping, Sequence

    from agentops.platforms import Function, Invocation
    from agentops.platforms.supabase import SupabasePlatform
    from agentops.platforms.supabase.management import Management

ATTEMPTS = 2
ANSWER_SECONDS = 5.0
# status (ok, degraded, failed), what was found, what to type or do next
Verdict = tuple[str, str, str | None]

SERVER_ADDRESS = "AGENTOPS_URL"
_DASHBOARD = "https://supabase.com/dashboard/project/"
_RUNS = "ACTIVE_HEALTHY"
_PAUSED = {"INACTIVE", "PAUSING", "PAUSE_FAILED", "GOING_DOWN"}
# It comes by itself, or works in part.
_PASSING = {
    "ACTIVE_UNHEALTHY": "runs, but a part of it is not well",
    "COMING_UP": "is starting",
    "RESIZING": "is being resized",
    "RESTARTING": "is restarting",
    "RESTORING": "is being restored",
    "UNKNOWN": "is in an unknown state",
    "UPGRADING": "is being upgraded",
}
# Either role's older key by name, and the newer kind that stands for it.
_KEYS = {"anon": "publishable", "service_role": "secret"}
_MAY_RUN = {"active", "drifted", "unknown"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: `status` is ok, degraded or failed; `hint` is what to type or do next."""

    name: str
    status: str
    latency_ms: int | None
    finding: str
    hint: str | None


async def bounded(
    verdict: Awaitable[Verdict], seconds: float | None = None, *, what: str = "Supabase's API"
) -> Verdict:
    """A verdict, or that `what` took too long (default: `ANSWER_SECONDS`)."""
    limit = ANSWER_SECONDS if seconds is None else seconds
    try:
        async with asyncio.timeout(limit):
            return await verdict
    except TimeoutError:
        hint = "try again; https://status.supabase.com" if what.startswith("Supabase") else "see whether it runs"
        return "failed", f"{what} gave no answer within {limit:.0f} s", hint


async def standing(platform: SupabasePlatform) -> list[Finding]:
    """Whether the project runs, and which keys it has."""
    asked = (_timed("project", project(platform.api)), _timed("api-keys", keys(platform.api)))
    return list(await asyncio.gather(*asked))


async def project(api: Management) -> Verdict:
    """Whether the project runs; a paused one is named.

    Raises:
        NotAuthorised, NotFound, Unavailable: the API does not tell.
    """
    answer = await api.get("", attempts=ATTEMPTS)
    status = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(status, str):
        raise Unavailable(
            "Supabase's answer about the project cannot be read", "try again; https://status.supabase.com"
        )
    if status == _RUNS:
        return "ok", f"project {answer.get('name') or api.ref} runs ({status})", None
    if status in _PASSING:
        return "degraded", f"project {api.ref} {_PASSING[status]} ({status})", "https://status.supabase.com"
    if status in _PAUSED:
        return "failed", f"project {api.ref} is paused ({status})", f"restore it: {_DASHBOARD}{api.ref}"
    return "failed", f"project {api.ref} does not run ({status})", f"see {_DASHBOARD}{api.ref}"


async def keys(api: Management) -> Verdict:
    """Whether both roles have a key, of the older kind or the newer.

    Raises:
        NotAuthorised, Unavailable: the API does not tell.
    """
    answer = await api.get("/api-keys", attempts=ATTEMPTS)
    rows = [row for row in answer if isinstance(row, dict)] if isinstance(answer, list) else []
    names = {row.get("name") for row in rows if row.get("type") in {None, "legacy"}}
    kinds = {row.get("type") for row in rows}
    missing = [f"{role} ({kind})" for role, kind in _KEYS.items() if role not in names and kind not in kinds]
    if missing:
        return "degraded", f"no API key for {', '.join(missing)}", f"see {_DASHBOARD}{api.ref}/settings/api-keys"
    return "ok", "both roles have an API key: anon, service_role", None


async def functions(platform: SupabasePlatform, wanted: Sequence[str]) -> list[Finding]:
    """Every function: as the API lists it, and what it answers to a GET; `wanted` are called without waiting for it."""
    calls = {slug: asyncio.create_task(_call(platform, slug)) for slug in wanted}
    there: dict[str, Function] = {}

    async def look() -> Verdict:
        there.update((function.slug, function) for function in await platform.functions())
        return _last_deploy(list(there.values()))

    newest = await _timed("last-deploy", look())
    if newest.status == "failed":
        return [newest, *[_heard(slug, None, await call) for slug, call in calls.items()]]
    calls |= {slug: asyncio.create_task(_call(platform, slug)) for slug in there if slug not in calls}
    answers = dict(zip(calls, await asyncio.gather(*calls.values()), strict=True))
    rows = [_heard(slug, there[slug], answers[slug]) for slug in sorted(there)]
    missing = [slug for slug in wanted if slug not in there]
    deploy = f"agentops deploy {missing[0] if len(missing) == 1 else 'all'}"
    return [newest, *rows, *(Finding(slug, "degraded", None, "is not deployed", deploy) for slug in missing)]


async def settings(platform: SupabasePlatform, needs: Mapping[str, Iterable[str]], *, forwards: bool) -> list[Finding]:
    """Whether what the enabled flags need is set; `forwards`: the functions are ours, an agentops server has the rest.

    `needs` are the secrets that each flag needs.
    """
    return [await _timed("secrets", _secrets(platform.api, needs, forwards=forwards))]


async def _secrets(api: Management, needs: Mapping[str, Iterable[str]], *, forwards: bool) -> Verdict:
    digests = await secrets.digests(api, attempts=ATTEMPTS)
    found = flags.found(digests)
    strange = [flag.name for flag in found if flag.enabled is None]
    if strange:
        hint = f"agentops flags disable {strange[0]}"
        return "degraded", f"neither on nor off, as far as can be told: {', '.join(strange)}", hint
    on = {flag.secret for flag in found if flag.enabled}
    if forwards or SERVER_ADDRESS in digests:
        if SERVER_ADDRESS not in digests:
            words = f"not set: {SERVER_ADDRESS}, so the forwarders do not know their server"
            return "degraded", words, f"agentops secrets set {SERVER_ADDRESS}=https://…"
        return "ok", f"{SERVER_ADDRESS} is set; the other secrets are the agentops server's", None
    needed = dict.fromkeys(name for flag, names in needs.items() if flag in on for name in names)
    missing = [name for name in needed if name not in digests]
    if missing:
        return "degraded", f"not set: {', '.join(missing)}", f"agentops secrets set {missing[0]}"
    return "ok", "every secret that the enabled features need is set", None


async def _call(platform: SupabasePlatform, slug: str) -> Invocation | AgentOpsError:
    """A function's own GET; its error as a value, so that nothing is left unawaited."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            # GET needs no key; this one keeps the platform from looking for the real one.
            return await platform.invoke(slug, "GET", b"", {"apikey": "none"})
    except TimeoutError:
        hint = f"agentops logs show {slug} --since 15m"
        return AgentOpsError(f"no answer within {ANSWER_SECONDS:.0f} s", hint)
    except AgentOpsError as failure:
        return failure


def _heard(slug: str, function: Function | None, answer: Invocation | AgentOpsError) -> Finding:
    """What is known of a function: as it is listed, and its answer; all but 404 and 5xx says that it runs."""
    if function is not None and function.status not in _MAY_RUN:
        hint = f"agentops deploy {slug} --force"
        return Finding(slug, "failed", None, f"its status is {function.status.upper()}", hint)
    if isinstance(answer, AgentOpsError):
        return Finding(slug, "failed", None, answer.message, answer.hint)
    if answer.status == HTTPStatus.NOT_FOUND or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        error = answer.body.get("error") if isinstance(answer.body, dict) else None
        words = f"answers HTTP {answer.status}{f': {error}' if isinstance(error, str) else ''}"
        return Finding(slug, "failed", answer.latency_ms, words, f"agentops logs show {slug} --since 15m")
    return Finding(
        slug, "ok", answer.latency_ms, f"version {function.version} answers" if function else "answers", None
    )


def _last_deploy(listed: Sequence[Function]) -> Verdict:
    if not listed:
        return "degraded", "no function is deployed", "agentops deploy all"
    newest = max(listed, key=lambda function: function.deployed_at)
    by = f" by {newest.deployed_by}" if newest.deployed_by != "unknown" else ""
    drifted = sum(function.status == "drifted" for function in listed)
    words = f"; {drifted} of {len(listed)} are not what this machine deployed last" if drifted else ""
    return "ok", f"{newest.slug} version {newest.version}, {newest.deployed_at:%Y-%m-%d %H:%M:%S} UTC{by}{words}", None


async def _timed(name: str, verdict: Awaitable[Verdict]) -> Finding:
    begun = time.perf_counter()
    try:
        found = await bounded(verdict)
    except AgentOpsError as failure:
        found = ("failed", failure.message, failure.hint)
    return Finding(name, found[0], _since(begun), found[1], found[2])


def _since(begun: float) -> int:
    return round((time.perf_counter() - begun) * 1000)

"""Check the stack: database, servers, functions, settings, queue; each finding says what to type next.

Exit 0 when all is well, 3 when something is degraded, 1 when something failed (runbook, "Quick health check"). A hosted
project's database is asked through Supabase's API, or through DATABASE_URL where that is set.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from agentops.configuration import BUSINESS_ACCOUNT_ID, PHONE_NUMBER_ID
from agentops.errors import AgentOpsError, Kind
from agentops.platforms import Function, Invocation, Platform, Server
from agentops.secret_values import SHOWN_DIGITS, digest
from agentops.session import Answer, Session
from agentops.settings import CHAT, PHONE_ID, SERVICE_KEY, VOICE, Process

if TYPE_CHECKING:
    from agentops.platforms.supabase import SupabasePlatform
    from agentops.platforms.supabase.health import Finding

ANSWER_SECONDS = 5.0
_OK = 200
_CHAT_SECRETS = ("OPENAI_API_KEY", "WA_TOKEN", PHONE_ID, "WA_VERIFY_TOKEN", "WA_APP_SECRET")
_NEEDS = {CHAT: _CHAT_SECRETS, VOICE: ("OPENAI_API_KEY",)}


class Part(StrEnum):
    """A part of the stack that can be checked alone."""

    FUNCTIONS = "functions"
    DATABASE = "database"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing checked: `status` is ok, degraded or failed; `hint` is what to type next."""

    name: str
    status: str
    latency_ms: int | None
    finding: str
    hint: str | None = None


Verdict = tuple[str, str, str | None]


def _ok(finding: str) -> Verdict:
    return "ok", finding, None


async def health(
    session: Session,
    part: Annotated[Part | None, typer.Argument(help="Only this part.", metavar="[functions|database]")] = None,
) -> Answer:
    """Check the whole stack, or one part of it. Exit 0 all well, 3 degraded, 1 failed."""
    begun = time.perf_counter()
    try:
        platform = await session.platform()
    except AgentOpsError as failure:
        name = "project" if session.process.hosted else "database"
        checks = [Check(name, "failed", _since(begun), failure.message, failure.hint)]
        return Answer(checks, Kind.FAILED)
    if session.process.hosted:
        checks = await _hosted(session, part)
        return Answer(checks, _kind(checks))
    checks = []
    if part in {None, Part.DATABASE}:
        checks += [check async for check in _database(session, platform)]
    if part in {None, Part.FUNCTIONS}:
        checks += [check async for check in _functions(session, platform)]
    if part is None:
        checks += [check async for check in _work(session, platform)]
    return Answer(checks, _kind(checks))


def _kind(checks: Iterable[Check]) -> Kind:
    found = {check.status for check in checks}
    return Kind.FAILED if "failed" in found else Kind.DIFFERS if "degraded" in found else Kind.DONE


async def _check(name: str, verdict: Awaitable[Verdict]) -> Check:
    """Await one verdict and time it; an error of ours is the verdict."""
    begun = time.perf_counter()
    try:
        status, finding, hint = await verdict
    except AgentOpsError as failure:
        status, finding, hint = "failed", failure.message, failure.hint
    return Check(name, status, _since(begun), finding, hint)


async def _hosted(session: Session, part: Part | None) -> list[Check]:
    """A hosted project, everything asked at once; what fails for one reason is told once."""
    from agentops.platforms.supabase import health as project

    platform, wanted = session.supabase(), _wanted(session)
    asked: list[Awaitable[list[Check]]] = []
    if part is None:
        asked.append(_checks(project.standing(platform)))
    if part in {None, Part.DATABASE}:
        asked.append(_hosted_database(session))
    if part in {None, Part.FUNCTIONS}:
        asked.append(_checks(project.functions(platform, wanted)))
    if part is None:
        asked.append(_checks(project.settings(platform, _NEEDS, forwards=_forwards(session))))
        asked.append(_hosted_number(session))
        asked.append(_hosted_incidents(platform))
        if session.process.server:
            asked.append(_behind(session, session.process.server))
    told: set[str] = set()
    kept = []
    found = [check for checks in await asyncio.gather(*asked) for check in checks]
    if any(check.name == "project" and check.status == "failed" for check in found):
        # What this machine alone knows of incidents says nothing of the project.
        found = [check for check in found if check.name != "incidents" or check.status != "ok"]
    for check in found:
        if check.status != "failed" or check.name in wanted or check.finding not in told:
            kept.append(check)
        told.add(check.finding)
    return kept


async def _checks(findings: Awaitable[Iterable[Finding]]) -> list[Check]:
    return [Check(each.name, each.status, each.latency_ms, each.finding, each.hint) for each in await findings]


def _wanted(session: Session) -> list[str]:
    from agentops.platforms.bundle import packaged_slugs
    from agentops.platforms.supabase import sources

    return sources.known(session.process.project, session.process.functions) or packaged_slugs()


def _forwards(session: Session) -> bool:
    """Whether the functions of this project folder are our forwarders."""
    return (session.process.functions / "_shared" / "agentops.ts").is_file()


async def _hosted_database(session: Session) -> list[Check]:
    """The project's own database, read only, and no longer than the rest may take."""
    from agentops.incidents import database_symptoms as symptoms
    from agentops.platforms.supabase.health import bounded

    begun = time.perf_counter()
    try:
        queries = await session.queries()
    except AgentOpsError as failure:
        return [Check("database", "failed", _since(begun), f"DATABASE_URL: {failure.message}", failure.hint)]
    how = "over Supabase's API" if isinstance(queries, type(session.supabase())) else "by DATABASE_URL"
    verdicts = {
        "database": symptoms.answers(queries, "PostgreSQL", f"{how} on target {session.process.label}"),
        "tables": symptoms.tables(queries, lambda: _served(session)),
        "connections": symptoms.connections(queries),
        "voucher-codes": symptoms.codes(queries),
    }
    return list(await asyncio.gather(*(_check(name, bounded(verdict)) for name, verdict in verdicts.items())))


async def _behind(session: Session, address: str) -> list[Check]:
    """The stack behind the forwarders: whether its servers live. What else it lacks, its own health says."""
    import shlex

    from agentops.platforms.supabase.health import bounded
    from agentops.settings import without_password

    shown = without_password(address)

    async def verdict() -> Verdict:
        servers = await (await session.server()).servers()
        missing = [role for role in ("web", "worker") if role not in {server.role for server in servers}]
        if missing:
            finding = f"no {' and no '.join(missing)} server is alive on the stack behind, {shown}"
            return "failed", finding, f"agentops --target {shlex.quote(shown)} health"
        return _ok(f"alive on the stack behind: {', '.join(server.name for server in servers)}")

    return [await _check("server", bounded(verdict(), what="the stack behind"))]


async def _hosted_incidents(platform: SupabasePlatform) -> list[Check]:
    """Whether something is switched off that nobody has put back."""
    from agentops.incidents import symptoms
    from agentops.incidents.book import Book

    async def verdict() -> Verdict:
        book = Book(platform.books)
        await book.read()
        found = book.open()
        return symptoms.open_incidents([found] if found else [])

    return [await _check("incidents", verdict())]


async def _served(session: Session) -> bool:
    """Whether an agentops server does the work of a hosted project."""
    from agentops.platforms.supabase.health import SERVER_ADDRESS

    if _forwards(session) or session.process.server:
        return True
    return SERVER_ADDRESS in {secret.name for secret in await session.supabase().secrets()}


def _since(begun: float) -> int:
    return round((time.perf_counter() - begun) * 1000)


async def _database(session: Session, platform: Platform) -> AsyncIterator[Check]:
    from agentops.incidents import database_symptoms as symptoms

    kind = "embedded PostgreSQL" if session.process.embedded else "PostgreSQL"
    yield await _check("database", symptoms.answers(platform, kind, f"on target {platform.target}"))
    yield await _check("schema", symptoms.version(platform))
    yield await _check("customer-wall", symptoms.wall(platform))
    yield await _check("connections", symptoms.connections(platform))
    yield await _check("voucher-codes", symptoms.codes(platform))
    yield await _check("money-transactions", symptoms.money(platform))


async def _functions(session: Session, platform: Platform) -> AsyncIterator[Check]:
    from agentops.platforms.bundle import known

    servers = await platform.servers()
    for role in ("web", "worker"):
        yield await _check(f"{role}-servers", _alive(role, servers))
    deployed = await platform.functions()
    for check in await asyncio.gather(*(_function(platform, function, servers) for function in deployed)):
        yield check
    here = known(session.process.project, session.process.functions)
    missing = sorted({*here} - {function.slug for function in deployed})
    for slug in missing:
        yield Check(
            slug, "degraded", None, "is not deployed", f"agentops deploy {slug if len(missing) == 1 else 'all'}"
        )


async def _alive(role: str, servers: list[Server]) -> Verdict:
    alive = [server for server in servers if server.role == role]
    if not alive:
        lost = "nothing answers requests" if role == "web" else "messages wait unanswered"
        return "failed", f"no {role} server is alive: {lost}", "agentops up"
    late = [server.name for server in alive if server.heartbeat_age > ANSWER_SECONDS]
    if late:
        return "degraded", f"no heartbeat for {ANSWER_SECONDS:.0f} s from {', '.join(late)}", "agentops status"
    return _ok(f"alive: {', '.join(server.name for server in alive)}")


async def _function(platform: Platform, function: Function, servers: list[Server]) -> Check:
    """One function's verdict; its latency is that of the request alone, null where none was answered."""
    try:
        latency, (status, finding, hint) = await _answer(platform, function, servers)
    except AgentOpsError as failure:
        latency, status, finding, hint = None, "failed", failure.message, failure.hint
    return Check(function.slug, status, latency, finding, hint)


async def _answer(platform: Platform, function: Function, servers: list[Server]) -> tuple[int | None, Verdict]:
    """A function's own GET, as the page checks it, and what the servers say about loading it."""
    broken = [server for server in servers if not server.functions.get(function.slug, {}).get("ok", True)]
    if broken:
        error = broken[0].functions[function.slug].get("error")
        finding = f"does not load on {broken[0].name}: {error}"
        return None, ("failed", finding, f"agentops deploy rollback {function.slug}")
    if not any(server.role == "web" for server in servers):
        return None, ("failed", "nobody serves it: no web server is alive", "agentops up")
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            # GET needs no key; this one keeps the platform from looking for the real one.
            answer = await platform.invoke(function.slug, "GET", b"", {"apikey": "none"})
    except TimeoutError:
        hint = f"agentops logs show {function.slug} --since 15m"
        return None, ("failed", f"no answer within {ANSWER_SECONDS:.0f} s", hint)
    return answer.latency_ms, _heard(function, answer)


def _heard(function: Function, answer: Invocation) -> Verdict:
    if answer.status != _OK:
        return "failed", f"answers HTTP {answer.status}", f"agentops logs show {function.slug} --level error"
    version = answer.body.get("version") if isinstance(answer.body, dict) else None
    if version not in {None, function.version}:
        return "degraded", f"version {version} answers, {function.version} is deployed", "agentops status"
    return _ok(f"version {function.version} answers")


async def _work(session: Session, platform: Platform) -> AsyncIterator[Check]:
    from agentops.incidents import symptoms

    yield await _check("secrets", _secrets(platform))
    if session.process.told(PHONE_NUMBER_ID):
        yield await _check("whatsapp-number", _number(session.process, platform))
    yield await _check("queue", symptoms.queue(platform))
    yield await _check("dead-letters", symptoms.dead_letters(platform))
    yield await _check("replies", symptoms.replies(platform))
    yield await _check("sending", symptoms.sending(platform))
    yield await _check("incidents", symptoms.incidents(platform))


async def _secrets(platform: Platform) -> Verdict:
    """The service key always; a provider's secrets where the flag is on that needs them."""
    from agentops.store import health as figures

    present = {secret.name for secret in await platform.secrets()}
    on = {flag.secret for flag in await platform.flags() if flag.enabled}
    needed = [SERVICE_KEY]
    if not await figures.simulated(platform):
        needed += [name for flag, names in _NEEDS.items() if flag in on for name in names]
    missing = [name for name in dict.fromkeys(needed) if name not in present]
    if missing:
        # The first start makes the service key; the others only an operator has.
        hint = "agentops up" if missing[0] == SERVICE_KEY else f"agentops secrets set {missing[0]}"
        return "degraded", f"not set: {', '.join(missing)}", hint
    return _ok("every secret that the enabled features need is set")


async def _number(process: Process, platform: Platform) -> Verdict:
    """Whether the stack sends from the number that agentops.toml names."""
    from agentops.store import health as figures

    if await figures.simulated(platform):
        return _ok("the sandbox has a made-up number, which is not compared")
    present = {secret.name: secret.digest for secret in await platform.secrets()}
    return _compared(process, present.get(PHONE_ID))


async def _hosted_number(session: Session) -> list[Check]:
    """The same of a hosted project; where it only forwards, its server has the number."""
    from agentops.platforms.supabase.health import bounded

    process, platform = session.process, session.supabase()
    if not process.told(PHONE_NUMBER_ID):
        return []

    async def verdict() -> Verdict:
        present = {secret.name: secret.digest for secret in await platform.secrets()}
        if PHONE_ID not in present and await _served(session):
            return _ok(f"{PHONE_ID} is the agentops server's, and compared there")
        return _compared(process, present.get(PHONE_ID))

    return [await _check("whatsapp-number", bounded(verdict()))]


def _compared(process: Process, stored: str | None) -> Verdict:
    """The number's id is no secret, its digest says whether it is the stored one."""
    wanted = process.told(PHONE_NUMBER_ID) or ""
    account = process.told(BUSINESS_ACCOUNT_ID)
    named = f"{wanted}{f' of business account {account}' if account else ''}"
    hint = f"agentops secrets set {PHONE_ID}={wanted}, or correct {process.said[PHONE_NUMBER_ID].origin}"
    if stored is None:
        return "degraded", f"{PHONE_ID} is not set; agentops.toml names {named}", hint
    if stored[:SHOWN_DIGITS] != digest(wanted)[:SHOWN_DIGITS]:
        return "degraded", f"{PHONE_ID} is another number than {named}, which agentops.toml names", hint
    return _ok(f"{PHONE_ID} is {named}")

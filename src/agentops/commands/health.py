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

from agentops.commands import slugs
from agentops.errors import AgentOpsError, Kind
from agentops.platforms import Function, Invocation, Platform, Queries, Server
from agentops.session import Answer, Session
from agentops.settings import CHAT, SERVICE_KEY, VOICE

if TYPE_CHECKING:
    from agentops.platforms.supabase.health import Finding

ANSWER_SECONDS = 5.0
_OK = 200
_FULL = 0.8
_CHAT_SECRETS = ("OPENAI_API_KEY", "WA_TOKEN", "WA_PHONE_ID", "WA_VERIFY_TOKEN", "WA_APP_SECRET")
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
        checks += [check async for check in _functions(platform)]
    if part is None:
        checks += [check async for check in _work(platform)]
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
    told: set[str] = set()
    kept = []
    for check in (check for checks in await asyncio.gather(*asked) for check in checks):
        if check.status != "failed" or check.name in wanted or check.finding not in told:
            kept.append(check)
        told.add(check.finding)
    return kept


async def _checks(findings: Awaitable[Iterable[Finding]]) -> list[Check]:
    return [Check(each.name, each.status, each.latency_ms, each.finding, each.hint) for each in await findings]


def _wanted(session: Session) -> list[str]:
    from agentops.platforms.bundle import packaged_slugs
    from agentops.platforms.supabase import sources

    return sources.known(session.process.project) or packaged_slugs()


def _forwards(session: Session) -> bool:
    """Whether the functions of this project folder are our forwarders."""
    from agentops.platforms.supabase import sources

    return (session.process.project / sources.FOLDER / "_shared" / "agentops.ts").is_file()


async def _hosted_database(session: Session) -> list[Check]:
    """The project's own database, read only, and no longer than the rest may take."""
    from agentops.platforms.supabase.health import bounded

    begun = time.perf_counter()
    try:
        queries = await session.queries()
    except AgentOpsError as failure:
        return [Check("database", "failed", _since(begun), f"DATABASE_URL: {failure.message}", failure.hint)]
    how = "over Supabase's API" if isinstance(queries, type(session.supabase())) else "by DATABASE_URL"
    verdicts = {
        "database": _hosted_answers(queries, f"{how} on target {session.process.label}"),
        "tables": _tables(queries),
        "connections": _connections(queries),
        "voucher-codes": _codes(queries),
    }
    return list(await asyncio.gather(*(_check(name, bounded(verdict)) for name, verdict in verdicts.items())))


async def _hosted_answers(queries: Queries, where: str) -> Verdict:
    from agentops.store import schema

    return _ok(f"PostgreSQL {await schema.server_version(queries)} answers {where}")


async def _tables(queries: Queries) -> Verdict:
    from agentops.store import schema

    found = await schema.tables(queries)
    wrong = [f"{table.name} is missing" for table in found if not table.present]
    wrong += [f"{table.name} lacks {', '.join(table.missing)}" for table in found if table.present and table.missing]
    if wrong:
        return "degraded", "; ".join(wrong), 'agentops --target "$DATABASE_URL" db migrate'
    return _ok(f"there are {' and '.join(table.name for table in found)}")


def _since(begun: float) -> int:
    return round((time.perf_counter() - begun) * 1000)


async def _database(session: Session, platform: Platform) -> AsyncIterator[Check]:
    yield await _check("database", _answers(session, platform))
    yield await _check("schema", _schema(platform))
    yield await _check("customer-wall", _wall(platform))
    yield await _check("connections", _connections(platform))
    yield await _check("voucher-codes", _codes(platform))
    yield await _check("money-transactions", _money(platform))


async def _answers(session: Session, platform: Platform) -> Verdict:
    from agentops.store import schema

    kind = "embedded PostgreSQL" if session.process.embedded else "PostgreSQL"
    return _ok(f"{kind} {await schema.server_version(platform)} answers on target {platform.target}")


async def _schema(platform: Platform) -> Verdict:
    from agentops.store import migrations, schema

    found, needed = await schema.version(platform), migrations.needed()
    if found is None or found < needed:
        return "degraded", f"schema version {found or 'none'}, this agentops needs {needed}", "agentops db migrate"
    refusing = await schema.refuses_void(platform)
    if refusing:
        return "degraded", f"constraint {refusing} refuses status void: voiding fails", "agentops db migrate"
    return _ok(f"schema version {found}")


async def _wall(platform: Platform) -> Verdict:
    from agentops.store import schema

    missing = await schema.wall_missing(platform)
    if missing:
        words = f"customers' tools run without row-level security: {missing}"
        return "degraded", words, "agentops db migrate, as a database user who may create roles and owns the tables"
    return _ok("row-level security holds customers' tools to their own rows")


async def _connections(queries: Queries) -> Verdict:
    from agentops.store import health as figures

    found = await figures.connections(queries)
    words = f"{found.used} of {found.allowed} connections in use"
    if found.used >= _FULL * found.allowed:
        return "degraded", words, "run fewer servers (agentops serve --processes N) or raise max_connections"
    return _ok(words)


async def _codes(queries: Queries) -> Verdict:
    from agentops.store import health as figures

    live = await figures.live_codes(queries)
    words = f"{live:,} of {figures.CODES:,} voucher codes in use"
    if live >= _FULL * figures.CODES:
        return "degraded", words, "void or expire old vouchers: agentops stats vouchers --days 365"
    return _ok(words)


async def _money(platform: Platform) -> Verdict:
    from agentops.store import health as figures
    from agentops.store.database import MONEY_SECONDS

    long = await figures.long_money_transactions(platform, MONEY_SECONDS)
    if not long:
        return _ok("no money transaction runs long")
    who = ", ".join(f"session {entry.pid} ({entry.seconds:.0f} s)" for entry in long)
    return "degraded", f"money transactions run long: {who}", "agentops db psql -- -c 'select * from pg_stat_activity'"


async def _functions(platform: Platform) -> AsyncIterator[Check]:
    servers = await platform.servers()
    for role in ("web", "worker"):
        yield await _check(f"{role}-servers", _alive(role, servers))
    deployed = await platform.functions()
    for check in await asyncio.gather(*(_function(platform, function, servers) for function in deployed)):
        yield check
    missing = sorted({*slugs()} - {function.slug for function in deployed})
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


async def _work(platform: Platform) -> AsyncIterator[Check]:
    from agentops.incidents import symptoms

    yield await _check("secrets", _secrets(platform))
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

"""The kill switch: one commit, then nothing of before can move money, then every server knows."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from agentops.errors import TimedOut
from agentops.incidents import kill_switch
from agentops.settings import CHAT, CUSTOMER_LOOKUP, VOICE, VOUCHERS
from agentops.store import incidents
from agentops.store.database import Database
from tests.platforms.local.serving import opened

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentops.incidents.kill_switch import Killed
    from agentops.platforms import Flag
    from agentops.platforms.local import LocalPlatform

_SERVER = """insert into agentops.servers (id, host, pid, role, generation, heartbeat_at)
values (%(id)s, %(host)s, %(pid)s, 'web', %(generation)s, clock_timestamp() - make_interval(secs => %(age)s))"""


def with_platform(url: str, scenario: Callable[[LocalPlatform], Awaitable[None]]) -> None:
    async def run() -> None:
        async with opened(url) as platform:
            await scenario(platform)

    asyncio.run(run())


async def press(platform: LocalPlatform, *names: str, reason: str = "") -> Killed:
    return await kill_switch.press(platform, "test", names or kill_switch.DEFAULT, reason=reason, actor="tester@here")


def number(killed: Killed) -> int:
    assert killed.incident is not None
    return killed.incident


async def flags(platform: LocalPlatform) -> dict[str, Flag]:
    return {flag.secret: flag for flag in await platform.flags()}


async def switch(platform: LocalPlatform, *names: str, enabled: bool = True, seconds: float | None = None) -> None:
    await platform.set_flags(names, enabled=enabled, seconds=seconds, check=False)


async def add_server(platform: LocalPlatform, host: str, **given: Any) -> uuid.UUID:
    server = uuid.uuid4()
    await platform.query(_SERVER, {"id": server, "host": host, "pid": 7, "generation": 10**6, "age": 0, **given})
    return server


def test_it_switches_off_opens_an_incident_and_writes_the_audit(database_url: str) -> None:
    async def scenario(platform: LocalPlatform) -> None:
        await switch(platform, CHAT, VOUCHERS)
        killed = await press(platform, reason="leak")
        assert (killed.features, killed.changed, killed.unconfirmed) == (["chat", "voice"], True, [])
        assert killed.drained_seconds is not None
        assert killed.drained_seconds < 1
        now = await flags(platform)
        assert [now[name].enabled for name in (CHAT, VOICE, VOUCHERS)] == [False, False, True]
        incident = await incidents.one(platform, number(killed))
        assert (incident.reason, incident.switched_off, incident.status) == ("leak", ("chat",), "open")
        actions = [(entry.action, entry.subject) for entry in await incidents.timeline(platform, number(killed))]
        assert sorted(actions) == [("flag.disable", CHAT), ("incident.kill-switch", "")]

    with_platform(database_url, scenario)


def test_pressed_again_it_finds_the_open_incident_and_adds_what_is_newly_named(database_url: str) -> None:
    async def scenario(platform: LocalPlatform) -> None:
        await switch(platform, CHAT, VOUCHERS)
        first, again = await press(platform), await press(platform)
        assert (again.incident, again.changed) == (first.incident, False)
        more = await press(platform, VOUCHERS)
        assert (more.incident, more.changed, more.features) == (first.incident, True, ["chat", "voice", "vouchers"])
        assert len(await incidents.listed(platform)) == 1
        assert (await incidents.one(platform, number(first))).switched_off == ("chat", "vouchers")

    with_platform(database_url, scenario)


def test_a_check_says_the_same_and_writes_nothing(database_url: str) -> None:
    async def scenario(platform: LocalPlatform) -> None:
        await switch(platform, CHAT)
        assert (await kill_switch.planned(platform, "test", [CHAT])).changed
        assert (await flags(platform))[CHAT].enabled
        await press(platform, CHAT)
        assert not (await kill_switch.planned(platform, "test", [CHAT])).changed
        assert (await kill_switch.planned(platform, "test", [CHAT, VOICE])).changed

    with_platform(database_url, scenario)


def test_a_timed_change_is_cancelled_and_comes_back_with_the_restore(database_url: str) -> None:
    async def scenario(platform: LocalPlatform) -> None:
        await switch(platform, CHAT)
        await switch(platform, CHAT, enabled=False, seconds=3600)
        until = (await flags(platform))[CHAT].until
        killed = await press(platform, CHAT)
        assert killed.changed
        assert (await flags(platform))[CHAT].until is None
        await kill_switch.restore(platform, "test", number(killed), actor="tester@here")
        back = (await flags(platform))[CHAT]
        assert (back.enabled, back.until) == (False, until)

    with_platform(database_url, scenario)


def test_restore_puts_back_exactly_what_it_switched_off_once(database_url: str) -> None:
    async def scenario(platform: LocalPlatform) -> None:
        await switch(platform, CHAT)
        killed = await press(platform, *kill_switch.EVERYTHING)
        assert (await kill_switch.restorable(platform, "test", number(killed))).restored == ["chat"]
        done = await kill_switch.restore(platform, "test", number(killed), actor="tester@here")
        assert (done.restored, done.changed) == (["chat"], True)
        assert [flag.secret for flag in (await flags(platform)).values() if flag.enabled] == [CHAT]
        # Lookup has no row of its own again, so that it follows vouchers as before.
        assert not await platform.query("select from agentops.flags where name = %(name)s", {"name": CUSTOMER_LOOKUP})
        again = await kill_switch.restore(platform, "test", number(killed), actor="tester@here")
        assert (again.restored, again.changed) == ([], False)
        assert (await press(platform)).incident != killed.incident

    with_platform(database_url, scenario)


def test_what_somebody_switched_since_is_left_alone(database_url: str) -> None:
    async def scenario(platform: LocalPlatform) -> None:
        await switch(platform, CHAT, VOICE)
        killed = await press(platform)
        await switch(platform, VOICE)
        await switch(platform, VOICE, enabled=False)
        done = await kill_switch.restore(platform, "test", number(killed), actor="tester@here")
        assert (done.restored, done.kept) == (["chat"], ["voice"])
        assert not (await flags(platform))[VOICE].enabled

    with_platform(database_url, scenario)


def test_lookup_that_followed_vouchers_is_switched_off_by_itself(database_url: str) -> None:
    async def scenario(platform: LocalPlatform) -> None:
        await switch(platform, VOUCHERS)
        killed = await press(platform, CUSTOMER_LOOKUP)
        assert (await incidents.one(platform, number(killed))).switched_off == ("customer-lookup",)
        assert (await flags(platform))[CUSTOMER_LOOKUP].updated_by == "tester@here"

    with_platform(database_url, scenario)


def test_it_returns_only_when_money_under_way_has_ended(database_url: str) -> None:
    async def scenario(platform: LocalPlatform) -> None:
        database = await Database.open(database_url, size=2)
        ended = asyncio.Event()

        async def pay() -> None:
            async with database.money() as transaction:
                begun.set()
                await transaction.query("select pg_sleep(0.4)")
            ended.set()

        begun = asyncio.Event()
        paying = asyncio.create_task(pay())
        await begun.wait()
        killed = await press(platform)
        assert ended.is_set()
        assert killed.drained_seconds is not None
        assert killed.drained_seconds > 0.2
        await paying
        await database.close()

    with_platform(database_url, scenario)


def test_a_money_lock_that_is_not_let_go_is_named(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill_switch, "LOCK_SECONDS", 0.3)

    async def scenario(platform: LocalPlatform) -> None:
        await switch(platform, CHAT)
        with psycopg.connect(database_url, application_name="stuck") as holder:
            holder.execute(b"select pg_advisory_xact_lock_shared(%s)", (0x6D6F6E6579,))
            killed = await press(platform)
            assert killed.drained_seconds is None
            assert killed.unconfirmed == [
                f"PostgreSQL session {holder.info.backend_pid} (stuck from local socket, idle in transaction)"
            ]
            assert not (await flags(platform))[CHAT].enabled

    with_platform(database_url, scenario)


def test_flags_that_somebody_keeps_locked_are_an_error_that_names_him(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kill_switch, "LOCK_SECONDS", 0.3)

    async def scenario(platform: LocalPlatform) -> None:
        await switch(platform, CHAT)
        with psycopg.connect(database_url, application_name="stuck") as holder:
            holder.execute(b"update agentops.flags set updated_by = 'me'")
            with pytest.raises(TimedOut, match=rf"NOT switched off: .*{holder.info.backend_pid} \(stuck"):
                await press(platform)

    with_platform(database_url, scenario)


def test_every_live_server_confirms_and_the_long_dead_do_not_count(database_url: str) -> None:
    async def scenario(platform: LocalPlatform) -> None:
        await add_server(platform, "alive")
        await add_server(platform, "dead", generation=0, age=60)
        killed = await press(platform)
        assert [entry.server for entry in killed.confirmed] == ["alive:7"]
        assert killed.unconfirmed == []

    with_platform(database_url, scenario)


def test_a_server_that_hangs_is_named(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kill_switch, "CONFIRM_SECONDS", 0.4)

    async def scenario(platform: LocalPlatform) -> None:
        await add_server(platform, "slow", generation=0)
        await add_server(platform, "silent", generation=0, age=9.8)
        await add_server(platform, "well")
        killed = await press(platform)
        assert [entry.server for entry in killed.confirmed] == ["well:7"]
        assert killed.unconfirmed == [
            "silent:7 (no heartbeat for 10 s)",
            "slow:7 (alive, but still with older settings)",
        ]

    with_platform(database_url, scenario)


def test_a_server_that_says_goodbye_while_we_wait_is_not_waited_for(database_url: str) -> None:
    async def scenario(platform: LocalPlatform) -> None:
        server = await add_server(platform, "leaving", generation=0)
        pressing = asyncio.create_task(press(platform))
        await asyncio.sleep(0.2)
        async with opened(database_url) as other:
            await other.query("delete from agentops.servers where id = %(id)s", {"id": server})
        killed = await asyncio.wait_for(pressing, 5)
        assert (killed.confirmed, killed.unconfirmed) == ([], [])

    with_platform(database_url, scenario)


def test_two_presses_at_once_share_one_incident(database_url: str) -> None:
    async def scenario(platform: LocalPlatform) -> None:
        await switch(platform, CHAT, VOICE)
        async with opened(database_url) as one, opened(database_url) as two, opened(database_url) as three:
            names = [(CHAT, VOICE), (VOICE, CHAT), (CHAT, VOICE, VOUCHERS)]
            done = await asyncio.gather(*(press(it, *n) for it, n in zip((one, two, three), names, strict=True)))
        assert len({killed.incident for killed in done}) == 1
        assert (await incidents.listed(platform))[0].switched_off == ("chat", "voice")

    with_platform(database_url, scenario)


def test_a_switch_on_that_was_under_way_does_not_survive(database_url: str) -> None:
    async def scenario(platform: LocalPlatform) -> None:
        await switch(platform, CHAT, enabled=False)
        with psycopg.connect(database_url) as other:
            other.execute(b"update agentops.flags set enabled = true, version = version + 1")
            pressing = asyncio.create_task(press(platform, CHAT))
            await asyncio.sleep(0.2)
            other.commit()
        assert (await pressing).changed
        assert not (await flags(platform))[CHAT].enabled

    with_platform(database_url, scenario)

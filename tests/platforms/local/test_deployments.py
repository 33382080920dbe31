"""Deploying to servers that live, refuse, fall silent and die."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentops.errors import Conflict, NotFound
from agentops.platforms.local import confirming, deployments
from agentops.platforms.local.confirming import Switch
from tests.platforms.local.serving import GOOD, bundle, opened, serving

if TYPE_CHECKING:
    from agentops.platforms.local import LocalPlatform

BROKEN = "import nothing_of_that_name\n"


async def audit(platform: LocalPlatform) -> list[tuple[str, str]]:
    rows = await platform.query("select action, subject from agentops.audit order by id")
    return [(row["action"], row["subject"]) for row in rows]


async def reports(platform: LocalPlatform) -> list[Any]:
    return [server.functions for server in await platform.servers()]


def test_a_deploy_returns_when_every_live_server_runs_it(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform, serving(database_url, 1), serving(database_url, 2):
            done = await platform.deploy([bundle("ai-one"), bundle("ai-two")], force=False, check=False)
            assert [(item.slug, item.version, item.changed, item.status) for item in done] == [
                ("ai-one", 1, True, "active"),
                ("ai-two", 1, True, "active"),
            ]
            assert all(functions["ai-two"]["ok"] for functions in await reports(platform))
            assert [function.status for function in await platform.functions()] == ["active", "active"]

    asyncio.run(scenario())


def test_what_a_server_cannot_load_is_switched_back_and_the_others_stay(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform, serving(database_url, 1) as server:
            await platform.deploy([bundle("ai-one")], force=False, check=False)
            bad, good = await platform.deploy([bundle("ai-one", BROKEN), bundle("ai-two")], force=False, check=False)
            assert (bad.status, bad.version, bad.changed, bad.sha256) == ("restored", 1, False, bundle("ai-one").sha256)
            assert bad.finding == (
                "version 2: ai-one@2/main.py:1: ModuleNotFoundError: No module named 'nothing_of_that_name'"
                " (server here:1)"
            )
            assert good.status == "active"
            assert server.loader.loaded()["ai-one"].version == 1
            assert ("function.restore", "ai-one") in await audit(platform)
            assert [entry.status for entry in await platform.history("ai-one")] == ["stored", "active"]

    asyncio.run(scenario())


def test_a_first_version_that_does_not_load_leaves_the_function_off(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform, serving(database_url):
            (bad,) = await platform.deploy([bundle("ai-one", BROKEN)], force=False, check=False)
            assert (bad.status, bad.version, bad.sha256) == ("restored", None, None)
            assert await platform.functions() == []

    asyncio.run(scenario())


def test_one_refusing_server_of_two_is_enough_to_switch_back(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform, serving(database_url, 1), serving(database_url, 2) as second:
            await platform.deploy([bundle("ai-one")], force=False, check=False)
            second.spoils[2] = "no memory"
            (bad,) = await platform.deploy([bundle("ai-one", GOOD + "#")], force=False, check=False)
            assert (bad.status, bad.finding) == ("restored", "version 2: no memory (server here:2)")
            assert [functions["ai-one"]["version"] for functions in await reports(platform)] == [1, 1]

    asyncio.run(scenario())


def test_a_silent_server_is_named_and_the_version_before_comes_back(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "WAIT_SECONDS", 0.3)

    async def scenario() -> None:
        async with opened(database_url) as platform, serving(database_url, 7) as server:
            await platform.deploy([bundle("ai-one")], force=False, check=False)
            server.silent = True
            (bad,) = await platform.deploy([bundle("ai-one", GOOD + "#")], force=False, check=False)
            assert (bad.status, bad.version) == ("restored", 1)
            assert "no word from here:7" in (bad.finding or "")

    asyncio.run(scenario())


def test_a_server_that_dies_meanwhile_is_not_waited_for(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform, serving(database_url, 1), serving(database_url, 2) as second:
            second.silent = True
            waiting = asyncio.create_task(platform.deploy([bundle("ai-one")], force=False, check=False))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            await second.die()
            assert [item.status for item in await asyncio.wait_for(waiting, 2)] == ["active"]

    asyncio.run(scenario())


def test_without_a_server_a_version_is_stored_and_waits(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform:
            (done,) = await platform.deploy([bundle("ai-one")], force=False, check=False)
            assert (done.status, done.version, done.changed) == ("stored", 1, True)
            async with serving(database_url) as server:
                assert server.loader.loaded()["ai-one"].version == 1

    asyncio.run(scenario())


def test_force_makes_servers_load_the_same_version_again(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform, serving(database_url) as server:
            await platform.deploy([bundle("ai-one")], force=False, check=False)
            before = server.loader.get("ai-one")
            (done,) = await platform.deploy([bundle("ai-one")], force=True, check=False)
            assert (done.status, done.version, done.changed) == ("active", 1, True)
            assert server.loader.get("ai-one") is not before
            assert (await reports(platform))[0]["ai-one"]["reload"] == 1

    asyncio.run(scenario())


def test_two_deployers_of_the_same_bundle_make_one_version(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as one, opened(database_url) as two:
            for number in range(10):
                same = bundle("ai-one", f"{GOOD}# {number}")
                results = await asyncio.gather(
                    one.deploy([same], force=False, check=False), two.deploy([same], force=False, check=False)
                )
                assert {item.status for (item,) in results} <= {"stored", "unchanged", "active"}
            assert (await one.functions())[0].sha256 == same.sha256

    asyncio.run(scenario())


def test_a_deploy_that_somebody_overtakes_says_so_and_undoes_nothing(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform:
            await platform.deploy([bundle("ai-one")], force=False, check=False)
            await platform.deploy([bundle("ai-one", GOOD + "#")], force=False, check=False)
            overtaken = Switch("ai-one", "x", None, 1, 0, None, None)
            async with serving(database_url):
                (lost,) = await confirming.settle(platform, [overtaken], "me")
            assert (lost.status, lost.changed) == ("replaced", False)
            assert "someone else changed" in (lost.finding or "")
            assert (await platform.functions())[0].version == 2

    asyncio.run(scenario())


def test_a_rollback_is_confirmed_like_a_deploy(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform, serving(database_url) as server:
            for extra in ("", "# two", "# three"):
                await platform.deploy([bundle("ai-one", GOOD + extra)], force=False, check=False)
            back = await platform.rollback("ai-one", None, check=False)
            assert (back.version, back.status, back.changed) == (2, "active", True)
            assert server.loader.loaded()["ai-one"].version == 2
            assert (await platform.rollback("ai-one", 2, check=False)).status == "unchanged"
            assert (await platform.rollback("ai-one", 3, check=False)).version == 3
            with pytest.raises(NotFound, match="no version 9"):
                await platform.rollback("ai-one", 9, check=False)

    asyncio.run(scenario())


def test_a_rollback_passes_over_a_version_that_servers_refused(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform, serving(database_url):
            for source in (GOOD, BROKEN, GOOD + "# three"):
                await platform.deploy([bundle("ai-one", source)], force=False, check=False)
            assert (await platform.rollback("ai-one", None, check=False)).version == 1
            refused = await platform.rollback("ai-one", 2, check=False)
            assert (refused.status, refused.version) == ("restored", 1)

    asyncio.run(scenario())


def test_a_rollback_of_what_changed_meanwhile_is_a_conflict(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform:
            for extra in ("", "# two"):
                await platform.deploy([bundle("ai-one", GOOD + extra)], force=False, check=False)
            stale = await deployments.history(platform, "ai-one")
            await platform.deploy([bundle("ai-one", GOOD + "# three")], force=False, check=False)

            async def before(*_: object) -> Any:
                return stale

            monkeypatch.setattr(deployments, "history", before)
            with pytest.raises(Conflict):
                await platform.rollback("ai-one", None, check=False)
            assert (await platform.functions())[0].version == 3

    asyncio.run(scenario())


def test_a_deleted_function_is_gone_from_the_servers_and_can_come_back(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform, serving(database_url) as server:
            await platform.deploy([bundle("ai-one")], force=False, check=False)
            gone = await platform.delete("ai-one", check=False)
            assert (gone.status, gone.changed, gone.finding) == ("deleted", True, None)
            assert server.loader.loaded() == {}
            with pytest.raises(NotFound, match="not deployed"):
                await platform.rollback("ai-one", None, check=False)
            assert (await platform.rollback("ai-one", 1, check=False)).status == "active"

    asyncio.run(scenario())


def test_every_change_leaves_its_audit_row(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform:
            await platform.deploy([bundle("ai-one")], force=False, check=True)
            assert await audit(platform) == []
            await platform.deploy([bundle("ai-one")], force=False, check=False)
            await platform.deploy([bundle("ai-one")], force=False, check=False)
            await platform.deploy([bundle("ai-one")], force=True, check=False)
            await platform.deploy([bundle("ai-one", GOOD + "#")], force=False, check=False)
            await platform.rollback("ai-one", None, check=False)
            await platform.delete("ai-one", check=False)
            await platform.delete("ai-one", check=False)
            assert [action for action, _ in await audit(platform)] == [
                "function.deploy",
                "function.reload",
                "function.deploy",
                "function.rollback",
                "function.delete",
            ]

    asyncio.run(scenario())

"""What every platform must do alike. A new platform joins by one more case of the fixture `url`."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from agentops.errors import NotFound, UsageError
from agentops.platforms.supabase import SupabasePlatform
from agentops.secret_values import digest
from tests.fakes import management_api
from tests.platforms.local.serving import GOOD, bundle, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from agentops.platforms import Platform

    Use = Callable[[Callable[[Platform], Awaitable[None]]], None]

ONE = bundle("ai-one")
OTHER = bundle("ai-one", GOOD + "# another\n")


@asynccontextmanager
async def hosted(home: Path) -> AsyncIterator[Platform]:
    """A fresh project behind the API."""
    with management_api.serving(management_api.ManagementApi()) as api:
        target = f"supabase://{management_api.REF}"
        platform = SupabasePlatform.open(
            target, home=home, state=home / "project", actor="me", told=print, environment=api.environment
        )
        try:
            yield platform
        finally:
            await platform.close()


@pytest.fixture(params=["local", "supabase"])
def use(request: pytest.FixtureRequest, tmp_path: Path) -> Use:
    """Runs a scenario on a fresh platform."""
    url: str | None = request.getfixturevalue("database_url") if request.param == "local" else None

    def run(scenario: Callable[[Platform], Awaitable[None]]) -> None:
        async def inside() -> None:
            fresh = opened(url) if url else hosted(tmp_path)
            async with fresh as platform:
                await scenario(platform)

        asyncio.run(inside())

    return run


def test_a_second_deploy_of_the_same_changes_nothing(use: Use) -> None:
    async def scenario(platform: Platform) -> None:
        first = await platform.deploy([ONE], force=False, check=False)
        second = await platform.deploy([ONE], force=False, check=False)
        assert [(item.changed, item.version, item.sha256) for item in first] == [(True, 1, ONE.sha256)]
        assert [(item.changed, item.version, item.status) for item in second] == [(False, 1, "unchanged")]

    use(scenario)


def test_check_foretells_what_a_deploy_changes_and_changes_nothing(use: Use) -> None:
    async def scenario(platform: Platform) -> None:
        await platform.deploy([ONE], force=False, check=False)
        two = bundle("ai-two")
        for force in (False, True):
            plan = await platform.deploy([ONE, two], force=force, check=True)
            assert [item.changed for item in plan] == [force, True]
            assert [function.slug for function in await platform.functions()] == ["ai-one"]

    use(scenario)


def test_results_keep_the_order_of_the_bundles(use: Use) -> None:
    async def scenario(platform: Platform) -> None:
        wanted = ["ai-c", "ai-a", "ai-b"]
        await platform.deploy([bundle("ai-a")], force=False, check=False)
        done = await platform.deploy([bundle(slug) for slug in wanted], force=False, check=False)
        assert [item.slug for item in done] == wanted

    use(scenario)


def test_older_versions_stay_and_can_be_gone_back_to(use: Use) -> None:
    async def scenario(platform: Platform) -> None:
        for item in (ONE, OTHER):
            await platform.deploy([item], force=False, check=False)
        assert [(entry.version, entry.status) for entry in await platform.history("ai-one")] == [
            (2, "active"),
            (1, "stored"),
        ]
        plan = await platform.rollback("ai-one", None, check=True)
        assert (plan.version, plan.changed, plan.status) == (1, True, "would_change")
        assert (await platform.functions())[0].version == 2
        back = await platform.rollback("ai-one", None, check=False)
        # Where versions are rows the old one is active again; where only the newest runs, it is a new one.
        assert (back.version in {1, 3}, back.changed, back.sha256) == (True, True, ONE.sha256)
        assert await platform.source("ai-one") == ONE.files
        with pytest.raises(NotFound):
            await platform.rollback("ai-one", None, check=False)

    use(scenario)


def test_deleting_what_is_absent_is_nothing_to_do(use: Use) -> None:
    async def scenario(platform: Platform) -> None:
        await platform.deploy([ONE], force=False, check=False)
        assert (await platform.delete("ai-one", check=True)).changed
        assert (await platform.delete("ai-one", check=False)).changed
        gone = await platform.delete("ai-one", check=False)
        assert (gone.changed, gone.status) == (False, "absent")
        assert await platform.functions() == []
        with pytest.raises(NotFound):
            await platform.source("ai-one")

    use(scenario)


def test_secrets_are_listed_by_digest_and_equal_ones_are_left_alone(use: Use) -> None:
    async def scenario(platform: Platform) -> None:
        values: dict[str, str | None] = {"WA_TOKEN": "one", "FEATURE_AGENT_CHAT": "on"}
        plan = await platform.set_secrets(values, check=True)
        assert [(change.name, change.status, change.changed) for change in plan] == [
            ("WA_TOKEN", "would_change", True),
            ("FEATURE_AGENT_CHAT", "would_change", True),
        ]
        assert await platform.secrets() == []
        first = await platform.set_secrets(values, check=False)
        second = await platform.set_secrets(values, check=False)
        assert [change.changed for change in first] == [True, True]
        assert [change.status for change in second] == ["unchanged", "unchanged"]
        listed: dict[str, Any] = {secret.name: secret.digest for secret in await platform.secrets()}
        assert listed == {"FEATURE_AGENT_CHAT": digest("true")[:12], "WA_TOKEN": digest("one")[:12]}

    use(scenario)


def test_unsetting_is_done_once(use: Use) -> None:
    async def scenario(platform: Platform) -> None:
        await platform.set_secrets({"A": "x"}, check=False)
        first = await platform.set_secrets({"A": None, "B": None}, check=False)
        assert [(change.name, change.status, change.changed) for change in first] == [
            ("A", "unset", True),
            ("B", "absent", False),
        ]
        second = await platform.set_secrets({"A": None}, check=False)
        assert [change.status for change in second] == ["absent"]

    use(scenario)


def test_flags_switch_once(use: Use) -> None:
    async def scenario(platform: Platform) -> None:
        names = ["FEATURE_AGENT_VOICE", "FEATURE_AGENT_CHAT"]
        first = await platform.set_flags(names, enabled=True, seconds=None, check=False)
        second = await platform.set_flags(names, enabled=True, seconds=None, check=False)
        assert [(flag.name, flag.enabled, flag.changed) for flag in first] == [
            ("voice", True, True),
            ("chat", True, True),
        ]
        assert [flag.changed for flag in second] == [False, False]
        off = await platform.set_flags(["FEATURE_AGENT_CHAT"], enabled=False, seconds=None, check=True)
        assert [(flag.name, flag.changed) for flag in off] == [("chat", True)]
        assert (await platform.flags())[0].enabled is True
        off = await platform.set_flags(["FEATURE_AGENT_CHAT"], enabled=False, seconds=None, check=False)
        assert [(flag.name, flag.enabled, flag.changed) for flag in off] == [("chat", False, True)]

    use(scenario)


def test_a_timed_switch_comes_back_by_itself_or_is_refused(use: Use) -> None:
    async def scenario(platform: Platform) -> None:
        await platform.set_flags(["FEATURE_AGENT_CHAT"], enabled=True, seconds=None, check=False)
        if platform.target.startswith("supabase://"):
            with pytest.raises(UsageError, match="hosted project"):
                await platform.set_flags(["FEATURE_AGENT_CHAT"], enabled=False, seconds=0.2, check=False)
            assert (await platform.flags())[0].enabled is True
            return
        await platform.set_flags(["FEATURE_AGENT_CHAT"], enabled=False, seconds=0.2, check=False)
        chat = (await platform.flags())[0]
        assert (chat.enabled, chat.until is not None) == (False, True)
        await asyncio.sleep(0.3)
        chat = (await platform.flags())[0]
        assert (chat.enabled, chat.until) == (True, None)

    use(scenario)

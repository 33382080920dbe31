from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from agentops import settings
from agentops.errors import UsageError
from agentops.server import keys
from tests.fakes.servers import operator

if TYPE_CHECKING:
    from tests.conftest import StackKeys


def _run(url: str, work: Any) -> Any:
    async def run() -> Any:
        async with operator(url) as platform:
            return await work(platform, settings.process("local"))

    return asyncio.run(run())


async def _fresh(platform: Any) -> None:
    await platform.query("delete from agentops.stack")


def test_the_first_start_makes_key_row_and_secrets_and_the_second_nothing(database_url: str) -> None:
    async def work(platform: Any, process: settings.Process) -> None:
        await _fresh(platform)
        first = await keys.ensure(platform, process, "live")
        assert first.created
        file = process.home / "stack.key"
        assert file.read_text().strip() == first.private
        assert file.stat().st_mode & 0o777 == 0o600
        shown = await keys.shown(platform, first.private)
        assert set(shown) == set(keys.GENERATED)
        second = await keys.ensure(platform, process, "live")
        assert (second.created, second.private) == (False, first.private)
        assert await keys.shown(platform, first.private) == shown
        audit = await platform.query("select action from agentops.audit order by id")
        actions = [row["action"] for row in audit]
        assert actions[0] == "stack.create"
        assert actions.count("keys.show") == 2

    _run(database_url, work)


def test_the_service_key_is_a_jwt_that_says_its_role() -> None:
    token = keys.role_key("service_role", b"secret", 1_800_000_000)
    head, claims, signature = token.split(".")

    def part(text: str) -> Any:
        return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))

    assert part(head) == {"alg": "HS256", "typ": "JWT"}
    assert part(claims) == {"iss": "agentops", "role": "service_role", "iat": 1_800_000_000, "exp": 2_115_360_000}
    assert len(signature) == 43


def test_a_secret_that_is_set_is_not_replaced(database_url: str, stack_keys: StackKeys, monkeypatch: Any) -> None:
    monkeypatch.setenv("AGENTOPS_STACK_KEY", stack_keys.private)

    async def work(platform: Any, process: settings.Process) -> None:
        await platform.set_secrets({"WA_VERIFY_TOKEN": "mine"}, check=False)
        made = await keys.ensure(platform, process, "live")
        shown = await keys.shown(platform, made.private)
        assert shown["WA_VERIFY_TOKEN"] == "mine"
        assert shown["SUPABASE_SERVICE_ROLE_KEY"].count(".") == 2
        assert not (process.home / "stack.key").exists()

    _run(database_url, work)


def test_without_the_private_key_nothing_starts(database_url: str) -> None:
    async def work(platform: Any, process: settings.Process) -> None:
        with pytest.raises(UsageError, match="private key is not on this machine") as caught:
            await keys.ensure(platform, process, "live")
        assert "AGENTOPS_STACK_KEY" in str(caught.value.hint)
        assert not (process.home / "stack.key").exists()

    _run(database_url, work)


def test_with_another_private_key_nothing_starts(database_url: str, monkeypatch: Any) -> None:
    from agentops import seal

    monkeypatch.setenv("AGENTOPS_STACK_KEY", seal.new_key()[0])

    async def work(platform: Any, process: settings.Process) -> None:
        with pytest.raises(UsageError, match="not the one that this database's secrets are sealed to"):
            await keys.ensure(platform, process, "live")

    _run(database_url, work)


@pytest.mark.parametrize(("is_", "asked"), [("live", "sandbox"), ("sandbox", "live")])
def test_a_sandbox_does_not_serve_live_nor_the_reverse(database_url: str, is_: str, asked: str) -> None:
    async def work(platform: Any, process: settings.Process) -> None:
        await _fresh(platform)
        await keys.ensure(platform, process, is_)
        with pytest.raises(UsageError, match="this database belongs to a"):
            await keys.ensure(platform, process, asked)

    _run(database_url, work)


def test_two_first_starts_at_once_agree(database_url: str) -> None:
    async def run() -> None:
        async with operator(database_url) as one, operator(database_url) as two:
            await _fresh(one)
            process = settings.process("local")
            made = await asyncio.gather(keys.ensure(one, process, "live"), keys.ensure(two, process, "live"))
            assert sorted(key.created for key in made) == [False, True]
            assert made[0].private == made[1].private
            assert {secret.version for secret in await one.secrets() if secret.name in keys.GENERATED} == {1}

    asyncio.run(run())

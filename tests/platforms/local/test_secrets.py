"""Secrets as sealed rows: who may read them, what two writers do to each other, what is left behind."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from agentops.errors import Conflict, UsageError
from agentops.platforms.local import secrets
from agentops.secret_values import digest
from tests.platforms.local.serving import opened

if TYPE_CHECKING:
    from agentops.platforms.local import LocalPlatform
    from tests.conftest import StackKeys

SENTINEL = "sk-sentinel-4711"


async def everything(platform: LocalPlatform) -> str:
    """All rows of the tables that a secret passes, as text."""
    found: list[Any] = []
    for table in ("secrets", "flags", "audit"):
        found += await platform.query(f"select row_to_json(t)::text as row from agentops.{table} t")  # noqa: S608
    return json.dumps(found)


def test_a_secret_opens_with_the_private_key_only_and_stands_nowhere_in_clear(
    database_url: str, stack_keys: StackKeys
) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform:
            await platform.set_secrets({"OPENAI_API_KEY": SENTINEL, "EMPTY": ""}, check=False)
            assert SENTINEL not in await everything(platform)
            opened_values = await secrets.values(platform, stack_keys.private)
            assert opened_values == {"EMPTY": "", "OPENAI_API_KEY": SENTINEL}

    asyncio.run(scenario())


def test_a_new_value_is_sealed_for_its_new_version(database_url: str, stack_keys: StackKeys) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform:
            for value in ("one", "two", "two", "three"):
                (change,) = await platform.set_secrets({"WA_TOKEN": value}, check=False)
            assert (change.version, change.digest) == (3, digest("three")[:12])
            assert await secrets.values(platform, stack_keys.private) == {"WA_TOKEN": "three"}

    asyncio.run(scenario())


def test_two_writers_of_one_secret_never_mix(database_url: str, stack_keys: StackKeys) -> None:
    async def write(platform: LocalPlatform, value: str) -> bool:
        try:
            await platform.set_secrets({"A": value, "B": value}, check=False)
        except Conflict:
            return False
        return True

    async def scenario() -> None:
        async with opened(database_url) as one, opened(database_url) as two:
            outcomes: list[bool] = []
            for number in range(20):
                outcomes += await asyncio.gather(write(one, f"one {number}"), write(two, f"two {number}"))
                found = await secrets.values(one, stack_keys.private)
                assert found["A"] == found["B"]
            assert any(outcomes)

    asyncio.run(scenario())


def test_a_value_sealed_for_an_older_version_changes_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch, stack_keys: StackKeys
) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform:
            await platform.set_secrets({"A": "first", "B": "first"}, check=False)
            original = secrets._parameters

            async def overtaken(*arguments: Any) -> dict[str, Any]:
                parameters = await original(*arguments)
                monkeypatch.setattr(secrets, "_parameters", original)
                await platform.set_secrets({"A": "other"}, check=False)
                return parameters

            monkeypatch.setattr(secrets, "_parameters", overtaken)
            with pytest.raises(Conflict, match="changed A at the same time"):
                await platform.set_secrets(
                    {"A": "mine", "B": "mine", "C": "mine", "FEATURE_AGENT_CHAT": "on"}, check=False
                )
            assert await secrets.values(platform, stack_keys.private) == {"A": "other", "B": "first"}
            assert not (await platform.flags())[0].enabled

    asyncio.run(scenario())


def test_an_older_sealed_value_never_opens_again_even_after_unset_and_set(
    database_url: str, stack_keys: StackKeys
) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform:
            await platform.set_secrets({"WA_TOKEN": "old"}, check=False)
            old = (await platform.query("select sealed from agentops.secrets"))[0]["sealed"]
            await platform.set_secrets({"WA_TOKEN": None}, check=False)
            (absent,) = await platform.set_secrets({"WA_TOKEN": None}, check=False)
            assert absent.status == "absent"
            assert await platform.secrets() == []
            (change,) = await platform.set_secrets({"WA_TOKEN": "new"}, check=False)
            assert (change.status, change.version) == ("set", 3)
            assert await secrets.values(platform, stack_keys.private) == {"WA_TOKEN": "new"}
            await platform.query("update agentops.secrets set sealed = %(old)s", {"old": old})
            with pytest.raises(UsageError, match="does not open"):
                await secrets.values(platform, stack_keys.private)

    asyncio.run(scenario())


def test_a_value_sealed_before_the_secret_was_unset_by_another_changes_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform:
            await platform.set_secrets({"A": "first"}, check=False)
            original = secrets._parameters

            async def overtaken(*arguments: Any) -> dict[str, Any]:
                parameters = await original(*arguments)
                monkeypatch.setattr(secrets, "_parameters", original)
                await platform.set_secrets({"A": None}, check=False)
                return parameters

            monkeypatch.setattr(secrets, "_parameters", overtaken)
            with pytest.raises(Conflict, match="changed A at the same time"):
                await platform.set_secrets({"A": "mine"}, check=False)
            assert await platform.secrets() == []

    asyncio.run(scenario())


def test_flags_of_the_namespace_are_stored_in_clear_and_end_a_timed_one(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform:
            await platform.set_flags(["FEATURE_AGENT_CHAT"], enabled=True, seconds=600, check=False)
            (change,) = await platform.set_secrets({"FEATURE_AGENT_CHAT": "Yes"}, check=False)
            assert (change.status, change.digest) == ("set", digest("true")[:12])
            chat = (await platform.flags())[0]
            assert (chat.enabled, chat.until) == (True, None)
            (same,) = await platform.set_secrets({"FEATURE_AGENT_CHAT": "1"}, check=False)
            assert same.status == "unchanged"
            await platform.set_secrets({"FEATURE_AGENT_CHAT": None}, check=False)
            assert await platform.secrets() == []

    asyncio.run(scenario())


def test_without_a_stack_key_nothing_can_be_sealed(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform:
            await platform.query("delete from agentops.stack")
            with pytest.raises(UsageError, match="no stack key"):
                await platform.set_secrets({"A": "b"}, check=False)
            assert [change.status for change in await platform.set_secrets({"A": None}, check=False)] == ["absent"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"1A": "x"}, "no name"),
        ({"A-B": "x"}, "no name"),
        ({"FEATURE_AGENT_chat": "on"}, "no name"),
        ({"FEATURE_AGENT_CHAT": "maybe"}, "neither on nor off"),
        ({"A": "x" * 24_577}, "24,577 bytes"),
        ({"A": "\ud800"}, "no UTF-8"),
        ({f"A{number}": "x" for number in range(100)}, "101 secrets at once"),
    ],
)
def test_what_cannot_be_a_secret_is_refused_whole(database_url: str, values: dict[str, str | None], words: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform:
            with pytest.raises(UsageError, match=words):
                await platform.set_secrets({"FINE": "x", **values}, check=False)
            assert await platform.secrets() == []

    asyncio.run(scenario())


def test_audit_rows_name_the_digest_and_never_the_value(database_url: str) -> None:
    async def scenario() -> None:
        async with opened(database_url) as platform:
            await platform.set_secrets({"A": SENTINEL, "FEATURE_AGENT_VOICE": "on"}, check=False)
            await platform.set_secrets({"A": None, "FEATURE_AGENT_VOICE": None}, check=False)
            rows = await platform.query("select action, subject, actor, detail from agentops.audit order by id")
            assert {(row["action"], row["subject"]) for row in rows} == {
                ("secret.set", "A"),
                ("flag.enable", "FEATURE_AGENT_VOICE"),
                ("secret.unset", "A"),
                ("flag.unset", "FEATURE_AGENT_VOICE"),
            }
            assert rows[0]["detail"]["digest"] == digest(SENTINEL)[:12] or rows[1]["detail"]["digest"]
            assert {row["actor"] for row in rows} == {"tester@here"}

    asyncio.run(scenario())

"""`agentops flags disable --wait`: done when those who work with the flags have said so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from agentops.incidents import confirming, kill_switch
from tests.commands.line import typed
from tests.fakes.hosted import deployed, project
from tests.fakes.management_api import ManagementApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOOKS = {"ai-whatsapp-webhook": "FEATURE_AGENT_CHAT", "ai-realtime-webhook": "FEATURE_AGENT_VOICE"}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ManagementApi]:
    """A project whose two webhooks are our forwarders."""
    monkeypatch.setattr(confirming, "PROBE_SECONDS", 0.01)
    fresh = ManagementApi(functions={slug: deployed(slug) for slug in HOOKS}, forwarders=dict(HOOKS))
    fresh.secrets = dict.fromkeys(HOOKS.values(), "true")
    with project(fresh, monkeypatch, tmp_path):
        yield fresh


def probed(api: ManagementApi) -> set[str]:
    return {path for method, path, _ in api.requests if method == "POST" and path.startswith("/functions/v1/")}


def test_the_webhooks_of_the_named_flags_are_asked_until_they_say_off(api: ManagementApi) -> None:
    done = typed("flags", "disable", "chat", "--wait", "--json")
    assert done.code == 0, done.err
    assert [(flag["name"], flag["enabled"], flag["changed"]) for flag in done.json] == [("chat", False, True)]
    assert probed(api) == {"/functions/v1/ai-whatsapp-webhook"}
    assert "confirmed by ai-whatsapp-webhook" in done.err


def test_one_that_does_not_say_off_is_exit_9_and_named_and_the_flag_is_off(
    api: ManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "CONFIRM_SECONDS", 0.2)
    del api.forwarders["ai-realtime-webhook"]
    done = typed("flags", "disable", "chat", "voice", "--wait", "--json")
    assert (done.code, [flag["enabled"] for flag in done.json]) == (9, [False, False])
    assert "ai-realtime-webhook (it has not said that it is off)" in done.err
    assert '"error": "timed_out"' in done.err


def test_a_second_time_asks_again_and_changes_nothing(api: ManagementApi) -> None:
    assert typed("flags", "disable", "chat").code == 0
    api.requests.clear()
    done = typed("flags", "disable", "chat", "--wait", "--json")
    assert (done.code, done.json[0]["changed"], probed(api)) == (0, False, {"/functions/v1/ai-whatsapp-webhook"})


def test_a_flag_that_no_function_can_speak_of_is_exit_9_at_once(api: ManagementApi) -> None:
    done = typed("flags", "disable", "vouchers", "FEATURE_AGENT_OTHER", "--wait")
    assert done.code == 9
    assert "ai-create-voucher (not deployed there, so there is nobody to ask)" in done.err
    assert "FEATURE_AGENT_OTHER (no function is known that could say so)" in done.err
    assert probed(api) == set()


def test_without_wait_it_says_that_isolates_may_keep_the_old_value(api: ManagementApi) -> None:
    assert "--wait" in typed("flags", "disable", "chat").err
    assert "isolates" not in typed("flags", "disable", "chat").err
    assert "isolates" not in typed("flags", "disable", "voice", "--check", "--wait").err
    assert probed(api) == set()


def test_on_a_stack_of_ones_own_the_servers_are_waited_for(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    monkeypatch.setattr(kill_switch, "CONFIRM_SECONDS", 0.1)
    assert typed("flags", "enable", "chat").code == 0
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            b"insert into agentops.servers (id, host, pid, role) values (gen_random_uuid(), 'box', 4711, 'web')"
        )
        late = typed("flags", "disable", "chat", "--wait", "--json")
        assert (late.code, late.json[0]["enabled"]) == (9, False)
        assert "box:4711" in late.err
        connection.execute(b"update agentops.servers set generation = 1000000")
    done = typed("flags", "disable", "chat", "--wait", "--json")
    assert (done.code, done.json[0]["changed"]) == (0, False)
    assert "confirmed by box:4711" in done.err

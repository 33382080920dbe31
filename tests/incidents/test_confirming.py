"""Whether a project's functions have heard of it: forwarders say so in a header, one's own webhooks in their logs."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from agentops.edge import FORWARDERS
from agentops.incidents import confirming
from tests.commands.line import Result, typed
from tests.fakes import cli, management_api
from tests.fakes.hosted import SLUGS, TARGET, deployed, project
from tests.fakes.management_api import ManagementApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLAGS = {each.slug: each.flag for each in FORWARDERS}
ON = dict.fromkeys(FLAGS.values(), "true")
TOOLS = {"ai-create-voucher", "ai-lookup-customer", "ai-redeem-voucher", "ai-void-voucher"}
WEBHOOKS = {"ai-realtime-webhook", "ai-whatsapp-webhook"}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ManagementApi]:
    """A project with all six functions, our forwarders, everything on."""
    monkeypatch.setattr(confirming, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(confirming, "CONFIRM_SECONDS", 0.5)
    fresh = ManagementApi(functions={slug: deployed(slug) for slug in SLUGS}, forwarders=dict(FLAGS), secrets=dict(ON))
    with project(fresh, monkeypatch, tmp_path):
        yield fresh


def press(*words: str) -> Result:
    return typed("incident", "kill-switch", "--wait", *words, "--json")


def confirmed(done: Result) -> set[str]:
    return {each["server"] for each in done.json["confirmed"]}


def asked(api: ManagementApi) -> set[tuple[str, str]]:
    return {
        (method, path.removeprefix("/functions/v1/"))
        for method, path, _ in api.requests
        if path.startswith("/functions/v1/")
    }


def test_webhooks_get_an_empty_delivery_and_tools_a_get(api: ManagementApi) -> None:
    done = press("--all")
    assert done.code == 0, done.err
    assert confirmed(done) == WEBHOOKS | TOOLS
    assert asked(api) == {("POST", slug) for slug in WEBHOOKS} | {("GET", slug) for slug in TOOLS}
    assert {json.dumps(body) for body in api.called} == {
        json.dumps({"object": "whatsapp_business_account", "entry": []}),
        json.dumps(None),
    }


def test_only_functions_of_the_features_are_asked(api: ManagementApi) -> None:
    assert confirmed(press("--features", "vouchers")) == TOOLS - {"ai-lookup-customer"}
    assert asked(api) == {("GET", slug) for slug in TOOLS - {"ai-lookup-customer"}}


def test_a_tool_that_is_no_forwarder_is_told_as_unconfirmed_at_once(
    api: ManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirming, "CONFIRM_SECONDS", 60.0)
    del api.forwarders["ai-void-voucher"]
    begun = time.monotonic()
    done = press("--all")
    assert time.monotonic() - begun < 30
    assert (done.code, confirmed(done)) == (9, (WEBHOOKS | TOOLS) - {"ai-void-voucher"})
    assert done.json["unconfirmed"] == ["ai-void-voucher (it has not said that it is off)"]


@pytest.mark.parametrize("gone", ["ai-create-voucher", "ai-whatsapp-webhook"])
def test_one_that_is_not_deployed_is_named_and_not_waited_for(
    api: ManagementApi, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    monkeypatch.setattr(confirming, "CONFIRM_SECONDS", 60.0)
    del api.functions[gone]
    begun = time.monotonic()
    done = press("--all")
    assert time.monotonic() - begun < 30
    assert (done.code, done.json["unconfirmed"]) == (9, [f"{gone} (not deployed there, so there is nobody to ask)"])


def test_a_list_that_cannot_be_read_leaves_all_of_them_to_be_asked(api: ManagementApi) -> None:
    api.refuse = lambda _method, path: management_api.broken_off() if path == "/functions" else None
    done = press("--all")
    assert (done.code, confirmed(done)) == (0, WEBHOOKS | TOOLS)


def test_a_forwarder_that_keeps_saying_on_is_named_as_such(api: ManagementApi) -> None:
    api.forwarders["ai-void-voucher"] = "FEATURE_AGENT_OTHER"
    api.secrets["FEATURE_AGENT_OTHER"] = "true"
    done = press("--all")
    assert (done.code, done.json["unconfirmed"]) == (9, ["ai-void-voucher (it still says on)"])


def test_a_feature_of_ones_own_is_unconfirmed_for_nobody_can_say_so(api: ManagementApi) -> None:
    done = press("--features", "chat,FEATURE_AGENT_OTHER")
    assert (done.code, confirmed(done)) == (9, {"ai-whatsapp-webhook"})
    assert done.json["unconfirmed"] == ["FEATURE_AGENT_OTHER (no function is known that could say so)"]
    assert api.secrets["FEATURE_AGENT_OTHER"] == "false"


class TestAsAProcess:
    """The program as it is typed, with its own pace, at forwarders and at somebody's own functions."""

    @pytest.fixture(autouse=True)
    def _place(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("AGENTOPS_TARGET", TARGET)

    def pressed(self, api: ManagementApi) -> dict[str, Any]:
        with management_api.serving(api):
            done: dict[str, Any] = cli.answer("incident", "kill-switch", "--wait", **api.environment)
        return done

    def test_forwarders_say_so_in_a_header(self) -> None:
        functions = {slug: deployed(slug) for slug in WEBHOOKS}
        done = self.pressed(ManagementApi(functions=functions, forwarders=dict(FLAGS), secrets=dict(ON)))
        assert {each["server"] for each in done["confirmed"]} == WEBHOOKS

    def test_webhooks_of_ones_own_say_so_in_their_logs(self, database_url: str) -> None:
        functions = {slug: deployed(slug) for slug in WEBHOOKS}
        api = ManagementApi(database_url, functions=functions, secrets=dict(ON))
        api.on_call = _logs_that_it_is_off
        done = self.pressed(api)
        assert {each["server"] for each in done["confirmed"]} == WEBHOOKS
        # A minute holds ten questions to the logs.
        assert min(each["seconds"] for each in done["confirmed"]) >= confirming.LOGS_SECONDS


def _logs_that_it_is_off(api: ManagementApi, slug: str) -> None:
    """A function of somebody's own: it has no header, and logs each call while it is off."""
    if api.secrets[FLAGS[slug]] == "false":
        event = f"ai.{slug.split('-')[1]}.webhook.disabled"
        line = {"level": "info", "event": event, "function": slug}
        api.log("function_logs", json.dumps(line), function_id=f"id-{slug}", level="info", event_type="Log")

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from agentops.functions import ai_whatsapp_webhook
from agentops.settings import CHAT
from agentops.stack import Deployed
from agentops.store.database import Database
from agentops.web import Request
from tests.fakes.chat import chat_stack, settled, states, until, working
from tests.fakes.providers import Providers, serving
from tests.fakes.stacks import ALL_ON, recorded, set_flag
from tests.fakes.whatsapp import APP_SECRET, CUSTOMER, SLUG, deliver, payload, signed, text

VERIFY = {"hub.mode": "subscribe", "hub.verify_token": "a-verify-token", "hub.challenge": "1158201444"}


def get(**query: str) -> Request:
    return Request("GET", SLUG, "corr-1", query=query)


def test_meta_is_given_its_challenge_for_the_right_token_and_403_otherwise(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            answer = await ai_whatsapp_webhook.handle(get(**VERIFY), stack)
            assert (answer.status, answer.body) == (200, b"1158201444")
            assert answer.content_type.startswith("text/plain")
            for wrong in ({"hub.verify_token": "another"}, {"hub.verify_token": "é"}, {"hub.mode": "other"}):
                assert (await ai_whatsapp_webhook.handle(get(**{**VERIFY, **wrong}), stack)).status == 403
            bare = replace(stack, secrets=MappingProxyType({}))
            assert (await ai_whatsapp_webhook.handle(get(**{**VERIFY, "hub.verify_token": ""}), bare)).status == 403
            assert recorded(stack).names == ["ai.whatsapp.webhook.verify"] * 5

    asyncio.run(check())


def test_a_get_without_hub_parameters_is_the_functions_health(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as plain:
            stack = replace(plain, functions=MappingProxyType({SLUG: Deployed(SLUG, 3, "2026-11-23T10:00:00Z")}))
            answer = await ai_whatsapp_webhook.handle(get(), stack)
            assert answer.status == 200
            health = json.loads(answer.body)
            assert health["slug"] == SLUG
            assert health["version"] == 3
            assert health["deployed_at"] == "2026-11-23T10:00:00Z"

    asyncio.run(check())


def test_a_bad_signature_is_401_and_nothing_is_stored(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            good = signed(payload(text("hello")))
            for header in (None, "", "sha256=", "sha256=00", "sha1=abc", "sha256=é", "\udcff"):
                headers = {} if header is None else {"x-hub-signature-256": header}
                answer = await ai_whatsapp_webhook.handle(replace(good, headers=headers), stack)
                assert answer.status == 401, header
            changed = replace(good, body=good.body + b" ")
            assert (await ai_whatsapp_webhook.handle(changed, stack)).status == 401
            assert await states(stack) == []
            assert set(recorded(stack).names) == {"ai.whatsapp.webhook.exception"}

    asyncio.run(check())


def test_without_an_app_secret_nothing_is_trusted_and_the_event_says_what_to_set(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            bare = replace(stack, secrets=MappingProxyType({}))
            answer = await ai_whatsapp_webhook.handle(signed(payload(text("hello")), secret=""), bare)
            assert answer.status == 401
            assert recorded(stack).events[0].level == "error"
            assert "agentops secrets set WA_APP_SECRET" in recorded(stack).text

    asyncio.run(check())


def test_what_is_not_json_is_400(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            for body in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}', b"1" * 5000):
                assert (await ai_whatsapp_webhook.handle(signed(body), stack)).status == 400, body[:10]

    asyncio.run(check())


def test_the_signature_is_over_the_raw_bytes_as_meta_escapes_them(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            body = json.dumps(payload(text("Muraho, ç'est très bien / 👍"))).replace("/", "\\/").encode()
            assert (await ai_whatsapp_webhook.handle(signed(body), stack)).status == 200
            rows = await stack.database.query("select payload->'text'->>'body' as body from agentops.inbox")
            assert rows == [{"body": "Muraho, ç'est très bien / 👍"}]

    asyncio.run(check())


def test_every_message_of_every_change_is_stored_once_in_order(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            content = payload(text("one"), text("two", "+250788000002"))
            content["entry"] += [*payload(text("three"))["entry"], *payload(text("four"))["entry"]]
            content["entry"][0]["changes"] += [{"field": "account_update", "value": {"event": "x"}}, 7, {"value": []}]
            assert (await ai_whatsapp_webhook.handle(signed(content), stack)).status == 200
            rows = await stack.database.query(
                "select payload->'text'->>'body' as body, lane from agentops.inbox i "
                "join agentops.conversations c on c.id = i.conversation_id order by i.id"
            )
            assert [row["body"] for row in rows] == ["one", "two", "three", "four"]
            assert len({row["lane"] for row in rows}) == 2

    asyncio.run(check())


SHAPES: list[Any] = [
    None,
    [],
    "text",
    {},
    {"entry": "none"},
    {"entry": [None, {"changes": None}, {"changes": [{"value": {"messages": "x", "statuses": [1, {}]}}]}]},
    {"entry": [{"changes": [{"field": "messages", "value": {"messages": [{}, {"id": 7, "type": [], "from": {}}]}}]}]},
    payload(errors=[{"code": 130429, "title": "Rate limit hit"}]),
    payload({"from": "250788000001", "id": "wamid.nul", "type": "text", "text": {"body": "a\x00b\ud800"}}),
    payload({"id": "wamid.bsuid", "from_user_id": "RW.134", "type": "text", "text": {"body": "hi"}}),
    payload({"from": "250788000001", "id": "wamid.r", "type": "reaction", "reaction": {"message_id": "wamid.x"}}),
    payload({"from": "250788000001", "id": "wamid.s", "type": "system", "system": {"body": "x"}}),
    payload(statuses=[{"id": "wamid.x", "status": "failed", "errors": [{"code": 131026}]}, {"id": "wamid.x"}]),
]


def test_any_shape_is_answered_200(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            for content in SHAPES:
                answer = await ai_whatsapp_webhook.handle(signed(content), stack)
                assert (answer.status, json.loads(answer.body)) == (200, {"received": True}), content
            assert recorded(stack).names.count("ai.whatsapp.webhook.received") == len(SHAPES)

    asyncio.run(check())


def test_an_error_of_the_account_is_logged_once_by_its_code(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            content = payload(errors=[{"code": 131031, "title": "Account locked"}, {"title": "no code"}, "no error"])
            for _ in range(2):
                assert (await ai_whatsapp_webhook.handle(signed(content), stack)).status == 200
            told = [event.data for event in recorded(stack).events if event.event == "ai.whatsapp.account.error"]
            assert [each["code"] for each in told] == [131031, None, None]
            assert told[0]["error"] == "code 131031: Meta has locked the account"
            assert "Business Support Home" in str(told[0]["hint"])

    asyncio.run(check())


def test_a_database_that_is_down_is_503_so_that_meta_delivers_again(database_url: str) -> None:
    async def check() -> None:
        async with chat_stack(database_url) as stack:
            gone = await Database.opening("postgresql://nobody@127.0.0.1:1/nothing", wait_seconds=0.2)
            answer = await ai_whatsapp_webhook.handle(signed(payload(text("hello"))), replace(stack, database=gone))
            await gone.close()
            assert answer.status == 503
            assert answer.headers["Retry-After"]

    asyncio.run(check())


def test_two_simultaneous_deliveries_make_one_row_and_one_reply(database_url: str) -> None:
    async def check(providers: Providers) -> None:
        async with chat_stack(database_url, providers) as one, chat_stack(database_url, providers) as other:
            message = text("hello")
            async with working(one), working(other):
                answers = await asyncio.gather(*(deliver(stack, message) for stack in (one, other) * 5))
                assert {answer.status for answer in answers} == {200}
                await until(lambda: settled(one))
            assert await states(one) == ["done"]
            assert len(providers.texts) == 1
            duplicates = [e for s in (one, other) for e in recorded(s).events if e.event.endswith("message.duplicate")]
            assert len(duplicates) == 9

    with serving(Providers()) as providers:
        asyncio.run(check(providers))


def test_with_the_flag_off_messages_are_skipped_and_never_answered_later(database_url: str) -> None:
    async def check(providers: Providers) -> None:
        async with chat_stack(database_url, providers, flags={**ALL_ON, CHAT: False}) as stack:
            assert (await deliver(stack, text("hello"))).status == 200
            assert await states(stack) == ["skipped"]
            assert "ai.whatsapp.webhook.disabled" in recorded(stack).names
            await set_flag(stack.database, CHAT, enabled=True)
            async with working(stack):
                await deliver(stack, text("hello again"))
                await until(lambda: settled(stack))
            assert await states(stack) == ["skipped", "done"]
            assert len(providers.texts) == 1

    with serving(Providers()) as providers:
        asyncio.run(check(providers))


def test_what_waits_when_the_flag_goes_off_is_skipped_even_if_it_is_on_again_at_once(database_url: str) -> None:
    async def check(providers: Providers) -> None:
        async with chat_stack(database_url, providers) as stack:
            await deliver(stack, text("one"), text("two"), text("three", "+250788000002"))
            assert await states(stack) == ["queued"] * 3
            await set_flag(stack.database, CHAT, enabled=False)
            await set_flag(stack.database, CHAT, enabled=True)
            await deliver(stack, text("four"))
            async with working(stack):
                await until(lambda: settled(stack))
            assert await states(stack) == ["skipped"] * 3 + ["done"]
            assert len(providers.texts) == 1

    with serving(Providers()) as providers:
        asyncio.run(check(providers))


def test_no_event_holds_a_phone_a_message_id_or_a_word_of_a_message(database_url: str) -> None:
    async def check(providers: Providers) -> None:
        async with chat_stack(database_url, providers) as stack:
            message = text("create voucher 10000 for my cousin Uwineza")
            async with working(stack):
                await deliver(stack, message, message)
                await until(lambda: settled(stack))
            lines = recorded(stack).text
            assert "ai.whatsapp.message.success" in lines
            for word in (CUSTOMER, CUSTOMER[1:], message["id"], message["id"][6:], "Uwineza", "cousin", APP_SECRET):
                assert word not in lines

    with serving(Providers()) as providers:
        asyncio.run(check(providers))

"""A campaign of messages: two servers, a sender like Meta, a killer; what Graph's peer received is the truth.

    sender ── each message 3 × at the same time, again until 200 ──> server 0, server 1 (supervisor, web, worker)
    killer ── SIGKILL: web | worker | supervisor | a whole machine; supervisors are started again
    peer   ── keeps every reply, answers a moment later, tells statuses of most ──> Campaign → findings()

The customer writes `t0012-03` (customer 12, their message 3) and the model repeats what it was told, so a reply names
the messages that it answers, and every finding is read off the replies themselves.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
import uuid
from collections import Counter, defaultdict
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
from psycopg.rows import dict_row

from agentops.agent.whatsapp import APOLOGY
from agentops.settings import CHAT
from tests.fakes import serve
from tests.fakes.fleet import Server, fleet
from tests.fakes.providers import Providers, last, say
from tests.fakes.providers import serving as scripted
from tests.fakes.serve import Served
from tests.fakes.servers import operator
from tests.fakes.whatsapp import APP_SECRET, payload, signed, text, wamid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from tests.conftest import StackKeys

COPIES, SERVERS = 3, 2
TOKEN = re.compile(r"t\d{4}-\d{2}")
SECRETS = {"WA_TOKEN": "a-token", "WA_PHONE_ID": "106540352242922", "WA_APP_SECRET": APP_SECRET, "OPENAI_API_KEY": "k"}
WEBHOOK = "/functions/v1/ai-whatsapp-webhook"
# Every so many-th reply's statuses never come: those whose worker was killed meanwhile stay uncertain.
SILENT = 3
_OUTBOX = "select o.id::text, o.body, o.state, o.inbox_id from agentops.outbox o"
_INBOX = "select i.id, i.message_id, i.state, i.turn, i.payload #>> '{text,body}' as text from agentops.inbox i"
_WAITING = """
select (select count(*) from agentops.inbox where state = 'queued')
     + (select count(*) from agentops.outbox where state in ('pending', 'sending'))
"""


@dataclass(frozen=True)
class Size:
    """How much of it. The `kills` are spread over the messages, which take `seconds` at least.

    Without `variants` it is the program as it ships.
    """

    customers: int
    each: int
    seconds: float
    kills: int
    variants: tuple[str, ...] = ()
    uncertain_seconds: int = 10
    senders: int = 16
    # How long Graph's peer keeps its answers.
    answer_seconds: float = 0.1
    # Longer than leases, backoffs and the wait for a status.
    stuck_seconds: float = 60.0
    # Kills at the very moments at which a promise could break, before those at random.
    aimed: tuple[str, ...] = ("acknowledgement", "accepted reply")
    # Of which the random kills are, in a random order.
    kinds: tuple[str, ...] = ("web",) * 6 + ("worker",) * 7 + ("supervisor", "machine")

    @property
    def messages(self) -> int:
        return self.customers * self.each


@dataclass
class Campaign:
    """What was sent, what the peer received, what operators are told, what is kept."""

    sent: set[str]
    replies: list[dict[str, Any]]
    uncertain: list[str]
    outbox: list[dict[str, Any]]
    inbox: list[dict[str, Any]]
    after: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    posts: Counter[str] = field(default_factory=Counter)

    @property
    def answered(self) -> Counter[str]:
        """How often each message was answered."""
        return Counter(token for reply in self.replies for token in self._named(reply))

    @property
    def apologies(self) -> int:
        """Replies that are no answer: the model had failed."""
        return sum(reply["text"]["body"] == APOLOGY for reply in self.replies)

    @property
    def listed(self) -> set[str]:
        """Messages whose replies `agentops outbox list` calls uncertain."""
        told = set(self.uncertain)
        return {token for row in self.outbox if row["id"] in told for token in self._answering(row["id"], row["body"])}

    @property
    def recorded(self) -> set[str]:
        """Messages that ended with another outcome than a reply."""
        return {row["text"] for row in self.inbox if row["state"] in {"dead", "skipped"}}

    def findings(self) -> dict[str, object]:
        """What is wrong, by the promise that it breaks; empty where nothing is."""
        answered, received = self.answered, Counter(each["biz_opaque_callback_data"] for each in self.replies)
        sure = {row["id"] for row in self.outbox if row["state"] in {"sent", "delivered", "read"}}
        rows = Counter(row["text"] for row in self.inbox)
        found = {
            "lost": sorted(self.sent - set(answered) - self.listed - self.recorded),
            "doubled": sorted(token for token, count in answered.items() if count > 1),
            "sent twice": sorted(each for each, count in received.items() if count > 1),
            "stored twice": sorted(token for token, count in rows.items() if count > 1),
            "disordered": self._disordered(),
            "believed wrongly": sorted(sure - set(received)),
            "unknown": sorted(each["text"]["body"] for each in self.replies if not self._named(each)),
            "unsettled": sorted(row["id"] for row in self.outbox if row["state"] in {"pending", "sending"})
            + sorted(row["text"] for row in self.inbox if row["state"] == "queued"),
            "unlisted": sorted({row["id"] for row in self.outbox if row["state"] == "uncertain"} ^ set(self.uncertain)),
            "sent by itself": self.after,
        }
        return {name: each for name, each in found.items() if each}

    def _named(self, reply: dict[str, Any]) -> list[str]:
        return self._answering(reply["biz_opaque_callback_data"], reply["text"]["body"])

    def _answering(self, outbox_id: object, body: str) -> list[str]:
        """The messages that a reply answers: it names them. An apology names none; its turn's are looked up."""
        if body != APOLOGY:
            return TOKEN.findall(body)
        turns = [row["inbox_id"] for row in self.outbox if row["id"] == outbox_id]
        return [row["text"] for row in self.inbox if row["turn"] in turns]

    def _disordered(self) -> list[str]:
        """Customers who read an answer to an earlier message after one to a later."""
        heard: dict[str, list[str]] = defaultdict(list)
        for reply in self.replies:
            heard[reply["to"]] += self._named(reply)
        return [each for each, tokens in heard.items() if list(dict.fromkeys(tokens)) != sorted(set(tokens))]

    def figures(self) -> str:
        """One line for eyes."""
        states = Counter(row["state"] for row in self.outbox)
        return (
            f"{len(self.sent):,} messages in {self.seconds:.0f} s, posts {dict(self.posts)}, kills {dict(self.kills)}:"
            f" answered {len(self.answered):,} in {len(self.replies):,} replies, uncertain {len(self.listed)} (of them"
            f" received {len(self.listed & set(self.answered))}), apologies {self.apologies},"
            f" other outcomes {len(self.recorded)},"
            f" outbox {dict(states)}"
        )


@dataclass
class Peer(Providers):
    """Both providers; Graph's answer comes a moment after the customer has the reply."""

    answer_seconds: float = 0.1
    holding: bool = False

    async def _graph(self, request: Request) -> Response:
        response = await super()._graph(request)
        if (await request.json()).get("type") == "text":
            await asyncio.sleep(self.answer_seconds)
            await _until(lambda: not self.holding, 90)
        return response


def campaign(address: str, folder: Path, keys: StackKeys, size: Size) -> Campaign:
    """Run it, to the end: nothing waits any more, and nothing has happened for a moment after that."""
    peer = Peer(answer_seconds=size.answer_seconds, think=lambda body: say(f"You wrote: {last(body)}"))
    asyncio.run(_settle(address, size))

    def environments(place: Path) -> dict[str, str]:
        return serve.surroundings(address, place, keys.private, **peer.environment)

    with scripted(peer), fleet(folder, SERVERS, environments, size.variants) as servers:
        found = asyncio.run(_Run(address, servers, peer, size).run())
        told = Served(servers[0].process.url, address, {}, servers[0].environment)
        listed = told.json("outbox", "list", "--state", "uncertain", "--limit", str(size.messages))
        found.uncertain = [each["id"] for each in listed]
    return found


async def _settle(address: str, size: Size) -> None:
    """Secrets and the flag."""
    settings = {**SECRETS, "AGENT_UNCERTAIN_SECONDS": str(size.uncertain_seconds), CHAT: "true"}
    async with operator(address) as platform:
        await platform.set_secrets(settings, check=False)


class _Run:
    """The sender, the killer and Meta's statuses, in one loop."""

    def __init__(self, address: str, servers: list[Server], peer: Peer, size: Size) -> None:
        self.address, self.servers, self.peer, self.size = address, servers, peer, size
        self.kills: Counter[str] = Counter()
        self.posts: Counter[str] = Counter()
        self.sent: set[str] = set()
        self.chance = random.Random(7)  # noqa: S311 - as random as a test should be
        # Whose reply was under way when both workers died: nobody tells what became of it.
        self.silent = _phone(size.customers + 1)
        self.client: httpx.AsyncClient

    async def run(self) -> Campaign:
        begun = time.monotonic()
        async with self._client() as self.client:
            telling = asyncio.create_task(self._tell_statuses())
            keeping = asyncio.create_task(self._keep())
            killing = asyncio.create_task(self._kill())
            senders = self.size.senders
            await asyncio.gather(*(self._send(range(each, self.size.customers, senders)) for each in range(senders)))
            await killing
            await self._empty()
            taken = time.monotonic() - begun
            before = len(self.peer.sent)
            await asyncio.sleep(1.0)
            telling.cancel()
            keeping.cancel()
            with psycopg.connect(self.address, row_factory=dict_row) as connection:
                outbox = connection.execute(_OUTBOX.encode()).fetchall()
                inbox = connection.execute(_INBOX.encode()).fetchall()
        after = len(self.peer.sent) - before
        replies = list(self.peer.sent)
        return Campaign(self.sent, replies, [], outbox, inbox, after, self.kills, taken, self.posts)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=100, keepalive_expiry=2.0)
        async with httpx.AsyncClient(timeout=15, limits=limits, trust_env=False) as client:
            yield client

    async def _send(self, customers: Sequence[int]) -> None:
        """Each of these customers writes their messages in order; a message is followed when Meta is rid of it."""
        pause = self.size.seconds / max(self.size.each * len(customers), 1)
        for number in range(self.size.each):
            for customer in customers:
                due = time.monotonic() + pause * self.chance.uniform(0.3, 1.7)
                await self._message(customer, number)
                await asyncio.sleep(max(due - time.monotonic(), 0.0))

    async def _message(self, customer: int, number: int) -> None:
        token, phone = f"t{customer:04d}-{number:02d}", _phone(customer)
        self.sent.add(token)
        content = payload(text(token, phone, wamid(phone)))
        first = self.chance.randrange(SERVERS)
        await asyncio.gather(*(self._deliver(content, first + copy) for copy in range(COPIES)))

    async def _deliver(self, content: object, server: int) -> None:
        """Again until the answer is exactly 200, as Meta does, if not as patiently."""
        request = signed(content)
        headers, deadline = dict(request.headers), time.monotonic() + 180
        for attempt in range(10_000):
            url = self.servers[(server + attempt) % SERVERS].process.url + WEBHOOK
            try:
                status = str((await self.client.post(url, content=request.body, headers=headers)).status_code)
            except httpx.HTTPError:
                status = "broken"
            self.posts[status] += 1
            if status == "200":
                return
            assert time.monotonic() < deadline, "nobody takes this delivery"
            await asyncio.sleep(min(0.1 * 2**attempt, 1.0) * self.chance.uniform(0.5, 1.0))

    async def _tell_statuses(self) -> None:
        """What became of the replies, a moment after they came; of some it is never told."""
        told = 0
        while True:
            await asyncio.sleep(0.3)
            sent = self.peer.sent[told:]
            told += len(sent)
            statuses = [
                {"id": f"wamid.{uuid.uuid4().hex}", "status": "delivered", "biz_opaque_callback_data": callback}
                for callback in (each["biz_opaque_callback_data"] for each in sent if each["to"] != self.silent)
                if int(str(callback)[:8], 16) % SILENT
            ]
            if statuses:
                await self._deliver(payload(statuses=statuses), told)

    async def _kill(self) -> None:
        """At random, spread over the time of sending; before that at the moments that matter."""
        if "acknowledgement" in self.size.aimed:
            await self._at_an_acknowledgement()
        if "accepted reply" in self.size.aimed:
            await self._at_an_accepted_reply()
        plan = [self.size.kinds[number % len(self.size.kinds)] for number in range(self.size.kills)]
        self.chance.shuffle(plan)
        for place, kind in enumerate(plan, 1):
            # However slow the machine: what was killed comes up, and something is done before the next one.
            due = self.size.messages * (place - self.chance.random()) / (len(plan) + 1)
            await _until(partial(self._has_sent, due), 600)
            await asyncio.to_thread(self._shoot, kind)

    async def _keep(self) -> None:
        """Start what gave up by itself: under fire, a supervisor may not see its processes ready in time."""
        while True:
            await asyncio.sleep(0.5)
            for server in self.servers:
                if server.gave_up:
                    await asyncio.to_thread(server.start_again, server.process)

    async def _at_an_acknowledgement(self) -> None:
        """Both web processes, as soon as a message's deliveries have all been answered 200."""
        await self._message(self.size.customers, 0)
        victims = [pid for server in self.servers for pid, role in server.children.items() if role == "web"]
        self._end(victims, "web")

    async def _at_an_accepted_reply(self) -> None:
        """Both workers, while Graph has a reply of theirs and has not answered."""
        self.peer.holding = True
        asking = asyncio.create_task(self._message(self.size.customers + 1, 0))
        await _until(lambda: any(each["to"] == self.silent for each in self.peer.sent), 60)
        victims = [pid for server in self.servers for pid, role in server.children.items() if role == "worker"]
        self._end(victims, "worker")
        self.peer.holding = False
        await asking

    def _has_sent(self, messages: float) -> bool:
        return len(self.sent) >= messages

    def _shoot(self, kind: str) -> None:
        server = self.chance.choice(self.servers)
        children = server.children
        if kind in {"web", "worker"}:
            deadline = time.monotonic() + 10
            while kind not in children.values() and time.monotonic() < deadline:
                time.sleep(0.05)
                server = self.chance.choice(self.servers)
                children = server.children
            self._end([pid for pid, role in children.items() if role == kind], kind)
            return
        process = server.process
        self._end([process.pid, *(children if kind == "machine" else ())], kind)
        server.start_again(process)

    def _end(self, victims: Sequence[int], kind: str) -> None:
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.kills[kind] += len(victims) if kind in {"web", "worker"} else bool(victims)

    async def _empty(self) -> None:
        """Until nothing waits and nothing is on its way, or for long nothing has become less."""
        least, deadline = self.size.messages, 0.0
        while True:
            with psycopg.connect(self.address) as connection:
                [[left]] = connection.execute(_WAITING.encode()).fetchall()
            if left < least or not deadline:
                least, deadline = left, time.monotonic() + self.size.stuck_seconds
            if not left or time.monotonic() > deadline:
                return
            await asyncio.sleep(0.2)


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


def _phone(customer: int) -> str:
    return f"+25078{customer:07d}"

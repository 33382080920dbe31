"""Every command that changes something: `--check` tells what would change and writes nothing, a second run nothing.

A mutating command is one with `--check`; the list is held against the command tree, so a new one has to be added here.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from agentops import commands, configuration
from tests.commands.line import Result, typed

if TYPE_CHECKING:
    from pathlib import Path

# Nothing else is written by a command; audit rows would show any change that is undone again.
_EVERYTHING = b"""
select json_build_object(
    'flags', (select json_agg(f order by name) from agentops.flags f),
    'secrets', (select json_agg(s order by name) from agentops.secrets s),
    'versions', (select json_agg(v order by slug, version) from agentops.versions v),
    'deployments', (select json_agg(d order by slug) from agentops.deployments d),
    'incidents', (select json_agg(i order by id) from agentops.incidents i),
    'limits', (select json_agg(l order by name) from agentops.limits l),
    'approvals', (select json_agg(a order by id) from agentops.approvals a),
    'vouchers', (select json_agg(v order by id) from public.vouchers v),
    'ledger', (select json_agg(l order by id) from agentops.ledger l),
    'conversations', (select json_agg(c order by id) from agentops.conversations c),
    'inbox', (select json_agg(i order by id) from agentops.inbox i),
    'outbox', (select json_agg(o order by id) from agentops.outbox o),
    'audit', (select json_agg(a order by id) from agentops.audit a),
    'migrations', (select json_agg(m order by version) from agentops.migrations m),
    'rules', (select json_agg(pg_get_constraintdef(oid) order by oid) from pg_constraint))::text
"""
VOUCHER, REPLY = "7d9f9f2c-0000-4000-8000-000000000001", "7d9f9f2c-0000-4000-8000-000000000002"
# A request that waits, an issued voucher, a dead message of one customer and an uncertain reply to another of theirs,
# and an incident.
_SEED = f"""
insert into agentops.flags (name, enabled, updated_by) values ('FEATURE_AGENT_VOUCHERS', true, 'tests');
insert into public.vouchers (id, code_5, amount_minor, whatsapp_e164, policy_number)
    values ('{VOUCHER}', '12345', 1000, '+250788000001', 'AI-1');
insert into agentops.approvals (customer, amount_minor, currency, channel, correlation_id, requested_by)
    values ('+250788000001', 1000, 'RWF', 'chat', 'c', 'customer@chat');
insert into agentops.conversations (lane, phone_id, customer) values ('1:+250788000001', '1', '+250788000001');
insert into agentops.inbox
    (message_id, conversation_id, slug, correlation_id, kind, payload, state, attempts, finished_at)
    values ('m1', 1, 'ai-whatsapp-webhook', 'c', 'text', '{{}}', 'dead', 5, now()),
           ('m2', 1, 'ai-whatsapp-webhook', 'c', 'text', '{{}}', 'done', 1, now());
insert into agentops.outbox (id, conversation_id, inbox_id, correlation_id, body, state)
    values ('{REPLY}', 1, 2, 'c', 'hello', 'uncertain');
insert into agentops.incidents (kind, reason, opened_by) values ('dead-letter', 'messages were given up', 'agentops');
"""  # noqa: S608 - our own constants
_ONE = """from agentops.web import json_response

async def handle(request, stack):
    return json_response(200, {{"answer": {answer}}})
"""


@dataclass(frozen=True)
class Change:
    """A command line that changes something, what has to be done before it, and whether it asks."""

    line: str
    before: tuple[str, ...] = ()
    asks: bool = False
    # A timed flag is set anew each time, a reload is one each time: the second run does something on purpose.
    again: bool = False

    def __str__(self) -> str:
        return self.line


ENV = "OPENAI_API_KEY=one\nFEATURE_AGENT_VOICE=true\n"
CHANGES = [
    Change("flags enable chat vouchers"),
    Change("flags disable chat", before=("flags enable chat",)),
    Change("flags disable chat voice"),
    Change("flags disable chat --for 30m", before=("flags enable chat",), again=True),
    Change("secrets set WA_TOKEN=abc FEATURE_AGENT_CHAT=true"),
    Change("secrets set --env-file settings.env"),
    Change("secrets unset WA_TOKEN GONE", before=("secrets set WA_TOKEN=abc",), asks=True),
    Change("deploy mine"),
    Change("deploy mine --force", before=("deploy mine",), again=True),
    Change("deploy all"),
    Change("deploy rollback mine --to 1", before=("deploy mine", "edit", "deploy mine")),
    Change("deploy delete mine", before=("deploy mine",), asks=True),
    Change("incident kill-switch", before=("flags enable chat",)),
    Change("incident kill-switch --all"),
    Change("incident restore 1", before=("flags enable chat", "incident kill-switch"), asks=True),
    Change("incident close 1", before=("seed",)),
    Change("db migrate", before=("refuse-void",)),
    Change("limits set voucher-max=123"),
    Change("vouchers approve 1", before=("seed",)),
    Change("vouchers reject 1", before=("seed",)),
    Change(f"vouchers void {VOUCHER}", before=("seed",), asks=True),
    Change("inbox retry 1", before=("seed",)),
    Change("inbox discard 1", before=("seed",), asks=True),
    Change("conversations forget 1", before=("seed",), asks=True),
    Change(f"outbox resolve {REPLY} --as sent", before=("seed",)),
    Change("target use sandbox"),
]


@pytest.fixture
def stack(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A database and a project folder with one function."""
    monkeypatch.setenv("AGENTOPS_TARGET", database_url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "mine.py").write_text(_ONE.format(answer=1))
    (tmp_path / "settings.env").write_text(ENV)
    return database_url


def content(database_url: str) -> str:
    with psycopg.connect(database_url) as connection:
        row = connection.execute(_EVERYTHING).fetchone()
    assert row is not None
    chosen = configuration.user_file()
    return str(row[0]) + (chosen.read_text() if chosen.is_file() else "")


def prepare(change: Change, database_url: str, folder: Path) -> None:
    for line in change.before:
        if line == "edit":
            (folder / "functions" / "mine.py").write_text(_ONE.format(answer=2))
        elif line == "seed":
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute(_SEED.encode())
        elif line == "refuse-void":
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute(b"alter table public.vouchers drop constraint vouchers_status_check")
                connection.execute(b"alter table public.vouchers add constraint mine check (status in ('issued'))")
        else:
            done = typed(*shlex.split(line))
            assert done.code == 0, done.err


def entries(result: Result) -> list[dict[str, Any]]:
    found = result.json
    return found if isinstance(found, list) else [found]


def changed(result: Result) -> list[bool]:
    return [entry["changed"] for entry in entries(result)]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_check_predicts_exactly_and_writes_nothing_and_the_second_run_changes_nothing(
    change: Change, stack: str, tmp_path: Path
) -> None:
    prepare(change, stack, tmp_path)
    words = shlex.split(change.line)
    yes = ["--yes"] if change.asks else []
    before = content(stack)

    plan = typed(*words, "--check", "--json")
    assert content(stack) == before
    assert plan.code == (3 if any(changed(plan)) else 0), plan.err

    if change.asks:
        refused = typed(*words, "--json")
        assert (refused.code, refused.out) == (6, "")
        assert json.loads(refused.err.splitlines()[-1])["error"] == "not_confirmed"
        assert content(stack) == before

    done = typed(*words, *yes, "--json")
    assert done.code == 0, done.err
    assert changed(done) == changed(plan)
    assert any(changed(done)) == (content(stack) != before)

    after = content(stack)
    again = typed(*words, *yes, "--json")
    assert again.code == 0, again.err
    assert any(changed(again)) == change.again
    if not change.again:
        assert typed(*words, "--check", "--json").code == 0
        # Repeating a kill switch is told in the audit; the state stays.
        assert "kill-switch" in change.line or content(stack) == after


def test_every_command_that_can_be_checked_is_here() -> None:
    checkable = {
        f"{noun} {verb}"
        for noun in commands.nouns()
        for verb, command in getattr(commands.command(noun), "commands", {}).items()
        if any("--check" in parameter.opts for parameter in command.params)
    }
    # A runbook's own changes are those of its commands.
    checkable -= {"runbook run"}
    # The bare noun with a slug is the verb that bears its name.
    lines = [change.line.replace("deploy mine", "deploy deploy mine") for change in CHANGES]
    here = {" ".join(line.split()[:2]) for line in lines}
    assert here == checkable


def test_what_stops_things_never_asks() -> None:
    for noun, verb in (("flags", "disable"), ("incident", "kill-switch")):
        options = {name for parameter in commands.command(noun).commands[verb].params for name in parameter.opts}
        assert "--yes" not in options

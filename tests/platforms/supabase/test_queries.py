"""SQL through the API: PostgreSQL's refusals mean the same as from a database that is reached directly."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse

from agentops.errors import AgentOpsError, Conflict, NotAuthorised, TimedOut, UsageError
from agentops.platforms.supabase import queries
from agentops.platforms.supabase.management import Management
from agentops.platforms.supabase.queries import Missing, Writing
from tests.fakes.management_api import REF, TOKEN, ManagementApi

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


@pytest.fixture
def api(project_api: ManagementApi, database_url: str) -> ManagementApi:
    project_api.database_url = database_url
    return project_api


def run(
    api: ManagementApi, statement: str, parameters: Mapping[str, Any] | None = None, *, write: bool = False
) -> list[dict[str, Any]]:
    async def inside() -> list[dict[str, Any]]:
        management = Management(REF, TOKEN, base_url=api.url)
        try:
            if write:
                return await Writing(management).query(statement, parameters)
            return await queries.read(management, statement, parameters)
        finally:
            await management.aclose()

    return asyncio.run(inside())


REFUSED: list[tuple[str, type[AgentOpsError], str]] = [
    ("select * from no_such_table", Missing, 'relation "no_such_table" does not exist'),
    ("select * from no_such_schema.x", Missing, 'relation "no_such_schema.x" does not exist'),
    ("select no_such_function()", Missing, "function no_such_function"),
    ("create table no_such_schema.x ()", Missing, 'schema "no_such_schema" does not exist'),
    ("set role agentops_agent; select * from agentops.secrets", NotAuthorised, "permission denied"),
    ("set statement_timeout = 50; select pg_sleep(5)", TimedOut, "statement timeout"),
    ("insert into agentops.generation default values", Conflict, "duplicate key value"),
    ("select 1/0", UsageError, "division by zero"),
]


@pytest.mark.parametrize("refused", REFUSED, ids=[statement for statement, _, _ in REFUSED])
def test_a_refusal_is_of_its_kind_and_the_project_is_not_asked_why(
    api: ManagementApi, refused: tuple[str, type[AgentOpsError], str]
) -> None:
    statement, kind, words = refused
    with pytest.raises(AgentOpsError) as found:
        run(api, statement, write=True)
    assert type(found.value) is kind or (kind is UsageError and isinstance(found.value, UsageError))
    assert words in found.value.message
    assert [path for _, path, _ in api.requests] == ["/database/query"]


def test_words_without_a_code_are_a_refusal_all_the_same(api: ManagementApi) -> None:
    words = 'Failed to run sql query: syntax error at or near "selec"\nLINE 1: selec 1\n        ^\n'
    api.refuse = lambda _method, below: JSONResponse({"message": words}, 400) if "database" in below else None
    with pytest.raises(UsageError, match="PostgreSQL refuses the statement: syntax error at or near") as found:
        run(api, "selec 1")
    assert not isinstance(found.value, Missing)


def test_reading_writes_nothing(api: ManagementApi) -> None:
    with pytest.raises(AgentOpsError, match="read-only transaction"):
        run(api, "create table public.mine ()")


def test_several_statements_are_one_transaction(api: ManagementApi) -> None:
    with pytest.raises(AgentOpsError, match="division by zero"):
        run(api, "create table public.mine (n integer); select 1/0", write=True)
    assert run(api, "select to_regclass('public.mine') is null as gone") == [{"gone": True}]
    made = (
        "create table public.mine (n integer); insert into public.mine values (1), (2); select max(n) from public.mine"
    )
    assert run(api, made, write=True) == [{"max": 2}]


def test_parameters_travel_apart_from_the_statement(api: ManagementApi) -> None:
    hostile = "'; drop table public.vouchers; -- $1 %(name)s"
    rows = run(api, "select %(text)s::text as one, 100 %% 7 as rest, %(text)s::text as two", {"text": hostile})
    assert rows == [{"one": hostile, "rest": 2, "two": hostile}]

"""What the framework and the database alone can do: the same SELECT and the same INSERT, and nothing around them."""

from __future__ import annotations

import json
import os
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from agentops.store.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

SELECT = """select user_id::text as user_id, display_name from public.profiles
where whatsapp_e164 = %(phone)s order by user_id limit 1"""
INSERT = """insert into public.bare_inbox (message_id, payload) values (%(id)s, %(payload)s::jsonb)
on conflict (message_id) do nothing"""


@asynccontextmanager
async def lifespan(application: Starlette) -> AsyncIterator[None]:
    """Open the pool that the measured server has too."""
    database = await Database.open(os.environ["BARE_DATABASE_URL"])
    await database.query("create table if not exists public.bare_inbox (message_id text primary key, payload jsonb)")
    application.state.database = database
    yield
    await database.close()


async def ready(_request: Request) -> JSONResponse:
    """The pool is open once this answers."""
    return JSONResponse({"status": "ok"})


async def lookup(request: Request) -> JSONResponse:
    """The SELECT of `ai-lookup-customer`."""
    phone = json.loads(await request.body())["msisdn"]
    rows = await request.app.state.database.query(SELECT, {"phone": phone})
    found = rows[0] if rows else {}
    return JSONResponse({"success": True, "exists": bool(rows), "msisdn": phone, **found})


async def acknowledge(request: Request) -> JSONResponse:
    """One durable row, then the answer."""
    payload = (await request.body()).decode()
    await request.app.state.database.query(INSERT, {"id": str(uuid.uuid4()), "payload": payload})
    return JSONResponse({"received": True})


app = Starlette(
    routes=[
        Route("/readyz", ready),
        Route("/lookup", lookup, methods=["POST"]),
        Route("/acknowledge", acknowledge, methods=["POST"]),
    ],
    lifespan=lifespan,
)

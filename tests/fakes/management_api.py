"""Supabase's Management API and a project's functions on a loopback socket, with the state that the real one keeps.

    GET/PUT …/functions  POST …/functions/deploy[?bundleOnly]  GET …/functions/{slug}/body  DELETE …
    GET/POST/DELETE …/secrets   GET …/analytics/endpoints/logs   POST …/database/query[/read-only]   GET …/api-keys
    /functions/v1/{slug}

201 on deploy, digests on list, `{"message"}` errors, rate limit headers; a paused project's functions answer 540. SQL
runs on a real PostgreSQL, each request in a session of its own: several statements without parameters are one
transaction, and the last rows are the answer. What the logs' ClickHouse has and PostgreSQL has not is made there under
the same names.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import re
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.fakes import sockets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

REF = "abcdefghijklmnopqrst"
TOKEN = "sbp_" + "0123456789abcdef" * 2 + "01234567"
LIMIT = 120
_PROJECT = "/v1/projects/{ref}"
_SLUG = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PUT_FIELDS = {"id", "slug", "name", "status", "version"}
_ATTRIBUTE = re.compile(r"log_attributes\['([^']*)'\]")
_CLICKHOUSE = """
create table if not exists public.logs (id text, timestamp timestamptz, event_message text, severity_text text,
    source text, log_attributes jsonb);
create or replace function public.tounixtimestamp64milli(at timestamptz) returns bigint language sql as
    $$ select floor(extract(epoch from at) * 1000)::bigint $$;
create or replace function public.toint32orzero(word text) returns integer language sql as
    $$ select case when word ~ '^[0-9]{1,9}$' then word::integer else 0 end $$;
create or replace function public.match(word text, pattern text) returns boolean language sql as
    $$ select word ~ pattern $$;
create or replace function public.positioncaseinsensitiveutf8(word text, part text) returns integer language sql as
    $$ select position(lower(part) in lower(word)) $$;
"""


@dataclass
class Deployed:
    """A function as the API knows it, with the files of the version that runs."""

    row: dict[str, Any]
    files: dict[str, bytes]
    entrypoint: str


@dataclass
class ManagementApi:
    """One project. `requests` are what it was asked: method, path below the project, query; but for what agentops asks
    the database about its own books, which are `statements`, as every other statement is too.

    `refuse` may answer a request in its place; `rated` counts requests by endpoint and answers 429 over the limit.
    """

    database_url: str | None = None
    # What the read-only endpoint works as; Supabase has a user of its own for it.
    reader: str | None = None
    token: str = TOKEN
    functions: dict[str, Deployed] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    # By slug, version and hash: two who bundle at once get the same number.
    bundled: dict[tuple[str, int, str], Deployed] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    # Method, path below the project and body of every request that may change something.
    written: list[tuple[str, str, bytes]] = field(default_factory=list)
    # Path below the project, and SQL.
    statements: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    refuse: Callable[[str, str], Response | None] = lambda _method, _path: None
    # Carries a request out, and breaks the connection off instead of answering.
    lose: Callable[[str, str], bool] = lambda _method, _path: False
    # A request waits for this before it is carried out.
    held: Callable[[str, str], threading.Event | None] = lambda _method, _path: None
    # The project's own state, as Supabase calls it.
    standing: str = "ACTIVE_HEALTHY"
    # How long a deploy takes, and how many ran at the same time at most.
    deploy_seconds: float = 0.0
    running: int = 0
    peak: int = 0
    # Functions that send our forwarder's header, told from the secret that is their flag.
    forwarders: dict[str, str] = field(default_factory=dict)
    # What functions were called with: their JSON, None where there was none; and what they do then.
    called: list[Any] = field(default_factory=list)
    on_call: Callable[[ManagementApi, str], None] = lambda _api, _slug: None
    # What a function answers to a call, 200 where nothing is said.
    statuses: dict[str, int] = field(default_factory=dict)
    # Called after each change of what runs: to spoil it.
    after: Callable[[ManagementApi], None] = lambda _api: None
    limit: int = LIMIT
    # The length of the window in which requests are counted, and how a refused one is told when it ends.
    window: int = 60
    says_when: tuple[str, ...] = ("x-ratelimit-reset",)
    # How many requests were refused because of the limit.
    throttled: int = 0
    url: str = ""
    _counts: dict[tuple[str, str, int], int] = field(default_factory=dict)
    _making: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _made: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """What a process is told to find it."""
        return {
            "SUPABASE_API_URL": self.url,
            "SUPABASE_FUNCTIONS_URL": f"{self.url}/functions/v1",
            "SUPABASE_ACCESS_TOKEN": self.token,
        }

    @property
    def writes(self) -> list[tuple[str, str, str]]:
        """The requests that may change something."""
        return [each for each in self.requests if each[0] != "GET" and not each[1].startswith("/database")]

    def app(self) -> Starlette:
        """All of it on one port."""
        routes = [
            ("GET", "/functions", self._functions),
            ("PUT", "/functions", self._switch),
            ("POST", "/functions/deploy", self._deploy),
            ("GET", "/functions/{slug}/body", self._body),
            ("DELETE", "/functions/{slug}", self._delete),
            ("GET", "/secrets", self._secrets),
            ("POST", "/secrets", self._set),
            ("DELETE", "/secrets", self._unset),
            ("GET", "/api-keys", self._keys),
            ("GET", "/analytics/endpoints/logs", self._logs),
            ("POST", "/database/query", self._query),
            ("POST", "/database/query/read-only", self._query),
            ("GET", "", self._project),
        ]
        found = [Route(_PROJECT + path, self._guarded(path, act), methods=[method]) for method, path, act in routes]
        return Starlette(routes=[*found, Route("/functions/v1/{slug}", self._call, methods=["GET", "POST"])])

    def log(self, source: str, message: str, at: datetime | None = None, **attributes: str) -> str:
        """Store a row of the logs' stream; its id."""
        number = str(uuid.uuid4())
        moment = at or datetime.now(UTC)
        with psycopg.connect(self._logs_database(), autocommit=True) as connection:
            connection.execute(
                "insert into public.logs values (%s, %s, %s, '', %s, %s)",
                (number, moment, message, source, json.dumps(attributes)),
            )
        return number

    def _guarded(self, path: str, act: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            below = request.url.path.partition(f"/{request.path_params['ref']}")[2]
            if below.startswith("/database"):
                self.statements.append((below, (await request.json())["query"]))
            ours = below.startswith("/database") and _is_ours(self.statements[-1][1])
            if not ours:
                self.requests.append((request.method, below, request.url.query))
            if request.headers.get("authorization") != f"Bearer {self.token}":
                return JSONResponse({"message": "Unauthorized"}, 401)
            if request.path_params["ref"] != REF:
                return JSONResponse({"message": "Project not found"}, 404)
            scripted = self.refuse(request.method, below)
            if scripted is not None:
                return scripted
            if request.method != "GET" and not ours and not below.endswith("/read-only"):
                self.written.append((request.method, below, await request.body()))
            await self._hold(request.method, below)
            minute = int(time.time() // self.window)
            key = (request.method, path, minute)
            self._counts[key] = self._counts.get(key, 0) + 1
            headers = {
                "x-ratelimit-limit": str(self.limit),
                "x-ratelimit-remaining": str(max(self.limit - self._counts[key], 0)),
                "x-ratelimit-reset": str(self.window - int(time.time()) % self.window),
            }
            if self._counts[key] > self.limit:
                self.throttled += 1
                reset = headers.pop("x-ratelimit-reset")
                headers |= dict.fromkeys(self.says_when, reset)
                return JSONResponse({"message": "ThrottlerException: Too Many Requests"}, 429, headers)
            response: Response = await act(request)
            response.headers.update(headers)
            return broken_off() if self.lose(request.method, below) else response

        return answer

    async def _hold(self, method: str, path: str) -> None:
        event = self.held(method, path)
        if event is not None:
            await asyncio.to_thread(event.wait, 60)

    async def _project(self, _request: Request) -> Response:
        return JSONResponse({"id": REF, "ref": REF, "name": "test", "status": self.standing, "region": "eu-west-1"})

    async def _functions(self, _request: Request) -> Response:
        return JSONResponse([each.row for each in self.functions.values()])

    async def _deploy(self, request: Request) -> Response:
        slug = request.query_params["slug"]
        if not _SLUG.fullmatch(slug):
            return JSONResponse({"message": "slug must match pattern ^[A-Za-z][A-Za-z0-9_-]*$"}, 400)
        self.running += 1
        self.peak = max(self.peak, self.running)
        await asyncio.sleep(self.deploy_seconds)
        self.running -= 1
        parts = list(_parts(request.headers["content-type"], await request.body()))
        self.bodies.append(await request.body())
        files = {part.filename: part.content for part in parts if part.name == "file"}
        metadata = json.loads(next(part.content for part in parts if part.name == "metadata"))
        entrypoint = metadata["entrypoint_path"]
        if entrypoint not in files:
            return JSONResponse({"message": f"Entrypoint path does not exist - {entrypoint}"}, 400)
        if any(b"syntax error" in content for content in files.values()):
            return JSONResponse(
                {"message": "Failed to bundle the function (reason: The module's source code ...)"}, 400
            )
        now = int(time.time() * 1000)
        before = self.functions.get(slug)
        source = f"file:///tmp/user_fn_{REF}/source/"
        row = {
            "id": before.row["id"] if before else str(uuid.uuid4()),
            "slug": slug,
            "name": metadata.get("name", slug),
            "status": "ACTIVE",
            "version": before.row["version"] + 1 if before else 1,
            "created_at": before.row["created_at"] if before else now,
            "updated_at": now,
            # Left out, it is on: also where it was off before.
            "verify_jwt": metadata.get("verify_jwt", True),
            "import_map": bool(metadata.get("import_map_path")),
            "import_map_path": source + metadata["import_map_path"] if metadata.get("import_map_path") else None,
            "entrypoint_path": source + entrypoint,
            "ezbr_sha256": hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest(),
        }
        answered = dict(row)  # what spoils the state later spoils no answer
        deployed = Deployed(row, files, entrypoint)
        if request.query_params.get("bundleOnly") == "true":
            self.bundled[slug, row["version"], row["ezbr_sha256"]] = deployed
        else:
            self.functions[slug] = deployed
            self.after(self)
        return JSONResponse(answered, 201)

    async def _switch(self, request: Request) -> Response:
        rows = await request.json()
        for row in rows:
            if not row.keys() >= _PUT_FIELDS:
                return JSONResponse({"message": f"missing: {sorted(_PUT_FIELDS - row.keys())}"}, 400)
            if (row["slug"], row["version"], row["ezbr_sha256"]) not in self.bundled:
                return JSONResponse({"message": f"no bundle of {row['slug']}"}, 400)
        for row in rows:
            deployed = self.bundled[row["slug"], row["version"], row["ezbr_sha256"]]
            self.functions[row["slug"]] = Deployed({**deployed.row, **row}, deployed.files, deployed.entrypoint)
        self.after(self)
        return JSONResponse({"functions": rows})

    async def _body(self, request: Request) -> Response:
        found = self.functions.get(request.path_params["slug"])
        if found is None:
            return JSONResponse({"message": "Function not found"}, 404)
        boundary = "----agentops" + uuid.uuid4().hex
        about = json.dumps({"deno2_entrypoint_path": f"source/{found.entrypoint}"}).encode()
        pieces = [(b'form-data; name="metadata"', about)]
        pieces += [
            (f'form-data; name="file"; filename="source/{name}"'.encode(), content)
            for name, content in found.files.items()
        ]
        body = b"".join(
            b"--%s\r\nContent-Disposition: %s\r\n\r\n%s\r\n" % (boundary.encode(), head, content)
            for head, content in pieces
        )
        kind = f"multipart/form-data; boundary={boundary}"
        return Response(body + f"--{boundary}--\r\n".encode(), media_type=kind)

    async def _delete(self, request: Request) -> Response:
        if self.functions.pop(request.path_params["slug"], None) is None:
            return JSONResponse({"message": "Function not found"}, 404)
        return JSONResponse({"message": "ok"})

    async def _secrets(self, _request: Request) -> Response:
        built_in = {"SUPABASE_URL": "https://…", "SUPABASE_SERVICE_ROLE_KEY": "key"}
        rows = [
            {
                "name": name,
                "value": hashlib.sha256(value.encode()).hexdigest(),
                "updated_at": "2026-11-01T00:00:00.000Z",
            }
            for name, value in {**built_in, **self.secrets}.items()
        ]
        return JSONResponse(rows)

    async def _set(self, request: Request) -> Response:
        rows = await request.json()
        if any(row["name"].startswith("SUPABASE_") for row in rows):
            return JSONResponse({"message": "Secret name must not start with the SUPABASE_ prefix."}, 400)
        if any(len(row["name"]) > 256 or len(row["value"]) > 24_576 for row in rows):
            return JSONResponse({"message": "name or value is too long"}, 400)
        self.secrets |= {row["name"]: row["value"] for row in rows}
        self.after(self)
        return Response(status_code=201)

    async def _unset(self, request: Request) -> Response:
        for name in await request.json():
            self.secrets.pop(name, None)
        return Response(status_code=200)

    async def _keys(self, request: Request) -> Response:
        shown = {"api_key": "service-key"} if request.query_params.get("reveal") == "true" else {}
        return JSONResponse([{"name": "anon", "type": "legacy"}, {"name": "service_role", "type": "legacy", **shown}])

    async def _query(self, request: Request) -> Response:
        body = await request.json()
        if self.database_url is None and _is_ours(body["query"]):
            return _sql_refusal("42P01", 'relation "agentops.project_entries" does not exist')
        run = functools.partial(self._run, body["query"], body.get("parameters"))
        try:
            rows = await asyncio.to_thread(run, read_only=request.url.path.endswith("/read-only"))
        except psycopg.Error as error:
            return _sql_refusal(error.sqlstate or "XX000", error.diag.message_primary or str(error))
        return JSONResponse(json.loads(json.dumps(rows, default=str)), 201)

    def _run(self, query: str, parameters: list[Any] | None, *, read_only: bool) -> list[dict[str, Any]]:
        values = None
        if parameters is not None:
            query = re.sub(r"\$(\d+)", r"%(p\1)s", query.replace("%", "%%"))
            values = {f"p{place}": value for place, value in enumerate(parameters, 1)}
        mode = "on" if read_only else "off"
        with psycopg.connect(
            self._database(),
            autocommit=True,
            row_factory=dict_row,
            options=f"-c default_transaction_read_only={mode}",
            user=self.reader if read_only else None,
        ) as connection:
            cursor = connection.execute(query.encode(), values)
            answers = [result.fetchall() for result in cursor.results() if result.description]
        return next((rows for rows in reversed(answers) if rows), [])

    async def _logs(self, request: Request) -> Response:
        window = [request.query_params.get(name) for name in ("iso_timestamp_start", "iso_timestamp_end")]
        if None in window:
            return JSONResponse({"result": None, "error": "Backend error! Retry your query. Please contact support."})
        statement = _ATTRIBUTE.sub(r"coalesce(log_attributes ->> '\1', '')", request.query_params["sql"])
        statement = statement.replace("%", "%%")
        statement = statement.replace(
            "from logs where ", "from public.logs where timestamp >= %s and timestamp < %s and "
        )
        try:
            with psycopg.connect(self._logs_database(), row_factory=dict_row, autocommit=True) as connection:
                rows = connection.execute(statement, window).fetchall()
        except psycopg.Error as error:
            return JSONResponse({"result": None, "error": {"code": 400, "message": str(error)}})
        return JSONResponse({"result": rows[:1000], "error": None})

    async def _call(self, request: Request) -> Response:
        slug = request.path_params["slug"]
        self.requests.append((request.method, request.url.path, ""))
        await self._hold(request.method, request.url.path)
        if self.standing == "INACTIVE":
            return Response("project paused", 540)
        if slug not in self.functions:
            return JSONResponse({"code": "NOT_FOUND", "message": "Requested function was not found"}, 404)
        body = await request.body()
        self.called.append(json.loads(body) if body else None)
        await asyncio.to_thread(self.on_call, self, slug)
        flag = self.forwarders.get(slug)
        headers = {}
        if flag is not None:
            on = self.secrets.get(flag, "").lower() in {"1", "true", "yes", "on"}
            headers["x-agentops-flag"] = "on" if on else "off"
        return JSONResponse({"success": True}, self.statuses.get(slug, 200), headers)

    def _logs_database(self) -> str:
        """The database, with the logs' table and ClickHouse's functions made once: two makers at once would clash."""
        with self._making:
            if not self._made:
                with psycopg.connect(self._database(), autocommit=True) as connection:
                    connection.execute(_CLICKHOUSE)
                self._made = True
        return self._database()

    def _database(self) -> str:
        assert self.database_url, "this test has no database"
        return self.database_url


def _is_ours(statement: str) -> bool:
    """Whether it is about agentops's own books, and no migration that makes them."""
    return "project_entries" in statement and "agentops.migrations" not in statement


def _sql_refusal(state: str, words: str) -> Response:
    return JSONResponse({"message": f"Failed to run sql query: ERROR:  {state}: {words}\n"}, 400)


@dataclass(frozen=True)
class _Part:
    name: str
    filename: str
    content: bytes


def _parts(content_type: str, body: bytes) -> Iterator[_Part]:
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    for piece in (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        name = re.search(rb'\bname="([^"]*)"', head)
        filename = re.search(rb'filename="([^"]*)"', head)
        assert name is not None
        yield _Part(name[1].decode(), filename[1].decode() if filename else "", content)


def broken_off(status: int = 200) -> Response:
    """An answer that ends in the middle."""

    async def half() -> AsyncIterator[bytes]:
        yield b'[{"na'
        raise ConnectionError

    return StreamingResponse(half(), status, {"content-length": "1000", "content-type": "application/json"})


class Stage:
    """One socket for a whole run; each test puts a fresh project on it."""

    def __init__(self) -> None:
        self.url = ""
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._app is not None
        await self._app(scope, receive, send)

    def show(self, api: ManagementApi) -> ManagementApi:
        """Let `api` answer from now on."""
        api.url = self.url
        self._app = api.app()
        return api


@contextmanager
def serving(api: ManagementApi) -> Iterator[ManagementApi]:
    """The API on a port of its own, until the block ends."""
    with staged() as stage:
        yield stage.show(api)


@contextmanager
def staged() -> Iterator[Stage]:
    """A socket on which projects can be shown, until the block ends."""
    stage = Stage()
    with sockets.serving(stage) as port:
        stage.url = f"http://127.0.0.1:{port}"
        yield stage

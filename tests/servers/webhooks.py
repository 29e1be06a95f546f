"""What takes messages on loopback, for tests: real HTTP or HTTPS, answers as scripted, every request recorded.

    async with HookServer() as server:
        server.script(Reply(503), Reply(200, "ok"))   # one answer per request; the last one repeats
        ... post something to `server.url` ...
        assert server.requests[0].json["text"] == "hello"

Without a script it answers as the messenger would whose address was asked: Slack (`/services/…`, `/api/…`), Teams
(`/workflows/…`, `/v1.0/teams/…`), Discord (`/webhooks/…`, `/v10/…`); anything else gets an empty 204.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme
from aiohttp import web

from weft.sdk import ActionContext, Connection

LOOPBACK = ["127.0.0.0/8"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  #: names in lower case
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """One scripted answer."""

    status: int = 200
    body: str | Mapping[str, Any] = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    pause_s: float = 0.0
    drop: bool = False  #: the connection is closed instead of an answer
    size: int = 0  #: so many bytes follow, without end when negative


class HookServer:
    """An HTTP server on a free port of loopback.

    Args:
        tls: A directory for a certificate; with it the server speaks TLS, and its authority is in `ca_file`.
    """

    def __init__(self, tls: Path | None = None) -> None:
        self.requests: list[Request] = []
        self.abandoned = 0  #: requests whose sender went away before the answer
        self.ca_file: str | None = None
        self._replies: list[Reply] = []
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            self._context = self._certificate(tls)
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http{'s' if self._context else ''}://127.0.0.1:{self.port}"

    def script(self, *replies: Reply) -> None:
        self._replies = list(replies)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=4_000_000)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in http.headers.items()}
        body = await http.read()
        self.requests.append(Request(http.method, http.path, dict(http.query), headers, body, time.monotonic()))
        reply = self._replies[0] if self._replies else usual(http.method, http.path)
        if len(self._replies) > 1:
            del self._replies[0]
        until = time.monotonic() + reply.pause_s
        while time.monotonic() < until:
            if http.transport is None or http.transport.is_closing():
                self.abandoned += 1
                break
            await asyncio.sleep(0.02)
        if reply.drop:
            assert http.transport is not None
            http.transport.abort()
        if reply.size:
            return await self._endless(http, reply)
        text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
        kind = "text/plain" if isinstance(reply.body, str) else "application/json"
        return web.Response(status=reply.status, text=text, content_type=kind, headers=reply.headers)

    async def _endless(self, http: web.Request, reply: Reply) -> web.StreamResponse:
        response = web.StreamResponse(status=reply.status)
        await response.prepare(http)
        sent = 0
        try:
            while reply.size < 0 or sent < reply.size:
                await response.write(b"x" * 65536)
                sent += 65536
        except ConnectionError:
            pass
        return response

    def _certificate(self, directory: Path) -> ssl.SSLContext:
        authority = trustme.CA()
        self.ca_file = str(directory / "ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        return context


def usual(method: str, path: str) -> Reply:
    """What the messenger answers to whom this path belongs, when all is well."""
    match path.strip("/").split("/"):
        case ["services", *_]:
            return Reply(200, "ok")
        case ["api", "auth.test"]:
            return Reply(200, {"ok": True, "team": "Acme", "user": "weft", "bot_id": "B012"})
        case ["api", *_]:
            return Reply(200, {"ok": True, "channel": "C0123456789", "ts": "1768721350.000200", "message": {}})
        case ["workflows", *_]:
            return Reply(202)
        case ["v1.0", *_] if method == "GET":
            return Reply(200, {"id": "19:1@thread.tacv2", "displayName": "Reports"})
        case ["v1.0", *_]:
            return Reply(201, {"id": "1616990032035", "webUrl": "https://teams.example/l/message/1616990032035"})
        case ["webhooks", *_] if method == "GET":
            return Reply(200, {"id": "1", "name": "Reports", "channel_id": "112233445566778899"})
        case ["v10", *_] if method == "GET":
            return Reply(200, {"id": "112233445566778899", "name": "reports"})
        case ["webhooks" | "v10", *_]:
            return Reply(200, {"id": "1330000000000000000", "channel_id": "112233445566778899"})
        case _:
            return Reply(204)


def attempt(connection: Connection | None, *, seconds: float = 20, **more: Any) -> ActionContext:
    """An attempt of a step with this connection."""
    facts: dict[str, Any] = {
        "run_id": "r1",
        "path": "/tell",
        "attempt": 1,
        "started_at": datetime(2026, 11, 22, 8, 0, tzinfo=UTC),
        "idempotency_key": "r1/tell",
        "deadline": time.monotonic() + seconds,
        "connection": connection,
        **more,
    }
    return ActionContext(**facts)

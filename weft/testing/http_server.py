"""An HTTP server on loopback: real sockets, answers as scripted down to the byte, every request recorded.

    async with HttpServer() as server:
        server.script([Reply(503), Reply(json={"ok": True})])   # one answer per request; the last one repeats
        ... call something with `server.url("/items")` ...
        assert [request.path for request in server.requests] == ["/items", "/items"]

`route` gives a path answers of its own. An answer is `Reply`, or one of the faults below it, or any coroutine function
that takes the request and the stream to write to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived."""

    method: str
    target: str  #: path and query, as sent
    headers: dict[str, str]  #: names in lower case
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


Answer = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]
"""Writes an answer; a stream that it closes is left."""


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    json: Any = None

    async def __call__(self, request: Received, stream: asyncio.StreamWriter) -> None:
        body = json.dumps(self.json).encode() if self.json is not None else self.body
        kind = {"Content-Type": "application/json"} if self.json is not None else {}
        bodiless = request.method == "HEAD" or self.status in (204, 304)
        length = {} if self.status == 204 else {"Content-Length": str(len(body))}
        stream.write(head(self.status, {**kind, **length, **self.headers}) + (b"" if bodiless else body))
        await stream.drain()


@dataclass(frozen=True)
class Raw:
    """Bytes as they are, then the end of the connection."""

    data: bytes

    async def __call__(self, request: Received, stream: asyncio.StreamWriter) -> None:
        stream.write(self.data)
        await stream.drain()
        stream.close()


@dataclass(frozen=True)
class Drip:
    """A body that comes byte by byte, and never all of it."""

    pause_s: float = 0.02

    async def __call__(self, request: Received, stream: asyncio.StreamWriter) -> None:
        stream.write(head(200, {"Content-Length": "1000000"}))
        while not stream.is_closing():
            stream.write(b"x")
            await stream.drain()
            await asyncio.sleep(self.pause_s)


@dataclass(frozen=True)
class Flood:
    """A body of `size` zeros, with or without its length in front."""

    size: int
    told: bool = False

    async def __call__(self, request: Received, stream: asyncio.StreamWriter) -> None:
        stream.write(head(200, {"Content-Length": str(self.size)} if self.told else {"Connection": "close"}))
        part = bytes(65_536)
        for _ in range(self.size // len(part)):
            stream.write(part)
            await stream.drain()
        stream.close()


async def hang(request: Received, stream: asyncio.StreamWriter) -> None:
    """Take the request and say nothing."""
    await asyncio.sleep(3600)


async def drop(request: Received, stream: asyncio.StreamWriter) -> None:
    """Take the request and close the connection."""
    stream.close()


async def reset(request: Received, stream: asyncio.StreamWriter) -> None:
    """Take the request and break the connection."""
    stream.transport.abort()


def head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class HttpServer:
    """The server; `async with` starts and stops it."""

    def __init__(self, host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.port = 0
        self.requests: list[Received] = []
        self.connections = 0
        self._tls = tls
        self._script: list[Answer] = [Reply()]
        self._routes: dict[str, list[Answer]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: set[asyncio.StreamWriter] = set()

    def script(self, answers: Sequence[Answer]) -> None:
        """Give the answers to come, one per request; the last one repeats."""
        self._script = list(answers)

    def route(self, path: str, *answers: Answer) -> None:
        """Give the answers to requests for `path`."""
        self._routes[path] = list(answers)

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def url(self, path: str = "/") -> str:
        return self.origin + path

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for stream in self._streams:
            stream.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, stream: asyncio.StreamWriter) -> None:
        self.connections += 1
        if (task := asyncio.current_task()) is not None:
            self._tasks.add(task)
        self._streams.add(stream)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while not stream.is_closing():
                    request = await self._read(reader)
                    self.requests.append(request)
                    await self._answer(request)(request, stream)
                    if request.headers.get("connection", "").lower() == "close":
                        break
        finally:
            if task is not None:
                self._tasks.discard(task)
            self._streams.discard(stream)
            stream.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await stream.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> Received:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers: dict[str, str] = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Received(method, target, headers, body)

    def _answer(self, request: Received) -> Answer:
        answers = self._routes.get(request.path, self._script)
        return answers.pop(0) if len(answers) > 1 else answers[0]

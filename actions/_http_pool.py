"""The connections of the guarded client: two pools a loop, and what is asked before one of them is used.

Whoever sends a request sets `current` to a `Guard`, which looks the host up and judges where a connection has gone.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
import ssl
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver, ResolveResult

from weft.sdk import ActionError

MOST_CONNECTIONS: Final = 100  #: of each of the two pools of a loop


class Guard(Protocol):
    """The request that is being sent."""

    kept: bool  #: its connection has served a request before

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Return where to connect to; raise when that is not allowed."""

    async def connected(self, peer: str, *, encrypted: bool) -> None:
        """Be told that a connection stands and nothing was sent; raise when it must not be used."""


current: contextvars.ContextVar[Guard] = contextvars.ContextVar("current")


class _Lost(aiohttp.ClientError):
    """A new connection was lost: one request is one request, and it is for the caller to repeat it."""


async def _sent_once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request again unless it was a kept connection that failed (RFC 9112 §9.3.1)."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        if current.get().kept:
            raise
        raise _Lost from None


async def _note_kept(_session: object, _context: object, _facts: object) -> None:
    current.get().kept = True


class _Resolver(AbstractResolver):
    """Looks a host up as the current request does."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await current.get().addresses(host, port)
        if not found:
            raise OSError(None, "no address")
        return [_resolved(host, item, port) for item in found]

    async def close(self) -> None:
        """There is nothing to close."""


def _resolved(host: str, item: str, port: int) -> ResolveResult:
    kind = socket.AF_INET6 if ":" in item else socket.AF_INET
    return {"hostname": host, "host": item, "port": port, "family": kind, "proto": 0, "flags": socket.AI_NUMERICHOST}


class _Connector(aiohttp.TCPConnector):
    """Hands a connection over, new or kept, only when the current request may use it."""

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: Any,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  the signature is aiohttp's
    ) -> aiohttp.connector.Connection:
        current.get().kept = False
        connection = await super().connect(req, traces, timeout)
        try:
            await current.get().connected(_peer(connection), encrypted=req.is_ssl())
        except BaseException:
            connection.close()
            raise
        return connection


def _peer(connection: aiohttp.connector.Connection) -> str:
    peer = connection.transport and connection.transport.get_extra_info("peername")
    if not peer:
        raise aiohttp.ClientConnectionError("closed while it was handed over")
    return str(peer[0])


_contexts: dict[tuple[object, ...], ssl.SSLContext] = {}


def trust(ca_file: str | None, certificate_file: str | None, key_file: str | None) -> ssl.SSLContext:
    """Return a TLS context, made once for each state of its files: connections are kept by it.

    Raises:
        ActionError: One of the files cannot be used (`bad_certificate_file`).
    """
    try:
        files = (ca_file, certificate_file, key_file)
        key = tuple((file, Path(file).stat().st_mtime_ns) if file else None for file in files)
        if key not in _contexts:
            context = ssl.create_default_context(cafile=ca_file)
            if certificate_file:
                # Without a password of its own OpenSSL would ask for one at the terminal.
                context.load_cert_chain(certificate_file, key_file, password="")
            _contexts[key] = context
        return _contexts[key]
    except (OSError, ValueError):  # an SSLError is an OSError
        raise ActionError(
            "A certificate file of the connection cannot be used.",
            kind="bad_certificate_file",
            effect="none",
            remedy="`ca_file`, `client_certificate_file` and `client_key_file` are PEM files; the key has no password.",
        ) from None


@dataclass(frozen=True, slots=True)
class Sessions:
    """The two sessions of a loop."""

    kept: aiohttp.ClientSession  #: its connections serve several requests
    fresh: aiohttp.ClientSession  #: a connection for each request


_open: dict[asyncio.AbstractEventLoop, tuple[Sessions, AsyncGenerator[Sessions]]] = {}


async def sessions() -> Sessions:
    """Return the sessions of the running loop, which close together with it."""
    loop = asyncio.get_running_loop()
    if loop not in _open:
        keeper = _keep(loop)
        _open[loop] = await anext(keeper), keeper
    return _open[loop][0]


async def _keep(loop: asyncio.AbstractEventLoop) -> AsyncGenerator[Sessions]:
    opened = Sessions(_session(force_close=False), _session(force_close=True))
    try:  # a loop closes the generators it has started before it ends: `loop.shutdown_asyncgens()`
        yield opened
    finally:
        _open.pop(loop, None)
        await opened.kept.close()
        await opened.fresh.close()


def _session(*, force_close: bool) -> aiohttp.ClientSession:
    connector = _Connector(resolver=_Resolver(), use_dns_cache=False, limit=MOST_CONNECTIONS, force_close=force_close)
    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(_note_kept)
    return aiohttp.ClientSession(
        connector=connector,
        trace_configs=[trace],
        middlewares=[_sent_once],
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        trust_env=False,
        auto_decompress=False,
        skip_auto_headers=(hdrs.CONTENT_TYPE,),
    )

"""The server in our own loop: it listens, answers, and stops when it is told to; a worker may work beside it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Final

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from weft.errors import InvalidInputs
from weft.server.house import House
from weft.worker import Worker

BACKLOG: Final = 2_048
KEEP_ALIVE_S: Final = 75
"""How long a connection may be idle; longer than proxies keep theirs, so that they close first."""
STALLED_S: Final = 30.0
"""How long a client may take nothing of what is sent to it."""
ANSWERS_S: Final = 5
"""How long answers may take that are under way when the server stops."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: A name or an address.
        port: 0: one that is free.

    Raises:
        InvalidInputs: The port is taken, or the address is none of this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(
            family, socket.SOCK_STREAM, socket.IPPROTO_TCP
        )  # named: then asyncio sets TCP_NODELAY
    except OSError as error:
        raise InvalidInputs(f"There is no address {host!r}.", code="unknown_address") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise _unable(host, port, error) from None
    listening.setblocking(False)
    return listening


def _unable(host: str, port: int, error: OSError) -> InvalidInputs:
    match error.errno:
        case errno.EADDRINUSE:
            remedy = "Is weft serve running already? --port 0 takes a free one, --port NUMBER another."
            return InvalidInputs(f"Port {port} of {host} is in use.", code="port_in_use", remedy=remedy)
        case errno.EACCES | errno.EPERM:
            remedy = "Take one above 1023, or let a proxy listen there."
            return InvalidInputs(f"Port {port} is not yours to take.", code="port_refused", remedy=remedy)
        case _:
            return InvalidInputs(f"{host} is not an address of this machine.", code="unknown_address")


class Serving:
    """Answers requests from `start` until `stop` has let those end that are under way.

    Args:
        app: What answers.
        listening: As `listen` returned it.
        headers_s: How long a client may take to send the head of a request.
    """

    def __init__(self, app: FastAPI, listening: socket.socket, *, headers_s: float) -> None:
        protocol = type("Patient", (_Patient,), {"headers_s": headers_s})
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="on",
            loop="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=ANSWERS_S,
        )
        self._listening = listening
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    async def start(self) -> None:
        """Return when requests are answered."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listening]))
        while not self._server.started and not self._task.done():  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.005)
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Take no more requests, and return when those under way are answered."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    def stop_now(self) -> None:
        """Let go of requests that are under way."""
        self._server.should_exit = self._server.force_exit = True


class Service:
    """The server, and a worker beside it where one is wanted, until it is told to stop.

    Args:
        house: Whose server it is.
        serving: Not started yet.
        worker: Not running yet; None: others do the work.
    """

    def __init__(self, house: House, serving: Serving, worker: Worker | None) -> None:
        self._house = house
        self._serving = serving
        self._worker = worker
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Return when requests are answered."""
        await self._serving.start()

    async def run(self) -> None:
        """Work until the stop. Requests are answered while runs are put down, and a little longer."""
        try:
            if self._worker is None:
                await self._stopped.wait()
            else:
                await self._worker.run()
        finally:
            self._hang_up()
            await self._serving.stop()

    def stop(self) -> None:
        """Take no new runs; let steps and answers end that are under way."""
        self._hang_up()
        self._stopped.set()
        if self._worker is not None:
            self._worker.stop()

    def stop_now(self) -> None:
        """Let go of everything."""
        self._hang_up()
        self._stopped.set()
        self._serving.stop_now()
        if self._worker is not None:
            self._worker.stop_now()

    def _hang_up(self) -> None:
        """End the streams of events, which would never end by themselves."""
        self._house.closing.set()
        self._house.hub.hang_up()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:  # signals are the command's to handle
        yield


class _Patient(H11Protocol):
    """Closes a connection whose client does not send the whole head of a request in time, or does not take what is sent."""

    headers_s = 0.0
    _timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    _unsent = 0  #: bytes that waited for the client when it was looked last

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # TCP's
        self._timer = self.loop.call_later(self.headers_s, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def _watch(self) -> None:
        """Look after a while whether the client has taken anything of what waits for it; `close` would wait for ever."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        self._unsent = self.transport.get_write_buffer_size()
        if self._unsent:
            self._stalled = self.loop.call_later(STALLED_S, self._judge)

    def _judge(self) -> None:
        if self.transport.get_write_buffer_size() >= self._unsent:  # while it waits, nothing more is put to it
            self.transport.abort()
        else:
            self._watch()

    def _look(self) -> None:
        """Wait for the rest of a head that has begun, on a new connection or on one that was kept."""
        if self.conn.their_state is not h11.IDLE:
            self._cancel()
        elif self._timer is None and self.conn.trailing_data[0]:
            self._timer = self.loop.call_later(self.headers_s, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        if self._stalled is not None:
            self._stalled.cancel()
        super().connection_lost(exc)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

"""A line between a client and a server that can go bad: silent, cut in the middle, reset.

async with TcpProxy(server.port) as proxy:
    ... connect to proxy.port ...
    proxy.silence()                      # lines stay open, nothing is forwarded; connecting works
    proxy.silence_at(b"COMMIT\0")          # the same, from the moment when a client sends this; it is not forwarded
    proxy.cut_after(b"COMMIT\0")           # the server gets it, and its answer never comes back
    proxy.reset()                        # every line ends with RST
    proxy.forward()                      # new bytes pass again
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct


class TcpProxy:
    """A proxy on loopback, from `async with` to its end.

    Args:
        port: Of the server.
        host: Of the server.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port = 0
        self.accepted = 0  #: connections so far
        self._target = host, port
        self._passes = asyncio.Event()
        self._passes.set()
        self._mark: bytes | None = None
        self._stop: bytes | None = None
        self._left: int | None = None
        self._lines: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> TcpProxy:
        self._server = await asyncio.start_server(self._line, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def forward(self) -> None:
        self._mark = self._stop = self._left = None
        self._passes.set()

    def silence(self) -> None:
        """Keep all lines open and forward nothing, in neither direction."""
        self._passes.clear()

    def silence_at(self, mark: bytes) -> None:
        """Go silent when a client sends `mark`, and keep that back."""
        self._stop = mark

    def cut_after(self, mark: bytes) -> None:
        """When a client sends `mark`, forward it, wait until it is answered, keep the answer back, and end the line."""
        self._mark = mark

    def cut_after_bytes(self, count: int) -> None:
        """End the line on which the count of bytes from clients, from now on, is reached; the last ones are lost."""
        self._left = count

    def reset(self) -> None:
        """End every line with RST."""
        for writer in self._lines:
            line = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._lines.clear()

    async def _line(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = [writer]
        with contextlib.suppress(asyncio.CancelledError):
            try:
                up_reader, up_writer = await asyncio.open_connection(*self._target)
                ends.append(up_writer)
                self._lines.update(ends)
                marked, answered = asyncio.Event(), asyncio.Event()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._up(reader, up_writer, marked, answered))
                    group.create_task(self._down(up_reader, writer, marked, answered))
            except* (OSError, _Cut):
                pass  # the line has ended; that is what lines here do
        self._tasks.discard(task)
        self._lines.difference_update(ends)
        for each in ends:
            each.close()

    async def _up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, marked: asyncio.Event, answered: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            if self._stop is not None and self._stop in data:
                self._stop = None
                self.silence()
            await self._passes.wait()
            if self._left is not None:
                data, self._left = data[: self._left], self._left - len(data)
            if self._mark is not None and self._mark in data:
                self._mark = None
                marked.set()
            writer.write(data)
            await writer.drain()
            if marked.is_set():
                await answered.wait()
                raise _Cut
            if self._left is not None and self._left <= 0:
                self._left = None
                raise _Cut
        raise _Cut

    async def _down(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, marked: asyncio.Event, answered: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            if marked.is_set():
                answered.set()
                return
            await self._passes.wait()
            writer.write(data)
            await writer.drain()
        raise _Cut


class _Cut(Exception):
    """The line ends here."""

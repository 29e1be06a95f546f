"""Streams of events to browsers and programs: how many there may be, what is sent, when they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from weft.access import Identity
from weft.engine.report import summary_of
from weft.errors import StateUnavailable, TooMany, WeftError
from weft.live import Frame, Listening
from weft.live.frames import BEGAN, EVERYBODY, RESET
from weft.live.ring import RingUnavailable
from weft.reading import Reading, redacted
from weft.server.house import House
from weft.server.routes.event_shapes import snapshot_of
from weft.types import JsonObject

PER_SESSION: Final = 4
"""Streams of one browser. Over HTTP/1.1 it has six connections to one host, and two must be left for all else."""

PER_TOKEN: Final = 500
"""Streams of one token: whoever has a token that may only look must not take the places of all others."""

IN_ALL: Final = 2_000
"""Streams of one process."""

BEAT_S: Final = 10.0
"""Between two comments that keep a quiet stream open; as often it is asked whether who listens still may."""

RETRY_MS: Final = 1_000
"""After which a browser comes back to a stream that has ended."""

TOGETHER: Final = 200
"""Frames in one write."""

OVER: Final = "-superseded"
"""The end of the id that a superseded stream has seen last. A browser that comes back with it is told to stay away."""

_LOG = logging.getLogger("weft.server.events")


@dataclass(eq=False, slots=True)
class Stream:
    """One open stream."""

    who: Identity
    listening: Listening | None = None
    superseded: bool = False

    def end(self) -> None:
        if self.listening is not None:
            self.listening.end()


@dataclass(slots=True)
class Streams:
    """The open streams of a process, the oldest first."""

    house: House
    open: list[Stream] = field(default_factory=list)

    def admit(self, who: Identity) -> Stream:
        """Let one more in. Of a browser that has too many the oldest gives way.

        Raises:
            TooMany: The process has as many as it may, or the token.
        """
        if self.house.closing.is_set():
            raise StateUnavailable("The server stops.", code="closing", remedy="Ask again in a moment.")
        if len(self.open) >= IN_ALL:
            raise TooMany(f"{IN_ALL} event streams are open.", retry_after_s=5)
        own = [each for each in self.open if each.who.key == who.key and not each.superseded]
        if who.kind == "token" and len(own) >= PER_TOKEN:
            raise TooMany(f"{PER_TOKEN} event streams of this token are open.", retry_after_s=5)
        if who.kind != "token":
            for each in own[: max(0, len(own) - PER_SESSION + 1)]:
                each.superseded = True
                each.end()
        stream = Stream(who)
        self.open.append(stream)
        return stream

    def leave(self, stream: Stream) -> None:
        with contextlib.suppress(ValueError):
            self.open.remove(stream)

    async def hang_up(self) -> None:
        """End all streams as soon as the server begins to stop."""
        await self.house.closing.wait()
        self.house.hub.hang_up()


class EventStream(Response):
    """Sends server-sent events (WHATWG HTML, §9.2) until one side has enough."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, stream: Stream, topics: frozenset[str], after: str | None) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._streams, self._stream, self._topics, self._after = streams, stream, topics, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until whoever listens is gone, may listen no more, or the server stops."""
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._streams.leave(self._stream)
            for each in (sending, leaving):
                each.cancel()
            ended = await asyncio.gather(sending, leaving, return_exceptions=True)
        if isinstance(ended[0], Exception):
            _LOG.error("stream_failed", exc_info=ended[0])

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        async with contextlib.aclosing(self._chunks()) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self) -> AsyncGenerator[str, None]:
        house, stream = self._streams.house, self._stream
        yield f"retry: {RETRY_MS}\n\n"
        try:
            async with house.hub.listen(self._topics, self._after) as heard:
                stream.listening = heard
                if stream.superseded or house.closing.is_set():  # while it began to listen
                    heard.end()
                async for chunk in self._heard(heard):
                    yield chunk
        except RingUnavailable:
            yield ": away\n\n"
        except WeftError as error:  # the journal is away: the browser comes back
            _LOG.info("stream_ended %s", error.problem.code)

    async def _heard(self, heard: Listening) -> AsyncIterator[str]:
        house = self._streams.house
        story = Story(house, self._topics)
        yield text_of(ready(heard, self._topics, resumed=self._after is not None and not heard.missed))
        if self._after is None or heard.missed:
            if heard.missed:
                yield text_of(Frame(heard.start, EVERYBODY, RESET, {"why": "old"}))
            for frame in await story.begin(heard.start):
                yield text_of(frame)
        last, loop = heard.start, asyncio.get_running_loop()
        beat_at = loop.time() + BEAT_S
        while True:
            first = await heard.next(max(0.0, beat_at - loop.time()))
            if first is not None:
                frames = [first]
                while heard.waiting and len(frames) < TOGETHER:
                    frames.append(heard.waiting.popleft())
                last = frames[-1].id
                yield "".join([text_of(told) for frame in frames for told in await story.told(frame)])
            elif heard.over:
                break
            if loop.time() >= beat_at:
                yield ": \n\n"
                beat_at = loop.time() + BEAT_S
                if not await house.access.still(self._stream.who):
                    yield text_of(Frame(last, EVERYBODY, "revoked", {}))
                    return
        if self._stream.superseded:
            yield text_of(Frame(f"{last}{OVER}", EVERYBODY, "superseded", {"poll": "/api/v1/events/poll"}))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Story:
    """What a listener is told of its runs: where they stand first, and again whenever that may have been missed.

    Args:
        house: Its journal.
        topics: What is listened for.
    """

    def __init__(self, house: House, topics: Collection[str]) -> None:
        self._house = house
        self._runs = sorted(topic for topic in topics if topic.startswith("run:"))
        self._reading = Reading(house.runtime)
        self._epochs: dict[str, int] = {}

    async def begin(self, at: str) -> list[Frame]:
        """Return a snapshot of each run."""
        return [await self._snapshot(topic, at) for topic in self._runs]

    async def told(self, frame: Frame) -> list[Frame]:
        """Return what is told of a frame: itself, and a snapshot where one is needed."""
        if frame.event in (BEGAN, RESET):
            return [frame, *await self.begin(frame.id)]
        epoch = frame.data.get("epoch")
        if frame.topic not in self._runs or not isinstance(epoch, int):
            return [frame]
        known = self._epochs.get(frame.topic, 0)
        if epoch < known:  # of a process that has lost the run since
            return []
        if epoch > known:  # another process has it, or the same one anew: what is under way begins again (rule B5)
            return [await self._snapshot(frame.topic, frame.id), frame]
        return [frame]

    async def _snapshot(self, topic: str, at: str) -> Frame:
        journal = await self._house.runtime.opened()
        found = await journal.status(topic.removeprefix("run:"))
        report, _ = await self._reading.report(found)
        epoch = self._epochs[topic] = found.status.epoch
        try:
            frames = await self._house.hub.outputs(topic)
        except RingUnavailable:
            frames = []
        summary = redacted(summary_of(found), self._house.runtime.redactor)
        data: JsonObject = snapshot_of(summary, report, epoch, frames).model_dump(mode="json")
        return Frame(at, topic, "snapshot", data)


def ready(heard: Listening, topics: Collection[str], *, resumed: bool) -> Frame:
    """Return the first event of a stream, by whose id it can be gone on with."""
    return Frame(heard.start, EVERYBODY, "ready", {"topics": [*sorted(topics)], "resumed": resumed})


def text_of(frame: Frame) -> str:
    """Return a frame as it stands in a stream."""
    data = json.dumps({"topic": frame.topic, **frame.data}, ensure_ascii=False, separators=(",", ":"))
    return f"id: {frame.id}\nevent: {frame.event}\ndata: {data}\n\n"


async def require_runs(house: House, topics: Collection[str]) -> None:
    """Refuse to listen for runs that there are not.

    Raises:
        NotFound: There is no such run.
    """
    journal = await house.runtime.opened()
    for topic in topics:
        if topic.startswith("run:"):
            await journal.status(topic.removeprefix("run:"))

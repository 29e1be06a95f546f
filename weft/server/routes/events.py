"""What goes on, as it goes on: server-sent events, and the same to be asked for now and then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import FastAPI, Header, Query, Request, Response

from weft.errors import InvalidInputs, StateUnavailable
from weft.live import Frame
from weft.live.frames import EVERYBODY, RESET, TOPIC
from weft.live.ring import RingUnavailable
from weft.server.deps import HouseDep, Who, api, needs
from weft.server.house import House
from weft.server.routes.event_shapes import EventOut, Events
from weft.server.routes.event_streams import OVER, EventStream, Story, Streams, require_runs

router = api("events")

MOST_TOPICS: Final = 50
ONCE_S: Final = 5
"""Web processes that watch the same workflows see a change within this time of one another."""

_LOG = logging.getLogger("weft.server.events")


class EventText(Response):
    """What a stream is, for the description of the API."""

    media_type = "text/event-stream"


Topics = Annotated[
    str,
    Query(
        min_length=1,
        max_length=8_000,
        description="What to hear, with commas between: `runs`, `run:<id>`, `documents`, `approvals`, `schedules`.",
    ),
]
After = Annotated[str | None, Query(max_length=100, description="The id of the last event that was heard.")]


@contextlib.asynccontextmanager
async def around(app: FastAPI, house: House) -> AsyncIterator[None]:
    """Keep the streams of this process, and tell of changes of documents."""
    streams = Streams(house)
    app.state.streams = streams
    beside = [asyncio.create_task(streams.hang_up()), asyncio.create_task(_tell_documents(house))]
    try:
        yield
    finally:
        for each in beside:
            each.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


@router.get(
    "/events",
    response_class=EventText,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Events."},
        204: {"description": "The stream gave way to others of the same browser; it is not to come back."},
    },
    dependencies=[needs("view")],
)
async def stream_events(
    *,
    topics: Topics,
    who: Who,
    house: HouseDep,
    request: Request,
    after: After = None,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> Response:
    """Hear what goes on. A run's topic begins with where it stands; what comes after an id that was heard is told again.

    A browser may have four streams; with one more the oldest ends with `superseded` and asks /events/poll instead.
    """
    asked = _topics(topics)
    last = last_event_id or after
    if last is not None and last.endswith(OVER):
        return Response(status_code=204)  # a browser that is answered so does not come back (HTML, §9.2.2)
    await require_runs(house, asked)
    streams: Streams = request.app.state.streams
    return EventStream(streams, streams.admit(who), asked, last)


@router.get("/events/poll", dependencies=[needs("view")])
async def poll_events(topics: Topics, house: HouseDep, after: After = None) -> Events:
    """Tell what went on since the last time, at once: for who has no connection to spare for a stream."""
    asked = _topics(topics)
    await require_runs(house, asked)
    last = None if after is None else after.removesuffix(OVER)
    try:
        frames, end, missed = await house.hub.poll(asked, last)
    except RingUnavailable:
        raise StateUnavailable(
            "Events cannot be heard now.", code="live_away", remedy="Ask again in a moment."
        ) from None
    story, told = Story(house, asked), list[Frame]()
    if missed:
        told.append(Frame(end, EVERYBODY, RESET, {"why": "old"}))
    if missed or last is None:
        told += await story.begin(end)
    for frame in frames:
        told += await story.told(frame)
    return Events(
        events=[EventOut(id=each.id, topic=each.topic, event=each.event, data=each.data) for each in told], next=end
    )


def _topics(text: str) -> frozenset[str]:
    """Return the topics that are named.

    Raises:
        InvalidInputs: One of them is none, or there are too many.
    """
    named = frozenset(each.strip() for each in text.split(",") if each.strip())
    wrong = sorted(each for each in named if not TOPIC.fullmatch(each))
    if wrong or not named:
        raise InvalidInputs(
            f"{wrong[0]!r} is no topic." if wrong else "No topic is named.",
            code="unknown_topic",
            remedy="There are: runs, run:<id>, documents, approvals, schedules.",
        )
    if len(named) > MOST_TOPICS:
        raise InvalidInputs(f"{len(named)} topics are asked for, at most {MOST_TOPICS} may be.", code="too_many_topics")
    return named


async def _tell_documents(house: House) -> None:
    """Tell of every change of a workflow, whoever has made it."""
    while True:
        try:
            async with contextlib.aclosing(house.runtime.documents.changes()) as changes:  # type: ignore[type-var]
                async for change in changes:
                    facts = {"name": change.name, "etag": change.etag, "by": change.by}
                    key = f"{change.kind}:{change.name}:{change.etag}:{int(time.time()) // ONCE_S}"
                    house.hub.publish("documents", change.kind, {**facts}, once=key)
        except Exception:  # noqa: BLE001  who listens would never hear of a change again
            _LOG.exception("documents_unwatched")
        await asyncio.sleep(1)

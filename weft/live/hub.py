"""Publishes what goes on in this process, and lets listeners here hear every process.

Whoever publishes looks a few times a second whether anybody listens, but only while something goes on; with no listener
nothing is written. When it finds a new listener it first says so to everybody (`refresh`): what happened before may not have
been told, and listeners read it again from the journal. So between a snapshot and the frames after it nothing is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, TypeVar

from weft.engine.driver import Driver
from weft.engine.events import Event, Observer, RunEnded
from weft.journal.base import Kept
from weft.live.frames import BEGAN, EVERYBODY, RESET, Draft, Frame, mark, masked, merged, number_in
from weft.live.ring import Head, Ring, RingUnavailable, ring_at
from weft.live.telling import Teller, hear, mute
from weft.plan import Plan
from weft.redaction import Redactor
from weft.types import JsonObject

T = TypeVar("T")

GATHER_S: Final = 0.05
"""For how long frames are gathered before they are written together."""

LOOK_S: Final = 0.25
"""Between two looks whether somebody listens, while something goes on."""

IDLE_LOOK_S: Final = 1.0
"""The same, while nothing does."""

BEAT_S: Final = 5.0
"""Between two times that a listener says that it is still there."""

MOST_UNSENT: Final = 10_000
"""Frames that wait to be written; with more they are dropped, and listeners are told to read again."""

MOST_UNHEARD: Final = 1_000
"""Frames that wait for one listener; with more they are dropped, and it is told to read again."""

MOST_BEHIND: Final = 5_000
"""Frames that a listener who comes back is given; one that has missed more reads again."""

PAGE: Final = 500
ERRORS_S: Final = 2.0
"""Between two tries to reach a ring that cannot be reached."""

_LOG = logging.getLogger("weft.live")


@dataclass(slots=True, eq=False)
class Listening:
    """What one listener hears: frames in their order, without end until the hub hangs up."""

    topics: frozenset[str]
    start: str  #: what comes after this id is heard
    missed: bool  #: the id that was asked for is too old: begin with what is there now
    era: str
    seen: int
    waiting: deque[Frame] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        found = await self.next(None)
        if found is None:
            raise StopAsyncIteration
        return found

    async def next(self, timeout_s: float | None) -> Frame | None:
        """Return the next frame; None when none came in time, or none will come any more (`over`)."""
        while not self.waiting:
            if self.over:
                return None
            self.news.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self.news.wait()
            except TimeoutError:
                return None
        return self.waiting.popleft()

    def take(self, number: int, frame: Frame) -> None:
        """Put a frame before the listener, if it is for it; one that is too slow is told to read again."""
        if number <= self.seen:
            return
        self.seen = number
        if frame.topic != EVERYBODY and frame.topic not in self.topics:
            return
        if frame.topic == EVERYBODY and not self.concerns(frame):
            return
        if len(self.waiting) >= MOST_UNHEARD:
            self.waiting.clear()
            frame = Frame(frame.id, EVERYBODY, RESET, {"why": "slow"})
        self.waiting.append(frame)
        self.news.set()

    def concerns(self, frame: Frame) -> bool:
        """Whether a frame for everybody says that what was listened for here was not told before."""
        named = frame.data.get("topics")
        return frame.event == BEGAN and (not isinstance(named, list) or not self.topics.isdisjoint(map(str, named)))

    def restart(self, era: str, number: int, why: str) -> None:
        """Have it read again, and go on behind another place."""
        self.era, self.seen = era, number
        self.waiting.clear()
        self.waiting.append(Frame(mark(era, number), EVERYBODY, RESET, {"why": why}))
        self.news.set()

    def end(self) -> None:
        self.over = True
        self.news.set()


class Hub:
    """What this process tells and hears.

    Args:
        place: The file of the ring, or the address of the database that it is in.
        driver: Whose runs are told of; it asks nothing of it before a run is in hand.
        redactor: Masks secrets in all that is told.
    """

    def __init__(self, place: Path | str, driver: Driver | None = None, redactor: Redactor | None = None) -> None:
        self._ring: Ring = ring_at(place)
        self._redactor = redactor or Redactor()
        self._threads: ThreadPoolExecutor | None = None
        # as publisher
        self._tellers: set[Teller] = set()
        self._wanted: frozenset[str] | None = None  #: by somebody, as far as is known; None: it is not known
        self._unsent: deque[Draft] = deque()
        self._dropped = False  #: some were, since the last write
        self._restless = False  #: something was told since the last look
        self._awake = False  #: it looks even when nothing goes on
        self._idle = False  #: nothing was told for a while
        self._looking: asyncio.Task[None] | None = None
        self._look_now = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        # as listener
        self._listeners: set[Listening] = set()
        self._topics: Counter[str] = Counter()
        self._own: frozenset[str] = frozenset()  #: of those, what this process was the first to want
        self._reading: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._ear = asyncio.Event()
        self._closed = False
        if driver is not None:
            driver.watchers.append(self._watch)
            driver.live_output = lambda run_id: self._wants(f"run:{run_id}", unknown=False)

    # ---- to tell
    def publish(self, topic: str, event: str, data: JsonObject, *, once: str | None = None) -> None:
        """Tell of something, if anybody listens; it costs no waiting and raises nothing.

        Args:
            topic: What it is about.
            event: Its name.
            data: Facts; secrets in it are masked, and what is too long is cut.
            once: Several processes may tell the same under the same key; listeners hear it once.
        """
        if self._closed or not self._wants(topic):
            return
        if len(self._unsent) >= MOST_UNSENT:
            self._unsent.clear()
            self._dropped = True
        told = data if event == "output" else masked(data, self._redactor)  # output was masked piece by piece
        self._unsent.append(Draft(topic, event, told, once))
        if self._wanted is not None:
            self._write_soon()

    def is_wanted(self, topic: str) -> bool:
        """Whether somebody may listen for a topic, so that it is worth finding out what there is to tell."""
        return not self._closed and self._wants(topic)

    def _wants(self, topic: str, *, unknown: bool = True) -> bool:
        """Whether somebody listens for a topic; `unknown` as long as nobody has looked."""
        self._restless = True
        if self._idle:
            self._look_now.set()
        if self._looking is None and not self._closed:
            self._looking = asyncio.create_task(self._look())
        if topic in self._topics:  # somebody in this process
            return True
        return unknown if self._wanted is None else topic in self._wanted

    def stay_awake(self) -> None:
        """Look for listeners even while nothing goes on, so that a run that begins is told of from its first word."""
        self._awake = True
        self._wants(EVERYBODY)

    def _watch(self, kept: Kept, plan: Plan) -> Observer | None:
        """Return what tells of a run that was claimed here."""
        if self._closed:
            return None
        teller = Teller(kept, plan, self._wants, self.publish)
        self._tellers.add(teller)
        self._look_now.set()
        hear(teller)

        def observe(event: Event) -> None:
            teller(event)
            if isinstance(event, RunEnded):
                self._tellers.discard(teller)
                mute(teller)

        return observe

    async def _look(self) -> None:
        """Find out, again and again, what is listened for, until nothing goes on any more."""
        try:
            while True:
                self._restless = False
                try:
                    wanted = await self._do(self._ring.wanted)
                except RingUnavailable as error:
                    self._lose(error)
                    wanted = frozenset()
                self._learn(wanted)
                await asyncio.sleep(GATHER_S)
                self._idle = not self._restless and not self._tellers and not self._unsent
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_LOOK_S if self._idle else LOOK_S):
                        await self._look_now.wait()
                self._look_now.clear()
                if self._idle and not self._restless and not self._tellers and not self._awake:
                    return
        finally:
            self._looking = None
            self._wanted = None
            self._idle = False

    def _learn(self, wanted: frozenset[str]) -> None:
        """Take in what is listened for; of what is new, everything so far is read again by those who listen."""
        before, self._wanted = self._wanted, wanted
        if before is None:
            self._unsent = deque(each for each in self._unsent if each.topic in wanted)
        new = [] if before is None else sorted(wanted - before - self._own)  # before a first look nothing was dropped
        self._own -= wanted
        if new:
            self._unsent.append(Draft(EVERYBODY, BEGAN, {"topics": [*new]}))
            for teller in [each for each in self._tellers if each.topic in new]:
                teller.stand()
        if self._unsent:
            self._write_soon()

    def _lose(self, error: RingUnavailable) -> None:
        _LOG.info("live_away %s", error)
        self._unsent.clear()
        self._dropped = True

    def _write_soon(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._unsent:
            await asyncio.sleep(0 if self._closed else GATHER_S)
            await self._write_now()

    async def _write_now(self) -> None:
        drafts = list(merged(list(self._unsent)))
        self._unsent.clear()
        if self._dropped:
            drafts.insert(0, Draft(EVERYBODY, BEGAN, {}))
            self._dropped = False
        if not drafts:
            return
        try:
            await self._do(lambda: self._ring.write(drafts))
        except RingUnavailable as error:
            self._lose(error)
            await asyncio.sleep(0 if self._closed else LOOK_S)
        else:
            self._ear.set()

    # ---- to hear
    @property
    def listeners(self) -> int:
        """How many listen in this process."""
        return len(self._listeners)

    @contextlib.asynccontextmanager
    async def listen(self, topics: Collection[str], after: str | None = None) -> AsyncIterator[Listening]:
        """Hear what is told of some topics, from now on, or from behind a frame that was heard before.

        Args:
            topics: What is listened for.
            after: The id of the last frame that was heard. When it is too old, `missed` says so, and it begins now.

        Raises:
            RingUnavailable: It cannot be heard now.
        """
        listening, new = await self._begin(frozenset(topics), after)
        self._listeners.add(listening)
        self._topics.update(listening.topics)
        self._own |= new  # whatever this process tells of them, it tells from now on
        try:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
                self._beating = asyncio.create_task(self._beat())
            self._ear.set()
            yield listening
        finally:
            self._listeners.discard(listening)
            self._topics.subtract(listening.topics)
            self._topics = +self._topics

    async def poll(self, topics: Collection[str], after: str | None) -> tuple[list[Frame], str, bool]:
        """Return what was told since a frame, where that ends, and whether something was missed.

        Raises:
            RingUnavailable: It cannot be heard now.
        """
        heard, _ = await self._begin(frozenset(topics), after)
        return (
            list(heard.waiting),
            heard.start if heard.missed or after is None else mark(heard.era, heard.seen),
            heard.missed,
        )

    async def outputs(self, topic: str) -> list[Frame]:
        """Return what of a run's outputs can still be told: pieces, in their order."""
        return [frame for _, frame in await self._do(lambda: self._ring.outputs(topic))]

    def hang_up(self) -> None:
        """End every listener: this process stops."""
        for listening in self._listeners:
            listening.end()

    async def _begin(self, topics: frozenset[str], after: str | None) -> tuple[Listening, frozenset[str]]:
        head = await self._do(lambda: self._ring.attend(topics))
        if head.new:
            self._look_now.set()
        listening = Listening(topics, mark(head.era, head.number), after is not None, head.era, head.number)
        begin = number_in(head.era, after)
        if begin is None or begin > head.number or not await self._do(lambda: _is_whole(self._ring, head, begin)):
            return listening, head.new
        frames = await self._do(lambda: self._ring.read(begin, head.number, topics, MOST_BEHIND + 1))
        if len(frames) <= MOST_BEHIND:
            listening.missed, listening.start = False, mark(head.era, begin)
            known = [frame for _, frame in frames if frame.topic != EVERYBODY or listening.concerns(frame)]
            listening.waiting.extend(known)
            listening.news.set()
        return listening, head.new

    async def _beat(self) -> None:
        """Say again and again what is listened for here."""
        while True:
            await asyncio.sleep(BEAT_S)
            if topics := list(self._topics):
                with contextlib.suppress(RingUnavailable):
                    await self._do(lambda: self._ring.attend(topics))

    async def _read(self) -> None:
        """Read what is new, whoever has written it, and put it before those who listen."""
        away = False
        while True:
            try:
                if away:
                    await self._do(lambda: self._ring.attend(list(self._topics)))
                if await self._do(self._ring.has_news) or self._ear.is_set() or away:
                    self._ear.clear()
                    await self._read_new()
                away = False
            except RingUnavailable as error:
                _LOG.info("live_deaf %s", error)
                away = True
                await asyncio.sleep(ERRORS_S)
            except Exception:  # noqa: BLE001  who listens would never hear anything again
                _LOG.exception("live_deaf")
                away = True
                await asyncio.sleep(ERRORS_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._ring.look_s if self._listeners else LOOK_S):
                    await self._ear.wait()

    async def _read_new(self) -> None:
        """Pass on what came since the last time; where the ring was begun anew, everybody reads again."""
        listeners = [each for each in self._listeners if each.era == self._ring.era]
        begin = min((each.seen for each in listeners), default=0)
        while listeners:
            frames = await self._do(lambda: self._ring.read(begin, None, None, PAGE))  # noqa: B023  awaited here
            for number, frame in frames:
                for each in listeners:
                    each.take(number, frame)
            if len(frames) < PAGE:
                break
            begin = frames[-1][0]
        if len(listeners) < len(self._listeners):
            topics = list(self._topics)
            self._restart(await self._do(lambda: self._ring.attend(topics)), "anew")

    def _restart(self, head: Head, why: str) -> None:
        for each in self._listeners:
            if each.era != head.era or why == "away":
                each.restart(head.era, head.number, why)

    # ---- both
    async def _do(self, work: Callable[[], T]) -> T:
        """Do something with the ring, in the one thread that it is used from."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="ThreadPoolExecutor-weft-live")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def close(self) -> None:
        """Tell what is still to be told, end every listener, and let go."""
        if self._wanted is None and self._unsent:  # nobody has looked yet
            with contextlib.suppress(RingUnavailable):
                self._learn(await self._do(self._ring.wanted))
        self._closed = True
        self.hang_up()
        if self._unsent:
            await self._write_now()
        tasks = [each for each in (self._looking, self._writing, self._reading, self._beating) if each is not None]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for teller in self._tellers:
            mute(teller)
        if self._threads is not None:
            threads, self._threads = self._threads, None
            await asyncio.get_running_loop().run_in_executor(threads, self._ring.close)
            threads.shutdown(wait=False)


def _is_whole(ring: Ring, head: Head, begin: int | None) -> bool:
    """Whether everything since a frame is here: none was removed, and all topics were wanted all the time."""
    if begin is None or begin < head.floor:
        return False
    at = ring.kept_at(begin)
    return at is not None and all(since <= at for since in head.since.values())

"""What a call does: it starts a durable run, waits for its end up to a limit, and answers how it stands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from weft.engine.driver import problem_of
from weft.engine.events import Event, RunStarted, StepEnded, StepStarted
from weft.engine.report import outputs_of
from weft.errors import InvalidInputs, JournalRefused, NotFound, Problem, TooLarge, TooMany, WeftError
from weft.journal.base import ENDS, Listed, unknown_run
from weft.mcp.offering import CANCEL_RUN, GET_RUN, Offering
from weft.outcome import decode
from weft.reading import Reading
from weft.rehearsal.recording import masked
from weft.runtime import Runtime, new_run_id
from weft.starting import digest_of, start_once, started_before
from weft.triggers import trigger_run_id
from weft.types import Json, JsonObject
from weft.values import ValueCheck

WAIT_S: Final = 50.0
"""How long a call waits for the end of its run: clients give up after 60 s."""
MOST_AT_ONCE: Final = 100
"""Calls that wait."""
LARGEST_ANSWER: Final = 256_000
"""Characters of outputs that an answer holds: they go into the context of a model."""
LARGEST_ARGUMENTS: Final = 500_000
"""Characters of arguments, as JSON."""
LONGEST_KEY: Final = 255
TRIGGER: Final = "mcp"
"""The type of the trigger of runs that are started here."""
AFTER_CANCEL_S: Final = 2.0
"""How long it is waited for the end of a run that was asked to stop."""
LAST_WORDS_S: Final = 1.0
"""How long a client may take to hear how far its run came."""

_LOG = logging.getLogger("weft.mcp")

Tell: TypeAlias = Callable[[float, float, str], Awaitable[None]]
"""Told how far a run is: steps done, of how many, and what it does now."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    who: str  #: the identity whose runs these are
    client: str = ""  #: the name of its program, as that says
    key: str | None = None  #: the same for a call that is made again


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call answers."""

    text: str
    facts: JsonObject | None = None  #: as the tool's output schema says; none where no run was started
    is_error: bool = False


class Following(Protocol):
    """Waits for the end of runs, and tells what goes on in them."""

    drives: bool
    """Whether it is what makes them go on, so that it does so even when no call waits any more."""

    async def end(self, run_id: str, observe: Callable[[Event], None]) -> Listed:
        """Return how a run stands when it has ended or is parked."""


class Calls:
    """Answers calls of tools.

    Args:
        runtime: Where runs are made.
        offering: The tools.
        following: How their ends are waited for.
        wait_s: How long a call waits for the end of its run.
    """

    def __init__(self, runtime: Runtime, offering: Offering, following: Following, *, wait_s: float = WAIT_S) -> None:
        self._runtime = runtime
        self._offering = offering
        self._following = following
        self._wait_s = wait_s
        self._reading = Reading(runtime)
        self._waiting = 0
        self._starting: set[asyncio.Task[str]] = set()
        self._ends: dict[str, asyncio.Task[Listed]] = {}  #: of the runs that are waited for, or driven
        self._waits: Counter[str] = Counter()  #: how many calls wait for each

    async def call(
        self, name: str, given: JsonObject, caller: Caller, tell: Tell, noted: Callable[[str], None]
    ) -> Answer:
        """Answer a call of a tool.

        Args:
            name: The tool.
            given: Its arguments.
            caller: Who calls.
            tell: Told how far its run is.
            noted: Told the id of its run as soon as there is one; a cancel of the call is a cancel of that.

        Raises:
            NotFound: There is no such tool (`unknown_tool`).
        """
        try:
            with self._room():
                match name:
                    case GET_RUN.name:
                        return await self._get(given, caller, tell)
                    case CANCEL_RUN.name:
                        return await self._cancel(given, caller)
                    case _:
                        run_id = await self._start(name, given, caller, noted)
                        return await self._answer(await self._after(run_id, self._wait_s, tell))
        except NotFound as error:
            if error.problem.code == "unknown_tool":
                raise
            return self._refused(error)
        except WeftError as error:
            return self._refused(error)

    async def settled(self) -> None:
        """Return when no start is under way any more."""
        while self._starting:
            await asyncio.wait(self._starting)

    async def cancel(self, run_id: str) -> None:
        """Ask a run to stop whose caller has gone; one that has ended is left as it is."""
        with contextlib.suppress(JournalRefused, NotFound):
            await self._runtime.cancel(run_id)

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        if self._waiting >= MOST_AT_ONCE:
            raise TooMany(f"{MOST_AT_ONCE} calls wait already.", retry_after_s=5.0)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    # ---- starting
    async def _start(self, name: str, given: JsonObject, caller: Caller, noted: Callable[[str], None]) -> str:
        """Start a run, in a task of its own: a call that is cancelled in the middle of it must not leave a run unknown."""

        async def start() -> str:
            run_id = await self._started(name, given, caller)
            noted(run_id)
            return run_id

        task = asyncio.create_task(start())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return await asyncio.shield(task)

    async def _started(self, name: str, given: JsonObject, caller: Caller) -> str:
        if len(json.dumps(given)) > LARGEST_ARGUMENTS:
            raise TooLarge(f"The arguments are larger than {LARGEST_ARGUMENTS:,} characters.")
        if len(self._ends) >= MOST_AT_ONCE:
            raise TooMany(f"{MOST_AT_ONCE} runs of this process go on already.", retry_after_s=30.0)
        run_id = new_run_id()
        if caller.key is not None:
            if not 0 < len(caller.key) <= LONGEST_KEY:
                raise InvalidInputs(
                    f"The idempotency key must have 1 to {LONGEST_KEY} characters.", code="idempotency_key"
                )
            run_id = trigger_run_id("request", name, f"mcp {caller.who}", caller.key)
            if await started_before(self._runtime, run_id, name, digest_of(given)) is not None:
                return run_id  # whatever has become of the tool since
        prepared = await self._offering.prepare(name, given)
        trigger: JsonObject = {
            "type": TRIGGER,
            "tool": "action" if prepared.alone else "workflow",
            "client": caller.client[:100],
            "who": caller.who,
        }
        started = await start_once(
            self._runtime, prepared.plan, prepared.inputs, run_id=run_id, trigger=trigger, said=given
        )
        return started.run_id

    # ---- runs that were started
    async def _get(self, given: JsonObject, caller: Caller, tell: Tell) -> Answer:
        _check(GET_RUN.input_schema, given)
        found = await self._own(given, caller)
        wait_s = given.get("wait_s", 0)
        assert isinstance(wait_s, int | float)  # noqa: S101  checked above, for the type checker
        if found.status.state not in ENDS:
            found = await self._after(found.row.id, min(float(wait_s), self._wait_s), tell)
        return await self._answer(found)

    async def _cancel(self, given: JsonObject, caller: Caller) -> Answer:
        _check(CANCEL_RUN.input_schema, given)
        found = await self._own(given, caller)
        if found.status.state not in ENDS:
            await self.cancel(found.row.id)
            found = await self._after(found.row.id, AFTER_CANCEL_S, _nobody)
        answer = await self._answer(found)
        return Answer(answer.text, answer.facts)  # that it was cancelled is what was asked for

    async def _own(self, given: JsonObject, caller: Caller) -> Listed:
        """Return a run that this caller has started here; of others nothing is told."""
        run_id = str(given["run_id"])
        found = await (await self._runtime.opened()).status(run_id)
        trigger = decode(found.row.trigger)
        mine = isinstance(trigger, dict) and trigger.get("type") == TRIGGER and trigger.get("who") == caller.who
        if not mine:
            raise unknown_run(run_id)
        return found

    async def _after(self, run_id: str, wait_s: float, tell: Tell) -> Listed:
        """Return how a run stands when it has ended, or when the time is up; it goes on in either case."""
        progress = Progress()
        end = self._ends.get(run_id)
        if end is None:
            end = self._ends[run_id] = asyncio.create_task(self._following.end(run_id, progress))
            end.add_done_callback(lambda end: self._through(run_id, end))
        self._waits[run_id] += 1
        try:
            async with progress.told(tell):
                await asyncio.wait({end}, timeout=wait_s)
            if end.done():
                return end.result()
            return await self._runtime.journal.status(run_id)
        finally:
            self._waits[run_id] -= 1
            if not self._waits[run_id]:
                del self._waits[run_id]
                if not self._following.drives:
                    end.cancel()

    def _through(self, run_id: str, end: asyncio.Task[Listed]) -> None:
        del self._ends[run_id]
        if not end.cancelled() and (error := end.exception()) is not None:
            _LOG.warning("run_not_followed %s %s", run_id, type(error).__name__)

    # ---- answers
    async def _answer(self, found: Listed) -> Answer:
        await self._reading.plan(found)  # it makes known what is secret: another process may have driven the run
        run_id, state = found.row.id, found.status.state
        facts: JsonObject = {"run_id": run_id, "state": state}
        problem = problem_of(found.status)
        if problem is not None:
            told: JsonObject = {"code": problem.code, "message": problem.message, "remedy": problem.remedy}
            facts["problem"] = self._masked(told)
        if state == "succeeded":
            self._add_outputs(facts, found)
        elif state in ENDS or state == "parked":
            what = "is parked: somebody has to look after it" if state == "parked" else "was cancelled"
            why = f"{state}: {self._masked(_told(problem))}" if problem is not None else f"{what}."
            return Answer(f"Run {run_id} {why}", facts, is_error=True)
        else:
            facts["note"] = f"It goes on. Call {GET_RUN.name} with this run_id for its end."
        return Answer(json.dumps(facts, ensure_ascii=False), facts)

    def _add_outputs(self, facts: JsonObject, found: Listed) -> None:
        outputs = outputs_of(found)
        if decode(found.row.trigger).get("tool") == "action" and isinstance(outputs, dict):
            outputs = outputs.get("output")
        outputs = self._masked(outputs)
        size = len(json.dumps(outputs, ensure_ascii=False))
        if size > LARGEST_ANSWER:
            facts["note"] = (
                f"The outputs are left out: they have {size:,} characters, an answer holds {LARGEST_ANSWER:,}. "
                f"`weft runs show {found.row.id}` shows them."
            )
        else:
            facts["outputs"] = outputs

    def _refused(self, error: WeftError) -> Answer:
        return Answer("\n".join(str(self._masked(_told(problem))) for problem in error.problems), is_error=True)

    def _masked(self, value: Json) -> Json:
        found: Json = masked(value, self._runtime.redactor)
        return found


async def _nobody(done: float, of: float, now: str) -> None:
    """Tell nobody."""


def _told(problem: Problem) -> str:
    """Return a problem in words; its place in a file is nothing that an agent could look at."""
    step = f"step {problem.where.step!r}: " if problem.where.step else ""
    return f"{step}{problem.message} {problem.remedy or ''}".rstrip()


def _check(schema: JsonObject, given: JsonObject) -> None:
    if problems := ValueCheck(schema).problems(given, ()):
        raise InvalidInputs(problems=problems)


class Progress:
    """Turns the events of a run into steps done of how many; what is told only ever grows, as the protocol wants it."""

    def __init__(self) -> None:
        self._titles: dict[str, str] = {}
        self._seen: dict[str, float] = {}  #: outer step → a half when it has begun, one when it has ended
        self._news: asyncio.Queue[tuple[float, float, str] | None] = asyncio.Queue(maxsize=1_000)

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted(steps=steps):
                self._titles |= {path: title for path, _, title in steps}
            case StepStarted(path=path):
                self._note(path, 0.5, "")
            case StepEnded(path=path, state=state):
                self._note(path, 1.0, f": {state}")

    def _note(self, path: str, part: float, how: str) -> None:
        if path not in self._titles or self._seen.get(path, 0.0) >= part:
            return
        self._seen[path] = part
        with contextlib.suppress(asyncio.QueueFull):  # nobody takes it: the next one says more
            self._news.put_nowait((sum(self._seen.values()), float(len(self._titles)), f"{self._titles[path]}{how}"))

    @contextlib.asynccontextmanager
    async def told(self, tell: Tell) -> AsyncIterator[None]:
        """Tell what is new, for as long as the block lasts."""

        async def telling() -> None:
            while (news := await self._news.get()) is not None:
                await tell(*news)

        task = asyncio.create_task(telling())
        try:
            yield
            with contextlib.suppress(asyncio.QueueFull):
                self._news.put_nowait(None)
                await asyncio.wait([task], timeout=LAST_WORDS_S)
        finally:
            task.cancel()
            await asyncio.wait([task])


class Here:
    """Drives runs in this process whenever nobody else does; they go on when a call no longer waits."""

    drives = True

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def end(self, run_id: str, observe: Callable[[Event], None]) -> Listed:
        return await self._runtime.follow(run_id, observe)

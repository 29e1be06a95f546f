"""Row 9: a mail of the shipped example, with a process that dies at every point, and a server that stores and goes.

What a process does can be told apart from outside only by what it has written to its journal and to the mail server.
So a kill before and after each COMMIT, and one between each two lines of the conversation with the server, are all the
points at which it can die. The server is no part of what dies: what it has stored is what somebody got.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from signal import SIGKILL
from typing import Any, Self, TypeVar

from faults.aiming import ATTEMPT_S
from faults.kills import FARTHEST, POINTS, AnyPlace
from faults.ledger import OUTCOMES, Ledger, Log
from faults.nursery import Child
from faults.replaying import faults

from weft import packs
from weft.embedded.outbox import Outbox
from weft.engine.report import report_of
from weft.registry import Registry
from weft.runtime import Runtime
from weft.testing.mail_server import FaultServer
from weft.testing.model_server import ModelServer

EXAMPLE = Path(__file__).resolve().parents[2] / "workflows" / "email-results.yaml"
READY = "weft_core.actions._litellm:load"
"""What the mother of the processes has done before: it takes four seconds in each of them otherwise."""

GIVEN = """  - id: answer
    uses: set_values
    with: {values: {choices: [{message: {content: Because disks die.}}]}}
"""
"""A first step that asks nobody."""

LINES = ("EHLO", "MAIL", "RCPT", "DATA", "content", "stored", "answered")
"""Points in the conversation; `stored`: the mail is there and the server has not said so yet."""

DELIVERIES = ("at_least_once", "at_most_once")
DOUBTS = frozenset({"effect_unknown", "delivery_unknown"})
LONG_S = 120.0
RUN = "r00000"

Make = Callable[[str], AnyPlace]
T = TypeVar("T")


# ---- the servers
class Sink(FaultServer):
    """Stores every mail that comes whole; the n-th session has the n-th fault, and a process dies at a point.

    Args:
        faults: `drop-after-dot` and others of `MODES`, one a session; later ones have none.
        strikes: At which of `LINES` a process is to die, one after another.
    """

    def __init__(self, faults: Sequence[str] = (), strikes: Sequence[str] = ()) -> None:
        super().__init__("ok")
        self._faults = list(faults)
        self._strikes = list(strikes)
        self.victim: Child | None = None

    @property
    def left(self) -> int:
        """How many strikes have not come."""
        return len(self._strikes)

    async def _greet(self, line: Any) -> bool:
        self.mode = self._faults.pop(0) if self._faults else "ok"
        return await super()._greet(line)

    async def _answer(self, line: Any, command: str) -> bool:
        return not await self._strike(command.partition(" ")[0]) and await super()._answer(line, command)

    async def _data(self, line: Any) -> bool:
        if self._strikes[:1] != ["content"]:
            return await super()._data(line)
        await line.say("354 go")
        await line.reader.readline()
        return not await self._strike("content")

    async def _taken(self, line: Any, content: bytes) -> bool:
        if self._strikes[:1] == ["stored"]:
            self.stored.append(content)
            return not await self._strike("stored")
        goes_on = await super()._taken(line, content)
        return not await self._strike("answered") and goes_on

    async def _strike(self, point: str) -> bool:
        if self._strikes[:1] != [point] or self.victim is None:
            return False
        del self._strikes[0]
        self.victim.send(SIGKILL)
        await asyncio.to_thread(self.victim.wait)
        return True


class Servers:
    """A loop in a thread, with the model and all mail servers of a trial.

    Args:
        whole: The example asks a model; else its first step gives an answer of its own, in a tenth of the time.
    """

    def __init__(self, *, whole: bool) -> None:
        self.whole = whole

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._model = ModelServer()
        self.do(self._model.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self._model.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LONG_S)

    def connections(self, sink: Sink | None) -> dict[str, Any]:
        """Return what the example needs; without a server the mail goes into its own outbox."""
        found: dict[str, Any] = {}
        if self.whole:
            model = {"type": "model_provider", "provider": "openai", "api_key": "k", "api_base": self._model.base_url}
            found["local-model"] = model
        if sink is not None:
            smtp = {"type": "smtp", "host": sink.host, "port": sink.port, "tls": "none", "from": "weft@example.com"}
            found["outbox"] = smtp
        return found

    def document(self, trouble: Trouble) -> str:
        """Return the example, whose last step says how it is to be delivered, and whose retries do not wait."""
        text = EXAMPLE.read_text(encoding="utf-8")
        head, rest = text.split("steps:\n")
        answer, mail = rest.split("  - id: mail\n")
        step = "    uses: send_email\n"
        assert mail.count(step) == 1
        more = f"    delivery: {trouble.delivery}\n    retry: {{attempts: 3, backoff: 50ms}}\n"
        mail = mail.replace(step, step + more)
        return f"{head}steps:\n{answer if self.whole else GIVEN}  - id: mail\n{mail}"


# ---- one mail
@dataclass(frozen=True)
class Trouble:
    """What happens to one run of the example.

    Args:
        delivery: What the step says.
        aim: At which COMMIT the first process dies: `before 3`. Then the mail goes into the run's own outbox.
        strikes: At which lines processes die, one after another.
        faults: What the server does by itself.
        doubts: How many mails may have arrived of which the run has not been told.
        answer: What a person says whom the run asks.
    """

    delivery: str
    aim: str | None = None
    strikes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    doubts: int | None = None
    answer: str = "reject"

    def __str__(self) -> str:
        return f"{self.delivery} {self.aim or ' '.join((*self.strikes, *self.faults))} {self.answer}"

    @property
    def name(self) -> str:
        return re.sub(r"\W+", "-", str(self)).lower()


@dataclass
class Course:
    """How it went."""

    ledger: Ledger = field(default_factory=Ledger)
    mails: list[tuple[str, str | None]] = field(default_factory=list)  #: Message-ID and mark of each that arrived
    report: dict[str, Any] = field(default_factory=dict)  #: what `weft runs show` says
    asked: str | None = None  #: what the run asked, in doubt


def suffer(place: AnyPlace, servers: Servers, trouble: Trouble) -> Course:
    """Play one trouble: hand the run over, let processes die as it says, and let the last one end the run."""
    with ExitStack() as stack:
        sink = None
        if trouble.aim is None:
            sink = Sink(trouble.faults, trouble.strikes)
            servers.do(sink.__aenter__())
            stack.callback(lambda: servers.do(sink.__aexit__()))
        course = Course()
        _write_down(place, servers.connections(sink), servers.document(trouble))
        servers.do(_hand_over(place))
        course.ledger.accepted.add(RUN)
        _drive(place, trouble, sink, course)
        stored = sink.stored if sink is not None else _kept(place)
        course.mails = [_told(content) for content in stored]
    course.report, faults = servers.do(_looked_at(place))
    course.ledger.wrong += faults
    return course


async def _hand_over(place: AnyPlace) -> None:
    async with _runtime(place) as runtime:
        await runtime.submit(runtime.compile(place.directory / EXAMPLE.name), {"question": "Why?"}, run_id=RUN)


async def _looked_at(place: AnyPlace) -> tuple[dict[str, Any], list[str]]:
    """Return the report of the run, and where its records do not lead to it."""
    async with _runtime(place) as runtime:
        kept = await (await runtime.opened()).load(RUN)
        plan = runtime.pinned_plan(await runtime.journal.document(kept.row.document))
        return report_of(kept, plan).model_dump(mode="json"), list(faults(kept, plan))


def _runtime(place: AnyPlace) -> Runtime:
    return Runtime(place.home, _registry(), connections_file=place.home / "connections.yaml", environ=place.env())


@cache
def _registry() -> Registry:
    return packs.discover([])


def _write_down(place: AnyPlace, connections: dict[str, Any], document: str) -> None:
    place.home.mkdir(exist_ok=True)
    file = place.home / "connections.yaml"
    file.write_text(json.dumps(connections))  # JSON is YAML
    file.chmod(0o600)
    (place.directory / EXAMPLE.name).write_text(document, encoding="utf-8")


def _drive(place: AnyPlace, trouble: Trouble, sink: Sink | None, course: Course) -> None:
    """Start a worker, and another whenever one has died, until the run has ended."""
    log, until = Log(place.effects), time.monotonic() + LONG_S
    aim, more = trouble.aim, {ATTEMPT_S: "2"} if "hang-after-dot" in trouble.faults else {}
    while time.monotonic() < until:
        child = place.worker("--until-idle", aim=aim, env=more)
        if sink is not None:
            sink.victim = child
        code = child.wait(LONG_S)
        course.ledger.read(log.news())
        course.ledger.look(place.snapshot())
        if code == -SIGKILL:
            course.ledger.kill(child.pid, child.ended_at or time.time())
            aim = None
        elif code != 0:
            course.ledger.wrong.append(f"a worker left with {code}: {place.output()[-1500:]}")
        match place.states().get(RUN):
            case "waiting":
                _decide(place, trouble, course)
            case state if state in OUTCOMES:
                return
    course.ledger.wrong.append(f"the run has not ended: {place.states()}")


def _decide(place: AnyPlace, trouble: Trouble, course: Course) -> None:
    """Answer the question of a run in doubt, as `weft runs show` tells it and as its command is."""
    report = _ask(place, "runs", "show", "--json")
    [course.asked] = [ask["message"] for step in report["steps"] for ask in step["asks"]]
    if place.start("runs", "answer", RUN, "mail", trouble.answer, "--by", "ada").wait() != 0:
        course.ledger.wrong.append(f"the answer was not taken: {place.output()[-1000:]}")


def _kept(place: AnyPlace) -> list[bytes]:
    outbox = Outbox(place.home / "outbox")
    return [outbox.message(mail.id).raw for mail in outbox.messages()]


def _told(content: bytes) -> tuple[str, str | None]:
    parsed = email.message_from_bytes(content, policy=email.policy.default)
    mark = parsed["Weft-Possible-Repeat"]
    return str(parsed["Message-ID"]), None if mark is None else str(mark)


def _ask(place: AnyPlace, *words: str) -> Any:
    before = len(place.output())
    code = place.start(*words).wait()
    told = place.output()[before:]
    return json.loads(told) if code == 0 else [{"problem": {"code": told}}]


# ---- the judge
def judge(trouble: Trouble, course: Course) -> Iterator[str]:
    """Yield what is wrong: what arrived, and what the run says of it."""
    marks = [mark for _, mark in course.mails]
    if len({message_id for message_id, _ in course.mails}) > 1:
        yield f"one mail under several Message-IDs: {course.mails}"
    if any(mark is None for mark in marks[1:]):
        yield f"a second mail that is not marked: {course.mails}"
    state, problem = course.report.get("state"), course.report.get("problem")
    if trouble.delivery == "at_least_once":
        if state != "succeeded":
            yield f"the run has {state}: {problem}"
        if not marks:
            yield "the run has succeeded, and nobody has the mail"
    else:
        yield from _stopped_and_asked(trouble, course, marks)
    wanted = 1 + (trouble.doubts or 0) * (trouble.delivery == "at_least_once" or trouble.answer == "approve")
    if trouble.doubts is not None and len(marks) != wanted:
        yield f"{len(marks)} mails instead of {wanted}: the trouble did not come as it should"
    yield from course.ledger.wrong


def _stopped_and_asked(trouble: Trouble, course: Course, marks: Sequence[str | None]) -> Iterator[str]:
    """Where one mail at most was asked for: it is known to have been sent, or the run stops and a person decides."""
    [step] = [step for step in course.report["steps"] if step["path"] == "/mail"]
    state, problem = course.report.get("state"), step["problem"] or {}
    if course.asked is None:
        if state != "succeeded" or marks != [None]:
            yield f"the run has asked nobody, has {state}, and {len(marks)} mails arrived: {marks}"
    elif trouble.answer == "approve":
        if state != "succeeded" or not marks or marks[-1] is None:
            yield f"it was to be sent again: the run has {state}, mails {marks}"
    elif (state, problem.get("code") in DOUBTS, bool(problem.get("remedy"))) != ("failed", True, True):
        yield f"it was not to be sent again: the run has {state}: {problem}"
    if len(marks) > 1 and not (course.asked and trouble.answer == "approve"):
        yield f"{len(marks)} mails, though one at most was asked for, and nobody has allowed another"


# ---- the trials
def killed(make: Make, servers: Servers, *, at_once: int) -> Ledger:
    """Kill at every point, for both policies, and three processes of one run, each while its mail is in doubt."""
    troubles = [Trouble(delivery, strikes=(line,)) for delivery in DELIVERIES for line in LINES]
    troubles += [Trouble("at_most_once", strikes=(line,), answer="approve") for line in LINES]
    troubles += [Trouble("at_least_once", strikes=("stored",) * 3, doubts=3)]
    total = _play_all(make, servers, troubles, at_once)
    for delivery in DELIVERIES:
        for point in POINTS:
            total.add(_every_commit(make, servers, delivery, point, at_once=at_once))
    return total


def killed_in_doubt(make: Make, servers: Servers, *, at_once: int) -> Ledger:
    """Kill only where a mail is in doubt, or seems to be."""
    troubles = [
        Trouble("at_least_once", strikes=("stored",) * 2, doubts=2),
        Trouble("at_least_once", strikes=("answered",)),
        Trouble("at_least_once", aim="after 3"),
        Trouble("at_most_once", strikes=("DATA",)),
        Trouble("at_most_once", strikes=("stored",), doubts=1),
        Trouble("at_most_once", strikes=("stored",), doubts=1, answer="approve"),
        Trouble("at_most_once", aim="before 4"),
    ]
    return _play_all(make, servers, troubles, at_once)


def _every_commit(make: Make, servers: Servers, delivery: str, point: str, *, at_once: int) -> Ledger:
    total = Ledger()
    for first in range(1, FARTHEST, at_once):
        numbers = range(first, first + at_once)
        troubles = [Trouble(delivery, aim=f"{point} {n}") for n in numbers]
        found = _play_all(make, servers, troubles, at_once)
        total.add(found)
        if found.counts["kills"] < len(troubles):
            break
    return total


def cut(make: Make, servers: Servers, *, at_once: int) -> Ledger:
    """The server stores the mail and goes, hangs, or goes behind its answer; or goes before it has the whole mail."""
    doubts = {"drop-after-dot": 1, "hang-after-dot": 1, "reset-after-250": 0, "drop-mid-data": None}  # seen to be cut?
    troubles = [
        Trouble(delivery, faults=(fault,), doubts=count) for delivery in DELIVERIES for fault, count in doubts.items()
    ]
    troubles.append(Trouble("at_least_once", faults=("drop-after-dot", "drop-mid-data"), doubts=1))
    troubles.append(Trouble("at_least_once", faults=("drop-after-dot",), strikes=("stored",), doubts=1))
    return _play_all(make, servers, troubles, at_once)


def _play_all(make: Make, servers: Servers, troubles: Sequence[Trouble], at_once: int) -> Ledger:
    total = Ledger()
    with ThreadPoolExecutor(at_once) as pool:
        for ledger in pool.map(lambda trouble: _play(make(trouble.name), servers, trouble), troubles):
            total.add(ledger)
    return total


def _play(place: AnyPlace, servers: Servers, trouble: Trouble) -> Ledger:
    course = suffer(place, servers, trouble)
    course.ledger.wrong = [f"{trouble} in {place.directory}: {each}" for each in judge(trouble, course)]
    marks = [mark for _, mark in course.mails]
    counts: Counter[str] = course.ledger.counts
    counts["mails"] += len(marks)
    counts["mails marked"] += sum(mark is not None for mark in marks)
    counts["second mails unmarked"] += sum(mark is None for mark in marks[1:])
    counts["steps"] += sum(step["state"] == "succeeded" for step in course.report["steps"])
    counts["stopped and asked"] += course.asked is not None
    return course.ledger

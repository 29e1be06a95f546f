"""A small world around the engine: processes, one database, people; all of it in one loop, under one seed.

The engine is the real one: driver, reactor, interpreter, executor. The journal is the real one in memory, behind a line
that is slow, breaks, loses answers, and delivers late. Deliveries, wake-ups and take-overs come from here: twice, late, in
any order, to any process. A process may be stopped or killed at every operation of its journal and around every effect.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import random
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from simulation.documents import Answers, Document, Key, depends, without_tries
from simulation.virtual import Frozen, VirtualLoop

from weft import packs, plan, source, structure
from weft.engine.driver import Driver
from weft.engine.gates import gate_of
from weft.engine.reactor import Surroundings
from weft.engine.results import RunFacts
from weft.errors import JournalRefused, JournalUnavailable, NotFound, WeftError
from weft.executor import Call, Executor, Watch
from weft.journal.base import (
    CRASHES_TOGETHER,
    ENDS,
    NEWS,
    OPEN,
    OUTCOMES,
    Claim,
    Ended,
    Kept,
    Listed,
    Record,
    RunRow,
    Settled,
    State,
    Then,
    another_owner,
)
from weft.journal.memory import MemoryJournal
from weft.outcome import Outcome, encode
from weft.plan import Plan
from weft.redaction import Redactor
from weft.registry import Registry

T = TypeVar("T")

Fault = Literal["die", "die sent", "die after", "stop", "stop after", "refuse", "lose", "late"]
FAULTS: Final[tuple[Fault, ...]] = ("die", "die sent", "die after", "stop", "stop after", "refuse", "lose", "late")
AT_EFFECTS: Final[tuple[Fault, ...]] = ("die", "stop")
"""What may happen where no journal is asked."""

BEGAN: Final = 1_700_000_000.0
REST_S: Final = 4_000.0
"""By then every run must have ended."""

PACK: Final = Path(__file__).parent / "pack"


class Compiler:
    """Plans of documents, each made once."""

    def __init__(self) -> None:
        self._registry = Registry([packs.read(PACK, "simulation", packs.package_of(PACK))])
        self._plans: dict[str, Plan] = {}

    def __call__(self, text: str) -> Plan:
        if text not in self._plans:
            if len(self._plans) > 500:
                self._plans.clear()
            self._plans[text] = self._compiled(text)
        return self._plans[text]

    def _compiled(self, text: str) -> Plan:
        children = json.loads(text).get("children", {})

        def find(name: str, parent: source.Source) -> plan.Document:
            kept = bundle(children[name], children)
            found = source.read(json.dumps(children[name]), "random.yaml")
            return plan.Document(structure.load(found), found, kept)

        document = source.read(json.dumps(document_of(text)), "random.yaml")
        made = plan.compile(structure.load(document), document, self._registry, documents=plan.Documents(find))
        return replace(made, kept=text)


def bundle(document: Document, children: Mapping[str, Document]) -> str:
    """Return a document and those of its child workflows as one text."""
    return json.dumps({"document": document, "children": children} if children else document)


def document_of(text: str) -> Document:
    """Return the document that a run follows, without those of its children."""
    read: Document = json.loads(text)
    return read.get("document", read)


compiler = Compiler()


@dataclass(frozen=True, slots=True)
class Order:
    """A run to be made, and what people do to it."""

    run_id: str
    document: Document
    k: int
    answers: Mapping[str, Answers] | None = None  #: by run, its children too; otherwise by chance
    cancels: tuple[float, ...] = ()  #: seconds after the start
    foreground: bool = False
    children: Mapping[str, Document] = field(default_factory=dict)  #: documents of child workflows, by name

    @property
    def text(self) -> str:
        return bundle(self.document, self.children)


@dataclass(frozen=True, slots=True)
class Chaos:
    """How much goes wrong.

    `at` aims: number of a point → what happens there. Otherwise things happen by chance, `rate` of all points, but not at
    those of `spared`.
    """

    rate: float = 0.0
    at: Mapping[int, Fault] = field(default_factory=dict)
    most: int = 12
    spared: frozenset[int] = frozenset()
    cancel_at: frozenset[int] = frozenset()  #: points before which every run is cancelled
    slow: float = 0.0  #: part of the answers that take seconds
    drains: float = 0.0  #: part of the world's turns in which a process is asked to stop


@dataclass(frozen=True, slots=True)
class Seen:
    """Something that happened, for the judges."""

    at: float
    process: str
    what: str
    run_id: str = ""
    path: str = ""
    n: int = 0
    more: str = ""

    def __str__(self) -> str:
        place = f" {self.run_id}{self.path}" + (f" #{self.n}" if self.n else "") if self.run_id else ""
        return f"{self.at:9.3f} {self.process:6} {self.what}{place} {self.more}".rstrip()


class Line(MemoryJournal):
    """The journal as one process reaches it: over a line where anything may go wrong."""

    def __init__(self, world: World, process: Process | None, beside: MemoryJournal | None) -> None:
        self._world, self._process = world, process
        super().__init__(process.name if process else "person", clock=world.now, beside=beside)

    async def _ask(self, what: str, run_id: str, work: Callable[[], Awaitable[T]], note: str = "") -> T:
        return await self._world.ask(self._process, what, run_id, work, note)

    async def document(self, hash_: str) -> str:
        return await self._ask("document", "", partial(super().document, hash_))

    async def accept(self, run: RunRow, *records: Record) -> Claim:
        claim = await self._ask("accept", run.id, partial(super().accept, run, *records))
        _EPOCH.set(claim.epoch)
        return claim

    async def keep_document(self, text: str) -> str:
        return await self._ask("keep", "", partial(super().keep_document, text))

    async def submit(self, run: RunRow) -> None:
        return await self._ask("submit", run.id, partial(super().submit, run))

    async def claim(self, run_id: str, *, alone: bool = False) -> Claim:
        claim = await self._ask("claim", run_id, partial(super().claim, run_id, alone=alone))
        _EPOCH.set(claim.epoch)
        return claim

    async def release(self, run_id: str, *, ends: int) -> State:
        return await self._ask("release", run_id, partial(self._release, run_id, ends))

    async def _release(self, run_id: str, ends: int) -> State:
        """A20: an owner that has proved in the meantime that it lives keeps its run."""
        owner = (await super().status(run_id)).status.owner
        if owner != self.name and owner in self._world.store.alive:
            raise another_owner(run_id)
        return await super().release(run_id, ends=ends)

    async def write(
        self,
        claim: Claim,
        news: int,
        records: Sequence[Record] = (),
        then: Then = None,
        *,
        children: Sequence[RunRow] = (),
        settled: Sequence[Settled] = (),
    ) -> None:
        note = " ".join(f"{each.path}#{each.n}:{each.kind}" for each in records) + (f" → {then.state}" if then else "")
        note += "".join(f" +{child.id[:6]}" for child in children)
        await self._ask("write", claim.run_id, partial(self._write, claim, news, records, then, children), note)
        rang = {each.path for each in records if (each.n, each.kind) == (0, "rang")}
        self._world.rang[self.name, claim.run_id, claim.epoch] |= rang

    async def _write(
        self, claim: Claim, news: int, records: Sequence[Record], then: Then, children: Sequence[RunRow] = ()
    ) -> None:
        await super().write(claim, news, records, then, children=children)
        self._world.written(self._process, claim, news)
        if isinstance(then, Ended):
            self._world.has_ended(claim.run_id)

    async def load(self, run_id: str) -> Kept:
        kept = await self._ask("load", run_id, partial(super().load, run_id))
        self._world.knows(self._process, run_id, kept.records)
        return kept

    async def status(self, run_id: str) -> Listed:
        return await self._ask("status", run_id, partial(super().status, run_id))

    async def cancel(self, run_id: str) -> int:
        return await self._ask("cancel", run_id, partial(super().cancel, run_id))

    async def signal(self, run_id: str, path: str, payload: str) -> None:
        return await self._ask("signal", run_id, partial(super().signal, run_id, path, payload), path)

    async def resume(self, run_id: str) -> None:
        return await self._ask("resume", run_id, partial(super().resume, run_id))

    async def wake(self, limit: int, *, only: str | None = None) -> list[str]:
        return await self._ask("wake", "", partial(super().wake, limit, only=only))

    async def abandoned(self) -> list[Listed]:
        return await self._ask("abandoned", "", super().abandoned)

    async def confirm(self, claim: Claim) -> None:
        """A20: the last look is at this process's own clock, after the answer."""
        process = self._process
        assert process is not None
        deaths = process.declared_dead
        await self._ask("confirm", claim.run_id, partial(super().confirm, claim))
        if process.declared_dead != deaths or not self._world.is_alive(process):
            raise another_owner(claim.run_id)

    async def changed(self, timeout_s: float) -> bool:
        await asyncio.sleep(min(timeout_s, self._world.rng.uniform(0.01, 1.0)))
        return True


class Acting(Executor):
    """The executor, with somebody who writes down what it does."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(None, Redactor(), lambda run_id: None, world.now)  # type: ignore[arg-type, return-value]  # no action here has a connection or a file
        self._world, self._process = world, process

    async def perform(self, call: Call, watch: Watch) -> Outcome:
        world, process, barrier = self._world, self._process, watch.barrier
        await world.point(process, "begin", "die")
        world.begins(process, call)

        async def no_return() -> None:
            assert barrier is not None
            await world.point(process, "dot")
            await barrier()
            world.affects(process, call)
            await world.point(process, "effect")

        watch.barrier = no_return
        outcome = await super().perform(call, watch)
        world.ends(process, call, outcome)
        await world.point(process, "end")
        return outcome


class Process:
    """One process with a driver, as `weft worker` is."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.frozen = Frozen(world.loop)
        self.journal = Line(world, self, world.person)
        around = Surroundings(self.journal, Acting(world, self), pin=lambda planned: planned.kept or "")
        self.driver = Driver(around, compiler)
        self.declared_dead = 0  #: how often others have had reason to think so
        self.stopping = False
        self.told: dict[str, int] = {}  #: the news that the driver was told of
        self.in_hand: Counter[str] = Counter()  #: runs that it has been told to go on with, and has not let go of
        self.astray: Counter[tuple[str, int]] = Counter()  #: looks that found a claim of ours which nobody drives

    @property
    def lives(self) -> bool:
        return not self.frozen.dead and self.frozen.held is None


class World:
    """Everything, from the first run's acceptance until nobody has anything left to do.

    Args:
        seed: Of all chance.
        orders: The runs to be made.
        chaos: What goes wrong.
        processes: How many, at most, at a time.
    """

    def __init__(self, seed: int | str, orders: Sequence[Order], chaos: Chaos, *, processes: int = 3) -> None:
        self.seed = seed
        self.rng = random.Random(f"world {seed}")
        self.orders = orders
        for order in orders:
            compiler(order.text)
        self._orders = {order.run_id: order for order in orders}
        self.chaos = chaos
        self.most_processes = processes
        self.points = 0
        self.finished = False
        self.faults: dict[int, Fault] = {}  #: what happened where
        self.log: list[Seen] = []
        self.wrong: list[str] = []  #: what must not be, seen at once
        self.begun: Counter[tuple[str, str, int, int]] = Counter()  #: attempts by run, path, n, epoch
        self.ended: defaultdict[tuple[str, str, int], list[Key]] = defaultdict(list)  #: by process, run, epoch
        self.rang: defaultdict[tuple[str, str, int], set[str]] = defaultdict(
            set
        )  #: times known to be up, by process and claim
        self._affected: Counter[tuple[str, str]] = Counter()  #: effects by run and path
        self._dotted: dict[tuple[str, str, str], int] = {}  #: the same, of attempts that have not ended
        self.processes: list[Process] = []
        self._past: list[Process] = []
        self._answers: set[tuple[str, str, int]] = set()  #: questions that a person knows of
        self._tasks: set[asyncio.Task[Any]] = set()
        self._knows: dict[tuple[str, str], int] = {}  #: cancels that a process knows of

    # ---- the whole of it
    @classmethod
    def run(cls, seed: int | str, orders: Sequence[Order], chaos: Chaos, *, processes: int = 3) -> World:
        """Let a world come to rest, and return it."""
        world = cls(seed, orders, chaos, processes=processes)
        logging.disable(logging.CRITICAL)
        try:
            with asyncio.Runner(loop_factory=VirtualLoop) as runner:
                runner.run(world._live())
        finally:
            logging.disable(logging.NOTSET)
        return world

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.person = Line(self, None, None)
        self.store = self.person._store
        for order in self.orders:
            self._do(self._order(order))
        try:
            while not self._at_rest():
                if self.loop.time() > REST_S:
                    self._say_what_is_left()
                    break
                self._turn()
                await asyncio.sleep(self.rng.choice((0.01, 0.1, 0.3, 1.0)) * self.rng.random())
            await asyncio.sleep(200)  # those that were stopped wake up, and try
        finally:
            self.finished = True
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for process in [*self._past, *self.processes]:
                await process.frozen.bury()

    def now(self) -> float:
        return BEGAN + self.loop.time()

    def _do(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self.finished:
            self.wrong.append(f"the world itself failed: {task.exception()!r}")

    # ---- what goes wrong
    def _fault(self, process: Process | None, allowed: Sequence[Fault]) -> tuple[Fault | None, random.Random]:
        self.points += 1
        at = self.points
        if at in self.chaos.cancel_at:
            self._cancel_all()
        chance = random.Random(f"{self.seed}/{at}")
        fault: Fault | None = self.chaos.at.get(at)
        if fault is None and chance.random() < self.chaos.rate and len(self.faults) < self.chaos.most:
            fault = chance.choice(allowed)
        if fault is None or at in self.chaos.spared or fault not in allowed:
            return None, chance
        if process is None and fault not in ("refuse", "lose", "late"):
            return None, chance
        self.faults[at] = fault
        return fault, chance

    async def point(self, process: Process, where: str, *allowed: Fault) -> None:
        """A process may stop or die here."""
        if self.finished:
            return
        fault, chance = self._fault(process, allowed or AT_EFFECTS)
        if fault is not None:
            self._see(process, f"{fault} at {where}", more=f"[{self.points}]")
            await self._strike(process, fault, chance)

    async def _strike(self, process: Process, fault: Fault, chance: random.Random) -> None:
        """Stop or kill a process in one of its own steps, which goes no further until the process is woken."""
        self._hit(process, fault, chance)
        await asyncio.sleep(0)

    def _hit(self, process: Process, fault: Fault, chance: random.Random) -> None:
        if process.frozen.dead or self.finished:
            return
        if fault.startswith("die"):
            self._kill(process, chance)
            return
        process.frozen.stop()
        stopped_s = chance.choice((0.5, 5.0, 40.0)) * chance.random()
        self._later(stopped_s, partial(self._wake, process))
        if chance.random() < 0.7:
            self._later(stopped_s * chance.random(), partial(self._declare_dead, process))

    def _kill(self, process: Process, chance: random.Random) -> None:
        process.frozen.kill()
        if process in self.processes:
            self.processes.remove(process)
        self._past.append(process)
        self._later(chance.choice((0.0, 1.0, 10.0)), partial(self._declare_dead, process))

    def _declare_dead(self, process: Process) -> None:
        if process.lives:
            return  # it woke up in time
        process.declared_dead += 1
        self.store.alive.discard(process.name)

    def _wake(self, process: Process) -> None:
        if not process.frozen.dead and not self.finished:
            self._see(process, "wakes up")
            if process in self.processes or process.stopping:
                self.store.alive.add(process.name)
            process.frozen.wake()

    def is_alive(self, process: Process) -> bool:
        return process.name in self.store.alive

    async def ask(
        self, process: Process | None, what: str, run_id: str, work: Callable[[], Awaitable[T]], note: str
    ) -> T:
        """Ask the journal over the line: every question is a point at which things may go wrong, before and after it."""
        if self.finished:
            raise JournalUnavailable("The journal is closed.", code="journal_closed")
        fault, chance = self._fault(process, FAULTS)
        if fault is not None:
            self._see(process, f"{fault}: {what}", run_id, more=f"{note} [{self.points}]")
        if process is not None and fault in ("die", "stop"):
            await self._strike(process, fault, chance)
        there_s, back_s = self._delay(chance), self._delay(chance)
        if fault == "refuse":
            await asyncio.sleep(there_s)
            raise JournalUnavailable("It was not asked.")
        answer: asyncio.Future[T] = self.loop.create_future()
        answer.add_done_callback(_read, context=_OUTSIDE)  # nobody may be left who does
        question = _Question(process, what, run_id, work, note, answer, back_s, fault in ("lose", "late"))
        if fault == "late":
            self._later(there_s, partial(_give_up, answer))
            self._later(chance.choice((1.0, 10.0, 60.0)) * chance.random(), partial(self._arrive, question))
        else:
            self._later(there_s, partial(self._arrive, question))
        if process is not None and fault == "die sent":
            await self._strike(process, fault, chance)
        if process is not None and fault in ("die after", "stop after"):
            self._later(there_s, partial(self._hit, process, fault, chance))
        return await answer

    def _arrive(self, question: _Question) -> None:
        """The question has come to the database."""
        if self.finished:
            return
        process, what, note = question.process, question.what, question.note
        reply: Callable[[], None]
        try:
            found = _at_once(question.work())
        except WeftError as error:
            if what in _TOLD:
                self._see(process, f"{what} refused", question.run_id, more=f"{note} ({error.problem.code})")
            reply = partial(_raise_in, question.answer, error)
        else:
            if what in _TOLD:
                self._see(process, what, question.run_id, more=note)
            reply = partial(_answer, question.answer, found)
        self._later(question.back_s, partial(_give_up, question.answer) if question.is_lost else reply)

    def _later(self, delay_s: float, work: Callable[[], object]) -> None:
        """Let something happen that no process does."""
        self.loop.call_later(delay_s, work, context=_OUTSIDE)

    def _delay(self, chance: random.Random) -> float:
        if chance.random() < self.chaos.slow:
            return chance.random() * 5.0
        return chance.random() * 0.01

    # ---- what the world does by itself
    def _turn(self) -> None:
        rng = self.rng
        while len(self.processes) < self.most_processes and (not self.processes or rng.random() < 0.5):
            self._new_process()
        live = [process for process in self.processes if process.lives and not process.stopping]
        for process in self.processes:
            if process.lives and process.stopping and not process.driver.live and not process.frozen.tasks:
                self.store.alive.discard(process.name)
        self.processes = [each for each in self.processes if not (each.stopping and each.name not in self.store.alive)]
        if not live:
            return
        if len(live) > 1 and rng.random() < self.chaos.drains:
            self._drain(rng.choice(live))
            return
        for run_id in list(self.store.runs):
            self._tend(run_id, live)
        for process in live:
            self._attend(process)

    def _new_process(self) -> None:
        process = Process(self, f"p{len(self.processes) + len(self._past) + 1}-{self.points}")
        self.processes.append(process)
        self.store.alive.add(process.name)

    def _drain(self, process: Process) -> None:
        process.stopping = True
        self._past.append(process)
        at_once = self.rng.random() < 0.5
        self._see(process, "stop now" if at_once else "stop at the next boundary")
        (process.driver.stop_now if at_once else process.driver.stop)()

    def _tend(self, run_id: str, live: list[Process]) -> None:
        rng, status = self.rng, self.store.runs[run_id].status
        owner = next((each for each in self.processes if each.name == status.owner), None)
        match status.state:
            case "ready" if rng.random() < 0.6:
                self._deliver(run_id, live)
            case "running" if status.owner not in self.store.alive:
                for process in rng.sample(live, min(len(live), rng.randint(1, 2))):
                    self._try(process, partial(process.journal.release, run_id, ends=status.epoch))
            case "running" if owner is not None and owner.lives and not owner.in_hand[run_id]:
                owner.astray[run_id, status.epoch] += 1
                if owner.astray[run_id, status.epoch] > 60:
                    self._try(owner, partial(owner.journal.release, run_id, ends=status.epoch))
            case "waiting" if status.wake_at is not None and status.wake_at <= self.now():
                process = rng.choice(live)
                self._try(process, partial(process.journal.wake, 10))
            case "parked" if status.reason is not None and json.loads(status.reason)["code"] == "poison":
                self._do(self._insist(lambda: self.person.resume(run_id)))
        if rng.random() < 0.03 * bool(self.chaos.rate):
            self._deliver(run_id, live)  # of nothing that is ready
        self._answer_for(run_id)

    def _deliver(self, run_id: str, live: list[Process]) -> None:
        alone = self.store.runs[run_id].status.crashes >= CRASHES_TOGETHER and self.rng.random() < 0.5
        for process in self.rng.sample(live, min(len(live), self.rng.choice((1, 1, 2)))):
            self._try(process, partial(process.driver.advance, run_id, alone=alone), run_id)

    def _try(self, process: Process, work: Callable[[], Awaitable[Any]], run_id: str = "") -> None:
        """Let a process do something that may fail when the journal is away, or somebody was faster."""

        async def attempt() -> None:
            await asyncio.sleep(self.rng.choice((0.0, 0.01, 0.5)))
            try:
                await work()
            except (JournalUnavailable, JournalRefused, NotFound) as error:
                if isinstance(error, JournalUnavailable) or error.problem.code in _FASTER:
                    return
                self.wrong.append(f"{process.name} raised {error.problem}")

        process.in_hand[run_id] += 1

        def done(task: asyncio.Task[Any]) -> None:
            process.in_hand[run_id] -= 1
            if not task.cancelled() and task.exception() is not None and not self.finished:
                self.wrong.append(f"{process.name} raised {task.exception()!r}")

        process.frozen.spawn(attempt()).add_done_callback(done)

    def _attend(self, process: Process) -> None:
        """Tell a driver once of each piece of news, as the keeper does."""
        news = {
            run_id: run.status.news
            for run_id, run in self.store.runs.items()
            if run.status.state == "running" and run.status.owner == process.name and run.status.news
        }
        process.told = {run_id: number for run_id, number in process.told.items() if run_id in news}
        for run_id, number in news.items():
            if number > process.told.get(run_id, 0) and run_id in process.driver.live and self.rng.random() < 0.5:
                process.told[run_id] = number
                process.frozen.context.copy().run(process.driver.notice, run_id)

    # ---- people
    async def _order(self, order: Order) -> None:
        document = await MemoryJournal.keep_document(self.person, order.text)
        gate = gate_of(compiler(order.text), RunFacts(order.run_id, self.now(), {"k": order.k}))
        row = RunRow(order.run_id, "random", document, encode({"k": order.k}), "null", self.now(), gate=gate)
        self._do(self._cancel(order))
        if order.foreground:
            while not self.processes:
                await asyncio.sleep(0.1)
            process = self.rng.choice(self.processes)
            self._try(process, partial(process.driver.start, row, compiler(order.text)), order.run_id)
            await asyncio.sleep(5)
        while order.run_id not in self.store.runs:
            try:
                await self.person.submit(row)
            except JournalUnavailable:
                await asyncio.sleep(1)
            except JournalRefused:
                return

    async def _cancel(self, order: Order) -> None:
        for after_s in order.cancels:
            await asyncio.sleep(after_s)
            while order.run_id not in self.store.runs:
                await asyncio.sleep(0.1)
            await self._insist(lambda: self.person.cancel(order.run_id))

    def _cancel_all(self) -> None:
        for run_id, run in list(self.store.runs.items()):
            if run.row.parent is None and run.status.state not in ENDS:
                self._see(None, "cancel", run_id)
                _at_once(MemoryJournal.cancel(self.person, run_id))

    async def _insist(self, work: Callable[[], Awaitable[Any]]) -> None:
        while True:
            try:
                await work()
            except JournalUnavailable:
                await asyncio.sleep(0.3)
            except (JournalRefused, NotFound):
                return
            else:
                return

    def _answer_for(self, run_id: str) -> None:
        for record in self.store.runs[run_id].records.values():
            if record.kind == "waits" and (run_id, record.path, record.n) not in self._answers:
                self._answers.add((run_id, record.path, record.n))
                facts = json.loads(record.payload)
                if "child" not in facts:
                    deadline = facts["deadline"]
                    self._do(self._say(run_id, record, None if deadline is None else deadline - self.now()))

    async def _say(self, run_id: str, asked: Record, left_s: float | None) -> None:
        order = self._order_of(run_id)
        if order.answers is not None:
            answer = order.answers.get(run_id, {}).get((asked.path, -asked.n))
            if answer is None and left_s is not None:
                return
        else:
            if left_s is not None and self.rng.random() < 0.3:
                return
            answer = {"answer": "reject" if self.rng.random() < 0.2 else "approve", "by": f"someone-{asked.path}"}
            await asyncio.sleep(max(0.0, (8.0 if left_s is None else left_s * 1.2) * self.rng.random()))
        answer = answer or {"answer": "approve", "by": "someone"}
        await self._insist(lambda: self.person.signal(run_id, asked.path, encode(answer)))

    # ---- what is seen
    def _see(self, process: Process | None, what: str, run_id: str = "", more: str = "") -> None:
        name = process.name if process else "person"
        self.log.append(Seen(self.loop.time(), name, what, run_id, more=more))

    def saw(self, process: Process, what: str, call: Call, more: str = "") -> None:
        if not self.finished:
            told = "repeated " if call.repeated else ""
            self.log.append(
                Seen(self.loop.time(), process.name, what, call.run_id, call.path, call.number, told + more)
            )

    def begins(self, process: Process, call: Call) -> None:
        """An attempt begins: everything that must be so at this instant is looked at."""
        if self.finished:
            return
        self.saw(process, "begin", call)
        run = self.store.runs[call.run_id]
        sends = call.step.uses == "send"
        owns = self._owns(process, call.run_id)
        at = f"{process.name} {call.run_id}{call.path}#{call.number}"
        if any((call.path, call.number, kind) in run.records for kind in OUTCOMES) and (owns or sends):
            self.wrong.append(f"performed again, though on record: {at}")
        if owns and _is_late(call.path, self.rang[process.name, call.run_id, run.status.epoch]):
            self.wrong.append(f"begun after its time was up: {at}")
        if sends and (call.path, call.number, "begun") not in run.records:
            self.wrong.append(f"a send began before that was on record: {at}")
        if not owns:
            if sends:
                self.wrong.append(f"a send began without the run: {at}")
            return
        self.begun[call.run_id, call.path, call.number, run.status.epoch] += 1
        if self.begun[call.run_id, call.path, call.number, run.status.epoch] > 1:
            self.wrong.append(f"begun twice under one claim: {at}")
        if self._knows.get((process.name, call.run_id), 0) and not call.path.startswith("/@finally"):
            self.wrong.append(f"begun after a cancel: {at}")
        if self._knows.get((process.name, call.run_id), 0) > 1:
            self.wrong.append(f"begun after a second cancel: {at}")
        for path, n in self.ended[process.name, call.run_id, run.status.epoch]:
            known = any((path, n, kind) in run.records for kind in OUTCOMES)
            if not known and depends(self.document(call.run_id), call.path, path):
                self.wrong.append(f"begun ahead of the record of {path}#{n}: {at}")

    def document(self, run_id: str) -> Document:
        """The document that a run follows, a child run too."""
        return document_of(self.store.documents[self.store.runs[run_id].row.document])

    def _order_of(self, run_id: str) -> Order:
        """The order that a run goes back to: its own, or that of whoever has started it."""
        while (parent := self.store.runs[run_id].row.parent) is not None:
            run_id = parent.run_id
        return self._orders[run_id]

    def _owns(self, process: Process, run_id: str) -> bool:
        status = self.store.runs[run_id].status
        return (status.state, status.owner, status.epoch) == ("running", process.name, _EPOCH.get())

    def affects(self, process: Process, call: Call) -> None:
        """An effect happens: only the owner has it, and tells if it may not be the first."""
        if self.finished:
            return
        at = f"{process.name} {call.run_id}{call.path}#{call.number}"
        if not self._owns(process, call.run_id):
            self.wrong.append(f"an effect without the run: {at}")
        origin = without_tries(call.path)
        if self._affected[call.run_id, origin] and not call.repeated:
            self.wrong.append(f"an unmarked copy of an effect: {at}")
        if self._affected[call.run_id, origin] and call.step.at_most_once and not self._is_allowed(call):
            self.wrong.append(f"a second effect of what is to happen at most once: {at}")
        self._affected[call.run_id, origin] += 1
        self._dotted[process.name, call.run_id, origin] = 1
        self.saw(process, "effect", call)

    def _is_allowed(self, call: Call) -> bool:
        """Whether somebody was asked after the attempt before this one, and has said that it be made."""
        answer = self.store.runs[call.run_id].records.get((call.path, call.number - 1, "signal"))
        return answer is not None and json.loads(answer.payload)["answer"] == "approve"

    def ends(self, process: Process, call: Call, outcome: Outcome) -> None:
        """An attempt has ended; one that has proved that nothing happened was no effect."""
        if self.finished:
            return
        self.saw(process, "end", call, outcome.state)
        self.ended[process.name, call.run_id, _EPOCH.get()].append((call.path, call.number))
        if outcome.failure is not None and outcome.failure.effect == "none":
            origin = without_tries(call.path)
            self._affected[call.run_id, origin] -= self._dotted.pop((process.name, call.run_id, origin), 0)

    def written(self, process: Process | None, claim: Claim, news: int) -> None:
        """A write was accepted."""
        assert process is not None
        run = self.store.runs[claim.run_id]
        if run.status.owner != process.name or run.status.epoch != claim.epoch:
            self.wrong.append(f"written without the run: {process.name} {claim.run_id}")
        told = [record for record in run.records.values() if record.kind in NEWS]
        self.knows(process, claim.run_id, told[:news])

    def has_ended(self, run_id: str) -> None:
        """A run has ended: so have its children, unless it was to end at once."""
        at_once = ("", 2, "cancel") in self.store.runs[run_id].records
        for run in self.store.runs.values():
            parent = run.row.parent
            if parent is not None and parent.run_id == run_id and run.status.state in OPEN and not at_once:
                self.wrong.append(f"{run_id} has ended before {run.row.id}")

    def knows(self, process: Process | None, run_id: str, records: Iterable[Record]) -> None:
        """A process has learned of the cancels among these records."""
        assert process is not None
        self._knows[process.name, run_id] = sum(record.kind == "cancel" for record in records)

    def _at_rest(self) -> bool:
        runs = self.store.runs
        return sum(run.row.parent is None for run in runs.values()) == len(self.orders) and all(
            run.status.state in ENDS or (run.status.state == "parked" and "poison" not in str(run.status.reason))
            for run in runs.values()
        )

    def _say_what_is_left(self) -> None:
        for run_id in {*(order.run_id for order in self.orders), *self.store.runs}:
            run = self.store.runs.get(run_id)
            if run is None or run.status.state not in ENDS:
                self.wrong.append(f"{run_id} is left: {run and run.status}")


@dataclass(frozen=True, slots=True)
class _Question:
    """On its way to the journal."""

    process: Process | None
    what: str
    run_id: str
    work: Callable[[], Awaitable[Any]]
    note: str
    answer: asyncio.Future[Any]
    back_s: float
    is_lost: bool  #: the answer


def _is_late(path: str, rang: Collection[str]) -> bool:
    """Tell whether the time of something that a step is part of is up."""
    outer, after = path, ""
    while outer:
        steps = {outer, outer.rpartition("[")[0] if outer.endswith("]") else outer}
        if after != "@on_error" and any(step in rang for step in steps if _is_step(step)):
            return True
        outer, _, after = outer.rpartition("/")
    return "" in rang and not path.startswith("/@")


def _is_step(path: str) -> bool:
    """Tell whether a path is that of a step, not of a try of it, whose pause before it has the same number."""
    return re.search(r"/@\d+$", path) is None


_TOLD = frozenset({"write", "release", "claim", "signal", "cancel", "submit", "accept", "resume"})
"""Questions that stand in the log."""

_FASTER = frozenset({"another_owner", "has_ended", "not_ready", "known_run", "unknown_run"})
"""Refusals that mean that somebody else was faster."""


_EPOCH: Final[contextvars.ContextVar[int]] = contextvars.ContextVar("epoch")
"""Of the claim under which something is done: whoever claims hands it on to all that follows from it."""

_OUTSIDE: Final = contextvars.Context()
"""Of what happens in no process."""


def _at_once(work: Awaitable[T]) -> T:
    """Return what a coroutine returns that never waits."""
    coroutine: Any = work
    try:
        coroutine.send(None)
    except StopIteration as end:
        found: T = end.value
        return found
    raise AssertionError("the journal in memory waited")


def _answer(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _raise_in(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _give_up(future: asyncio.Future[Any]) -> None:
    _raise_in(future, JournalUnavailable("Nobody knows whether it was kept."))


def _read(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()

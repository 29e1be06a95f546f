"""Whatever is done to them, all journals give the same answers."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from servers.journals import Clock, waits
from servers.postgres import Postgres

from weft.errors import JournalRefused, NotFound
from weft.journal.base import (
    Claim,
    Ended,
    Gate,
    Journal,
    Listed,
    Meter,
    Occurrence,
    OccurrenceQuery,
    Parent,
    Record,
    Rest,
    RunQuery,
    RunRow,
    Schedule,
    ScheduleMove,
    ScheduleView,
    Settled,
    Then,
)
from weft.journal.memory import MemoryJournal
from weft.journal.postgres import PostgresJournal
from weft.journal.sqlite import SqliteJournal

IDS = st.sampled_from([0, 0, 0, 0, 1, 2])
"""Which run: counted back from the youngest, which most of what happens is about."""

GATES = st.sampled_from(
    [None, None, Gate("k", 1, "queue"), Gate("k", 2, "queue"), Gate("k", 1, "skip"), Gate("k", 1, "cancel")]
)
METERS = st.lists(
    st.one_of(
        st.builds(Meter, st.just("all"), st.integers(0, 3), st.just(9)),
        st.builds(Meter, st.sampled_from(["a", "b"]), st.integers(0, 3), st.just(3), st.sampled_from([1.1, 4.7])),
        st.builds(Meter, st.just("live"), st.just(1), st.just(1), live=st.just(True)),
    ),
    min_size=1,
    max_size=3,
)
SETTLED = st.lists(
    st.builds(
        Settled,
        st.just("/a"),
        st.integers(1, 2),
        st.dictionaries(st.sampled_from(["all", "a", "live", "none"]), st.integers(0, 9)),
    ),
    max_size=1,
)
TRIGGERS = st.sampled_from(["null", "{}"])
RECORDS = st.lists(
    st.one_of(
        st.builds(
            Record,
            st.sampled_from(["/a", "/ask"]),
            st.integers(1, 2),
            st.sampled_from(["begun", "succeeded", "rang"]),
            st.sampled_from(["1", "[22]"]),
        ),
        st.builds(waits, n=st.integers(1, 2), deadline=st.sampled_from([None, 1_000_005.0])),
    ),
    max_size=3,
)
THENS: st.SearchStrategy[Then] = st.sampled_from(
    [
        None,
        None,
        None,
        Ended("succeeded", "{}"),
        Ended("failed", "[1]", doubt=True),
        Rest("ready"),
        Rest("waiting", wake_at=1_000_004.0),
        Rest("waiting"),
        Rest("parked", reason='{"code":"x"}'),
    ]
)


class Alike(RuleBasedStateMachine):
    """The same calls to two journals, each used by two processes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp())
        self.clock = Clock()
        memory = MemoryJournal("m0", clock=self.clock)
        self.processes: list[tuple[Journal, Journal]] = [
            (memory, self.other()),
            (MemoryJournal("m1", clock=self.clock, beside=memory), self.other()),
        ]
        for pair in self.processes:
            for journal in pair:
                self.loop.run_until_complete(journal.open())
        self.claims: list[tuple[Claim, Claim]] = []
        self.document, self.young = "of no run", 0

    def other(self) -> Journal:
        """Return a journal of the kind that is compared with the one in memory."""
        return SqliteJournal(self.directory / "journal.db", clock=self.clock)

    def teardown(self) -> None:
        for pair in self.processes:
            for journal in pair:
                self.loop.run_until_complete(journal.close())
        self.loop.close()
        shutil.rmtree(self.directory)

    # ---- asking both
    def both(self, process: int, *calls: Callable[[Journal], Awaitable[Any]]) -> tuple[Any, Any]:
        """Make a call to both journals (or one each), and return the answers, which must be alike."""
        first, second = (
            self.loop.run_until_complete(self.answer(journal, call))
            for journal, call in zip(self.processes[process], (calls[0], calls[-1]), strict=True)
        )
        assert self.seen(first) == self.seen(second)
        return first, second

    async def answer(self, journal: Journal, call: Callable[[Journal], Awaitable[Any]]) -> Any:
        try:
            return await call(journal)
        except (JournalRefused, NotFound) as refusal:
            return refusal

    def seen(self, answer: Any) -> Any:
        """What of an answer has to be equal: not the random tokens, not the names of processes."""
        match answer:
            case JournalRefused() | NotFound():
                return type(answer), answer.problem
            case Claim():
                return replace(answer, token="")
            case Listed():
                names = {journal.name: number for number, pair in enumerate(self.processes) for journal in pair}
                owner = answer.status.owner and str(names[answer.status.owner])
                return replace(answer, status=replace(answer.status, owner=owner))
            case list():
                return [self.seen(each) for each in answer]
        return answer

    def keep(self, claims: tuple[Any, Any]) -> None:
        if isinstance(claims[0], Claim):
            self.claims.append(claims)

    def run(self, back: int) -> str:
        return f"r{max(0, self.young - back)}"

    # ---- what may happen
    @initialize()
    def begin(self) -> None:
        self.document, _ = self.both(0, lambda journal: journal.keep_document("zero"))

    @rule(process=st.integers(0, 1), text=st.sampled_from(["one", "two"]))
    def keep_document(self, process: int, text: str) -> None:
        self.document, _ = self.both(process, lambda journal: journal.keep_document(text))

    def row(self, run_id: str, trigger: str, **facts: Any) -> RunRow:
        return RunRow(run_id, "w", self.document, "{}", trigger, self.clock.now, **facts)

    @rule(process=st.integers(0, 1), back=st.sampled_from([-1, -1, 0]), trigger=TRIGGERS, records=RECORDS)
    def accept(self, process: int, back: int, trigger: str, records: list[Record]) -> None:
        run_id = self.run(back)
        self.young += back == -1
        self.keep(self.both(process, lambda journal: journal.accept(self.row(run_id, trigger), *records)))

    @rule(process=st.integers(0, 1), back=st.sampled_from([-1, -1, 0]), trigger=TRIGGERS, gate=GATES)
    def submit(self, process: int, back: int, trigger: str, gate: Gate | None) -> None:
        run_id = self.run(back)
        self.young += back == -1
        self.both(process, lambda journal: journal.submit(self.row(run_id, trigger, gate=gate)))

    @precondition(lambda self: self.claims)
    @rule(back=st.sampled_from([1, 1, 2]), gates=st.lists(GATES, min_size=1, max_size=2), twice=st.booleans())
    def call(self, back: int, gates: list[Gate | None], twice: bool) -> None:
        """Let a run begin children."""
        mine = self.claims[-min(back, len(self.claims))]
        listed, _ = self.both(0, lambda journal: journal.status(mine[0].run_id))
        news = listed.status.news if isinstance(listed, Listed) else 0
        ids = [f"r{self.young + 1 + number}" for number in range(len(gates))]
        self.young += len(gates)
        children = [
            self.row(run_id, "{}", gate=gate, parent=Parent(mine[0].run_id, "/ask", self.young + number))
            for number, (run_id, gate) in enumerate(zip(ids, gates, strict=True))
        ]
        records = [waits(n=self.young + number) for number in range(len(gates))]
        for _ in range(1 + twice):
            self.both(
                0,
                *(
                    lambda journal, claim=claim: journal.write(claim, news, records, Rest("waiting"), children=children)
                    for claim in mine
                ),
            )

    @precondition(lambda self: self.claims)
    @rule(back=st.sampled_from([1, 1, 2]), n=st.integers(1, 2), meters=METERS, twice=st.booleans())
    def hold(self, back: int, n: int, meters: list[Meter], twice: bool) -> None:
        mine = self.claims[-min(back, len(self.claims))]
        listed, _ = self.both(0, lambda journal: journal.status(mine[0].run_id))
        news = listed.status.news if isinstance(listed, Listed) else 0
        begun = Record("/a", n, "begun", "1")
        for _ in range(1 + twice):
            self.both(0, *(lambda journal, claim=claim: journal.hold(claim, news, begun, meters) for claim in mine))

    @rule(
        process=st.integers(0, 1),
        id_=st.sampled_from(["s", "t"]),
        document=st.booleans(),
        fire_in=st.sampled_from([None, 0.0, 4.0]),
        flags=st.tuples(st.booleans(), st.booleans()),
        decided=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["fired", "missed"])), max_size=2),
        gate=GATES,
        cancels=st.booleans(),
    )
    def schedule(self, process: int, id_: str, decided: list[tuple[str, Any]], cancels: bool, **facts: Any) -> None:
        """Decide about a schedule; some decisions are refused whole."""
        now = self.clock.now
        document = self.document if facts["document"] else "0" * 64
        starts = [
            self.row(f"{id_}{key}", "{}", schedule=id_, gate=facts["gate"]) for key, fate in decided if fate == "fired"
        ]
        fire_at = None if facts["fire_in"] is None else now + facts["fire_in"]
        views: list[Any] = []

        def think(view: ScheduleView) -> ScheduleMove:
            views.append(self.seen([view.schedule, view.now, list(view.open), view.known]))
            paused, retired = (each and id_ == "t" for each in facts["flags"])
            schedule = Schedule(id_, "w", "here", "{}", document, now - 1.0, fire_at, fire_at, paused, retired)
            return ScheduleMove(
                schedule,
                [Occurrence(id_, key, now - ord(key) % 3, fate, now) for key, fate in decided],
                starts,
                [run.row.id for run in view.open] if cancels else [],
            )

        self.both(process, lambda journal: journal.schedule(id_, think, ("a", "b", "z")))
        assert views[0] == views[1]

    @rule(process=st.integers(0, 1), back=IDS, alone=st.booleans())
    def claim(self, process: int, back: int, alone: bool) -> None:
        self.keep(self.both(process, lambda journal: journal.claim(self.run(back), alone=alone)))

    @rule(process=st.integers(0, 1), back=IDS, off=st.sampled_from([0, 0, 0, 1]))
    def release(self, process: int, back: int, off: int) -> None:
        listed, _ = self.both(process, lambda journal: journal.status(self.run(back)))
        ends = off + (listed.status.epoch if isinstance(listed, Listed) else 0)
        self.both(process, lambda journal: journal.release(self.run(back), ends=ends))

    @precondition(lambda self: self.claims)
    @rule(
        back=st.sampled_from([1, 1, 1, 2]),
        news=st.sampled_from([0, 0, 0, -1]),
        records=RECORDS,
        then=THENS,
        settled=SETTLED,
        twice=st.booleans(),
    )
    def write(self, back: int, news: int, records: list[Record], then: Then, *, settled: Any, twice: bool) -> None:
        mine = self.claims[-min(back, len(self.claims))]
        listed, _ = self.both(0, lambda journal: journal.status(mine[0].run_id))
        known = listed.status.news if isinstance(listed, Listed) else 0
        for _ in range(1 + twice):
            self.both(
                0,
                *(
                    lambda journal, claim=claim: journal.write(
                        claim, max(0, known + news), records, then, settled=settled
                    )
                    for claim in mine
                ),
            )

    @rule(process=st.integers(0, 1), back=IDS)
    def cancel(self, process: int, back: int) -> None:
        self.both(process, lambda journal: journal.cancel(self.run(back)))

    @rule(process=st.integers(0, 1), back=IDS, payload=st.sampled_from(["1", "2"]))
    def signal(self, process: int, back: int, payload: str) -> None:
        self.both(process, lambda journal: journal.signal(self.run(back), "/ask", payload))

    @rule(process=st.integers(0, 1), back=IDS)
    def resume(self, process: int, back: int) -> None:
        self.both(process, lambda journal: journal.resume(self.run(back)))

    @rule(process=st.integers(0, 1), only=st.one_of(st.none(), IDS))
    def wake(self, process: int, only: int | None) -> None:
        self.both(process, lambda journal: journal.wake(2, only=None if only is None else self.run(only)))

    @rule(process=st.integers(0, 1), back=IDS, content=st.binary(max_size=2))
    def save_artifact(self, process: int, back: int, content: bytes) -> None:
        self.both(
            process, lambda journal: journal.save_artifact(self.run(back), content, name="x", content_type="text/plain")
        )

    @rule(process=st.integers(0, 1), age=st.sampled_from([0.0, 2.0]))
    def purge(self, process: int, age: float) -> None:
        self.both(process, lambda journal: journal.purge(self.clock.now - age, limit=2))

    @rule(seconds=st.sampled_from([0.5, 3.0]))
    def sleep(self, seconds: float) -> None:
        self.clock.now += seconds

    # ---- what is then seen
    @invariant()
    def everything_is_alike(self) -> None:
        for process in (0, 1):
            self.both(process, lambda journal: journal.attention())
        for run_id in (self.run(0), self.run(1)):
            self.both(1, lambda journal, run_id=run_id: journal.load(run_id))
        for query in (
            RunQuery(),
            RunQuery(workflow="w", states=("ready", "failed"), limit=1),
            RunQuery(text="R1"),
            RunQuery(schedule="s"),
            RunQuery(parent=self.run(2)),
        ):
            self.both(0, lambda journal, query=query: journal.runs(query))
        keys = ("all", "a", "b", "live", "none")
        self.both(0, lambda journal: journal.used(keys))
        self.both(0, lambda journal: journal.used(keys, since=self.clock.now - 2.0))
        self.both(0, lambda journal: journal.schedules())
        self.both(0, lambda journal: journal.due(1))
        self.both(0, lambda journal: journal.next_due())
        for asked in (OccurrenceQuery(), OccurrenceQuery(workflow="w", fates=("missed",), limit=2)):
            self.both(0, lambda journal, asked=asked: journal.occurrences(asked))
        since = self.clock.now - 1.0
        self.both(0, lambda journal: journal.occurrences(OccurrenceQuery(schedule="s", since=since, until=since + 1)))
        self.both(0, lambda journal: journal.unfinished())
        self.both(0, lambda journal: journal.ready(2, for_s=1.0))
        self.both(0, lambda journal: journal.next_wake())
        self.both(0, lambda journal: journal.document(self.document))


class AlikeThere(Alike):
    """The same of a database whose clock is the one of the machine: in its search path it comes before PostgreSQL's own."""

    address: ClassVar[str]

    def __init__(self) -> None:
        with psycopg.connect(self.address, autocommit=True) as connection:
            found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'weft'").fetchall()
            if tables := ", ".join(f"weft.{name}" for (name,) in found if name != "version"):
                connection.execute(f"TRUNCATE {tables}".encode())
        self.shown = 0.0
        super().__init__()

    def other(self) -> Journal:
        return PostgresJournal(self.address)

    def both(self, process: int, *calls: Callable[[Journal], Awaitable[Any]]) -> tuple[Any, Any]:
        if self.shown != self.clock.now:
            self.shown = self.clock.now
            with psycopg.connect(self.address, autocommit=True) as connection:
                connection.execute("UPDATE clock.shows SET at = %s", (self.shown,))
        return super().both(process, *calls)


CLOCK = """
CREATE SCHEMA clock;
CREATE TABLE clock.shows(at double precision);
INSERT INTO clock.shows VALUES (1000000.0);
CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz STABLE LANGUAGE sql
    AS 'SELECT pg_catalog.to_timestamp(at) FROM clock.shows';
CREATE FUNCTION clock.now() RETURNS timestamptz STABLE LANGUAGE sql
    AS 'SELECT pg_catalog.to_timestamp(at) FROM clock.shows';
"""


def test_memory_and_database_are_alike(postgres_server: Postgres) -> None:
    """Random calls by two processes get the same answers from the journal in memory and the one in a database."""
    AlikeThere.address = postgres_server.database()
    with psycopg.connect(AlikeThere.address, autocommit=True) as connection:
        connection.execute(CLOCK)
        connection.execute(
            f"ALTER DATABASE {connection.info.dbname} SET search_path = clock, pg_catalog, public".encode()
        )
    run_state_machine_as_test(
        AlikeThere,
        settings=settings(
            max_examples=8,
            stateful_step_count=30,
            deadline=None,
            phases=[Phase.reuse, Phase.generate],  # to make an example small takes minutes here
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_memory_and_file_are_alike() -> None:
    """Random calls by two processes get the same answers from the journal in memory and the one in a file."""
    run_state_machine_as_test(
        Alike,
        settings=settings(
            max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )

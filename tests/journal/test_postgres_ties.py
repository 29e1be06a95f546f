"""Runs that are tied to others, on PostgreSQL: locks in one order, one job for each that becomes ready, no cost for others."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Literal

import psycopg
import pytest
from servers.postgres import Postgres

from weft.errors import JournalBehind, JournalRefused
from weft.journal import postgres_link, postgres_schema, postgres_turn
from weft.journal.base import (
    OPEN,
    Claim,
    Ended,
    Full,
    Gate,
    Meter,
    Parent,
    Record,
    Rest,
    RunQuery,
    RunRow,
    Schedule,
    ScheduleMove,
    Settled,
)
from weft.journal.postgres import PostgresJournal
from weft.journal.postgres_needs import locking
from weft.journal.restoring import hold

Opener = Callable[..., Awaitable[PostgresJournal]]
DONE = Ended("succeeded", "{}")


@pytest.fixture
def address(postgres_server: Postgres) -> str:
    """An empty database."""
    return postgres_server.database()


@pytest.fixture
async def opened(address: str) -> AsyncIterator[Opener]:
    """Journals on one database, as if each were a process of its own."""
    journals: list[PostgresJournal] = []

    async def one(**settings: Any) -> PostgresJournal:
        journal = PostgresJournal(address, **{"dead_s": 5.0, **settings})
        journals.append(journal)
        await journal.open()
        return journal

    yield one
    for journal in journals:
        await journal.close()


async def row(journal: PostgresJournal, run_id: str, **facts: Any) -> RunRow:
    return RunRow(run_id, "w", await journal.keep_document('{"steps":[]}'), "{}", "null", 12.5, **facts)


def called(path: str) -> Record:
    return Record(path, 1, "waits", '{"at":0.0,"deadline":null,"child":"c"}')


def asked(address: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(address, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


class Jobs:
    """A job engine: it counts what was enqueued in transactions that were committed."""

    def __init__(self, address: str) -> None:
        self._address = address
        asked(address, "CREATE TABLE jobs(run_id text)")

    async def enqueue(self, connection: psycopg.AsyncConnection[Any], run_ids: Sequence[str]) -> None:
        for run_id in run_ids:
            await connection.execute("INSERT INTO jobs VALUES (%s)", (run_id,))

    def made(self) -> Counter[str]:
        return Counter(run_id for (run_id,) in asked(self._address, "SELECT run_id FROM jobs"))


# ---- jobs
async def test_each_way_in_which_one_run_makes_another_ready_is_one_job(opened: Opener, address: str) -> None:
    """Through a gate, from its queue, as a child, by the end of a child, by a schedule: one job in the same transaction."""
    jobs = Jobs(address)
    journal = await opened(enqueue=jobs.enqueue)
    gate = Gate("k", 1, "queue")
    await journal.submit(await row(journal, "first", gate=gate))
    await journal.submit(await row(journal, "second", gate=gate))
    assert jobs.made() == {"first": 1}
    await journal.write(await journal.claim("first"), 0, (), DONE)
    assert jobs.made() == {"first": 1, "second": 1}

    parent = await journal.accept(await row(journal, "parent"))
    child = await row(journal, "child", parent=Parent("parent", "/c"))
    await journal.write(parent, 0, [called("/c")], Rest("waiting"), children=[child])
    assert jobs.made() == {"first": 1, "second": 1, "child": 1}
    await journal.write(await journal.claim("child"), 0, (), DONE)
    assert jobs.made() == {"first": 1, "second": 1, "child": 1, "parent": 1}

    runs = [await row(journal, "fired", schedule="s"), await row(journal, "queued", schedule="s", gate=gate)]
    schedule = Schedule("s", "w", "", "{}", child.document, 1.0)
    await journal.schedule("s", lambda _: ScheduleMove(schedule, runs=runs, cancels=["queued"]))
    assert jobs.made() == {"first": 1, "second": 1, "child": 1, "parent": 1, "fired": 1}
    await journal.cancel("queued")
    assert jobs.made()["queued"] == 1


# ---- neighbours
async def test_who_is_refused_among_many_leaves_nothing_and_delays_nobody(opened: Opener) -> None:
    """In one transaction: skipped at a gate, behind, over budget, known already; the others are kept, once."""
    journal = await opened()
    gate = Gate("k", 1, "skip")
    claims = [await journal.accept(await row(journal, f"p{number}")) for number in range(4)]
    await journal.cancel("p1")
    fine = await row(journal, "fine", parent=Parent("p0", "/c"))
    lost = await row(journal, "lost", parent=Parent("p1", "/c"))
    taken = await row(journal, "p0", parent=Parent("p2", "/c"))
    also = await row(journal, "also lost", parent=Parent("p2", "/d"))
    meter = Meter("b", 2, 1)
    commits = journal.commits
    found = await asyncio.gather(
        journal.write(claims[0], 0, [called("/c")], children=[fine]),
        journal.write(claims[1], 0, [called("/c")], children=[lost]),
        journal.write(claims[2], 0, [called("/c"), called("/d")], children=[also, taken]),
        journal.hold(claims[3], 0, Record("/a", 1, "begun", "{}"), [meter]),
        *[journal.submit(await row(journal, f"g{number}", gate=gate)) for number in range(3)],
        return_exceptions=True,
    )

    assert [type(each) for each in found[:3]] == [type(None), JournalBehind, JournalRefused]
    assert found[3] == Full("b", 0, 1)
    assert [type(each) for each in found[4:]].count(JournalRefused) == 2
    assert journal.commits - commits <= 3
    kept = {each.row.id for each in await journal.runs(RunQuery())}
    assert kept == {"p0", "p1", "p2", "p3", "fine"} | (kept & {"g0", "g1", "g2"})
    assert len(kept) == 6
    assert asked(journal._address, "SELECT id FROM weft.states EXCEPT SELECT id FROM weft.runs") == []
    assert [len((await journal.load(f"p{number}")).records) for number in range(4)] == [1, 1, 0, 0]


# ---- what nobody asks for costs nothing
async def test_a_run_without_ties_is_asked_no_more_than_before(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its turns have no statement about gates, parents, children or meters; those of the others have."""
    journal = await opened()
    plain = await row(journal, "plain")
    tied = await row(journal, "tied", gate=Gate("k", 1, "queue"))
    sent: list[str] = []
    together = postgres_link.together

    async def heard(connection: Any, *statements: Any) -> Any:
        sent.extend(text for text, _ in statements)
        return await together(connection, *statements)

    monkeypatch.setattr(postgres_turn, "together", heard)

    def about_others() -> int:
        assert len(sent) > 5
        count = sum(any(word in text for word in ("advisory", "gate =", "family", "holds", "meters")) for text in sent)
        sent.clear()
        return count

    claim = await journal.accept(plain, Record("/a", 1, "begun", "{}"))
    await journal.write(claim, 0, [Record("/a", 1, "succeeded", "{}")], Rest("ready"))
    await journal.cancel("plain")
    await journal.write(await journal.claim("plain"), 1, (), DONE)
    assert about_others() == 0
    await journal.submit(tied)
    assert about_others() > 0


async def test_the_end_of_a_tied_run_is_one_turn(opened: Opener) -> None:
    """Who has claimed a run knows its gate and its parent: nothing has to be undone to lock them."""
    journal = await opened()
    parent = await journal.accept(await row(journal, "parent"))
    gate = Gate("k", 1, "queue")
    children = [await row(journal, f"c{number}", parent=Parent("parent", f"/{number}"), gate=gate) for number in (1, 2)]
    await journal.write(parent, 0, [called("/1"), called("/2")], children=children)
    claim = await journal.claim("c1")
    commits = journal.commits
    await journal.write(claim, 0, (), DONE)
    assert journal.commits - commits == 1
    assert await journal.ready(9) == ["c2"]


# ---- locks
@pytest.mark.timeout(60)
async def test_trees_gates_meters_and_schedules_of_several_processes_never_block_each_other(
    opened: Opener, address: str
) -> None:
    """Everything at once on the same few keys: no deadlock, no error, every run ends, gates and budgets are kept."""
    journals = [await opened(deadline_s=30.0) for _ in range(3)]
    chance = random.Random(7)
    gates = [Gate(f"g{number}", 2, "queue") for number in range(2)]
    inner = [
        Gate(f"inner{number}", 2, "queue") for number in range(2)
    ]  # a child before its parent's gate would wait for ever
    most = 400
    watching = asyncio.create_task(watch(address, 2))

    async def tree(number: int) -> None:
        journal = journals[number % 3]
        root = await row(journal, f"root{number}", gate=gates[number % 2])
        await journal.submit(root)

    async def fire(number: int) -> None:
        journal = journals[number % 3]
        run = await row(journal, f"fired{number}", schedule="s", gate=gates[number % 2])
        document = run.document
        open_: list[str] = []

        def think(view: Any) -> ScheduleMove:
            open_[:] = [each.row.id for each in view.open][:1]
            return ScheduleMove(Schedule("s", "w", "", "{}", document, float(number)), runs=[run], cancels=open_)

        await journal.schedule("s", think)

    async def work(journal: PostgresJournal, seed: int) -> None:
        mine = random.Random(seed)
        while await journal.unfinished():
            for run_id in await journal.ready(5):
                try:
                    claim = await journal.claim(run_id)
                except JournalRefused:
                    continue
                await advance(journal, claim, mine)
            await asyncio.sleep(0.002)

    async def advance(journal: PostgresJournal, claim: Claim, mine: random.Random) -> None:
        going_on = True
        while going_on:
            with contextlib.suppress(JournalBehind):
                going_on = await step(journal, claim, mine)

    async def step(journal: PostgresJournal, claim: Claim, mine: random.Random) -> bool:
        kept = await journal.load(claim.run_id)
        news = kept.status.news
        made = {record.path for record in kept.records}
        meters = [Meter(key, 1, most) for key in mine.sample(["m1", "m2", "m3"], 2)]
        if "/a!" not in made and await journal.hold(claim, news, Record("/a", 1, "begun", "{}"), meters) is None:
            settled = [Settled("/a", 1, {meter.key: 2 for meter in meters})]
            await journal.write(claim, news, [Record("/a!", 1, "choice", "{}")], settled=settled)
        if kept.row.parent is not None or "/c0" in made:
            await journal.write(claim, news, (), DONE)
            return False
        facts: dict[str, Any] = {"gate": inner[mine.randrange(2)]} if mine.random() < 0.3 else {}
        children = [
            await row(journal, f"{claim.run_id}.{n}", parent=Parent(claim.run_id, f"/c{n}"), **facts) for n in range(2)
        ]
        await journal.write(claim, news, [called("/c0"), called("/c1")], Rest("waiting"), children=children)
        return False

    await asyncio.gather(*(tree(number) for number in range(30)), *(fire(number) for number in range(10)))
    doing = [asyncio.create_task(work(journal, seed)) for seed, journal in enumerate(journals * 2)]
    await asyncio.gather(*(cancel(journals[n % 3], f"root{chance.randrange(30)}") for n in range(10)))
    await asyncio.gather(*doing)

    counts = dict(asked(address, "SELECT state, count(*) FROM weft.states GROUP BY state"))
    assert not counts.keys() & set(OPEN)
    assert await watching == []
    used = await journals[0].used(["m1", "m2", "m3"])
    held = dict(asked(address, "SELECT key, sum(amount)::int FROM weft.holds GROUP BY key"))
    assert used == held
    assert asked(address, "SELECT sum(deadlocks)::int FROM pg_stat_database") == [(0,)]


async def cancel(journal: PostgresJournal, run_id: str) -> None:
    with contextlib.suppress(JournalRefused):
        await journal.cancel(run_id)


async def watch(address: str, limit: int) -> list[tuple[Any, ...]]:
    """Return the gates that have let too many through, as seen now and then; those cancelled out of a queue aside."""
    wrong: list[tuple[Any, ...]] = []
    for _ in range(40):
        wrong += await asyncio.to_thread(
            asked,
            address,
            "SELECT gate, count(*) FROM weft.states AS s WHERE gate IS NOT NULL AND NOT queued"
            " AND state IN ('ready', 'running', 'waiting', 'parked') AND NOT EXISTS (SELECT FROM weft.records AS r"
            f" WHERE r.run_id = s.id AND r.path = '' AND r.kind = 'cancel') GROUP BY gate HAVING count(*) > {limit}",
        )
        await asyncio.sleep(0.02)
    return wrong


async def test_locks_are_taken_in_one_order(opened: Opener, address: str) -> None:
    """Gates by their numbers, then rows, then meters by their numbers: who waits for a row has the first only."""
    keys = [f"key {number}" for number in range(50)]
    for kinds in ("gate", "meter"):
        _, (_, numbers) = locking(kinds, keys, waits=True)
        assert numbers == sorted(numbers)
    journal = await opened()
    await journal.submit(await row(journal, "r", gate=Gate("k", 1, "queue")))
    claim = await journal.claim("r")
    assert await journal.hold(claim, 0, Record("/a", 1, "begun", "{}"), [Meter("m", 1, 1)]) is None
    with psycopg.connect(address) as foreign:
        foreign.execute("SELECT FROM weft.states WHERE id = 'r' FOR UPDATE")
        ending = asyncio.create_task(journal.write(claim, 0, (), DONE, settled=[Settled("/a", 1, {"m": 0})]))
        waiting = "SELECT true FROM pg_locks WHERE NOT granted"
        while not asked(address, waiting):
            await asyncio.sleep(0.01)
        advisory = (
            "SELECT (classid::bigint << 32) + objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted"
        )
        held = asked(address, advisory)
        foreign.rollback()
    await ending
    _, (_, [number]) = locking("gate", ["k"], waits=True)
    assert held == [(number,)]
    assert await journal.used(["m"]) == {"m": 0}


async def test_a_locked_gate_or_meter_delays_only_those_who_need_it(opened: Opener, address: str) -> None:
    """While another transaction has the lock of a key, everything else is written at once."""
    journal = await opened()
    claim = await journal.accept(await row(journal, "plain"))
    metered = await journal.accept(await row(journal, "metered"))
    with psycopg.connect(address) as foreign:
        wanted: list[tuple[Literal["gate", "meter"], str]] = [("gate", "k"), ("meter", "m")]
        for kind, key in wanted:
            text, values = locking(kind, [key], waits=True)
            foreign.execute(text.encode(), values)
        gated = asyncio.create_task(journal.submit(await row(journal, "gated", gate=Gate("k", 1, "queue"))))
        holding = asyncio.create_task(journal.hold(metered, 0, Record("/a", 1, "begun", "{}"), [Meter("m", 1, 1)]))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(0.5):
            await journal.write(claim, 0, [Record("/a", 1, "begun", "{}")])
            await journal.submit(await row(journal, "other", gate=Gate("other", 1, "queue")))
        assert not gated.done()
        assert not holding.done()
        foreign.rollback()
    await gated
    assert await holding is None


# ---- growth
async def test_what_is_asked_about_ties_does_not_grow_with_history(opened: Opener, address: str) -> None:
    """With 50,000 ended runs of one gate, parent, schedule and meter nothing that is asked reads a whole table."""
    journal = await opened()
    document = (await row(journal, "r")).document
    asked(
        address,
        "WITH new AS (INSERT INTO weft.runs SELECT 'old' || i, 'w', 'd', '{}', 'null', i FROM generate_series(1, 50000) AS i"
        " RETURNING id, started_at) INSERT INTO weft.states (id, started_at, state, epoch, token, born, owner, since,"
        " changed_at, schedule, parent, parent_path, parent_n, gate, gate_limit, gate_policy, gate_at)"
        " SELECT id, started_at, 'succeeded', 1, 't', 't', 'gone', started_at, started_at, 's', 'r', '/x', 1, 'k', 1,"
        " 'cancel', started_at FROM new;"
        "INSERT INTO weft.records SELECT id, '/a', 1, 'succeeded', 1, '{}', NULL FROM weft.runs;"
        "INSERT INTO weft.holds SELECT id, '/a', 1, 1, 'm', 1, started_at, 60, false FROM weft.runs;"
        "INSERT INTO weft.holds SELECT id, '/a', 1, 1, 'b', 1, started_at, NULL, false FROM weft.runs;"
        "INSERT INTO weft.meters VALUES ('b', 50000);"
        "INSERT INTO weft.occurrences SELECT 's', id, started_at, 'fired', started_at, NULL, id, 1 FROM weft.runs;"
        "ANALYZE",
    )
    notices: list[str] = []
    greet = journal._link._greet

    async def loud(connection: psycopg.AsyncConnection[Any]) -> None:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        await connection.execute("LOAD 'auto_explain'")
        for name, value in {"log_min_duration": "0", "log_level": "notice", "log_analyze": "off"}.items():
            await connection.execute(f"SET auto_explain.{name} = '{value}'".encode())
        await greet(connection)

    journal._link._greet = loud
    await journal._link.drop()
    gate = Gate("k", 1, "cancel")
    run = await row(journal, "fired", schedule="s", gate=gate)
    await journal.schedule("s", lambda _: ScheduleMove(Schedule("s", "w", "", "{}", document, 1.0), runs=[run]), ["k"])
    await journal.submit(await row(journal, "r", gate=gate))
    claim = await journal.claim("fired")
    child = await row(journal, "child", parent=Parent("fired", "/c"))
    await journal.write(claim, 1, [called("/c")], children=[child])
    meters = [Meter("m", 1, 9, 60.0), Meter("b", 1, 10**9), Meter("live", 1, 9, live=True)]
    assert await journal.hold(claim, 1, Record("/a", 1, "begun", "{}"), meters) is None
    await journal.cancel("child")
    await journal.write(claim, 1, (), DONE, settled=[Settled("/a", 1, {"b": 2})])
    assert await journal.ready(9) == ["child", "r"]
    assert await journal.used(["b", "live", "m"]) == {"b": 50_002, "live": 0, "m": 1}
    await journal.due(1)
    await journal.runs(RunQuery(schedule="s", limit=20))
    await journal.runs(RunQuery(parent="r", limit=20))
    texts = [notice.split("Query Text: ", 1)[1] for notice in notices if "Query Text: " in notice]
    scans = [text for text in texts if re.search("Seq Scan on (runs|states|records|holds|occurrences)", text)]
    assert len(texts) > 30
    assert scans == []


async def test_a_run_passes_its_gate_behind_many_that_are_held(opened: Opener, address: str) -> None:
    """A14: after a restore all that waited is held; whoever is let go on first goes on, however late it came."""
    journal = await opened()
    gate = Gate("k", 2, "queue")
    for number in range(63):
        await journal.submit(await row(journal, f"r{number:02}", gate=gate))
    await hold(address)
    for run_id in ("r00", "r01"):
        await journal.cancel(run_id)
        await journal.write(await journal.claim(run_id), 1, (), Ended("cancelled", "{}"))
    await journal.resume("r61")
    await journal.resume("r60")
    await journal.resume("r62")

    assert await journal.ready(9) == ["r61", "r60"]
    await journal.write(await journal.claim("r61"), 0, (), DONE)
    assert await journal.ready(9) == ["r60", "r62"]


# ---- versions
async def test_a_database_of_the_version_before_is_brought_on(
    opened: Opener, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of version 1 stay as they were, go on, and have no ties."""
    monkeypatch.setattr(postgres_schema, "NEWEST", 1)
    connection = await psycopg.AsyncConnection.connect(address, autocommit=True)
    await postgres_schema.migrate(connection)
    await connection.close()
    asked(
        address,
        "INSERT INTO weft.documents VALUES ('d', '{}');"
        "INSERT INTO weft.runs VALUES ('old', 'w', 'd', '{}', 'null', 12.5);"
        "INSERT INTO weft.states (id, started_at, state, epoch, token, born, owner, since, changed_at)"
        " VALUES ('old', 12.5, 'ready', 0, 't', 't', '', 1, 1)",
    )
    monkeypatch.undo()
    journal = await opened()
    assert (await journal.status("old")).row == RunRow("old", "w", "d", "{}", "null", 12.5)
    await journal.write(await journal.claim("old"), 0, (), DONE)

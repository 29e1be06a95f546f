"""What is special to the journal in PostgreSQL, on a real server: locks, outages, silence, clocks, other owners.

The server's default isolation is `repeatable read` here (rule A25).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers.postgres import Postgres
from servers.tcp_proxy import TcpProxy

from weft.cli import app
from weft.dispatch.procrastinate import ProcrastinateDispatcher
from weft.errors import JournalBehind, JournalRefused, JournalUnavailable
from weft.journal import postgres_group, postgres_life
from weft.journal.base import LARGEST_INLINE, Claim, Ended, Record, Rest, RunQuery, RunRow
from weft.journal.postgres import PostgresJournal
from weft.journal.postgres_link import parameters, place
from weft.journal.postgres_schema import NEWEST

Opener = Callable[..., Any]
COMMIT = b"COMMIT\0"
"""As libpq sends it; without the zero it stands in `READ COMMITTED`, too."""
DONE = Ended("succeeded", "null")


@pytest.fixture
def address(postgres_server: Postgres) -> str:
    """An empty database."""
    return postgres_server.database()


@pytest.fixture
async def opened(address: str) -> AsyncIterator[Opener]:
    """Journals on one database, as if each were a process of its own."""
    journals: list[PostgresJournal] = []

    async def one(at: str = address, **settings: Any) -> PostgresJournal:
        journal = PostgresJournal(at, **{"dead_s": 0.6, "deadline_s": 5.0, **settings})
        journals.append(journal)
        await journal.open()
        return journal

    yield one
    for journal in journals:
        await journal.close()


async def row(journal: PostgresJournal, run_id: str = "r1", **facts: Any) -> RunRow:
    document = await journal.keep_document('{"steps":[]}')
    return RunRow(run_id, "w", document, "{}", "null", facts.pop("started_at", 12.5), **facts)


def begun(path: str = "/a", n: int = 1, payload: str = "{}") -> Record:
    return Record(path, n, "begun", payload)


def asked(address: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Ask the database beside the journal."""
    with psycopg.connect(address, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


class Jobs:
    """A job engine: one row for each job; `gate` holds its transactions open."""

    def __init__(self, address: str) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.fault: Exception | None = None
        self.isolation = ""
        asked(address, "CREATE TABLE jobs(run_id text)")
        self._address = address

    async def enqueue(self, connection: psycopg.AsyncConnection[Any], run_ids: Sequence[str]) -> None:
        for run_id in run_ids:
            await connection.execute("INSERT INTO jobs VALUES (%s)", (run_id,))
        isolation = await (await connection.execute("SHOW transaction_isolation")).fetchone()
        self.isolation = isolation[0] if isolation else ""
        self.entered.set()
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault

    def made(self) -> list[str]:
        return [run_id for (run_id,) in asked(self._address, "SELECT run_id FROM jobs ORDER BY 1")]


# ---- the fence
async def test_who_takes_over_sees_what_an_open_transaction_of_the_old_owner_writes(
    opened: Opener, address: str
) -> None:
    """§2.3, 1: a take-over waits for the old owner's open transaction; what that wrote is loaded by the next owner."""
    jobs = Jobs(address)
    old, other = await opened(enqueue=jobs.enqueue), await opened()
    claim = await old.accept(await row(old))
    jobs.gate.clear()
    zombie = asyncio.create_task(old.write(claim, 0, [begun()], Rest("ready")))
    await jobs.entered.wait()
    taking = asyncio.create_task(other.release("r1", ends=claim.epoch))
    await asyncio.sleep(0.3)
    assert not taking.done()

    jobs.gate.set()
    await zombie
    with pytest.raises(JournalRefused) as refused:
        await taking
    assert refused.value.problem.code == "another_owner"
    await other.claim("r1")
    assert (await other.load("r1")).records == (begun(),)


async def test_an_owner_that_stops_inside_its_transaction_is_ended_and_refused(
    opened: Opener, postgres_server: Postgres, address: str
) -> None:
    """A12: a transaction left open ends after five seconds; the run can be taken, and the late write is refused."""
    async with TcpProxy(postgres_server.port) as proxy:
        old = await opened(postgres_server.address(address.rpartition("/")[2], port=proxy.port))
        other = await opened(deadline_s=15.0)
        claim = await old.accept(await row(old))
        proxy.silence_at(COMMIT)
        late = asyncio.create_task(old.write(claim, 0, [begun()]))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        assert await other.release("r1", ends=claim.epoch) == "ready"
        assert 3 < time.monotonic() - began < 9
        proxy.forward()
        with pytest.raises(JournalRefused) as refused:
            await late
        assert refused.value.problem.code == "another_owner"
        assert (await other.load("r1")).records == ()


async def test_the_token_counts_where_two_owners_have_one_epoch(opened: Opener, address: str) -> None:
    """A7: after a fail-over another owner may have the same epoch; only the token tells them apart."""
    journal = await opened()
    claim = await journal.accept(await row(journal))
    asked(address, "UPDATE weft.states SET token = 'of another'")
    with pytest.raises(JournalRefused) as refused:
        await journal.write(claim, 0, [begun()])
    assert refused.value.problem.code == "another_owner"


async def test_200_races_between_a_signal_and_the_end_of_work(opened: Opener, address: str) -> None:
    """A10, §2.3, 2: whoever is first, the run either reads the signal itself or has exactly one job that will."""
    jobs = Jobs(address)
    owner, other = await opened(enqueue=jobs.enqueue), await opened(enqueue=jobs.enqueue)
    runs = [await row(owner, f"r{i}") for i in range(200)]
    waits = Record("/ask", 1, "waits", '{"deadline":null}')
    claims = [await owner.accept(run, waits) for run in runs]

    async def rest(claim: Claim) -> bool:
        try:
            await owner.write(claim, 0, (), Rest("waiting"))
        except JournalBehind:
            return True
        return False

    async def race(number: int, claim: Claim) -> bool:
        signalled = other.signal(claim.run_id, "/ask", '"yes"')
        parts = (rest(claim), signalled) if number % 2 else (signalled, rest(claim))
        return True in await asyncio.gather(*parts)

    straight = [await race(*each) for each in enumerate(claims)]
    went_on = [claim.run_id for claim, on in zip(claims, straight, strict=True) if on]
    assert sorted([*went_on, *jobs.made()]) == sorted(run.id for run in runs)
    assert sorted(await other.ready(500)) == jobs.made()
    assert 0 < len(went_on) < 200


# ---- the group
async def test_a_hundred_writes_at_once_are_a_few_commits(opened: Opener) -> None:
    """What waits is one transaction: a hundred concurrent writes need at most five."""
    journal = await opened()
    claims = [await journal.accept(await row(journal, f"r{i}")) for i in range(100)]
    before = journal.commits
    await asyncio.gather(*(journal.write(claim, 0, [begun()]) for claim in claims))
    assert journal.commits - before <= 5
    assert all([(await journal.status(claim.run_id)).status.size == 2 for claim in claims])


async def test_what_the_database_refuses_fails_alone(opened: Opener) -> None:
    """§2.3, 11: a path that cannot be kept is told to its writer; the writes of the same turn are kept."""
    journal = await opened()
    claims = [await journal.accept(await row(journal, f"r{i}")) for i in range(5)]
    paths = ["/a", "/a", "/a\x00", "/a", "/" + secrets.token_hex(10_000)]
    answers = await asyncio.gather(
        *(journal.write(claim, 0, [begun(path)]) for claim, path in zip(claims, paths, strict=True)),
        return_exceptions=True,
    )
    kept = [len((await journal.load(claim.run_id)).records) for claim in claims]
    codes = [answer.problem.code if isinstance(answer, JournalRefused) else answer for answer in answers]
    assert codes == [None, None, "not_storable", None, "not_storable"]
    assert kept == [1, 1, 0, 1, 0]


async def test_what_the_database_says_of_a_row_is_not_logged(
    opened: Opener, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal is logged by its class and SQLSTATE: the database's words show the row, and that has inputs and outputs."""
    journal = await opened()
    claim = await journal.accept(await row(journal))
    asked(address, "ALTER TABLE weft.records ADD CONSTRAINT narrow CHECK (payload NOT LIKE '%%hush%%') NOT VALID")
    with pytest.raises(JournalRefused) as refused:
        await journal.write(claim, 0, [begun(payload='{"request":"hush"}')])
    told = logging.Formatter()
    lines = [told.format(record) for record in caplog.records]
    assert [line for line in lines if "journal_refused" in line] == ["journal_refused r1 CheckViolation 23514"]
    assert "hush" not in "".join(lines) + str(refused.value)


async def test_a_refused_write_is_told_to_its_writer_only(opened: Opener) -> None:
    """One turn holds a void claim, news that were not read, and a good write: each gets its own answer."""
    journal, other = await opened(), await opened()
    claims = [await journal.accept(await row(journal, f"r{i}")) for i in range(3)]
    await other.release("r0", ends=1)
    await other.cancel("r1")
    before = journal.commits
    answers = await asyncio.gather(*(journal.write(claim, 0, [begun()]) for claim in claims), return_exceptions=True)
    assert journal.commits - before == 1
    assert [answer.problem.code if isinstance(answer, JournalRefused) else answer for answer in answers] == [
        "another_owner",
        "journal_behind",
        None,
    ]


async def test_nobody_waits_for_a_row_that_somebody_else_has_locked(opened: Opener, address: str) -> None:
    """A12: a foreign lock on one run delays the writes of that run only, and they keep their order."""
    journal = await opened()
    claims = [await journal.accept(await row(journal, f"r{i}")) for i in range(2)]
    with psycopg.connect(address) as foreign:
        foreign.execute("SELECT * FROM weft.states WHERE id = 'r0' FOR UPDATE")
        held = [asyncio.create_task(journal.write(claims[0], 0, [begun(n=n)])) for n in (1, 2, 3)]
        began = time.monotonic()
        for n in range(20):
            await journal.write(claims[1], 0, [begun(n=n)])
        assert time.monotonic() - began < 0.9
        await asyncio.sleep(1.2)  # longer than lock_timeout
        assert not any(task.done() for task in held)
        assert journal.failing_since is None
        foreign.rollback()
    await asyncio.gather(*held)
    assert [record.n for record in (await journal.load("r0")).records] == [1, 2, 3]


async def test_two_processes_that_write_to_the_same_runs_do_not_block_each_other(opened: Opener) -> None:
    """§2.3, 11: rows are taken in the order of their ids, so that two groups never wait for each other in a circle."""
    one, two = await opened(), await opened()
    claims = [await one.accept(await row(one, f"r{i}")) for i in range(60)]
    writes = [one.write(claim, 0, [begun()]) for claim in claims]
    cancels = [two.cancel(claim.run_id) for claim in reversed(claims)]
    answers = await asyncio.gather(*writes, *cancels, return_exceptions=True)
    assert all(answer in (None, 1) or isinstance(answer, JournalBehind) for answer in answers)


# ---- jobs
async def test_a_job_and_the_state_that_needs_it_are_one_transaction(opened: Opener, address: str) -> None:
    """§2.3, 2: when making the job fails, the run is not ready either; when it succeeds both are there, once."""
    jobs = Jobs(address)
    journal = await opened(enqueue=jobs.enqueue)
    claim = await journal.accept(await row(journal), Record("/ask", 1, "waits", '{"deadline":null}'))
    await journal.write(claim, 0, (), Rest("waiting"))
    jobs.fault = RuntimeError("engine")
    with pytest.raises(JournalRefused):
        await journal.signal("r1", "/ask", "1")
    with pytest.raises(JournalRefused):
        await journal.submit(await row(journal, "r2"))
    assert jobs.made() == []
    assert (await journal.status("r1")).status.state == "waiting"
    assert [run.row.id for run in await journal.runs(RunQuery())] == ["r1"]

    jobs.fault = None
    await journal.signal("r1", "/ask", "1")
    assert jobs.made() == ["r1"]
    assert (await journal.status("r1")).status.state == "ready"
    assert jobs.isolation == "read committed"


async def test_what_fails_for_now_delays_no_other(opened: Opener, address: str) -> None:
    """A12: while a job cannot be made the outcome that needs it is tried again; beats and other runs go on."""
    jobs = Jobs(address)
    journal = await opened(enqueue=jobs.enqueue)
    claims = [await journal.accept(await row(journal, f"r{i}")) for i in range(2)]
    jobs.fault = psycopg.errors.UndefinedTable("the engine's table is not there yet")
    rests = asyncio.create_task(journal.write(claims[0], 0, [begun()], Rest("ready")))
    for n in range(5):
        await journal.write(claims[1], 0, [begun(n=n)])
        await journal.beat()
    assert not rests.done()
    jobs.fault = None
    await rests
    assert jobs.made() == ["r0"]


async def test_each_way_of_becoming_ready_makes_one_job(opened: Opener, address: str) -> None:
    """submit, release, resume, cancel, signal, wake and a rest that is ready each make exactly one job."""
    jobs = Jobs(address)
    journal = await opened(enqueue=jobs.enqueue)
    await journal.submit(await row(journal))
    await journal.release("r1", ends=(await journal.claim("r1")).epoch)
    await journal.write(await journal.claim("r1"), 0, (), Rest("parked", reason="{}"))
    await journal.resume("r1")
    await journal.write(await journal.claim("r1"), 0, (), Rest("parked", reason="{}"))
    await journal.cancel("r1")
    await journal.cancel("r1")
    waits = Record("/ask", 1, "waits", '{"deadline":null}')
    await journal.write(await journal.claim("r1"), 2, [waits], Rest("waiting"))
    await journal.signal("r1", "/ask", "1")
    await journal.write(await journal.claim("r1"), 3, (), Rest("waiting", wake_at=1.0))
    assert await journal.wake(10) == ["r1"]
    await journal.write(await journal.claim("r1"), 3, (), Rest("ready"))
    assert jobs.made() == ["r1"] * 7
    await journal.write(await journal.claim("r1"), 3, (), DONE)
    assert jobs.made() == ["r1"] * 7


async def test_a_clock_that_was_set_back_hides_no_ready_run(opened: Opener, address: str) -> None:
    """What became ready an hour ahead of the database's clock is ready; only who asks for how long must wait."""
    journal = await opened()
    await journal.submit(await row(journal))
    asked(address, "UPDATE weft.states SET since = since + 3600")
    assert await journal.ready(10) == ["r1"]
    assert await journal.ready(10, for_s=1.0) == []


async def test_a_worker_that_drains_for_long_is_not_taken_for_dead(opened: Opener, address: str) -> None:
    """§2.4: while its last run takes longer than all limits, neither the journal nor the queue of another gives it up."""
    begun_, leave = asyncio.Event(), asyncio.Event()
    others: list[str] = []

    async def advance(run_id: str) -> None:
        claim = await journal.claim(run_id)
        begun_.set()
        await leave.wait()
        await journal.write(claim, 0, (), DONE)

    async def advance_other(run_id: str) -> None:
        others.append(run_id)

    old = ProcrastinateDispatcher(address, beat_s=0.1, stalled_s=0.7)
    new = ProcrastinateDispatcher(address, beat_s=0.1, stalled_s=0.7)
    await old.install()
    journal, other = await opened(enqueue=old.enqueue), await opened()
    draining = asyncio.create_task(old.run(advance))
    await journal.submit(await row(journal))
    await begun_.wait()
    old.stop()
    beating = asyncio.create_task(look(journal, 60))
    await asyncio.sleep(1.0)  # longer than both limits: a newcomer removes who seems dead
    working = asyncio.create_task(new.run(advance_other))
    assert await look(other, 1.2) == []
    assert asked(address, f"SELECT count(*) FROM {old.schema}.procrastinate_workers") == [(2,)]
    leave.set()
    await draining
    beating.cancel()
    new.stop()
    await working
    assert (await other.status("r1")).status.state == "succeeded"
    assert others == []


# ---- the database goes away
async def test_an_answer_lost_in_commit_counts_once(opened: Opener, postgres_server: Postgres, address: str) -> None:
    """A8: COMMIT reached the server and its answer did not come back; the call is answered, and counts once."""
    jobs = Jobs(address)
    async with TcpProxy(postgres_server.port) as proxy:
        journal = await opened(
            postgres_server.address(address.rpartition("/")[2], port=proxy.port), enqueue=jobs.enqueue
        )

        async def cut(call: Any) -> Any:
            proxy.cut_after(COMMIT)
            lines = proxy.accepted
            answer = await call
            assert proxy.accepted > lines, "the line was cut"
            return answer

        run, second = await row(journal), await row(journal, "r2")
        claim = await cut(journal.accept(run, begun("/first")))
        await cut(journal.write(claim, 0, [begun(), Record("/a", 1, "succeeded", "1")]))
        assert await cut(journal.cancel("r1")) == 1
        await cut(journal.write(claim, 1, [begun("/b")], Rest("parked", reason="{}")))
        await cut(journal.resume("r1"))
        claim = await cut(journal.claim("r1"))
        await cut(journal.write(claim, 1, (), DONE))
        await cut(journal.submit(second))
        claim = await cut(journal.claim("r2"))
        assert await cut(journal.release("r2", ends=claim.epoch)) == "ready"

        kept = await journal.load("r1")
        assert [(each.path, each.kind) for each in kept.records] == [
            ("/first", "begun"),
            ("/a", "begun"),
            ("/a", "succeeded"),
            ("", "cancel"),
            ("/b", "begun"),
        ]
        assert (kept.status.state, kept.status.epoch, kept.status.news) == ("succeeded", 2, 1)
        assert (await journal.status("r2")).status.epoch == 2
    assert jobs.made() == ["r1", "r2", "r2"]


async def test_outcomes_wait_without_end_and_others_are_told_soon(
    opened: Opener, postgres_server: Postgres, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A12: behind a line that is open and silent a write waits until it is kept; a question fails at its deadline."""
    monkeypatch.setattr(postgres_group, "COMMIT_S", 0.4)
    async with TcpProxy(postgres_server.port) as proxy:
        journal = await opened(postgres_server.address(address.rpartition("/")[2], port=proxy.port), deadline_s=0.5)
        claim = await journal.accept(await row(journal))
        proxy.silence()
        write = asyncio.create_task(journal.write(claim, 0, [begun()]))
        beat = asyncio.create_task(journal.beat())
        began = time.monotonic()
        for question in (journal.status("r1"), journal.cancel("r1"), journal.ready(1), journal.keep_document("[]")):
            with pytest.raises(JournalUnavailable):
                await question
        assert time.monotonic() - began < 6
        assert journal.failing_since is not None
        assert not write.done()
        assert not beat.done()

        proxy.forward()
        await asyncio.gather(write, beat)
        assert journal.failing_since is None
        kept = await journal.load("r1")
        assert (kept.records, kept.status.news) == ((begun(),), 0), "what was refused is not done later"


async def test_a_reset_line_and_a_line_cut_in_the_middle_of_a_write_lose_nothing(
    opened: Opener, postgres_server: Postgres, address: str
) -> None:
    """A8: whichever byte is the last one to arrive, the record is kept once."""
    async with TcpProxy(postgres_server.port) as proxy:
        journal = await opened(postgres_server.address(address.rpartition("/")[2], port=proxy.port))
        claim = await journal.accept(await row(journal))
        for n, count in enumerate(range(1, 4000, 97)):
            proxy.cut_after_bytes(count)
            await journal.write(claim, 0, [begun(n=n)])
        proxy.forward()
        proxy.reset()
        await journal.write(claim, 0, [begun("/b")])
        numbers = [record.n for record in (await journal.load("r1")).records]
        assert numbers == [*range(len(numbers) - 1), 1]


async def test_what_was_acknowledged_survives_crashes_of_the_server(opened: Opener, postgres_server: Postgres) -> None:
    """A server that crashes three times under writes keeps each acknowledged record, and each once."""
    journal = await opened()
    claim = await journal.accept(await row(journal))
    acknowledged: list[int] = []
    crashing = True

    async def write() -> None:
        n = 0
        while crashing:
            n += 1
            await journal.write(claim, 0, [begun(n=n)])
            acknowledged.append(n)

    writing = asyncio.create_task(write())
    for _ in range(3):
        await asyncio.sleep(0.15)
        await asyncio.to_thread(postgres_server.restart, "immediate")
    crashing = False
    await writing
    assert [record.n for record in (await journal.load("r1")).records] == acknowledged


async def test_a_caller_that_goes_while_it_claims_leaves_the_run_to_others(
    opened: Opener, postgres_server: Postgres, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that nobody heard of is given back, else a process that lives would hold a run that nobody drives."""
    monkeypatch.setattr(postgres_group, "COMMIT_S", 0.4)
    async with TcpProxy(postgres_server.port) as proxy:
        journal = await opened(postgres_server.address(address.rpartition("/")[2], port=proxy.port), deadline_s=0.3)
        other = await opened()
        await other.submit(await row(other))
        proxy.cut_after(COMMIT)
        claiming = asyncio.create_task(journal.claim("r1"))
        await asyncio.sleep(0)
        claiming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claiming
        await asyncio.sleep(0.3)
        await journal.beat()
        assert (await other.status("r1")).status.state == "ready"
        assert (await other.claim("r1")).epoch == 2


async def test_an_acceptance_in_doubt_may_be_made_again(
    opened: Opener, postgres_server: Postgres, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A8: after `JournalUnavailable` the same acceptance is accepted, and a stranger's is refused."""
    monkeypatch.setattr(postgres_group, "COMMIT_S", 0.4)
    async with TcpProxy(postgres_server.port) as proxy:
        journal = await opened(postgres_server.address(address.rpartition("/")[2], port=proxy.port), deadline_s=0.3)
        other = await opened()
        runs = [await row(journal, "r1"), await row(journal, "r2")]
        proxy.silence()
        for call in (journal.accept(runs[0], begun()), journal.submit(runs[1])):
            with pytest.raises(JournalUnavailable):
                await call
        proxy.forward()
        await journal.beat()
        await journal.write(await journal.accept(runs[0], begun()), 0, [begun("/b")])
        await journal.submit(runs[1])
        for run in runs:
            with pytest.raises(JournalRefused) as refused:
                await other.submit(run)
            assert refused.value.problem.code == "known_run"


# ---- who lives
async def look(journal: PostgresJournal, seconds: float) -> list[str]:
    """Look again and again for some time; return the runs that were ever found abandoned."""
    found: set[str] = set()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await journal.beat()
        found |= {run.row.id for run in await journal.abandoned()}
        await asyncio.sleep(0.05)
    return sorted(found)


async def test_an_outage_kills_nobody(opened: Opener, postgres_server: Postgres) -> None:
    """A1: after an outage longer than `dead` the counts begin anew, though all beats are old."""
    owner, observer = await opened(), await opened()
    await owner.accept(await row(owner))
    await owner.beat()
    assert await look(observer, 0.3) == []
    await asyncio.to_thread(postgres_server.stop, "immediate")
    looking = asyncio.create_task(look(observer, 0.05))
    await asyncio.sleep(1.0)
    await asyncio.to_thread(postgres_server.start)
    assert await looking == []
    assert await look(observer, 0.3) == []
    await owner.beat()
    assert await look(observer, 0.4) == []
    assert await look(observer, 0.6) == ["r1"], "then it is dead indeed"


async def test_looks_that_failed_are_no_looks(
    opened: Opener, postgres_server: Postgres, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A1: an observer that was cut off from the same server counts anew."""
    monkeypatch.setattr(postgres_group, "COMMIT_S", 0.3)
    async with TcpProxy(postgres_server.port) as proxy:
        owner = await opened()
        observer = await opened(postgres_server.address(address.rpartition("/")[2], port=proxy.port))
        await owner.accept(await row(owner))
        assert await look(observer, 0.2) == []
        proxy.silence()
        looking = asyncio.create_task(look(observer, 0.05))
        await asyncio.sleep(0.8)
        proxy.forward()
        assert await looking == []
        assert await look(observer, 0.4) == []
        assert await look(observer, 0.4) == ["r1"]


async def test_a_process_that_closed_or_left_no_row_is_dead_after_the_same_time(opened: Opener, address: str) -> None:
    """A1: an owner without a row is seen as one without a beat; `close` removes the row."""
    owner, observer = await opened(), await opened()
    await owner.accept(await row(owner))
    await owner.close()
    assert asked(address, "SELECT count(*) FROM weft.processes") == [(1,)]
    assert await look(observer, 0.3) == []
    assert await look(observer, 0.5) == ["r1"]
    assert await observer.release("r1", ends=1) == "ready"


async def test_an_owner_that_came_back_in_time_keeps_its_run(opened: Opener) -> None:
    """A1, A2: between the verdict and the take-over the owner has beaten; the take-over is refused."""
    owner, observer = await opened(), await opened()
    claim = await owner.accept(await row(owner))
    assert await look(observer, 0.9) == ["r1"]
    await owner.beat()
    with pytest.raises(JournalRefused) as refused:
        await observer.release("r1", ends=claim.epoch)
    assert refused.value.problem.code == "another_owner"
    await owner.confirm(claim)
    await owner.write(claim, 0, [begun()])


async def test_who_cannot_commit_is_dead_for_the_others(
    opened: Opener, postgres_server: Postgres, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A12: beats go through the same queue as outcomes, so that an owner whose writes do not arrive is taken over."""
    monkeypatch.setattr(postgres_group, "COMMIT_S", 0.3)
    async with TcpProxy(postgres_server.port) as proxy:
        owner = await opened(postgres_server.address(address.rpartition("/")[2], port=proxy.port))
        observer = await opened()
        claim = await owner.accept(await row(owner))
        proxy.silence()
        late = asyncio.create_task(owner.write(claim, 0, [begun()]))
        beating = asyncio.create_task(look(owner, 0.1))
        assert await look(observer, 0.9) == ["r1"]
        await observer.release("r1", ends=claim.epoch)
        proxy.forward()
        with pytest.raises(JournalRefused):
            await late
        await beating


@pytest.mark.parametrize("first", ["beat", "confirm"])
async def test_a_stopped_process_begins_nothing_when_it_wakes(opened: Opener, address: str, first: str) -> None:
    """A20: stopped for longer than `dead` and taken over meanwhile, it is refused, even if it beats before it asks."""
    observer = await opened()
    await observer.submit(await row(observer))
    with child(address, "r1") as process:
        assert answer(process) == "claimed 1"
        assert answer(process, "confirm") == "may begin"
        process.send_signal(signal.SIGSTOP)
        assert await look(observer, 1.0) == ["r1"]
        assert await observer.release("r1", ends=1) == "ready"
        process.send_signal(signal.SIGCONT)
        assert answer(process, first) == "another_owner"


async def test_a_stopped_process_that_lost_nothing_goes_on(opened: Opener, address: str) -> None:
    """A20: if nobody took the run it proves that first, and may begin."""
    observer = await opened()
    await observer.submit(await row(observer))
    with child(address, "r1") as process:
        assert answer(process) == "claimed 1"
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.8)
        process.send_signal(signal.SIGCONT)
        assert answer(process, "beat") == "may begin"


@contextlib.contextmanager
def child(address: str, run_id: str) -> Iterator[subprocess.Popen[str]]:
    program = Path(__file__).with_name("postgres_child.py")
    command = [sys.executable, str(program), address, "0.6", run_id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def answer(process: subprocess.Popen[str], command: str = "") -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    if command:
        process.stdin.write(f"{command}\n")
        process.stdin.flush()
    return process.stdout.readline().strip()


async def test_a_confirmation_asks_only_when_the_last_beat_is_old(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A20: within `dead` less the margin no transaction is needed; after it, one is."""
    journal = await opened(dead_s=10.0)
    claim = await journal.accept(await row(journal))
    before = journal.commits
    await journal.confirm(claim)
    assert journal.commits == before
    real = postgres_life.suspended_clock
    monkeypatch.setattr(postgres_life, "suspended_clock", lambda: real() + 7.1)
    await journal.confirm(claim)
    assert journal.commits == before + 1


# ---- the same database?
async def test_after_a_fail_over_all_that_was_in_hand_is_dropped() -> None:
    """A7: on another timeline old claims are void in this process, and their runs are taken over as from the dead."""
    with Postgres({"wal_level": "replica"}) as durable:
        journal = PostgresJournal(durable.database(), dead_s=0.6)
        await journal.open()
        assert journal.warnings == []
        claim = await journal.accept(await row(journal))
        before = journal.name
        await asyncio.to_thread(durable.promote)
        with pytest.raises(JournalRefused) as refused:
            await journal.write(claim, 0, [begun()])
        assert refused.value.problem.code == "another_owner"
        with pytest.raises(JournalRefused):
            await journal.confirm(claim)
        assert journal.name != before
        assert await look(journal, 1.0) == ["r1"]
        await journal.release("r1", ends=claim.epoch)
        fresh = await journal.claim("r1")
        await journal.write(fresh, 0, [begun()], DONE)
        assert (await journal.load("r1")).records == (begun(),)
        await journal.close()


async def test_what_weakens_durability_is_told(opened: Opener) -> None:
    """A7: settings under which acknowledgements can be lost are read back and named, each with a remedy."""
    journal = await opened()
    told = " ".join(str(problem) for problem in journal.warnings)
    assert [problem.severity for problem in journal.warnings] == ["warning"] * 2
    for setting in ("fsync", "full_page_writes"):
        assert f"{setting} is off" in told


async def test_now_is_the_database_s_time(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """B3: the journal's time follows the database, not the clock of this machine."""
    journal = await opened()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    [(theirs,)] = asked(journal._address, "SELECT extract(epoch FROM clock_timestamp())::float8")
    assert abs(journal.now() - theirs) < 0.1


async def test_a_deadline_is_judged_by_the_database_s_clock(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """B6: a signal after the recorded deadline is refused, whatever the clock of this machine says."""
    journal = await opened()
    at = journal.now()
    waits = [Record(f"/ask{i}", 1, "waits", f'{{"deadline":{at + add}}}') for i, add in enumerate((-1, 60))]
    await journal.accept(await row(journal), *waits)
    monkeypatch.setattr(postgres_life, "suspended_clock", lambda: time.monotonic() + 10_000)
    with pytest.raises(JournalRefused) as refused:
        await journal.signal("r1", "/ask0", "1")
    assert refused.value.problem.code == "not_waiting"
    await journal.signal("r1", "/ask1", "1")


# ---- sessions
async def test_nothing_stays_in_a_session(opened: Opener, address: str) -> None:
    """A25: after its work a session has the site's settings, no lock and no prepared statement."""
    journal = await opened(connections=1)
    claim = await journal.accept(await row(journal))
    await journal.write(claim, 0, [begun()])
    await journal.load("r1")
    await journal.purge(0.0)

    async def session(connection: psycopg.AsyncConnection[Any]) -> list[tuple[Any, ...]]:
        cursor = await connection.execute(
            "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
            " current_setting('idle_in_transaction_session_timeout'), (SELECT count(*) FROM pg_prepared_statements),"
            " (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory')"
        )
        return await cursor.fetchall()

    assert await journal._link.use(session) == [("0", "0", "0", 0, 0)]


async def test_every_transaction_states_its_isolation(opened: Opener, address: str) -> None:
    """A25: on a site whose default is another one, what writes is `read committed` and what reads has one snapshot."""
    assert asked(address, "SHOW default_transaction_isolation") == [("repeatable read",)]
    jobs = Jobs(address)
    journal = await opened(enqueue=jobs.enqueue)
    await journal.submit(await row(journal))
    assert jobs.isolation == "read committed", "a turn"
    claim = await journal.claim("r1")
    await journal.write(claim, 0, (), Rest("waiting", wake_at=1.0))
    jobs.isolation = ""
    await journal.wake(10)
    assert jobs.isolation == "read committed", "a transaction beside the turns"

    site = psycopg.conninfo.make_conninfo(address, options="-c default_transaction_isolation=serializable")
    reader = await opened(site)
    [shown] = await reader._read(
        ("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')", ())
    )
    assert shown == [("repeatable read", "on")]


async def test_a_turn_sees_what_was_committed_while_it_waited(opened: Opener, address: str) -> None:
    """A25: a claim that waits for a row decides on what the other transaction left there, at its first try."""
    journal = await opened()
    await journal.submit(await row(journal))
    tries: list[str] = []
    turns = journal._group._turn

    async def counted(batch: Any, *, waits: bool) -> None:
        tries.extend(piece.run_id for piece in batch if waits)
        await turns(batch, waits=waits)

    journal._group._turn = counted
    with psycopg.connect(address) as foreign:
        foreign.execute("UPDATE weft.states SET epoch = 41 WHERE id = 'r1'")
        claiming = asyncio.create_task(journal.claim("r1"))
        while asked(address, "SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
            await asyncio.sleep(0.02)
        foreign.commit()
    assert (await claiming).epoch == 42
    assert tries == ["r1"]


async def test_changes_are_heard_and_the_ear_grows_back(opened: Opener, address: str) -> None:
    """A listener hears what others do at once; when its connection was lost it connects again."""
    journal, other = await opened(), await opened()
    await other.submit(await row(other))
    assert await journal.changed(5)  # the first answer: something may have been said before
    assert not await journal.changed(0.2)

    async def hears(call: Any) -> float:
        heard = asyncio.create_task(journal.changed(5))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await call
        assert await heard
        return time.monotonic() - began

    assert await hears(other.cancel("r1")) < 0.25
    asked(
        address,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%' OR query = 'SELECT'",
    )
    assert await journal.changed(5)
    assert await hears(other.submit(await row(other, "r2"))) < 0.25


# ---- the schema
async def test_processes_that_start_together_make_the_schema_once(opened: Opener, address: str) -> None:
    """Migrations run under an advisory lock of their transaction; who comes second finds them done."""
    await asyncio.gather(*(opened() for _ in range(5)))
    assert asked(address, "SELECT number FROM weft.version") == [(NEWEST,)]


async def test_a_newer_schema_is_refused(opened: Opener, address: str) -> None:
    """A Weft that does not know the version of the schema touches nothing."""
    await opened()
    asked(address, "UPDATE weft.version SET number = 1000")
    with pytest.raises(JournalUnavailable) as refused:
        await PostgresJournal(address).open()
    assert refused.value.problem.code == "journal_newer"


async def test_an_unreachable_database_is_named_without_its_password() -> None:
    """The refusal names host and database, and no secret."""
    with pytest.raises(JournalUnavailable) as refused:
        await PostgresJournal("postgresql://weft:hush@127.0.0.1:1/weft").open()
    assert "'weft' at 127.0.0.1:1" in str(refused.value)
    assert "hush" not in str(refused.value)


BAD_ADDRESSES = [
    "postgresql://plain:hunter2/secret@127.0.0.1:1/db",
    "postgresql://plain:54321/secret@127.0.0.1:1/db",
    "postgresql://plain:hunter2@secret@127.0.0.1:1/db",
    "postgresql://plain:hunter2@secret/hush@127.0.0.1:1/db",
    "postgresql://plain:hunter2@/secret@127.0.0.1:1/db",
    "postgresql://plain:hunter2@%2Fsecret@127.0.0.1:1/db",
    "postgresql://plain:hunter2%ZZsecret@127.0.0.1:1/db",
    "postgresql://plain:hunter2%FFsecret@127.0.0.1:1/db",
    "postgresql://plain:hunter2\udcffsecret@127.0.0.1:1/db",
    "postgresql://plain:hunter2 secret@127.0.0.1:1/db",
    "postgresql://plain:hunter2/secret?hush@127.0.0.1:1/db",
    "postgresql://plain:hunter2/secret",
    "postgresql//plain:hunter2secret@127.0.0.1:1/db",
    "mysql://plain:hunter2=secret@127.0.0.1:1/db",
    "host=127.0.0.1 user=plain password='hunter2 secret dbname=db",
    "host=127.0.0.1 user=plain password=hunter2 secret dbname=db",
    "host=hunter2:secret user=plain dbname=db",
]
FRAGMENTS = re.compile("hunter2|secret|54321|hush|plain")


@pytest.mark.parametrize("bad", BAD_ADDRESSES, ids=range(len(BAD_ADDRESSES)))
def test_an_address_that_is_none_shows_nothing_of_its_password(
    bad: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password that was not encoded is in no message, no cause and no log; each command says how to write it."""
    monkeypatch.setenv("WEFT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WEFT_DATABASE_URL", bad)
    commands = ["journal status", "journal status --json", "journal check", "runs list", "run email-results", "worker"]
    for command in commands:
        with pytest.raises(SystemExit) as ended:
            app.main(command.split())
        told = "".join(capsys.readouterr())
        assert ended.value.code == 1, (command, told)
        assert "WEFT_DATABASE_URL is no address of a database" in " ".join(told.split())
        assert not FRAGMENTS.search(told)
    logs = [file.read_text() for file in (tmp_path / "home").rglob("*.log*")]
    assert not FRAGMENTS.search("".join(logs))

    with pytest.raises(JournalUnavailable) as refused:
        ProcrastinateDispatcher(bad)
    assert refused.value.problem.code == "bad_database_url"
    assert (refused.value.__cause__, refused.value.__context__) == (None, None)


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("postgresql://plain:hunter2%2Fse%40cr%25et@db.example.com:5433/weft", "'weft' at db.example.com:5433"),
        ("postgresql://us%40er:a:b?c#d@[::1]/weft", "'weft' at ::1:5432"),
        ("postgresql://one:1,two:2/weft?target_session_attrs=read-write", "'weft' at one,two:1,2"),
        ("postgresql:///weft?host=/var/run/postgresql", "'weft' at /var/run/postgresql:5432"),
        ("host=db user=plain password='a b/c@d' dbname=weft", "'weft' at db:5432"),
        ("service=weft", "'' at this machine:5432"),
    ],
)
def test_good_addresses_are_taken(address: str, named: str) -> None:
    """Encoded passwords, IPv6, several hosts, sockets, keywords and services are no mistakes."""
    assert place(address) == named
    assert parameters(address)


async def test_a_database_that_cannot_keep_every_text_is_refused(postgres_server: Postgres) -> None:
    """A journal in another encoding than UTF8 would fail at the first letter that it does not have."""
    asked(postgres_server.address("postgres"), "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'")
    address = postgres_server.address("latin")
    with pytest.raises(JournalUnavailable) as refused:
        await PostgresJournal(address).open()
    assert refused.value.problem.code == "journal_encoding"
    assert "LATIN1" in str(refused.value)
    assert asked(address, "SELECT to_regnamespace('weft')") == [(None,)]


async def test_the_encoding_of_the_environment_does_not_matter(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site whose clients have another encoding by default keeps every text all the same."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    journal = await opened()
    assert await journal.document(await journal.keep_document('"→ 日本"')) == '"→ 日本"'


async def test_frequent_questions_have_plans_that_do_not_grow(opened: Opener, address: str) -> None:
    """With 50,000 ended runs nothing that is asked all the time reads a whole table."""
    journal = await opened()
    template = await row(journal, "r0")
    asked(
        address,
        "WITH new AS (INSERT INTO weft.runs SELECT 'old' || i, 'w', %s, '{}', 'null', i FROM generate_series(1, 50000) AS i"
        " RETURNING id, started_at) INSERT INTO weft.states (id, started_at, state, epoch, token, born, owner, since,"
        " changed_at) SELECT id, started_at, 'succeeded', 1, 't', 't', 'gone', started_at, started_at FROM new",
        template.document,
    )
    asked(address, "INSERT INTO weft.records SELECT id, '/a', 1, 'begun', 1, '{}', NULL FROM weft.runs")
    asked(address, "ANALYZE")
    statements = await explained(address, journal, template)
    assert len(statements) >= 12
    for statement, plan in statements:
        scans = [line for line in plan if re.search("Seq Scan on (runs|states|records)", line)]
        assert not scans, (statement, plan)


async def explained(address: str, journal: PostgresJournal, run: RunRow) -> list[tuple[str, list[str]]]:
    """Do what happens all the time, and return each statement with its plan, as the server planned it."""
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
    claim = await journal.accept(run, Record("/ask", 1, "waits", '{"deadline":null}'))
    await journal.write(claim, 0, [begun()], Rest("waiting", wake_at=1.0))
    await journal.signal("r0", "/ask", "1")
    await journal.cancel("r0")
    await journal.ready(10)
    await journal.wake(10)
    await journal.next_wake()
    await journal.attention()
    await journal.unfinished()
    await journal.beat()
    await journal.release("r0", ends=(await journal.claim("r0")).epoch)
    await journal.load("r0")
    await journal.runs(RunQuery(limit=20))
    await journal.runs(RunQuery(states=("failed",), limit=20))
    await journal.runs(RunQuery(workflow="w", limit=20, before="old40000"))
    assert (await journal.purge(100.0, limit=10)).runs == 10
    texts = [notice.split("Query Text: ", 1)[1] for notice in notices if "Query Text: " in notice]
    return [(text.split("\n")[0], text.split("\n")) for text in texts if "weft." in text]


# ---- retention, large values
async def test_a_document_that_is_about_to_be_used_is_not_removed(opened: Opener, address: str) -> None:
    """A11: while a run is being accepted its document stays, though the last run with it goes."""
    jobs = Jobs(address)
    journal, other = await opened(enqueue=jobs.enqueue), await opened()
    claim = await other.accept(await row(other))
    await other.write(claim, 0, (), DONE)
    run = await row(journal, "r2")
    jobs.gate.clear()
    accepting = asyncio.create_task(journal.submit(run))
    await jobs.entered.wait()
    purged = asyncio.create_task(other.purge(other.now() + 1))
    await asyncio.sleep(0.2)
    jobs.gate.set()
    await accepting
    assert ((await purged).runs, (await purged).documents) == (1, 0)
    assert await other.document(run.document) == '{"steps":[]}'


async def test_a_large_payload_is_kept_once_under_its_hash(opened: Opener, address: str) -> None:
    """A payload above the limit is not in the records, is kept once, and comes back byte for byte."""
    journal = await opened()
    large = '"' + "x" * LARGEST_INLINE + '"'
    claim = await journal.accept(await row(journal))
    records = [begun(payload=large), Record("/a", 1, "succeeded", large)]
    await journal.write(claim, 0, records)
    await journal.write(claim, 0, records)
    assert (await journal.load("r1")).records == tuple(records)
    assert asked(address, "SELECT count(*), sum(length(payload)) FROM weft.payloads") == [(1, len(large))]
    assert asked(address, "SELECT count(payload), count(DISTINCT hash) FROM weft.records") == [(0, 1)]


async def test_a_run_that_is_too_large_is_refused_before_it_is_read(opened: Opener, address: str) -> None:
    """B4: the bytes counted in the row decide."""
    journal = await opened()
    await journal.accept(await row(journal), begun())
    asked(address, "UPDATE weft.states SET size = 64000001")
    with pytest.raises(JournalRefused) as refused:
        await journal.load("r1")
    assert refused.value.problem.code == "run_too_large"


async def test_the_kernel_is_told_when_a_line_is_dead(opened: Opener) -> None:
    """A12: a line on which nothing is confirmed for ten seconds ends, and idle lines are tried."""
    journal = await opened()

    async def options(connection: psycopg.AsyncConnection[Any]) -> tuple[int, int]:
        with socket.socket(fileno=os.dup(connection.fileno())) as line:
            timeout = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            return timeout, line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    assert await journal._link.use(options) == (10_000, 1)


async def test_beats_do_not_stand_behind_slow_questions(opened: Opener) -> None:
    """A12: with all connections in use a beat and an outcome go through."""
    journal = await opened(connections=1)
    claim = await journal.accept(await row(journal))

    async def slow(connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.execute("SELECT pg_sleep(1.5)")

    sleeping = asyncio.create_task(journal._link.use(slow))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await journal.beat()
    await journal.write(claim, 0, [begun()])
    assert time.monotonic() - began < 1
    await sleeping


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("on", "on", "on", "", 0), []),
        (("on", "on", "on", "one", 1), []),
        (("off", "on", "on", "", 0), ["fsync is off"]),
        (("on", "off", "on", "", 0), ["full_page_writes is off"]),
        (("on", "on", "off", "", 0), ["synchronous_commit is off"]),
        (("on", "on", "on", "", 2), ["it has 2 replicas and synchronous_standby_names is empty"]),
        (("on", "on", "local", "one", 1), ["synchronous_commit is 'local' although synchronous_standby_names is set"]),
    ],
)
def test_each_weakness_is_named(settings: tuple[str, str, str, str, int], told: list[str]) -> None:
    """A7: whatever lets an acknowledgement be lost has its own words."""
    found = postgres_life.weaknesses(*settings)
    assert [problem.message.partition(": ")[2].rstrip(".") for problem in found] == told
    assert all(problem.remedy for problem in found)

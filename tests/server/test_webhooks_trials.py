"""Webhooks with real processes: many web processes and workers on one database, and servers that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hooking import SECRETS, STEP, WORKFLOW
from premises import ROOT, ServeProcess

from weft.journal.base import ENDS, RunQuery
from weft.journal.postgres import PostgresJournal
from weft.journal.sqlite import SqliteJournal
from weft.redaction import Secret
from weft.state import State
from weft.webhooks.addresses import address_of
from weft.webhooks.styles import sign

if TYPE_CHECKING:
    from servers.postgres import Postgres

POSTS = int(os.environ.get("LAB_POSTS", "300"))
"""With a tenth of them ids; by hand: LAB_POSTS=1000 LAB_WORKERS=4 LAB_KILLS=20."""
WORKERS = int(os.environ.get("LAB_WORKERS", "1"))
KILLS = int(os.environ.get("LAB_KILLS", "2"))
SECRET = Secret(SECRETS["standard"])
FAST = {"WEFT_WEBHOOK_RATE": "100000", "WEFT_WEBHOOK_RATE_PER_ADDRESS": "100000"}


@pytest.fixture
def environ(place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("STANDARD_SIGNING_SECRET", SECRET.reveal())
    text = WORKFLOW.format(name="standard", style="standard", more="", steps=STEP)
    (place / "workflows" / "standard.yaml").write_text(text, encoding="utf-8")
    (place / "weft-home").mkdir(mode=0o700)
    return {**FAST, "WEFT_WORKSPACE": str(place / "workflows")}


async def path_in(place: Path | str) -> str:
    state = State(place)
    try:
        return (await address_of(state, "standard", "standard")).path
    finally:
        await state.close()


def message(id_: str) -> tuple[bytes, dict[str, str]]:
    body = json.dumps({"n": 1, "id": id_, "text": "\x00é\ud83d\ude00"}).encode()
    return body, {"content-type": "application/json", **sign("standard", SECRET, body, id_=id_, at=time.time())}


async def post(client: httpx.AsyncClient, url: str, id_: str) -> tuple[int, str]:
    body, headers = message(id_)
    response = await client.post(url, content=body, headers=headers)
    return response.status_code, str(response.json().get("run_id"))


@contextlib.contextmanager
def workers(place: Path, count: int, environ: dict[str, str]) -> Iterator[None]:
    words = [sys.executable, "-m", "weft", "worker", "--json"]
    everything = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    started = [
        subprocess.Popen(words, cwd=place, env=everything, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(40)


@pytest.mark.timeout(180)
async def test_a_thousand_posts_of_a_hundred_messages(
    place: Path, environ: dict[str, str], weft_serve: Callable[..., ServeProcess], postgres_server: Postgres
) -> None:
    """A11: over several web processes and workers each message is one run, and all its posts say which.

    Who waits for outputs hears the end of a run that another process makes.
    """
    address = postgres_server.database()
    environ["WEFT_DATABASE_URL"] = address
    path = await path_in(address)
    servers = [weft_serve("--no-worker", environ=environ) for _ in range(2)]
    posts = [f"m{n % (POSTS // 10)}" for n in range(POSTS)]
    random.shuffle(posts)
    room = asyncio.Semaphore(30)
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:

        async def one(number: int, id_: str) -> tuple[str, int, str]:
            async with room:
                status, run_id = await post(client, f"{servers[number % 2].url}/hooks/{path}", id_)
                return id_, status, run_id

        with workers(place, WORKERS, environ):
            answers = await asyncio.gather(*(one(number, id_) for number, id_ in enumerate(posts)))
            runs = await ended_in(PostgresJournal(address), POSTS // 10)
            waited = await outputs_of(client, place, address, servers[0].url)

    told = defaultdict(set)
    for id_, _, run_id in answers:
        told[id_].add(run_id)
    assert Counter(status for _, status, _ in answers) == {202: POSTS // 10, 200: POSTS - POSTS // 10}
    assert all(len(ids) == 1 for ids in told.values())
    assert {run_id for ids in told.values() for run_id in ids} == runs.keys()
    assert set(runs.values()) == {"succeeded"}
    assert waited == (200, 42)


async def outputs_of(client: httpx.AsyncClient, place: Path, address: str, url: str) -> tuple[int, int]:
    """Post to a webhook that waits, at a process that makes no runs; return what it answers."""
    text = WORKFLOW.format(name="standard", style="standard", more="synchronous: true", steps=STEP)
    (place / "workflows" / "standard.yaml").write_text(text, encoding="utf-8")
    body = b'{"n": 21}'
    headers = {"content-type": "application/json", **sign("standard", SECRET, body, id_="waits", at=time.time())}
    answer = await client.post(f"{url}/hooks/{await path_in(address)}", content=body, headers=headers)
    return answer.status_code, answer.json().get("doubled")


async def ended_in(journal: PostgresJournal, count: int) -> dict[str, str]:
    """Return the runs and their states when all have ended, or it has taken too long."""
    await journal.open()
    try:
        until = time.monotonic() + 60
        while True:
            found: dict[str, str] = {run.row.id: run.status.state for run in await journal.runs(RunQuery(limit=500))}
            has_ended = len(found) >= count and all(state in ENDS for state in found.values())
            if has_ended or time.monotonic() > until:
                return found
            await asyncio.sleep(0.2)
    finally:
        await journal.close()


@pytest.mark.timeout(180)
async def test_nothing_that_was_acknowledged_is_lost(
    place: Path, environ: dict[str, str], weft_serve: Callable[..., ServeProcess]
) -> None:
    """Killed by SIGKILL at any moment between request and answer, a server has kept whatever it has said 202 to."""
    home = place / "weft-home"
    path, acknowledged, tried = await path_in(home / "state.db"), dict[str, str](), set[str]()
    for round_ in range(KILLS):
        server = weft_serve("--no-worker", environ=environ)
        async with killed_after(server, 0.1 + 0.3 * random.random()), httpx.AsyncClient(trust_env=False) as client:

            async def sender(who: int, url: str, round_: int = round_, client: httpx.AsyncClient = client) -> None:
                for n in range(10_000):
                    id_ = f"r{round_}-{who}-{n}"
                    tried.add(id_)
                    try:
                        status, run_id = await post(client, url, id_)
                    except httpx.HTTPError:
                        return
                    assert status == 202
                    acknowledged[id_] = run_id

            await asyncio.gather(*(sender(who, f"{server.url}/hooks/{path}") for who in range(4)))
    assert len(acknowledged) > KILLS
    server = weft_serve("--no-worker", environ=environ)
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        again = {id_: await post(client, f"{server.url}/hooks/{path}", id_) for id_ in sorted(tried)}

    assert {id_: (200, run_id) for id_, run_id in acknowledged.items()} == {id_: again[id_] for id_ in acknowledged}
    journal = SqliteJournal(home / "journal.db")
    await journal.open()
    try:
        kept = {run.row.id for run in await journal.unfinished()}
    finally:
        await journal.close()
    assert kept == {run_id for _, run_id in again.values()}
    assert len(kept) == len(tried)


@contextlib.asynccontextmanager
async def killed_after(server: ServeProcess, seconds: float) -> AsyncIterator[None]:
    async def kill() -> None:
        await asyncio.sleep(seconds)
        os.kill(server.popen.pid, signal.SIGKILL)

    killing: asyncio.Task[Any] = asyncio.create_task(kill())
    try:
        yield
    finally:
        await killing
        server.popen.wait(10)

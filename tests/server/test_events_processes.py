"""Events among real processes: web processes and a worker over one database, and a server that stops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from premises import ROOT, ServeProcess
from streaming import Event, hearing

SLOW = """
name: slow
steps:
  - {id: rest, wait: {for: 700ms}}
  - {id: say, uses: log, with: {message: "From the worker."}}
"""


@pytest.fixture
def database(place: Path, postgres_server: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment of an installation on PostgreSQL."""
    (place / "workflows" / "slow.yaml").write_text(SLOW, encoding="utf-8")
    address = str(postgres_server.database())
    for name, value in {
        "WEFT_DATABASE_URL": address,
        "WEFT_WORKSPACE": str(place / "workflows"),
        "WEFT_HOME": str(place / "home"),
    }.items():
        monkeypatch.setenv(name, value)
    return address


@pytest.fixture
def worker(database: str, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker on that database."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "weft", "worker"]
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=place, env=environ, stdout=nowhere, stderr=nowhere)
    yield process
    process.terminate()
    try:
        process.wait(30)
    finally:
        process.kill()


@contextlib.asynccontextmanager
async def program(server: ServeProcess, token: str | None = None) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """A client with a token that the server has made, or that another one of the installation has."""
    if token is None:
        with server.browser() as browser:
            made = browser.post("/api/v1/tokens", json={"name": "test", "scopes": ["view", "run"]})
            token = str(made.raise_for_status().json()["token"])
    headers = {"Authorization": f"Bearer {token}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=server.url, headers=headers, timeout=60, trust_env=False, limits=limits
    ) as client:
        yield client, token


def ended(event: Event) -> bool:
    return event.name == "run" and event.data["state"] == "succeeded" and event.data["topic"] == "runs"


async def test_two_web_processes_hear_a_worker(
    worker: subprocess.Popen[bytes], weft_serve: Callable[..., ServeProcess]
) -> None:
    """A run that a worker drives is heard at both web processes; a listener goes on at the other one and misses nothing."""
    one, two = weft_serve("--no-worker"), weft_serve("--no-worker")
    async with program(one) as (first, token), program(two, token) as (second, _):
        async with hearing(first, "runs") as here, hearing(second, "runs") as there:
            for ear in (here, there):
                await ear.until(lambda event: event.name == "ready", 20)
            run = (await first.post("/api/v1/runs", json={"workflow": "slow"})).raise_for_status().json()["run_id"]
            async with hearing(second, f"run:{run}") as steps:
                assert (await steps.until(lambda event: event.name == "snapshot", 20)).data["run"]["run_id"] == run
                await steps.until(lambda event: event.name == "log", 20)
                end = await steps.until(lambda event: event.name == "run" and event.data["state"] == "succeeded", 20)
            seen = [await ear.until(ended, 20) for ear in (here, there)]
        assert seen[0].data == seen[1].data
        assert seen[0].id == seen[1].id
        meanwhile = (await first.post("/api/v1/runs", json={"workflow": "hello"})).json()["run_id"]
        async with hearing(first, "runs", seen[1].id) as again:  # the id is of the other process
            assert (await again.until(lambda event: event.name == "ready", 20)).data["resumed"]
            assert (await again.until(ended, 20)).data["run_id"] == meanwhile
    assert int(end.id.rpartition("-")[2]) > 0


async def test_a_stop_with_two_hundred_streams(weft_serve: Callable[..., ServeProcess]) -> None:
    """A server with two hundred open streams ends within seconds of SIGTERM; every stream ends as a whole answer does."""
    server = weft_serve()
    async with program(server) as (client, _), contextlib.AsyncExitStack() as stack:
        ears = await asyncio.gather(*(stack.enter_async_context(hearing(client, "runs")) for _ in range(200)))
        await asyncio.gather(*(ear.until(lambda event: event.name == "ready", 30) for ear in ears))
        began = time.monotonic()
        server.popen.terminate()
        assert await asyncio.gather(*(ear.next(20) for ear in ears)) == [None] * 200
        assert await asyncio.to_thread(server.popen.wait, 20) == 0
        assert time.monotonic() - began < 10


async def test_a_run_of_the_command_line_is_heard(weft_serve: Callable[..., ServeProcess], place: Path) -> None:
    """`weft run` beside a server is told of there, though another process drives it."""
    server = weft_serve()
    async with program(server) as (client, _), hearing(client, "runs") as ear:
        await ear.until(lambda event: event.name == "ready", 20)
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "weft", "run", "hello", "--quiet"]
        process = await asyncio.create_subprocess_exec(*command, cwd=place, env=environ)
        assert await process.wait() == 0
        found = await ear.until(ended, 10)
    assert found.data["workflow"] == "hello"

"""How many starts a server accepts, and how soon listeners hear of what happens; on loopback, with `weft serve` as it is.

    .venv/bin/python benchmarks/server/load.py            all of it, about a minute
    .venv/bin/python benchmarks/server/load.py --quick    a look, a few seconds
    .venv/bin/python benchmarks/server/load.py --database postgresql://…   on that database

Client and server share the machine. Each figure stands beside what the same machine gives without what is measured: a
request that starts nothing, and one listener in the place of many.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).parents[2]
WORKFLOWS = {
    "small": "name: small\ninputs: {at: {type: string, default: ''}}\nsteps:\n"
    "  - {id: say, uses: set_values, with: {values: {a: 1}}}\n",
}
AT_ONCE = 16
"""Requests that are under way together."""


@dataclass
class Server:
    """A `weft serve` that is ready."""

    process: subprocess.Popen[str]
    url: str
    token: str

    def end(self) -> float:
        """Stop it and return how many seconds that took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        finally:
            self.process.kill()
            self.process.wait()
        return time.monotonic() - began


def serve(place: Path, *words: str) -> Server:
    """Start a server in a directory."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "WEFT_HOME": str(place / "home")}
    (place / "workflows").mkdir(parents=True, exist_ok=True)
    for name, text in WORKFLOWS.items():
        (place / "workflows" / f"{name}.yaml").write_text(text, encoding="utf-8")
    environ["WEFT_WORKSPACE"] = str(place / "workflows")
    command = [sys.executable, "-m", "weft", "serve", "--json", "--no-browser", "--port", "0", *words]
    process = subprocess.Popen(command, cwd=place, env=environ, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        facts = json.loads(line)
        if facts["event"] == "ready":
            threading.Thread(target=process.stdout.read, daemon=True).start()  # it tells of every run
            return Server(process, facts["url"], re.split("token=", facts["login"])[1])
    raise SystemExit("the server does not start")


@asynccontextmanager
async def client(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    """Log in with the link, make a token for the load, and return a client that has it."""
    async with aiohttp.ClientSession(server.url, cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        await browser.get(f"/login?token={server.token}")
        made = await browser.post(
            "/api/v1/tokens", json={"name": "load", "scopes": ["view", "run"]}, headers={"Origin": server.url}
        )
        token = (await made.json())["token"]
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {token}"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(server.url, connector=connector, headers=headers, timeout=timeout) as session:
        yield session


@dataclass
class Times:
    """How long requests took."""

    seconds: float
    each: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.each) / self.seconds

    def at(self, percent: int) -> float:
        """Return a percentile in milliseconds."""
        return statistics.quantiles(self.each, n=100, method="inclusive")[percent - 1] * 1000


async def load(count: int, ask: Callable[[int], Awaitable[None]]) -> Times:
    """Make so many requests, some at a time."""
    numbers, times = iter(range(count)), Times(0)

    async def one() -> None:
        for number in numbers:
            began = time.perf_counter()
            await ask(number)
            times.each.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    times.seconds = time.perf_counter() - began
    return times


async def starts(session: aiohttp.ClientSession, count: int, *, keyed: bool) -> Times:
    """Start runs."""

    async def ask(number: int) -> None:
        headers = {"Idempotency-Key": f"load-{keyed}-{time.time_ns()}-{number}"} if keyed else {}
        async with session.post("/api/v1/runs", json={"workflow": "small"}, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
            await answer.read()

    return await load(count, ask)


async def reads(session: aiohttp.ClientSession, count: int) -> Times:
    """Ask who one is: the door, the token, and nothing else."""

    async def ask(number: int) -> None:
        async with session.get("/api/v1/session") as answer:
            assert answer.status == 200
            await answer.read()

    return await load(count, ask)


# ---- events
@dataclass
class Heard:
    """What the listeners of one trial heard."""

    latencies: list[float]
    lost: int
    expected: int
    seconds: float

    def at(self, percent: int) -> float:
        return statistics.quantiles(self.latencies, n=100, method="inclusive")[percent - 1] * 1000


async def events(session: aiohttp.ClientSession, listeners: int, runs: int, pause_s: float) -> Heard:
    """Let many listen to the runs that are started one after another; each must hear the end of every one."""
    ready = asyncio.Semaphore(0)
    started: set[str] = set()
    heard: list[dict[str, float]] = [{} for _ in range(listeners)]

    async def listen(ends: dict[str, float]) -> None:
        async with session.get("/api/v1/events?topics=runs") as stream:
            assert stream.status == 200
            name = ""
            async for line in stream.content:
                if line.startswith(b"event: "):
                    name = line[7:].strip().decode()
                    if name == "ready":
                        ready.release()
                elif line.startswith(b"data: ") and name == "run":
                    facts = json.loads(line[6:])
                    if facts["state"] == "succeeded":
                        ended = _instant(facts["ended_at"])
                        ends.setdefault(facts["run_id"], time.time() - ended)

    tasks = [asyncio.create_task(listen(each)) for each in heard]
    for _ in tasks:
        await ready.acquire()
    await asyncio.sleep(1)
    began = time.perf_counter()
    for _ in range(runs):
        async with session.post("/api/v1/runs", json={"workflow": "small"}) as answer:
            started.add((await answer.json())["run_id"])
        await asyncio.sleep(pause_s)
    until = time.monotonic() + 30
    while time.monotonic() < until and any(started - ends.keys() for ends in heard):  # noqa: ASYNC110  200 listeners
        await asyncio.sleep(0.1)
    seconds = time.perf_counter() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    lost = sum(len(started - ends.keys()) for ends in heard)
    return Heard([late for ends in heard for late in ends.values()], lost, listeners * runs, seconds)


def _instant(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


async def measured(server: Server, *, quick: bool) -> list[tuple[str, list[str]]]:
    """Return the rows of the table."""
    count = 150 if quick else 1_500
    async with client(server) as session:
        await starts(session, 30, keyed=False)  # what is loaded with the first ones
        door = await reads(session, count)
        plain = await starts(session, count, keyed=False)
        keyed = await starts(session, count, keyed=True)
        await _idle(session)
        one = await events(session, 1, 20 if quick else 100, 0.05)
        many = await events(session, 50 if quick else 200, 20 if quick else 100, 0.05)
    rows: list[tuple[str, list[str]]] = [("requests", ["per second", "p50 ms", "p99 ms", "ratio"])]
    for name, each in (("who am I", door), ("start", plain), ("start, with a key", keyed)):
        rows.append(
            (name, [f"{each.rate:.0f}", f"{each.at(50):.1f}", f"{each.at(99):.1f}", f"{door.rate / each.rate:.1f}"])
        )
    rows.append(("events", ["p50 ms", "p95 ms", "lost", "ratio"]))
    for name, found in (("1 listener", one), (f"{50 if quick else 200} listeners", many)):
        ratio = f"{found.at(50) / one.at(50):.1f}"
        rows.append((name, [f"{found.at(50):.0f}", f"{found.at(95):.0f}", f"{found.lost} of {found.expected}", ratio]))
    return rows


async def _idle(session: aiohttp.ClientSession) -> None:
    """Wait until every run has ended."""
    while True:
        async with session.get("/api/v1/runs?state=ready&state=running&limit=1") as answer:
            if not (await answer.json())["items"]:
                return
        await asyncio.sleep(0.3)


def table(rows: list[tuple[str, list[str]]]) -> str:
    """Return the rows as lines."""
    lines = []
    for name, cells in rows:
        head = not any(cell[:1].isdigit() for cell in cells)
        lines.append(
            ("\n" if head else "  ") + name.ljust(24 if head else 22) + "".join(cell.rjust(14) for cell in cells)
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds")
    parser.add_argument("--database", help="the address of a PostgreSQL database")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    if options.database:
        os.environ["WEFT_DATABASE_URL"] = options.database
    with tempfile.TemporaryDirectory() as directory:
        server = serve(Path(directory))
        try:
            rows: list[tuple[str, Any]] = list(asyncio.run(measured(server, quick=options.quick)))
        finally:
            ended_s = server.end()
    rows += [("stop", ["seconds"]), ("SIGTERM", [f"{ended_s:.1f}"])]
    print(json.dumps(dict(rows)) if options.json else table(rows))


if __name__ == "__main__":
    main()

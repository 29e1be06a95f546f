"""A shop that counts what it sells, a pack whose action buys there, and processes of `weft` that do so."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from aiohttp import web

from weft.journal.base import Listed, RunQuery
from weft.runtime import Runtime

ROOT = Path(__file__).parents[2]

ACTION = '''
from __future__ import annotations

import asyncio
from collections.abc import Mapping

from weft.sdk import ActionContext, ActionError, Cost, Estimate, Json, Usage


async def buy(
    context: ActionContext, price: float, most: float = 0.0, tokens: int = 0, seconds: float = 0.0, fails: bool = False
) -> Json:
    """Buy something, and say what it has cost."""
    assert context.connection is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", context.connection.get("port"))
    asked = f"price={price}&seconds={seconds}&run={context.run_id}"
    writer.write(f"GET /buy?{asked} HTTP/1.1\\r\\nHost: shop\\r\\nConnection: close\\r\\n\\r\\n".encode())
    answer = await reader.read()
    writer.close()
    if fails or b" 200 " not in answer:
        raise ActionError("Nobody knows whether it was sold.", kind="sold_out", details={"nobody": "knows"})
    return {"paid": price, "tokens": tokens}


def estimate(arguments: Mapping[str, Json]) -> Estimate:
    most = arguments.get("most") or arguments["price"]
    return Estimate(Cost(float(most), "USD"), int(arguments.get("tokens") or 0))


def usage(told: Mapping[str, Json], kind: str | None) -> Usage:
    return Usage() if kind else Usage(Cost(float(told["paid"]), "USD"), int(told["tokens"]))
'''

MANIFEST = """
id: buy
title: Buy
purpose: Buy something for tests.
category: Tests
icon: cart
version: 1
effects: read
retry: safe
connection: shop
parameters:
  basic:
    - {name: price, title: Price, description: What it costs., type: number, required: true, widget: number, example: 1}
    - {name: most, title: Most, description: What it may cost., type: number, default: 0.0, widget: number, example: 1}
    - {name: tokens, title: Tokens, description: What it takes., type: integer, default: 0, widget: number, example: 1}
    - {name: seconds, title: Time, description: How long it takes., type: number, default: 0.0, widget: number, example: 1}
    - {name: fails, title: Fails, description: Whether it fails., type: boolean, default: false, widget: switch, example: true}
output: {schema: {type: object}, example: {}}
"""

SHOP = """
id: shop
title: Shop
purpose: A shop for tests.
icon: cart
fields:
  - {name: port, title: Port, description: Where it is., type: integer, required: true, widget: number, example: 80}
  - {name: tokens_per_minute, title: Tokens, description: How many., type: integer, minimum: 1, widget: number, example: 9}
"""


@dataclass
class Sale:
    """A request that has come."""

    run: str
    price: Decimal


class Shop:
    """A server that sells, and remembers what it sold and to how many at once."""

    def __init__(self) -> None:
        self.sales: list[Sale] = []
        self.inside = 0
        self.most_inside = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def sold(self) -> Decimal:
        return sum((sale.price for sale in self.sales), Decimal(0))

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/buy", self._sell)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _sell(self, request: web.Request) -> web.Response:
        self.sales.append(Sale(request.query["run"], Decimal(request.query["price"])))
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await asyncio.sleep(float(request.query["seconds"]))
        finally:
            self.inside -= 1
        return web.Response(text="sold")


@dataclass
class Market:
    """A journal, a shop, and the processes that buy there."""

    kind: str
    directory: Path
    home: Path
    shop: Shop
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def connection(self, **limits: int) -> None:
        """Write the file of connections."""
        entry = {"type": "shop", "port": self.shop.port, **limits}
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "connections.yaml").write_text(yaml.safe_dump({"shop": entry}), encoding="utf-8")

    def workflow(
        self, budget: Mapping[str, Any] | None = None, step: Mapping[str, Any] | None = None, **given: Any
    ) -> Path:
        """Write a workflow that buys something."""
        whole = {"id": "buy", "uses": "buy", "connection": "shop", "with": given, **(step or {})}
        document = {"name": "trade", "steps": [whole], **({"budget": dict(budget)} if budget else {})}
        file = self.directory / "workflows" / "trade.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return file

    @asynccontextmanager
    async def runtime(self) -> AsyncIterator[Runtime]:
        async with Runtime.open(home=self.home, packs=[self.directory / "pack"]) as runtime:
            await runtime.opened()
            yield runtime

    async def submit(self, file: Path, count: int) -> list[str]:
        """Have runs accepted for any worker."""
        async with self.runtime() as runtime:
            plan = runtime.compile(file)
            return [await runtime.submit(plan, {}) for _ in range(count)]

    def worker(self, *words: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "weft", "worker", "--pack", "pack", *words],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.processes.append(process)
        return process

    async def runs(self) -> list[Listed]:
        async with self.runtime() as runtime:
            return list(await runtime.journal.runs(RunQuery(limit=10_000)))

    async def states(self) -> Counter[str]:
        return Counter(run.status.state for run in await self.runs())

    async def used(self, key: str, *, reserved: bool = False) -> int:
        async with self.runtime() as runtime:
            return (await runtime.journal.used([key], reserved=reserved))[key]

    def end_all(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait(10)
            assert process.stderr is not None
            process.stderr.close()


async def until(is_true: Callable[[], Any], timeout_s: float = 30.0) -> None:
    """Wait for something that other processes bring about."""
    async with asyncio.timeout(timeout_s):
        while not is_true():
            await asyncio.sleep(0.01)


async def end_of(process: subprocess.Popen[bytes], timeout_s: float = 60.0) -> int:
    """Wait for the end of a process while the shop stays open."""
    await until(lambda: process.poll() is not None, timeout_s)
    return int(process.returncode)


def write_pack(directory: Path) -> None:
    """Write the pack whose action buys."""
    files = {
        "actions/__init__.py": "",
        "actions/buy.py": ACTION,
        "manifests/buy.yaml": MANIFEST,
        "manifests/connections/shop.yaml": SHOP,
    }
    for name, text in files.items():
        file = directory / "pack" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def environment() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}

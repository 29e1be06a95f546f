"""A workspace with exposed workflows, and `weft mcp` as a client starts it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from agents import ASKS, BROKEN, GREET, HIDDEN, SLOW, Connect, environ
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from weft.cli.mcp import allowed
from weft.mcp.calling import Calls, Here
from weft.mcp.offering import Offering
from weft.mcp.serving import McpServer
from weft.runtime import Runtime

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))  # where servers for tests are made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a workspace; this process stands in it."""
    workflows = tmp_path / "workflows"
    workflows.mkdir()
    for name, text in {"greet": GREET, "hidden": HIDDEN, "slow": SLOW, "broken": BROKEN, "asks": ASKS}.items():
        (workflows / f"{name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def connect(place: Path) -> Connect:
    """Starts `weft mcp` and connects a client of the official SDK."""

    @asynccontextmanager
    async def connected(*words: str, mode: str = "legacy", **options: Any) -> AsyncIterator[Client]:
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "weft", "mcp", *words], env=environ(place), cwd=place
        )
        with (place / "stderr").open("w") as stderr:
            async with Client(stdio_client(server, errlog=stderr), mode=mode, **options) as client:
                yield client

    return connected


@pytest.fixture
def talk(place: Path) -> Connect:
    """The same tools in this process: no process is started, no byte is written."""

    @asynccontextmanager
    async def connected(
        *actions: str, wait_s: float = 50.0, mode: str = "legacy", **options: Any
    ) -> AsyncIterator[Client]:
        async with Runtime.open(home=place / "home") as runtime:
            offering = Offering(runtime, [allowed(each) for each in actions])
            calls = Calls(runtime, offering, Here(runtime), wait_s=wait_s)
            server = McpServer(runtime, offering, calls, lambda ctx: "local")
            announcing = asyncio.create_task(server.announce())
            try:
                async with Client(server, mode=mode, **options) as client:
                    yield client
            finally:
                announcing.cancel()
                await asyncio.wait([announcing])
                await server.settled()

    return connected

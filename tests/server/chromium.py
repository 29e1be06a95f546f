"""A real browser, spoken to by its DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

WORDS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",
)


def found() -> str:
    """Return where the browser is."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise FileNotFoundError("Chromium is missing: apt-get install chromium")


@dataclass
class Tab:
    """One page."""

    socket: aiohttp.ClientWebSocketResponse
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def do(self, method: str, **params: Any) -> Any:
        """Do something with the page, and return what comes of it."""
        number = next(self.numbers)
        await self.socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(30):
            async for message in self.socket:
                answer = message.json()
                if answer.get("id") == number:
                    assert "error" not in answer, answer
                    return answer["result"]
        raise AssertionError("the page is gone")

    async def ask(self, script: str) -> Any:
        """Return the value of an expression in the page, awaited."""
        result = await self.do("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")


@dataclass
class Browser:
    """A browser with its tabs."""

    session: aiohttp.ClientSession
    url: str
    stack: AsyncExitStack

    async def tab(self) -> Tab:
        """Open an empty tab."""
        async with self.session.put(f"{self.url}/json/new?about:blank") as response:
            address = (await response.json())["webSocketDebuggerUrl"]
        return Tab(await self.stack.enter_async_context(self.session.ws_connect(address, max_msg_size=0)))


@asynccontextmanager
async def chromium(directory: Path) -> AsyncIterator[Browser]:
    """A browser with a profile of its own; nothing of it is left."""
    nowhere = asyncio.subprocess.DEVNULL
    command = [found(), *WORDS, f"--user-data-dir={directory}"]
    process = await asyncio.create_subprocess_exec(*command, stdout=nowhere, stderr=nowhere)
    try:
        port = directory / "DevToolsActivePort"
        async with asyncio.timeout(30):
            while not (port.exists() and port.read_text(encoding="utf-8").count("\n")):
                await asyncio.sleep(0.05)
        number = port.read_text(encoding="utf-8").splitlines()[0]
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(aiohttp.ClientSession())
            yield Browser(session, f"http://127.0.0.1:{number}", stack)
    finally:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()

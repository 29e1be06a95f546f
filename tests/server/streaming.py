"""Reads event streams as programs do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(frozen=True)
class Event:
    """One event of a stream."""

    id: str
    name: str
    data: dict[str, Any]


@dataclass
class Ear:
    """An open stream."""

    response: httpx.Response
    lines: AsyncIterator[str]
    events: list[Event] = field(default_factory=list)

    async def next(self, seconds: float = 10) -> Event | None:
        """Return the next event; None at the end of the stream."""
        facts: dict[str, str] = {}
        async with asyncio.timeout(seconds):
            async for line in self.lines:
                if not line and "event" in facts:
                    self.events.append(Event(facts.get("id", ""), facts["event"], json.loads(facts["data"])))
                    return self.events[-1]
                name, _, value = line.partition(": ")
                facts[name] = value
        return None

    async def until(self, found: Callable[[Event], bool], seconds: float = 10) -> Event:
        """Return the first event that is looked for."""
        while (event := await self.next(seconds)) is not None:
            if found(event):
                return event
        raise AssertionError(f"the stream has ended: {self.events}")


@asynccontextmanager
async def hearing(client: httpx.AsyncClient, topics: str, after: str | None = None) -> AsyncIterator[Ear]:
    """Hear topics, from behind an id as a browser asks for it that comes back."""
    headers = {} if after is None else {"Last-Event-ID": after}
    async with client.stream("GET", "/api/v1/events", params={"topics": topics}, headers=headers) as response:
        if response.status_code == 200:
            assert response.headers["content-type"].startswith("text/event-stream")
        yield Ear(response, response.aiter_lines())

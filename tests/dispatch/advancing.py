"""A small driver over the real journal: steps that take time and leave a line for each effect."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from weft.errors import JournalRefused, JournalUnavailable, NotFound
from weft.journal.base import Claim, Ended, Journal, Record, Rest, RunRow

T = TypeVar("T")
DOCUMENT = "{}"


def run_row(run_id: str, *, steps: int = 2, step_s: float = 0.0, sleep_s: float | None = None) -> RunRow:
    """Return a run of so many steps; with `sleep_s` it sleeps before the last one."""
    inputs = json.dumps({"steps": steps, "step_s": step_s, "sleep_s": sleep_s})
    return RunRow(run_id, "w", hashlib.sha256(DOCUMENT.encode()).hexdigest(), inputs, "null", time.time())


async def submit(journal: Journal, *rows: RunRow) -> None:
    """Have runs accepted for any worker."""
    await journal.keep_document(DOCUMENT)
    for row in rows:
        await journal.submit(row)


class Effects:
    """A file that several processes append to: time, process, what, run, step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, what: str, run_id: str, step: int | str = "-") -> None:
        handle = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        os.write(handle, f"{time.time():.3f} {os.getpid()} {what} {run_id} {step}\n".encode())
        os.close(handle)

    def seen(self, what: str, run_id: str | None = None) -> list[tuple[int, str, str]]:
        """Return process, run and step of the lines of one kind, in order."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        parts = [line.split() for line in lines]
        return [(int(pid), run, step) for _, pid, kind, run, step in parts if kind == what and run_id in (None, run)]


class Work:
    """Drives runs of `run_row`; what the keeper and the dispatcher see of the engine."""

    def __init__(self, journal: Journal, effects: Effects) -> None:
        self.journal = journal
        self.effects = effects
        self.live: dict[str, object] = {}
        self.noticed: list[str] = []
        self.most = 0  #: runs in hand at a time
        self.stopping = False
        self.rested = 0

    def holds(self, run_id: str) -> bool:
        return run_id in self.live

    def notice(self, run_id: str) -> None:
        self.noticed.append(run_id)

    async def advance(self, run_id: str) -> None:
        try:
            claim = await self.journal.claim(run_id)
        except (JournalRefused, NotFound):
            self.effects.add("dropped", run_id)
            return
        self.live[run_id] = claim
        self.most = max(self.most, len(self.live))
        try:
            await self._go_on(claim)
        except JournalRefused:
            self.effects.add("refused", run_id)
        finally:
            del self.live[run_id]

    async def _go_on(self, claim: Claim) -> None:
        kept = await persist(lambda: self.journal.load(claim.run_id))
        given: dict[str, Any] = json.loads(kept.row.inputs)
        done = {(each.path, each.kind) for each in kept.records}
        news = kept.status.news
        for step in range(given["steps"]):
            path = f"/s{step}"
            if (path, "succeeded") in done:
                continue
            rest = self._rest(given["sleep_s"] if step == given["steps"] - 1 and ("/t", "timer") not in done else None)
            if rest is not None:
                timer = [Record("/t", 1, "timer", "null")] if rest.state == "waiting" else []
                await persist(partial(self.journal.write, claim, news, timer, rest))
                self.rested += 1
                return
            await self._step(claim, news, path, step, given["step_s"])
        await persist(lambda: self.journal.write(claim, news, (), Ended("succeeded", "null")))
        self.effects.add("done", claim.run_id)

    def _rest(self, sleep_s: float | None) -> Rest | None:
        if sleep_s is not None:
            return Rest("waiting", wake_at=self.journal.now() + sleep_s)
        return Rest("ready") if self.stopping else None

    async def _step(self, claim: Claim, news: int, path: str, step: int, seconds: float) -> None:
        begun = Record(path, claim.epoch, "begun", "null")  # each owner's attempt has a number of its own
        await persist(lambda: self.journal.write(claim, news, [begun]))
        self.effects.add("begin", claim.run_id, step)
        if seconds:
            await asyncio.sleep(seconds)
        outcome = Record(path, claim.epoch, "succeeded", "null")
        await persist(lambda: self.journal.write(claim, news, [outcome]))
        self.effects.add("end", claim.run_id, step)


async def persist(call: Callable[[], Awaitable[T]]) -> T:
    """Ask the journal until it answers."""
    while True:
        try:
            return await call()
        except JournalUnavailable:
            await asyncio.sleep(0.1)


async def until(is_true: Callable[[], Any], timeout_s: float = 10.0) -> None:
    """Wait for something that others bring about."""
    end = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < end, "it has not happened in time"
        await asyncio.sleep(0.01)

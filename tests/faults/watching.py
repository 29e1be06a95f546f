"""A place with workers that nobody kills: what the other faults are tried on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from faults.kills import AnyPlace, replayed
from faults.ledger import OUTCOMES, Ledger, Log
from faults.nursery import Child

LONG_S = 120.0


class Watch:
    """Workers and submitters in one place, what they note, and the judge.

    Args:
        place: Where they are.
        more: Variables of theirs.
    """

    def __init__(self, place: AnyPlace, **more: str) -> None:
        self.place, self.more = place, more
        self.ledger = Ledger()
        self.workers: list[Child] = []
        self._submitters: list[Child] = []
        self._log = Log(place.effects)
        self._runs = 0

    def submit(self, workflow: str, count: int, *, pause_s: float = 0.0, **inputs: object) -> Child:
        """Have runs handed over."""
        words = ("submit", workflow, f"{chr(97 + len(self._submitters))}", "0", str(count), str(pause_s))
        child = self.place.start(*words, json.dumps(inputs), env=self.more)
        self._submitters.append(child)
        self._runs += count
        return child

    def work(self, *words: str, **more: str) -> Child:
        child = self.place.worker(*words, env={**self.more, **more})
        self.workers.append(child)
        return child

    def look(self) -> None:
        """Read what was noted, and see that every worker is there."""
        self.ledger.read(self._log.news())
        for child in self.workers:
            if child.poll() is not None:
                self.ledger.counts["workers that left"] += 1
                self.ledger.wrong.append(f"a worker left with {child.poll()}: {self.place.output()[-1500:]}")
        self.workers = [child for child in self.workers if child.poll() is None]

    def until(self, is_so: Callable[[], bool], *, longest_s: float = LONG_S, what: str) -> float:
        """Wait for something, and return how long it took."""
        began = time.monotonic()
        while not is_so():
            if time.monotonic() - began > longest_s:
                self.ledger.wrong.append(f"not within {longest_s:.0f} s: {what}")
                break
            time.sleep(0.05)
            self.look()
        return time.monotonic() - began

    def noted(self, what: str) -> int:
        """Return how many of the lines say so."""
        self.look()
        return self.ledger.noted[what]

    def all_ended(self) -> bool:
        states = self.place.states()
        return len(states) >= self._runs and all(state in OUTCOMES for state in states.values())

    def finish(self, *, longest_s: float = LONG_S) -> Ledger:
        """Let everything end, and judge it."""
        self.until(self.all_ended, longest_s=longest_s, what="all runs have ended")
        if not self.all_ended():
            states = self.place.states()
            self.ledger.wrong.append(f"open: { {run: each for run, each in states.items() if each not in OUTCOMES} }")
        for child in self.workers:
            if child.terminate() != 0:
                self.ledger.wrong.append(f"a worker left with {child.poll()}: {self.place.output()[-1500:]}")
        self.workers.clear()
        for child in self._submitters:
            if child.wait() != 0:
                self.ledger.wrong.append(f"a submitter left with {child.poll()}: {self.place.output()[-1500:]}")
        self.look()
        self.ledger.look(self.place.snapshot())
        self.ledger.wrong += replayed(self.place)
        self.ledger.wrong = [f"in {self.place.directory}: {each}" for each in self.ledger.wrong]
        return self.ledger

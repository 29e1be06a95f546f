"""Row 21: a loop of 10,000 items whose workers die, and outputs of 10 MB, one after another."""

from __future__ import annotations

import contextlib
import json
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.kills import AnyPlace, replayed
from faults.ledger import OUTCOMES, Ledger, Log
from faults.nursery import Child

AT_ONCE = 50
"""Items that may be in flight, as `many-items` has it."""

LONG_S = 300.0
MEGABYTE = 1_000_000


@dataclass
class Volume:
    """One run of much, and the workers that go on with it, one after another.

    Args:
        place: Where it is kept.
        seed: Decides when workers die.
    """

    place: AnyPlace
    seed: str

    def __post_init__(self) -> None:
        self.ledger = Ledger()
        self._dice = random.Random(self.seed)
        self._log = Log(self.place.effects)
        self._worker: Child | None = None
        self._base_mb = 0.0
        self.most_mb = 0.0  #: that a worker took more than at its start

    def play(self, workflow: str, *, kills: int, steps: int, **inputs: int) -> None:
        """Have the run handed over, kill workers spread over its steps, and let the last one end it."""
        words = ("submit", workflow, "v", "0", "1", "0", json.dumps(inputs))
        if self.place.start(*words).wait() != 0:
            raise RuntimeError(self.place.output())
        marks = sorted(self._dice.sample(range(1, max(steps, kills + 1)), kills))
        until = time.monotonic() + LONG_S
        while not all(state in OUTCOMES for state in self.place.states().values()):
            if time.monotonic() > until:
                self.ledger.wrong.append(f"not within {LONG_S:.0f} s: the run has ended: {self.place.states()}")
                break
            self._look()
            if marks and self.ledger.noted["begin"] >= marks[0]:
                del marks[0]
                self._kill()
            time.sleep(0.02)
        self._finish()

    def _look(self) -> None:
        if self._worker is None:
            self._worker = self.place.worker()
            self.ledger.covered_since = self._worker.started_at
            self._base_mb = 0.0
        elif (code := self._worker.poll()) is not None:
            self.ledger.wrong.append(f"a worker left with {code}: {self.place.output()[-1500:]}")
            self._worker = None
            return
        self.ledger.read(self._log.news())
        taken = _memory_mb(self._worker)
        self._base_mb = self._base_mb or taken
        self.most_mb = max(self.most_mb, taken - self._base_mb)

    def _kill(self) -> None:
        assert self._worker is not None
        self._worker.kill()
        self.ledger.kill(self._worker.pid, self._worker.killed_at or 0.0)
        self.ledger.read(self._log.news())
        self.ledger.look(self.place.snapshot())
        self._worker = None

    def _finish(self) -> None:
        if self._worker is not None and self._worker.terminate() != 0:
            self.ledger.wrong.append(f"a worker left with {self._worker.poll()}: {self.place.output()[-1500:]}")
        self.ledger.read(self._log.news())
        self.ledger.look(self.place.snapshot())
        self.ledger.counts["MB more than at the start"] = round(self.most_mb)

    def report(self) -> dict[str, Any]:
        """Return what `weft runs show` says, and note how long it took to say it."""
        before, began = len(self.place.output()), time.monotonic()
        if self.place.start("runs", "show", "--json").wait() != 0:
            raise RuntimeError(self.place.output()[-2000:])
        self.ledger.counts["ms to show the run"] = round((time.monotonic() - began) * 1000)
        found: dict[str, Any] = json.loads(self.place.output()[before:])
        return found


def _memory_mb(child: Child) -> float:
    with contextlib.suppress(OSError):
        if found := re.search(r"RssAnon:\s*(\d+) kB", Path(f"/proc/{child.pid}/status").read_text()):
            return int(found[1]) / 1000
    return 0.0


def loop(place: AnyPlace, seed: str, *, items: int, kills: int, most_mb: float) -> Ledger:
    """A loop over many items, whose workers die: each item is sent, no finished one again, in bounded memory."""
    volume = Volume(place, seed)
    began = time.monotonic()
    volume.play("many-items", kills=kills, steps=items, items=items)
    ledger = volume.ledger
    ledger.counts["ms per item"] = round((time.monotonic() - began) * 1000 / items)
    report = volume.report()
    if (report["state"], report["outputs"]) != ("succeeded", {"done": items}):
        ledger.wrong.append(f"the run has {report['state']}: {report['outputs']} {report['problem']}")
    ended = ledger.noted["end"]
    repeats = ledger.counts["in flight repeated"]
    if not items <= ended <= items + repeats:
        ledger.wrong.append(f"{ended} sends of {items} items, of which {repeats} were in flight when a process died")
    if repeats > kills * AT_ONCE:
        ledger.wrong.append(f"{repeats} were repeated after {kills} deaths, with {AT_ONCE} in flight at most")
    attempts = sum(len(step["attempts"]) for step in report["steps"])
    if attempts != items:
        ledger.wrong.append(f"the report has {attempts} attempts of {items} items")
    _judge_memory(volume, most_mb)
    ledger.wrong += replayed(place)
    return ledger


def outputs(
    place: AnyPlace, seed: str, *, count: int, size: int, kills: int, most_mb: float, fails_for: str | None = None
) -> Ledger:
    """Long outputs: what does not fit into a record, or into the run, fails and says so; no send is repeated for that."""
    volume = Volume(place, seed)
    volume.play("long-outputs", kills=kills, steps=count, count=count, size=size)
    ledger = volume.ledger
    report = volume.report()
    ledger.counts["MB of outputs"] = round(count * size / MEGABYTE)
    code = (report["problem"] or {}).get("code")
    if (report["state"], code) != ("failed" if fails_for else "succeeded", fails_for):
        ledger.wrong.append(f"the run has {report['state']}: {report['problem']}")
    if ledger.noted["end"] > count + ledger.counts["in flight repeated"]:
        ledger.wrong.append(f"{ledger.noted['end']} sends of {count}")
    if not fails_for and report["outputs"] != {"done": count}:
        ledger.wrong.append(f"the outputs are {report['outputs']}")
    ledger.counts["outputs kept"] += sum(len(step["attempts"]) for step in report["steps"])
    _judge_memory(volume, most_mb)
    ledger.wrong += replayed(place)
    return ledger


def _judge_memory(volume: Volume, most_mb: float) -> None:
    if volume.most_mb > most_mb:
        volume.ledger.wrong.append(
            f"a worker took {volume.most_mb:.0f} MB more than at its start, {most_mb:.0f} at most"
        )

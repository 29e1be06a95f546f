"""Row 1: kill -9 at random, and just before and after every COMMIT of a run of five steps."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from signal import SIGKILL

from faults.ledger import OUTCOMES, Ledger, Log, isolated_in
from faults.nursery import Child
from faults.places import PostgresPlace, SqlitePlace

AnyPlace = SqlitePlace | PostgresPlace

POINTS = ("before", "after")
FARTHEST = 60
"""No run of five steps has so many writes."""


@dataclass
class Storm:
    """What happens in one round.

    Args:
        kills: How many processes die.
        runs: How many are handed over meanwhile.
        workers: How many there are at a time.
        life: Between which numbers of seconds a kill follows another.
        calm_s: So long one worker is spared, then another: somebody must be there to see that others are dead.
        aimed: The share of workers that die at a COMMIT of theirs.
    """

    kills: int = 40
    runs: int = 60
    workers: int = 2
    life: tuple[float, float] = (0.2, 0.8)
    calm_s: float = 0.0
    aimed: float = 0.3
    fresh: float = 0.03
    inputs: dict[str, object] = field(default_factory=lambda: {"seconds": 0.15})
    longest_s: float = 240.0


class Round:
    """Workers and submitters that are killed, and what is seen of them."""

    def __init__(self, place: AnyPlace, storm: Storm, seed: str) -> None:
        self.place, self.storm, self.seed = place, storm, seed
        self.ledger = Ledger()
        self._dice = random.Random(seed)
        self._log = Log(place.effects)
        self._workers: list[Child] = []
        self._spared: tuple[Child, float] | None = None
        self._submitter: Child | None = None

    def play(self) -> Ledger:
        """Kill as often as asked, then let everything end, and judge it."""
        until = time.monotonic() + self.storm.longest_s
        while self.ledger.counts["kills"] < self.storm.kills and time.monotonic() < until:
            self._fill()
            time.sleep(self._dice.uniform(*self.storm.life))
            self._strike()
        self._finish()
        return self.ledger

    def _fill(self, *, calm: bool = False) -> None:
        while len(self._workers) < self.storm.workers:
            aim = None if calm or self._dice.random() >= self.storm.aimed else self._aim()
            fresh = not calm and self._dice.random() < self.storm.fresh
            seed = str(self._dice.randrange(1 << 30))
            child = self.place.worker(aim=aim, fresh=fresh, env={"FAULTS_SEED": seed})
            self._workers.append(child)
            self.ledger.counts["started in the ordinary way"] += fresh
        if self._submitter is None or self._submitter.poll() not in (None, 0):
            self._submitter = self.place.start(
                *("submit", "five-steps", "r", "0", str(self.storm.runs)),
                *(str(self._pause_s()), json.dumps(self._inputs())),
            )

    def _pause_s(self) -> float:
        return 0.5 * self.storm.kills * sum(self.storm.life) / 2 / self.storm.runs

    def _inputs(self) -> dict[str, object]:
        return {**self.storm.inputs, "rest": self._dice.choice(["100ms", "1500ms", "2200ms"])}

    def _aim(self) -> str:
        points = (*POINTS, "fetched") if isinstance(self.place, PostgresPlace) else POINTS
        return f"{self._dice.choice(points)} {self._dice.randint(1, 25)}"

    def _cover(self) -> None:
        """Note since when one of the workers has been there: nobody can go on with anything before."""
        living = [child.started_at for child in self._workers if child.poll() is None]
        self.ledger.covered_since = min(living, default=None)

    def _strike(self) -> None:
        self._cover()
        victims = [child for child in self._workers if child.poll() is None and not self._is_spared(child)]
        if self._dice.random() < 0.1 and self._submitter is not None and self._submitter.poll() is None:
            self._submitter.kill()
            self.ledger.kill(self._submitter.pid, self._submitter.killed_at or 0.0)
        elif victims:
            many = len(victims) if self._dice.random() < 0.3 else 1
            for child in self._dice.sample(victims, many):
                child.kill()
        self.look()

    def _is_spared(self, child: Child) -> bool:
        """Tell whether this is the worker that is there to see the others die."""
        if not self.storm.calm_s:
            return False
        if self._spared is None or time.time() > self._spared[1] or self._spared[0].poll() is not None:
            self._spared = min(self._workers, key=lambda each: each.started_at), time.time() + self.storm.calm_s
        return child is self._spared[0]

    def look(self) -> None:
        """Bury the dead, and compare what was acknowledged with what is there."""
        for child in [each for each in self._workers if each.poll() is not None]:
            self._workers.remove(child)
            if child.poll() == -SIGKILL:
                self.ledger.kill(child.pid, child.killed_at or child.ended_at or time.time())
            else:
                self.ledger.wrong.append(f"a worker ended by itself: {child.poll()}\n{self.place.output()[-2000:]}")
        if isinstance(self.place, SqlitePlace):
            living = [each for each in (*self._workers, self._submitter) if each is not None and each.poll() is None]
            living += self.place.alone()
            for child in living:
                child.stop()
            try:
                lines, found = self._log.news(), self.place.snapshot(stood=bool(living))
            finally:
                for child in living:
                    child.go_on()
        else:
            seen = (
                self.place.snapshot().records
            )  # before the log is read: what is begun in it after that is begun again
            lines = self._log.news()
            found = replace(self.place.snapshot(), seen=seen)  # and after: what is acknowledged in it must be there
        self.ledger.isolated |= isolated_in(self.place.output())
        self.ledger.read(lines)
        self.ledger.look(found)

    def _finish(self) -> None:
        self._workers = [each for each in self._workers if each.poll() is None]
        for child in self._workers:  # those with an aim would die later
            child.kill()
            self._workers = [each for each in self._workers if each is not child]
            self.ledger.kill(child.pid, child.killed_at or 0.0)
        self._fill(calm=True)
        self._cover()
        until = time.monotonic() + 120
        while time.monotonic() < until:
            self._fill(calm=True)
            states = self.place.states()
            if len(states) >= self.storm.runs and all(state in OUTCOMES for state in states.values()):
                break
            time.sleep(0.1)
        else:
            self.ledger.wrong.append(f"not everything has ended: {_open(self.place.states())}")
        for child in self._workers:
            if child.terminate() != 0:
                self.ledger.wrong.append(f"a worker left with {child.poll()}\n{self.place.output()[-2000:]}")
        self._workers.clear()
        self.look()
        self.ledger.wrong += replayed(self.place)


def _open(states: dict[str, str]) -> dict[str, str]:
    return {run: state for run, state in states.items() if state not in OUTCOMES}


def replayed(place: AnyPlace) -> list[str]:
    """Compute every run again from its records alone, and return what is wrong."""
    before = len(place.output())
    code = place.start("replay").wait(120)
    told = place.output()[before:]
    wrong = [line for line in told.splitlines() if line.startswith("WRONG")]
    return wrong if code == 0 or wrong else [f"the replay failed: {told[-2000:]}"]


# ---- aimed at every write
def every_write(
    make: Callable[[str], AnyPlace], *, points: tuple[str, ...], at_once: int = 6, step: int = 1
) -> Iterator[Ledger]:
    """Kill a worker at each write of a run (or at each `step`-th), each in a place of its own."""
    for point in points:
        with ThreadPoolExecutor(at_once) as pool:
            for first in range(1, FARTHEST, at_once * step):
                numbers = range(first, first + at_once * step, step)
                found = list(pool.map(lambda n: aimed(make(f"{point}{n}"), f"{point} {n}"), numbers))  # noqa: B023
                yield from found
                if not all(ledger.counts["kills"] for ledger in found):
                    break


def aimed(place: AnyPlace, aim: str) -> Ledger:
    """Let the first worker die at a point, and the next one end the run."""
    inputs = json.dumps({"seconds": 0.01, "rest": "2100ms"})
    ledger, log = Ledger(), Log(place.effects)
    assert place.start("submit", "five-steps", "r", "0", "1", "0", inputs).wait() == 0, place.output()
    first = place.worker(aim=aim, env={"FAULTS_SEED": aim})
    while first.poll() is None and not all(state in OUTCOMES for state in place.states().values()):
        time.sleep(0.05)
    ledger.read(log.news())
    if first.poll() is None and (code := first.terminate()) != -SIGKILL:  # else it has died at the last write
        if code != 0:
            ledger.wrong.append(f"{aim}: the worker left with {code}")
        return ledger
    ledger.kill(first.pid, first.ended_at or time.time())
    ledger.look(place.snapshot())
    ledger.await_first()
    second = place.worker()
    ledger.covered_since = second.started_at
    until = time.monotonic() + 90
    while time.monotonic() < until and not all(state in OUTCOMES for state in place.states().values()):
        time.sleep(0.05)
    code = second.terminate()
    ledger.read(log.news())
    ledger.look(place.snapshot())
    ledger.wrong += replayed(place)
    if code != 0:
        ledger.wrong.append(f"the second worker left with {code}")
    ledger.wrong = [f"{aim} in {place.directory}: {each}" for each in ledger.wrong]
    return ledger

"""What the effects log and the database say, and what must never be in them."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

OUTCOMES = frozenset({"succeeded", "failed", "cancelled"})
MOMENT_S = 0.5
READS = frozenset({"/look"})
"""Paths of steps that send nothing."""

Key: TypeAlias = tuple[str, str, int, str]
"""Run, path, number, kind."""


class Line(NamedTuple):
    """What a process noted, in one write."""

    at: float
    pid: int
    what: str  #: accepted, claimed, kept, then, begin, end
    run: str
    path: str
    n: int
    more: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is on disk, as whoever comes after a crash finds it."""

    states: dict[str, str]
    records: set[Key]
    fault: str | None = None  #: what an integrity check said
    seen: set[Key] | None = None  #: the records that those who live see; None: the same


class Log:
    """The effects log, read as it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def news(self) -> list[Line]:
        """Return the lines since the last time."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._read)
            whole, _, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + bool(whole)
        return [_line(text) for text in whole.decode().splitlines()]


def _line(text: str) -> Line:
    at, pid, what, run, path, n, more = text.split(" ")
    return Line(float(at), int(pid), what, run, path, int(n), more)


@dataclass
class Ledger:
    """Everything that was noted in one place (a home, or a database), judged as it comes."""

    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)  #: lines by what they say
    resumed: list[float] = field(default_factory=list)  #: seconds until a run in the hands of a dead process went on
    resumed_alone: list[float] = field(default_factory=list)  #: the same of those that had to wait for a process (A19)
    isolated: set[str] = field(default_factory=set)  #: runs that a worker tried alone
    accepted: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)
    dead: dict[int, float] = field(default_factory=dict)  #: processes that were killed, and when
    left: set[int] = field(default_factory=set)  #: processes that were allowed to leave a step half done
    covered_since: float | None = None  #: since when there has always been a worker
    may_lose: bool = False  #: count what is lost, do not judge it
    _kept: set[Key] = field(default_factory=set)
    _outcomes: dict[tuple[str, str], int] = field(default_factory=dict)  #: run and path → highest number on record
    _begun: dict[tuple[str, str, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    _sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    _hand: dict[str, int] = field(default_factory=dict)  #: run → process that has it
    _claims: dict[str, Line] = field(default_factory=dict)  #: run → its last claim
    _since: dict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))  #: run → what was begun under it

    def read(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self.noted[line.what] += 1
            match line.what:
                case "accepted":
                    self.accepted.add(line.run)
                case "claimed":
                    self._resume(line)
                    self._claims[line.run] = line
                    self._since[line.run] = []
                case "kept":
                    self._late(line)
                    self._kept.add((line.run, line.path, line.n, line.more))
                    self._record((line.run, line.path, line.n, line.more))
                case "then":
                    if self._hand.get(line.run) == line.pid:
                        self._hand[line.run] = 0  # it rests, or has ended
                    if line.more in OUTCOMES:
                        self.ended[line.run] = line.more
                case "begin":
                    self._resume(line)
                    self._begin(line)
                case "end":
                    self.counts["steps"] += 1

    def kill(self, pid: int, at: float) -> None:
        """Take note that a process was killed."""
        self.dead[pid] = at
        self.counts["kills"] += 1

    def await_first(self) -> None:
        """Count a run that nobody has claimed yet, though a dead process was to do so, as one that is to go on."""
        for run in self.accepted - self._hand.keys() - self.ended.keys():
            self._hand[run] = next(reversed(self.dead))

    def look(self, found: Snapshot) -> None:
        """Compare what was acknowledged with what is there."""
        if found.fault is not None:
            self.wrong.append(f"the file is damaged: {found.fault}")
        lost = self.accepted - found.states.keys()
        self.counts["lost"] += len(lost)
        records = {key for key in self._kept - found.records if key[0] in found.states}
        self.counts["acknowledged records lost"] += len(records)
        ends = {run for run, state in self.ended.items() if found.states.get(run) != state and run not in lost}
        self.counts["ends lost"] += len(ends)
        if not self.may_lose:
            self.wrong += [f"{run}: accepted and lost" for run in sorted(lost)]
            self.wrong += [f"{run}: acknowledged and lost: {rest}" for run, *rest in sorted(records)]
            self.wrong += [f"{run}: had ended, is {found.states[run]}" for run in sorted(ends)]
        for key in found.records if found.seen is None else found.seen:
            self._record(key)

    def _record(self, key: Key) -> None:
        run, path, n, kind = key
        if kind in OUTCOMES:
            self._outcomes[run, path] = max(n, self._outcomes.get((run, path), 0))

    def _begin(self, line: Line) -> None:
        at = (line.run, line.path)
        if self._outcomes.get(at, 0) >= line.n:
            self.counts["finished begun again"] += 1
            self.wrong.append(f"{line.run}: finished and begun again: {line}")
        self._since[line.run].append(line)
        before = self._begun[*at, line.n]
        if before:
            self.counts["in flight repeated"] += 1
            if before[-1] not in self.dead and before[-1] not in self.left:
                self.counts["repeated without a crash"] += 1
                self.wrong.append(f"{line.run}: repeated though {before[-1]} lives: {line}")
        before.append(line.pid)
        if line.path in READS:
            return
        self._late(line)
        if self._sent[at]:
            marked = line.more == "1"
            self.counts["sends repeated, marked" if marked else "sends repeated, unmarked"] += 1
            if not marked:
                self.wrong.append(f"{line.run}: a repeat that is not marked: {line}")
        self._sent[at] += 1

    def _late(self, line: Line) -> None:
        """See that a process which has lost a run neither writes to it nor sends for it.

        What it had written before it let go is noted a moment later, so that moment is no fault. A process that is stopped
        between its COMMIT and the answer notes it when it goes on; what the next owner has begun shows that it was there.
        """
        claim = self._claims.get(line.run)
        if claim is None or claim.pid == line.pid or claim.pid in self.dead:
            return
        if line.at - claim.at > MOMENT_S and line.pid in self.left and not self._was_there(line, claim):
            self.counts["done by a process that has lost the run"] += 1
            self.wrong.append(f"{line.run}: {claim.pid} has it since {claim.at}, and {line.pid} goes on: {line}")

    def _was_there(self, line: Line, claim: Line) -> bool:
        """Tell whether the next owner has found the record that a process which has lost the run takes note of."""
        begun = [each for each in self._since[line.run] if each.pid == claim.pid]
        same = [each for each in begun if (each.path, each.n) == (line.path, line.n)]
        if line.what != "kept" or not begun:
            return False
        return not same if line.more in OUTCOMES else any(each.more == "1" for each in same)

    def _resume(self, line: Line) -> None:
        before = self._hand.get(line.run)
        if before is not None and before != line.pid and before in self.dead:
            since = max(self.dead[before], self.covered_since or 0.0)
            found = self.resumed_alone if line.run in self.isolated else self.resumed
            found.append(max(0.0, line.at - since))
        self._hand[line.run] = line.pid

    def late(self, limit_s: float) -> bool:
        """Tell whether more than one in twenty took longer; who has met two dead processes in a row may take twice that."""
        found = sorted(self.resumed)
        return bool(found) and (found[int(len(found) * 0.95) - 1] > limit_s or found[-1] > 2 * limit_s)

    def resumed_text(self) -> str:
        """Return how fast runs went on."""
        alone = f"; tried alone {_spread(self.resumed_alone)}" if self.resumed_alone else ""
        return f"resumed {_spread(self.resumed)}{alone}"

    def add(self, other: Ledger) -> None:
        """Add the counts of another place."""
        self.counts += other.counts
        self.resumed += other.resumed
        self.resumed_alone += other.resumed_alone
        self.wrong += other.wrong
        self.counts["accepted"] += len(other.accepted)


def isolated_in(output: str) -> set[str]:
    """Return the runs that a worker has said it tries alone."""
    found = set()
    for line in output.splitlines():
        if '"event": "alone"' in line:
            found.add(str(json.loads(line)["run_id"]))
    return found


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "0"
    found = sorted(seconds)
    p95 = found[min(len(found) - 1, int(len(found) * 0.95))]
    return f"{len(found)}: p50 {statistics.median(found):.2f} s, p95 {p95:.2f} s, max {found[-1]:.2f} s"

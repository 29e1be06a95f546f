"""Which records of a run answer for another one that repeats it from a step on (rule A22).

The new run is walked, and what the old one has on record answers where the very same thing is asked for. From the step on
nothing answers, so that all that stands on it is reached by nobody and is performed anew.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from weft import wording
from weft.engine.attempts import Doubt
from weft.engine.interpreter import (
    Ask,
    Key,
    Mark,
    Operation,
    Pause,
    Perform,
    RunFacts,
    Start,
    StepResult,
    Tried,
    Walk,
    key,
    key_of,
)
from weft.engine.known import DOUBT
from weft.engine.reactor import facts_of
from weft.engine.steps import without_tries
from weft.errors import Diverged, InvalidInputs, NotFound, Problem
from weft.executor import Call
from weft.journal.base import OUTCOMES, Kept, Record
from weft.outcome import Failure, Outcome, encode
from weft.plan import Plan, PlannedStep

_SAME_LENGTH_S: Final = 0.001
"""Two waits that differ by less are as long as each other: lengths are kept as the difference of two instants."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """A step that may send in the new run."""

    step: PlannedStep
    again: tuple[str, ...]  #: paths at which the old run has sent, or may have


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a new run begins with, and what it does besides."""

    records: tuple[Record, ...]  #: of the old run, in the order in which the new one takes them
    sends: tuple[Repeat, ...]  #: steps that may send, those of failures too, in the document's order


def inherit(plan: Plan, facts: RunFacts, source: Kept, steps: Sequence[str]) -> Inheritance:
    """Return what a run that repeats `source` from some steps on takes over from it.

    A record answers only where the new run asks for the same: the same action, arguments and variant, the same wait, the
    same question. A step whose arguments differ is performed anew, and with it all that needs it. What the old run had
    begun, and nobody knows how it ended, counts as an attempt that failed with its effect unknown.

    Args:
        plan: What both follow.
        facts: Of the new run.
        source: The run that is repeated; it has ended, or is parked.
        steps: From where on everything is performed anew: names of steps (`each/mail`), or of one turn (`each[3]/mail`).

    Raises:
        NotFound: There is no such step (`unknown_step`).
        InvalidInputs: The new run would fail before it came to a step (`not_reached`).
    """
    _require_known(plan, steps)
    heir = _Heir(plan, facts, source, steps)
    heir.walk()
    heir.require_reached()
    return Inheritance((*_doubts(plan, source), *heir.records), tuple(heir.sends()))


def _doubts(plan: Plan, source: Kept) -> Iterator[Record]:
    """Yield what says that an attempt was the last one of its step and has had its effect, perhaps.

    An attempt of the new run that asks for the same is a repeat of it, under the same key.
    """
    walk, last = Walk(plan, facts_of(source), source.records), dict[str, Call | None]()
    try:
        under_way = walk.advance()
    except Diverged:  # it is parked for that; up to there it is told
        under_way = []
    for mark in walk.marks:
        if isinstance(mark, Tried):
            failure = mark.outcome.failure
            in_doubt = failure is not None and failure.effect == "unknown" and _sends(mark.call)
            last[without_tries(mark.call.path)] = mark.call if in_doubt else None
    for operation in under_way:
        if isinstance(operation, Perform) and operation.call.begun:
            last[without_tries(operation.call.path)] = operation.call
    for origin, call in last.items():
        if call is not None:
            doubt = Doubt(call.request, call.idempotency_key, call.step_key)
            yield Record(origin, DOUBT, "choice", encode(asdict(doubt)))


def _sends(call: Call) -> bool:
    return call.step.action is not None and call.step.action.manifest.effects == "send"


class _Heir:
    """The walk of the new run, as far as the old one answers."""

    def __init__(self, plan: Plan, facts: RunFacts, source: Kept, steps: Sequence[str]) -> None:
        self.records: list[Record] = []
        self._plan, self._source = plan, source
        self._from = [_parts(step) for step in steps]
        # Turns that wait for others to end would be reached by no answer, though theirs is on record.
        self._walk = Walk(_unlimited(plan), facts)
        self._answers: dict[Key, tuple[int, Record]] = {}
        self._begun: dict[Key, Record] = {}
        for at, record in enumerate(source.records):
            if record.kind in ("begun", "timer", "waits"):
                self._begun[key_of(record)] = record
                if record.kind == "begun":
                    self._answers.setdefault(key_of(record), (at, record))
            elif record.kind in (*OUTCOMES, "rang", "signal"):
                known = self._answers.get(key_of(record))
                if known is None or known[1].kind == "begun":
                    self._answers[key_of(record)] = (at, record)
        self._inherited: set[Key] = set()
        self._marks: list[Mark] = []

    def walk(self) -> None:
        """Let what is on record answer, in the order in which it came to be."""
        due: list[tuple[int, Key]] = []
        asked: dict[Key, Operation] = {}
        while True:
            for operation in self._walk.advance():
                at = key(operation)
                if at in self._answers and not self._is_anew(at[0]):
                    asked[at] = operation
                    heapq.heappush(due, (self._answers[at][0], at))
            self.records += self._walk.notes
            self._walk.notes.clear()
            self._marks += [mark for mark in self._walk.marks if isinstance(mark, Mark)]
            self._walk.marks.clear()
            if not due:
                return
            _, at = heapq.heappop(due)
            if answer := self._answer(asked.pop(at), self._answers[at][1]):
                self._inherited.add(at)
                self.records += answer
                if answer[0].kind == "waits":
                    self._walk.began(answer[0])
                self._walk.settle(answer[-1])

    def _is_anew(self, path: str) -> bool:
        return path == "" or path.startswith("/@") or self._is_repeated(path)

    def _is_repeated(self, path: str) -> bool:
        parts = _parts(path)
        return any(_is_within(parts, step) for step in self._from)

    # ---- answers
    def _answer(self, operation: Operation, record: Record) -> list[Record]:
        """Return the records that answer an operation; none when it must be performed anew."""
        match operation:
            case Perform(call):
                return self._attempt(call, record)
            case Pause():
                return self._pause(operation, record)
            case Ask():
                began = self._begun[key(operation)]
                asked = json.loads(began.payload)
                over = record.kind == "signal" or _is_over(record, asked["deadline"])
                return [began, record] if over and asked["message"] == operation.message else []
            case Start():
                began = self._begun[key(operation)]
                same = json.loads(began.payload)["request"] == operation.request
                return [began, record] if same and record.kind == "signal" else []

    def _attempt(self, call: Call, record: Record) -> list[Record]:
        at = (call.path, call.number)
        begun = [self._begun[at]] if at in self._begun else []
        if record.kind == "begun":
            same = json.loads(record.payload)["request"] == call.request
            return [record, self._unknown(call)] if same else []
        outcome = Outcome.from_text(record.kind, record.payload)  # type: ignore[arg-type]  # one of OUTCOMES
        if outcome.request != call.request:
            return []
        if outcome.state == "cancelled":  # it is taken up again; what it may have done is not forgotten
            return [*begun, self._unknown(call)] if outcome.failure else []
        return [*begun, record]

    def _pause(self, pause: Pause, record: Record) -> list[Record]:
        began = self._begun[key(pause)]
        timer = json.loads(began.payload)
        between_attempts = (pause.path, pause.n) in self._answers
        if pause.until is not None:
            same = pause.until == timer["until"]
        else:
            length = timer["until"] - timer["at"]
            same = between_attempts or abs(length - (pause.seconds or 0.0)) < _SAME_LENGTH_S
        return [began, record] if same and _is_over(record, timer["until"]) else []

    def _unknown(self, call: Call) -> Record:
        """Return the outcome of what was begun and has none."""
        problem = Problem(
            "effect_unknown",
            f"Run {self._source.row.id!r} had begun this attempt; whether it had its effect is not known.",
            "Look at the other side before you send it again.",
            call.step.where(),
        )
        at = self._source.status.changed_at
        failure = Failure(problem, retryable=True, effect="unknown")
        outcome = Outcome("failed", call.variant.name, at, at, failure=failure, request=call.request)
        return Record(call.path, call.number, outcome.state, outcome.to_text())

    # ---- what comes of it
    def require_reached(self) -> None:
        """Refuse a run that would end before it came to the step, or fail for what it has inherited."""
        ended = [mark for mark in self._marks if mark.result is not None]
        if all(each[0] in ("finally", "on_failure") for each in self._from):
            return
        for mark in ended:
            if mark.result and mark.result.failed and not self._is_forgiven(mark.path):
                raise self._would_fail(mark.path, mark.result)
        if self._walk.result is not None and not any(self._is_repeated(mark.path) for mark in self._marks):
            steps = ", ".join("/".join(step) for step in self._from)
            raise InvalidInputs(
                f"The new run would not come to {steps!r}: a condition or a list leaves it out.",
                code="not_reached",
                remedy="Edit the inputs, or run it again as a whole: weft runs rerun.",
            )

    def _is_forgiven(self, path: str) -> bool:
        """Whether something around a step goes on when it fails."""
        return any(step.goes_on and _is_within(_parts(path), _parts(step.path)) for step in self._plan.every_step())

    def _would_fail(self, path: str, result: StepResult) -> InvalidInputs:
        why = "" if result.problem is None else f": {result.problem.message}"
        name = "/".join(_parts(path))
        tried = any(_is_within(_parts(at[0]), _parts(path)) for at in self._answers)
        return InvalidInputs(
            f"The new run would fail in step {name!r}, as it does not begin anew there{why}",
            code="not_reached",
            remedy=f"Begin there, too: --from {name}" if tried else "Edit the inputs.",
        )

    def sends(self) -> Iterable[Repeat]:
        """Yield the steps that may send in the new run, with where they have sent before."""
        done = {mark.path for mark in self._marks if mark.result is not None}
        for step in self._plan.every_step():
            if step.path not in done and _may_send(step):
                yield Repeat(step, tuple(self._sent_at(step)))

    def _sent_at(self, step: PlannedStep) -> Iterable[str]:
        """Return the paths at which the old run has sent, or may have, and for which it does not answer."""
        if step.kind == "workflow":
            started = (at for at in self._begun if at not in self._inherited and without_turns(at[0]) == step.path)
            return dict.fromkeys(path for path, _ in started)
        attempts = (at for at in self._answers if at[1] > 0 and without_turns(at[0]) == step.path)
        open_ = (at for at in attempts if at not in self._inherited)
        return dict.fromkeys(path for path, n in open_ if _may_have_sent(self._answers[path, n][1]))


def _may_send(step: PlannedStep) -> bool:
    """Whether an action, or a child run, may have an effect outside."""
    if step.child is not None:
        return any(map(_may_send, step.child.every_step()))
    return step.action is not None and step.action.manifest.effects == "send"


def _may_have_sent(record: Record) -> bool:
    if record.kind == "begun":
        return True
    failure = Outcome.from_text(record.kind, record.payload).failure  # type: ignore[arg-type]  # one of OUTCOMES
    return record.kind == "succeeded" or (failure is not None and failure.effect != "none")


def without_turns(path: str) -> str:
    """Return a path without the turns of its loops and the tries of its groups: `/each[3]/@2/mail` → `/each/mail`."""
    return re.sub(r"\[\d+\]|/@\d+", "", path)


def _is_over(record: Record, until: float | None) -> bool:
    """Whether a wait has come to its end by itself; one that a cancel cut short has not."""
    return until is not None and float(json.loads(record.payload)) >= until


def _parts(path: str) -> list[str]:
    return [part.removeprefix("@") for part in without_tries(path).strip("/").split("/")]


def _is_within(parts: list[str], outer: list[str]) -> bool:
    """Whether a step is another one or within it, which may be one turn of a loop or all of them."""
    if len(parts) < len(outer):
        return False
    pairs = zip(parts, outer, strict=False)
    return all(part == wanted if wanted.endswith("]") else part.split("[")[0] == wanted for part, wanted in pairs)


def _require_known(plan: Plan, steps: Sequence[str]) -> None:
    known = ["/".join(_parts(step.path)) for step in plan.every_step()]
    for given in steps:
        name = without_turns("/".join(_parts(given)))
        if name not in known:
            remedy = wording.meant(name, known) or f"There are: {wording.choice(known)}."
            raise NotFound(f"The run has no step {given!r}.", code="unknown_step", remedy=remedy)


def _unlimited(plan: Plan) -> Plan:
    workflow = plan.workflow.model_copy(update={"budget": None})
    return replace(plan, workflow=workflow, steps=tuple(map(_without_limits, plan.steps)))


def _without_limits(step: PlannedStep) -> PlannedStep:
    inner = tuple(map(_without_limits, step.steps))
    return replace(step, max_parallel=None, steps=inner, on_error=tuple(map(_without_limits, step.on_error)))

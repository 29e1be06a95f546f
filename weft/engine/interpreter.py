"""What comes next in a run: a pure function of the plan, the inputs and what is on record.

Control flow is written as generators. A block yields the operations it waits for and is sent their outcome; `Walk`
keeps the blocks and answers what the journal already knows, so a replay is the same walk and performs nothing twice.
There is no clock here, no I/O, nothing random: instants come from records, jitter from the run's id.

Outcomes are found by path and attempt; a step sees only the steps that it needs, so that the order in which parallel
steps ended cannot show in a value. It does decide what had begun when a step failed or the run was cancelled; so a
replay takes the records in the order in which they were accepted.

What a record answers must be what is asked for now: it carries a hash of what was asked, and the choices of `if` and
`for_each` are on record too. A difference means that something under the run has changed; then the run is not
followed any further.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from weft.engine.attempts import Chain
from weft.engine.events import StepState
from weft.errors import Diverged, Problem, WeftError, Where
from weft.executor import Call, prepare
from weft.journal.base import OUTCOMES, Record
from weft.outcome import Outcome, encode, request_hash
from weft.plan import Located, Plan, PlannedStep, Value, ancestors, render, templates
from weft.types import Json, Scope
from weft.workflow import seconds


@dataclass(frozen=True, slots=True)
class Perform:
    """Make one attempt of a step."""

    call: Call
    final: bool = False  #: goes on when the run is cancelled


@dataclass(frozen=True, slots=True)
class Pause:
    """Let time pass: `seconds` from when it is first asked for, or until an instant."""

    path: str
    n: int
    seconds: float | None = None
    until: float | None = None  #: seconds since 1970, UTC
    asked_at: float | None = None  #: that it began is on record
    final: bool = False  #: goes on when the run is cancelled


@dataclass(frozen=True, slots=True)
class Ask:
    """Wait for somebody's answer, at most until its time is up."""

    path: str
    n: int
    message: str
    who: tuple[str, ...] = ()  #: may answer; none: everybody
    seconds: float | None = None  #: from when it is first asked
    until: float | None = None  #: seconds since 1970, UTC
    asked_at: float | None = None  #: that it began is on record
    final: bool = False  #: goes on when the run is cancelled


_CANCELLED = Problem("cancelled", "The run was cancelled.")

Operation: TypeAlias = Perform | Pause | Ask
LONGEST_WAIT_S = 3650 * 86_400.0
"""Of a `wait`, as in documents."""

Key: TypeAlias = tuple[str, int]
"""Path and attempt; a pause has the negative number of the attempt before it."""

IF, FOR_EACH = 1, 2
"""Numbers of the choices of one step."""

Block: TypeAlias = Generator["Operation | _Spawn", Any, Any]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step came to; later steps see it in their scope."""

    state: StepState
    output: Json = None
    problem: Problem | None = None
    tolerated: bool = False  #: it failed, and the run goes on

    @property
    def failed(self) -> bool:
        return self.state in ("failed", "cancelled") and not self.tolerated

    def in_scope(self) -> dict[str, Any]:
        error = None if self.problem is None else {"kind": self.problem.code, "message": self.problem.message}
        return {"output": self.output, "state": self.state, "error": error}


@dataclass(frozen=True, slots=True)
class RunResult:
    """What the run came to."""

    state: Literal["succeeded", "failed", "cancelled"]
    outputs: Json
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A step began (no result) or ended; for those who watch."""

    path: str
    result: StepResult | None


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt ended, and how long the next one, if there is one, has to wait; for those who watch."""

    call: Call
    outcome: Outcome
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Child:
    key: str | int
    needs: tuple[str, ...]
    start: Callable[[Mapping[Any, StepResult]], Block]


@dataclass(slots=True)
class _Spawn:
    """Blocks to run side by side, each when what it needs has settled; answered with their results by key."""

    children: Iterator[_Child]
    limit: int | None
    final: bool  #: goes on when the run is cancelled
    parent: Block | None = None
    waiting: list[_Child] = field(default_factory=list)
    results: dict[Any, StepResult] = field(default_factory=dict)
    running: int = 0
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is fixed when a run starts."""

    run_id: str
    started_at: float
    inputs: Mapping[str, Json]
    trigger: Json = None
    scheduled_at: float | None = None
    attempt: int = 1

    def scope(self, variables: Mapping[str, Json]) -> dict[str, Any]:
        return {
            "inputs": dict(self.inputs),
            "variables": dict(variables),
            "trigger": self.trigger,
            "run": {
                "id": self.run_id,
                "started_at": _iso(self.started_at),
                "scheduled_at": None if self.scheduled_at is None else _iso(self.scheduled_at),
                "attempt": self.attempt,
            },
            "steps": {},
        }


def _iso(instant: float) -> str:
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Walk:
    """One run, synchronous: told what happened, it says what to do next.

    Args:
        plan: What to follow.
        facts: The run's fixed facts.
        records: What is on record of it, in the order in which it was accepted.
    """

    def __init__(self, plan: Plan, facts: RunFacts, records: Iterable[Record] = ()) -> None:
        self.marks: deque[Mark | Tried] = deque()
        self.notes: list[Record] = []  #: choices that are not on record yet
        self.result: RunResult | None = None
        self.doubts: set[str] = set()  #: paths of steps whose last attempt may have had its effect, unknown to us
        self.hard = False  #: nothing begins any more, `finally` neither
        self._plan = plan
        self._facts = facts
        self._begun: dict[Key, str] = {}  #: hash of what was begun
        self._waits: dict[Key, tuple[float, float | None]] = {}  #: began, ends
        self._choices: dict[Key, str] = {}
        self._tried: set[Key] = set()  #: attempts of which anything is on record
        self._history: list[Record] = []
        for record in records:
            match record.kind:
                case "begun":
                    self._tried.add((record.path, record.n))
                    self._begun[record.path, record.n] = json.loads(record.payload)["request"]
                case "timer" | "waits":
                    wait = json.loads(record.payload)
                    end = wait["until"] if record.kind == "timer" else wait["deadline"]
                    self._waits[record.path, -record.n] = (wait["at"], end)
                case "choice":
                    self._choices[record.path, record.n] = record.payload
                case _:
                    if record.kind in OUTCOMES:
                        self._tried.add((record.path, record.n))
                    self._history.append(record)
        self._early: dict[Key, Record] = {}  #: answers to what has not been asked yet
        self._cancelled = False
        self._root = self._run()
        self._ready: deque[tuple[Block, Any]] = deque([(self._root, None)])
        self._waiting: dict[Key, Block] = {}
        self._wishes: dict[Key, Operation] = {}  #: what each block that waits has asked for
        self._asked: dict[Key, Operation] = {}  #: not yet handed out
        self._homes: dict[Block, tuple[_Spawn, str | int]] = {}

    def advance(self) -> list[Operation]:
        """Go on until every block waits; return what they newly wait for.

        Raises:
            Diverged: A record answers something else than what is asked for.
        """
        self._go_on()
        history, self._history = self._history, []
        for record in history:
            self._replay(record)
        asked = [self._resumed(key, wish) for key, wish in self._asked.items()]
        self._asked.clear()
        return asked

    def settle(self, record: Record) -> None:
        """Take in how an operation ended: an attempt's outcome, or a pause that is over.

        What follows from it follows before the next record is looked at, as in a replay: which of two ends came first
        decides what still begins (rule A9).
        """
        key = key_of(record)
        self._asked.pop(key, None)
        self._ready.append((self._waiting.pop(key), self._answer(record, self._wishes.pop(key))))
        self._go_on()

    def waits_for(self, operation: Operation) -> bool:
        """Whether some block waits for the operation's end."""
        return key(operation) in self._waiting

    def cancel(self, *, hard: bool = False) -> None:
        """Start nothing more but what `finally` asks for, or nothing at all."""
        self._cancelled = True
        self.hard = self.hard or hard
        if self.result is not None:  # all was done, but the cancel was on record before the end (rule A18)
            self.result = RunResult("cancelled", None, _CANCELLED)

    def ends(self, operation: Operation) -> bool:
        """Whether a cancel has put an end to the operation."""
        return self.hard or (self._cancelled and not operation.final)

    def _replay(self, record: Record) -> None:
        if record.kind == "cancel":
            self.cancel(hard=record.n > 1)
        elif key_of(record) in self._waiting:
            self.settle(record)
        else:
            self._early.setdefault(key_of(record), record)  # a signal that came after the time was up answers nothing

    def _go_on(self) -> None:
        while self._ready:
            block, answer = self._ready.popleft()
            try:
                wish = block.send(answer)
            except StopIteration as end:
                self._ended(block, end.value)
                continue
            if isinstance(wish, _Spawn):
                wish.parent = block
                self._start_children(wish)
            elif (early := self._early.pop(key(wish), None)) is not None:
                self._ready.append((block, self._answer(early, wish)))
            else:
                self._waiting[key(wish)] = block
                self._wishes[key(wish)] = wish
                self._asked[key(wish)] = wish

    def _resumed(self, at: Key, wish: Operation) -> Operation:
        """The operation as it must be asked for now: a crash may have left it half done."""
        match wish:
            case Perform(call):
                if at not in self._begun:
                    return wish
                self._same(call, self._begun[at])
                return replace(wish, call=replace(call, repeated=True, begun=True))
            case Pause() | Ask() if at in self._waits:
                return replace(wish, asked_at=self._waits[at][0], until=self._waits[at][1])
            case _:
                return wish

    def _answer(self, record: Record, wish: Operation) -> Any:
        """What the block is sent for a record; always read from the text, so that a replay is sent the same."""
        if isinstance(wish, Perform):
            if record.kind not in OUTCOMES:
                raise _diverged(wish.call.step, "an attempt", f"{record.kind!r}")
            outcome = Outcome.from_text(record.kind, record.payload)  # type: ignore[arg-type]
            self._same(wish.call, outcome.request)
            if outcome.failure is not None and outcome.failure.effect == "unknown":
                self.doubts.add(record.path)
            else:
                self.doubts.discard(record.path)
            return outcome
        return json.loads(record.payload) if record.kind == "signal" else None

    def _same(self, call: Call, request: str) -> None:
        """Refuse to take what is on record for another call than this one."""
        if call.request != request:
            raise _diverged(call.step, "its arguments", "others")

    def _unless_recorded(self, step: PlannedStep, recorded: bool) -> None:
        """Refuse to take a fault for the step's own when the same was rendered without one before."""
        if recorded:
            raise _diverged(step, "an expression", "a value")

    def _chosen(self, step: PlannedStep, path: str, n: int, choice: Json) -> None:
        """Put a choice on record, or refuse to go on when another one stands there."""
        text = encode(choice)
        known = self._choices.get((path, n))
        if known is None:
            self._choices[path, n] = text
            self.notes.append(Record(path, n, "choice", text))
        elif known != text:
            raise _diverged(step, "`if`" if n == IF else "`for_each`", "another result")

    # ---- blocks side by side
    def _start_children(self, spawn: _Spawn) -> None:
        while not self._stops(spawn) and (spawn.limit is None or spawn.running < spawn.limit):
            child = self._next_child(spawn)
            if child is None:
                break
            block = child.start(spawn.results)
            self._homes[block] = (spawn, child.key)
            spawn.running += 1
            self._ready.append((block, None))
        if not spawn.running and spawn.parent is not None:
            self._ready.append((spawn.parent, spawn.results))
            spawn.parent = None

    def _stops(self, spawn: _Spawn) -> bool:
        return spawn.stopped or self.hard or (self._cancelled and not spawn.final)

    @staticmethod
    def _next_child(spawn: _Spawn) -> _Child | None:
        for child in spawn.waiting:
            if all(need in spawn.results for need in child.needs):
                spawn.waiting.remove(child)
                return child
        for child in spawn.children:
            if all(need in spawn.results for need in child.needs):
                return child
            spawn.waiting.append(child)
        return None

    def _ended(self, block: Block, value: Any) -> None:
        if block is self._root:
            self.result = value
            return
        spawn, key = self._homes.pop(block)
        spawn.results[key] = value
        spawn.running -= 1
        spawn.stopped = spawn.stopped or value.failed
        self._start_children(spawn)

    # ---- the document
    def _run(self) -> Block:
        scope = self._facts.scope(self._plan.workflow.variables)
        results = yield from self._list(self._plan.steps, scope, "", final=False)
        problem = _first_failure(self._plan.steps, results)
        state: Literal["succeeded", "failed"] = "failed" if problem else "succeeded"
        ended = _with_steps(scope, {step.id: results.get(step.id, StepResult("skipped")) for step in self._plan.steps})
        if self._plan.final:
            last = yield from self._list(self._plan.final, ended, "/@finally", final=True)
            failed = _first_failure(self._plan.final, last)
            if failed and state == "succeeded":
                state, problem = "failed", failed
        if state == "failed" and self._plan.on_failure and not self._cancelled:
            yield from self._list(self._plan.on_failure, ended, "/@on_failure", final=False)
        outputs: Json = None
        if self._cancelled:
            return RunResult("cancelled", None, _CANCELLED)
        if state == "succeeded":
            try:
                outputs = {name: render(value, ended) for name, value in self._plan.outputs.items()}
            except WeftError as error:
                state, problem = "failed", error.problem
        return RunResult(state, outputs, problem)

    def _list(
        self, steps: tuple[PlannedStep, ...], scope: dict[str, Any], path: str, *, final: bool
    ) -> Generator[_Spawn, Any, Mapping[str, StepResult]]:
        needs = {step.id: step.needs for step in steps}

        def child(step: PlannedStep) -> _Child:
            seen = ancestors(step.id, needs)

            def start(results: Mapping[str, StepResult]) -> Block:
                before = {name: results[name] for name in needs if name in seen}
                return self._step(step, _with_steps(scope, before), f"{path}/{step.id}", final=final)

            return _Child(step.id, step.needs, start)

        results: Mapping[str, StepResult] = yield _Spawn(map(child, steps), None, final)
        return results

    def _step(self, step: PlannedStep, scope: dict[str, Any], path: str, *, final: bool) -> Block:
        try:
            skipped = step.disabled or not self._holds(step, scope, path)
        except Diverged:
            raise
        except WeftError as error:
            self._unless_recorded(step, (path, IF) in self._choices)
            skipped, result = False, StepResult("failed", problem=error.problem)
        else:
            result = StepResult("skipped")
        if not skipped:
            self.marks.append(Mark(path, None))
            if result.problem is None:
                result = yield from self._repeated(step, scope, path, final=final)
            if result.failed and result.state != "cancelled" and step.goes_on:
                result = yield from self._forgiven(step, scope, path, result, final=final)
        self.marks.append(Mark(path, result))
        return result

    def _forgiven(
        self, step: PlannedStep, scope: dict[str, Any], path: str, result: StepResult, *, final: bool
    ) -> Block:
        if step.on_error:
            told = _with_steps(scope, {step.id: result})
            results = yield from self._list(step.on_error, told, f"{path}/@on_error", final=final)
            if problem := _first_failure(step.on_error, results):
                return replace(result, problem=problem)
        return replace(result, tolerated=True)

    def _holds(self, step: PlannedStep, scope: Scope, path: str) -> bool:
        if not isinstance(step.condition, Located):
            return step.condition is not False
        holds = bool(step.condition.render(scope))
        self._chosen(step, path, IF, holds)
        return holds

    def _repeated(self, step: PlannedStep, scope: dict[str, Any], path: str, *, final: bool) -> Block:
        if step.for_each is None:
            return (yield from self._once(step, scope, path, final=final))
        try:
            items = _items(step, render(step.for_each, scope))
        except WeftError as error:
            self._unless_recorded(step, (path, FOR_EACH) in self._choices)
            return StepResult("failed", problem=error.problem)
        if _is_computed(step.for_each):
            self._chosen(step, path, FOR_EACH, {"count": len(items), "items": request_hash(items)})

        def turns() -> Iterator[_Child]:
            for i, item in enumerate(items):
                inner = {**scope, "item": item, "index": i}
                yield _Child(i, (), lambda _, inner=inner, i=i: self._once(step, inner, f"{path}[{i}]", final=final))  # type: ignore[misc]

        results = yield _Spawn(turns(), step.max_parallel, final)
        for i in range(len(items)):
            if i not in results or results[i].failed:
                return results.get(i, StepResult("cancelled", problem=_CANCELLED))
        return StepResult("succeeded", [results[i].output for i in range(len(items))])

    def _once(self, step: PlannedStep, scope: dict[str, Any], path: str, *, final: bool) -> Block:
        match step.kind:
            case "action":
                return (yield from self._attempts(step, scope, path, final=final))
            case "group":
                results = yield from self._list(step.steps, scope, path, final=final)
                last = results.get(step.steps[-1].id)
                if problem := _first_failure(step.steps, results):
                    return StepResult("failed", problem=problem)
                if last is None:
                    return StepResult("cancelled", problem=_CANCELLED)
                return StepResult("succeeded", last.output)
            case "wait":
                return (yield from self._wait(step, scope, path, final=final))
            case "approval":
                return (yield from self._approval(step, scope, path, final=final))
            case _:
                raise WeftError(f"A step of kind {step.kind!r} cannot be walked.", where=Where(step=step.name))

    def _wait(self, step: PlannedStep, scope: dict[str, Any], path: str, *, final: bool) -> Block:
        try:
            if step.wait_for is not None:
                pause = Pause(path, 1, seconds=_duration(step, render(step.wait_for, scope)), final=final)
            else:
                latest = self._facts.started_at + LONGEST_WAIT_S
                pause = Pause(path, 1, until=_instant(step, render(step.wait_until, scope), latest), final=final)
        except WeftError as error:
            return StepResult("failed", problem=error.problem)
        yield pause
        return StepResult("cancelled", problem=_CANCELLED) if self.ends(pause) else StepResult("succeeded")

    def _approval(self, step: PlannedStep, scope: Scope, path: str, *, final: bool) -> Block:
        try:
            message = str(render(step.message, scope))
            who = tuple(str(name) for name in _names(render(step.who, scope)))
            limit = None if step.deadline is None else _duration(step, render(step.deadline, scope))
        except WeftError as error:
            return StepResult("failed", problem=error.problem)
        ask = Ask(path, 1, message, who, limit, final=final)
        answer = yield ask
        if answer is None and self.ends(ask):
            return StepResult("cancelled", problem=_CANCELLED)
        if answer is None and step.default_answer is None:
            problem = Problem("no_answer", "Nobody answered before the deadline.", None, step.where())
            return StepResult("failed", problem=problem)
        answer = answer or {"answer": step.default_answer, "by": None}
        if answer["answer"] == "approve":
            return StepResult("succeeded", answer)
        return StepResult("failed", answer, Problem("rejected", _rejection(answer), None, step.where()))

    # ---- attempts
    def _attempts(self, step: PlannedStep, scope: Scope, path: str, *, final: bool) -> Block:
        try:
            prepared = prepare(step, scope)
        except WeftError as error:
            self._unless_recorded(step, (path, 1) in self._tried)
            return StepResult("failed", problem=error.problem.at(step.where()))
        chain = Chain(step, prepared, self._facts.run_id, self._facts.started_at, path)
        while (call := chain.next()) is not None:
            attempt = Perform(call, final)
            outcome: Outcome = yield attempt
            stopped = outcome.failure is None or self.ends(attempt)
            if outcome.state == "succeeded" or stopped:
                self.marks.append(Tried(call, outcome))
            if outcome.state == "succeeded":
                return StepResult("succeeded", outcome.output)
            if outcome.failure is None or stopped:
                problem = outcome.failure.problem if outcome.failure else _CANCELLED
                return StepResult("cancelled", problem=problem)
            wait_s = chain.failed(outcome, outcome.failure)
            self.marks.append(Tried(call, outcome, wait_s))
            if wait_s:
                yield Pause(path, call.number, seconds=wait_s, final=final)
                if self.ends(attempt):
                    return StepResult("cancelled", problem=_CANCELLED)
        if chain.output is not None:
            return StepResult("succeeded", chain.output)
        return StepResult("failed", problem=chain.problem)


def key(wish: Operation) -> Key:
    return (wish.call.path, wish.call.number) if isinstance(wish, Perform) else (wish.path, -wish.n)


def key_of(record: Record) -> Key:
    return (record.path, -record.n if record.kind in ("timer", "rang", "waits", "signal") else record.n)


def _diverged(step: PlannedStep, what: str, got: str) -> Diverged:
    return Diverged(
        f"The run was recorded with {got} for {what} of this step: something that it stands on has changed since.",
        remedy="Run it again from its beginning, or with the version that began it.",
        where=step.where(),
    )


def _rejection(answer: Mapping[str, Json]) -> str:
    return f"It was rejected by {answer['by']}." if answer.get("by") else "It was rejected."


def _is_computed(value: Value) -> bool:
    return any(True for _ in templates(value))


def _with_steps(scope: Mapping[str, Any], results: Mapping[str, StepResult]) -> dict[str, Any]:
    return {**scope, "steps": {**scope["steps"], **{name: result.in_scope() for name, result in results.items()}}}


def _first_failure(steps: Iterable[PlannedStep], results: Mapping[str, StepResult]) -> Problem | None:
    for step in steps:
        result = results.get(step.id)
        if result is not None and result.failed:
            return result.problem or Problem("failed", f"Step {step.name!r} failed.")
    return None


def _items(step: PlannedStep, value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise WeftError(
            f"`for_each` needs a list, got {_kind(value)}.",
            code="not_a_list",
            where=step.for_each.where() if isinstance(step.for_each, Located) else step.where(),
        )
    return value


def _names(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


def _duration(step: PlannedStep, value: Json) -> float:
    try:
        length = seconds(value) if isinstance(value, str) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        length = -1.0
    if isinstance(value, bool) or not 0 <= length <= LONGEST_WAIT_S:
        raise WeftError(
            f"`wait.for` needs a duration of at most 3650d, like '90s' or '1h30m', got {_kind(value)}.",
            code="not_a_duration",
            where=step.wait_for.where() if isinstance(step.wait_for, Located) else step.where(),
        )
    return length


def _instant(step: PlannedStep, value: Json, latest: float) -> float:
    try:
        instant = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise WeftError(
            f"`wait.until` needs an instant with its offset like '2026-11-23T08:00:00+01:00', got {_kind(value)}.",
            code="not_an_instant",
            where=step.wait_until.where() if isinstance(step.wait_until, Located) else step.where(),
        )
    if instant.timestamp() > latest:
        raise WeftError(
            "`wait.until` is more than 3650d after the run's start.",
            code="wait_too_long",
            remedy="Wait for less, or start another run then.",
            where=step.wait_until.where() if isinstance(step.wait_until, Located) else step.where(),
        )
    return instant.timestamp()


def _kind(value: Value) -> str:
    names = {str: "a text", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return names.get(type(value), "nothing")

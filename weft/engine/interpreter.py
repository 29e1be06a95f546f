"""What comes next in a run: a pure function of the plan, the inputs and what is on record.

Control flow is written as generators. A block yields the operations it waits for and is sent their outcome; `Walk`
keeps the blocks and answers what the journal already knows, so a replay is the same walk and performs nothing twice.
There is no clock here, no I/O, nothing random: instants come from records, jitter from the run's id.

Outcomes are found by path and attempt; a step sees only the steps that it needs, so that the order in which parallel
steps ended cannot show in a value. It does decide what had begun when a step failed or the run was cancelled; so a
replay takes the records in the order in which they were accepted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from weft.engine.attempts import Chain
from weft.engine.events import StepState
from weft.errors import Problem, WeftError, Where
from weft.executor import Call, prepare
from weft.journal.base import OUTCOMES, Record
from weft.outcome import Outcome
from weft.plan import Located, Plan, PlannedStep, Value, ancestors, render
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
    seconds: float = 0.0
    until: float | None = None  #: seconds since 1970, UTC
    final: bool = False  #: goes on when the run is cancelled


_CANCELLED = Problem("cancelled", "The run was cancelled.")

Operation: TypeAlias = Perform | Pause
LONGEST_WAIT_S = 3650 * 86_400.0
"""Of a `wait`, as in documents."""

_Key: TypeAlias = tuple[str, int]
"""Path and attempt; a pause has the negative number of the attempt before it."""

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
        self.marks: deque[Mark] = deque()
        self.result: RunResult | None = None
        self._plan = plan
        self._facts = facts
        self._begun: set[_Key] = set()
        self._timers: dict[_Key, float] = {}
        self._history: list[Record] = []
        for record in records:
            if record.kind == "begun":
                self._begun.add((record.path, record.n))
            elif record.kind == "timer":
                self._timers[record.path, -record.n] = float(record.payload)
            else:
                self._history.append(record)
        self._early: dict[_Key, Record] = {}  #: answers to what has not been asked yet
        self._cancelled = False
        self._hard = False
        self._root = self._run()
        self._ready: deque[tuple[Block, Any]] = deque([(self._root, None)])
        self._waiting: dict[_Key, Block] = {}
        self._asked: dict[_Key, Operation] = {}  #: not yet handed out
        self._homes: dict[Block, tuple[_Spawn, str | int]] = {}

    def advance(self) -> list[Operation]:
        """Go on until every block waits; return what they newly wait for."""
        self._go_on()
        history, self._history = self._history, []
        for record in history:
            self._replay(record)
            self._go_on()
        asked = [self._resumed(key, wish) for key, wish in self._asked.items()]
        self._asked.clear()
        return asked

    def settle(self, record: Record) -> None:
        """Take in how an operation ended: an attempt's outcome, or a pause that is over."""
        key = _key_of(record)
        self._asked.pop(key, None)
        self._ready.append((self._waiting.pop(key), _answer(record)))

    def cancel(self, *, hard: bool = False) -> None:
        """Start nothing more but what `finally` asks for, or nothing at all."""
        self._cancelled = True
        self._hard = self._hard or hard

    def ends(self, operation: Operation) -> bool:
        """Whether a cancel has put an end to the operation."""
        return self._hard or (self._cancelled and not operation.final)

    def _replay(self, record: Record) -> None:
        if record.kind == "cancel":
            self.cancel(hard=record.n > 1)
        elif _key_of(record) in self._waiting:
            self.settle(record)
        else:
            self._early[_key_of(record)] = record

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
            elif (early := self._early.pop(_key(wish), None)) is not None:
                self._ready.append((block, _answer(early)))
            else:
                self._waiting[_key(wish)] = block
                self._asked[_key(wish)] = wish

    def _resumed(self, key: _Key, wish: Operation) -> Operation:
        """The operation as it must be asked for now: a crash may have left it half done."""
        if isinstance(wish, Perform):
            return replace(wish, call=replace(wish.call, repeated=True)) if key in self._begun else wish
        return replace(wish, until=self._timers[key]) if key in self._timers else wish

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
        return spawn.stopped or self._hard or (self._cancelled and not spawn.final)

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
            yield from self._list(self._plan.on_failure, ended, "/@on_failure", final=True)
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
            skipped = step.disabled or not _holds(step.condition, scope)
        except WeftError as error:
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

    def _repeated(self, step: PlannedStep, scope: dict[str, Any], path: str, *, final: bool) -> Block:
        if step.for_each is None:
            return (yield from self._once(step, scope, path, final=final))
        try:
            items = _items(step, render(step.for_each, scope))
        except WeftError as error:
            return StepResult("failed", problem=error.problem)

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
            case _:
                raise WeftError(f"A step of kind {step.kind!r} cannot be walked.", where=Where(step=step.name))

    def _wait(self, step: PlannedStep, scope: dict[str, Any], path: str, *, final: bool) -> Block:
        try:
            if step.wait_for is not None:
                pause = Pause(path, 1, seconds=_duration(step, render(step.wait_for, scope)), final=final)
            else:
                pause = Pause(path, 1, until=_instant(step, render(step.wait_until, scope)), final=final)
        except WeftError as error:
            return StepResult("failed", problem=error.problem)
        yield pause
        return StepResult("cancelled", problem=_CANCELLED) if self.ends(pause) else StepResult("succeeded")

    # ---- attempts
    def _attempts(self, step: PlannedStep, scope: Scope, path: str, *, final: bool) -> Block:
        try:
            prepared = prepare(step, scope)
        except WeftError as error:
            return StepResult("failed", problem=error.problem.at(step.where()))
        chain = Chain(step, prepared, self._facts.run_id, self._facts.started_at, path)
        while (call := chain.next()) is not None:
            attempt = Perform(call, final)
            outcome: Outcome = yield attempt
            if outcome.state == "succeeded":
                return StepResult("succeeded", outcome.output)
            if outcome.failure is None or self.ends(attempt):
                problem = outcome.failure.problem if outcome.failure else _CANCELLED
                return StepResult("cancelled", problem=problem)
            wait_s = chain.failed(outcome, outcome.failure)
            if wait_s:
                yield Pause(path, call.number, seconds=wait_s, final=final)
                if self.ends(attempt):
                    return StepResult("cancelled", problem=_CANCELLED)
        if chain.output is not None:
            return StepResult("succeeded", chain.output)
        return StepResult("failed", problem=chain.problem)


def _key(wish: Operation) -> _Key:
    return (wish.call.path, wish.call.number) if isinstance(wish, Perform) else (wish.path, -wish.n)


def _key_of(record: Record) -> _Key:
    return (record.path, -record.n if record.kind in ("timer", "rang") else record.n)


def _answer(record: Record) -> Any:
    """What the block is sent for a record; always read from the text, so that a replay is sent the same."""
    if record.kind in OUTCOMES:
        return Outcome.from_text(record.kind, record.payload)  # type: ignore[arg-type]
    return True


def _with_steps(scope: Mapping[str, Any], results: Mapping[str, StepResult]) -> dict[str, Any]:
    return {**scope, "steps": {**scope["steps"], **{name: result.in_scope() for name, result in results.items()}}}


def _first_failure(steps: Iterable[PlannedStep], results: Mapping[str, StepResult]) -> Problem | None:
    for step in steps:
        result = results.get(step.id)
        if result is not None and result.failed:
            return result.problem or Problem("failed", f"Step {step.name!r} failed.")
    return None


def _holds(condition: Located | bool | None, scope: Scope) -> bool:
    if condition is None or isinstance(condition, bool):
        return condition is not False
    return bool(condition.render(scope))


def _items(step: PlannedStep, value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise WeftError(
            f"`for_each` needs a list, got {_kind(value)}.",
            code="not_a_list",
            where=step.for_each.where() if isinstance(step.for_each, Located) else step.where(),
        )
    return value


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


def _instant(step: PlannedStep, value: Json) -> float:
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
    return instant.timestamp()


def _kind(value: Value) -> str:
    names = {str: "a text", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return names.get(type(value), "nothing")

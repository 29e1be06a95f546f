"""What a document means: its steps as blocks that yield what they wait for.

Pure, as the walk is: what a block does follows from the plan, the run's facts and what it is sent.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from weft.engine import reading
from weft.engine.approving import Handle, links_of
from weft.engine.attempts import Chain, Spent, pause_s
from weft.engine.blocks import Block, Child, OnRecord, Spawn, Timed
from weft.engine.gates import gate_of
from weft.engine.known import FOR_EACH, IF, Known
from weft.engine.operations import Ask, Pause, Perform, Reach, Start, key
from weft.engine.reading import first_failure, is_computed, problem_of, with_steps
from weft.engine.results import CANCELLED, STOPPED, Mark, RunFacts, RunResult, StepResult, Tried, iso
from weft.errors import Diverged, Problem, WeftError
from weft.executor import prepare
from weft.outcome import Outcome, request_hash
from weft.plan import Located, Plan, PlannedStep, ancestors, render
from weft.triggers import trigger_run_id
from weft.types import Json, JsonObject, Scope
from weft.workflow import seconds

OF_TIMEOUT: Final = 0
"""Number of the timer of a `timeout`, at the path of its step, and of the pause before another try of a group."""


@dataclass(slots=True)
class Reaches:
    """The parts of a run that a cancel ends, or does not."""

    main: Reach
    final: Reach
    told: Reach  #: steps and workflow for a failure


class Steps:
    """The blocks of one run.

    Args:
        plan: What it follows.
        facts: The run's fixed facts.
        known: What is on record of it.
    """

    def __init__(self, plan: Plan, facts: RunFacts, known: Known) -> None:
        self.marks: deque[Mark | Tried] = deque()
        self.reaches = Reaches(Reach(), Reach(), Reach())
        self.cancelled = False
        self.handles: dict[str, Handle] = {}  #: what stands for links and tokens in arguments
        self._plan = plan
        self._facts = facts
        self._known = known
        self._budget = plan.workflow.budget
        self._actions = 0  #: begun in the main part
        self._doubts: set[str] = set()  #: paths of steps that had an effect, perhaps, and must not repeat it
        self._sent: dict[str, tuple[Spent, StepResult]] = {}  #: by path without tries: what steps that send came to
        self._kept: dict[str, StepResult] = {}  #: by path without tries: what child runs came to that are not repeated
        self._spent_children: set[str] = set()  #: paths of child runs that had such an effect
        self.sent_once = False  #: it has had an effect, perhaps, that the author forbade to repeat

    # ---- the document
    def run(self) -> Block:
        plan, reaches = self._plan, self.reaches
        scope = self._facts.scope(plan.workflow.variables)
        scope = with_steps(scope, {name: StepResult("succeeded", value) for name, value in plan.pins.items()})
        results, out_of_time = yield from self._in_time(self._list(plan.steps, scope, "", reaches.main), reaches.main)
        problem = out_of_time or problem_of(first_failure(plan.steps, results))
        ended = with_steps(scope, {step.id: results.get(step.id, StepResult("skipped")) for step in plan.steps})
        of_end = yield from self._end(ended)
        problem = of_end if problem is None else _with(problem, of_end)
        outputs: Json = None
        if problem is None and not self.cancelled:
            try:
                outputs = {name: render(value, ended) for name, value in plan.outputs.items()}
            except WeftError as error:
                problem = error.problem
        if problem is not None and not self.cancelled:
            yield from self._tell(ended, problem)
        if self.cancelled:
            return RunResult("cancelled", None, _with(CANCELLED, of_end))
        return RunResult("failed" if problem else "succeeded", outputs, problem)

    def _end(self, scope: dict[str, Any]) -> Generator[Any, Any, Problem | None]:
        """Do what stands under `finally`, and return why it failed; every step has a state by now (rule B9)."""
        final, reach = self._plan.final, self.reaches.final
        if not final:
            return None
        results = yield from self._list(final, scope, "/@finally", reach)
        return None if reach.is_over else problem_of(first_failure(final, results))

    def _in_time(self, block: Block, reach: Reach) -> Generator[Any, Any, tuple[Any, Problem | None]]:
        """Let the main part of a run take the time that its budget leaves it."""
        time = None if self._budget is None else self._budget.time
        if time is None:
            return (yield from block), None
        results, rang = yield Timed(block, Pause("", OF_TIMEOUT, seconds=seconds(time)), reach)
        where = self._plan.source.where(("budget", "time"))
        problem = Problem("budget_exceeded", f"The run has used up its time of {time}.", "Allow more.", where)
        return results, problem if rang else None

    def _tell(self, scope: dict[str, Any], problem: Problem | None) -> Block:
        """Tell of a failure, by steps or by another workflow; what comes of that changes nothing."""
        step = self._plan.failure_workflow
        if step is None:
            yield from self._list(self._plan.on_failure, scope, "/@on_failure", self.reaches.told)
        elif step.child is not None:
            self.marks.append(Mark(step.path, None))
            try:
                given = failure_inputs(step.child, self._plan.workflow.name, self._facts, problem)
            except WeftError as error:  # it does not take such facts
                result = StepResult("failed", problem=error.problem.at(step.where()))
            else:
                result = yield from self._start(step, given, step.path, 1, self.reaches.told)
            self.marks.append(Mark(step.path, result))
        return None

    def _list(
        self, steps: tuple[PlannedStep, ...], scope: dict[str, Any], path: str, reach: Reach
    ) -> Generator[Spawn, Any, Mapping[str, StepResult]]:
        needs = {step.id: step.needs for step in steps}

        def child(step: PlannedStep) -> Child:
            seen = ancestors(step.id, needs)

            def start(results: Mapping[str, StepResult]) -> Block:
                before = {name: results[name] for name in needs if name in seen}
                return self._step(step, with_steps(scope, before), f"{path}/{step.id}", reach)

            return Child(step.id, step.needs, start)

        results: Mapping[str, StepResult] = yield Spawn(map(child, steps), None, reach)
        return results

    # ---- one step
    def _step(self, step: PlannedStep, scope: dict[str, Any], path: str, reach: Reach) -> Block:
        try:
            skipped = step.disabled or not self._holds(step, scope, path)
        except Diverged:
            raise
        except WeftError as error:
            self._known.unless_recorded(step, (path, IF) in self._known.choices)
            skipped, result = False, StepResult("failed", problem=error.problem)
        else:
            result = StepResult("skipped")
        if not skipped:
            self.marks.append(Mark(path, None))
            if result.problem is None:
                plain = step.kind == "action" and step.for_each is None  # most are: no blocks around their attempts
                inner = self._attempts if plain else self._timed
                result = yield from inner(step, scope, path, reach)
            if result.failed and result.state != "cancelled" and step.goes_on and not result.fatal:
                result = yield from self._forgiven(step, scope, path, result, reach)
        self.marks.append(Mark(path, result))
        return result

    def _forgiven(self, step: PlannedStep, scope: dict[str, Any], path: str, result: StepResult, reach: Reach) -> Block:
        if step.on_error:
            told = with_steps(scope, {step.id: result})
            results = yield from self._list(step.on_error, told, f"{path}/@on_error", reach)
            if failed := first_failure(step.on_error, results):
                return replace(result, problem=problem_of(failed))
        return replace(result, tolerated=True)

    def _holds(self, step: PlannedStep, scope: Scope, path: str) -> bool:
        if not isinstance(step.condition, Located):
            return step.condition is not False
        holds = bool(step.condition.render(scope))
        self._known.chosen(step, path, IF, holds)
        return holds

    def _timed(self, step: PlannedStep, scope: dict[str, Any], path: str, reach: Reach) -> Block:
        """Let a step take no longer than its `timeout`; an action's own attempts see to that themselves.

        That the time is up is a record, accepted before anything acts on it (rule A9): what has not passed its point of
        no return is stopped then, the rest ends, and whatever came of it the step has failed.
        """
        if step.timeout_s is None:
            return (yield from self._repeated(step, scope, path, reach))
        inner = Reach(reach)
        timer = Pause(path, OF_TIMEOUT, seconds=step.timeout_s, reach=reach)
        result, rang = yield Timed(self._repeated(step, scope, path, inner), timer, inner)
        if not rang or reach.is_over:
            return result
        message = f"Step {step.name!r} was stopped after {step.timeout_s:g} s."
        problem = Problem("timeout", message, "Allow more with `timeout` in the step.", step.where())
        return StepResult("failed", problem=problem, retryable=True)

    def _repeated(self, step: PlannedStep, scope: dict[str, Any], path: str, reach: Reach) -> Block:
        if step.for_each is None:
            return (yield from self._tries(step, scope, path, reach))
        try:
            items = reading.items(step, render(step.for_each, scope))
        except WeftError as error:
            self._known.unless_recorded(step, (path, FOR_EACH) in self._known.choices)
            return StepResult("failed", problem=error.problem)
        if is_computed(step.for_each):
            self._known.chosen(step, path, FOR_EACH, {"count": len(items), "items": request_hash(items)})

        def turns() -> Iterator[Child]:
            for i, item in enumerate(items):
                inner = {**scope, "item": item, "index": i}
                yield Child(i, (), lambda _, inner=inner, i=i: self._tries(step, inner, f"{path}[{i}]", reach))  # type: ignore[misc]

        results = yield Spawn(turns(), step.max_parallel, reach)
        for i in range(len(items)):
            if i not in results or results[i].failed:
                return results.get(i, STOPPED)
        return StepResult("succeeded", [results[i].output for i in range(len(items))])

    def _tries(self, step: PlannedStep, scope: dict[str, Any], path: str, reach: Reach) -> Block:
        """Try a step as often as its `retry` says; an action's own chain of attempts does so itself."""
        retry = None if step.kind == "action" else step.retry
        attempts = 1 if retry is None else retry.attempts
        for k in range(1, attempts + 1):
            result: StepResult = yield from self._once(step, scope, path, k, reach)
            if retry is None or k == attempts or not result.failed or result.state == "cancelled" or result.fatal:
                break
            if reach.is_over:
                break
            kind = result.problem.code if result.problem else ""
            if self._is_in_doubt(path) or not (result.retryable if retry.on is None else kind in retry.on):
                break
            wait_s = pause_s(retry, k, self._facts.run_id, path)
            if wait_s:
                yield Pause(tried_at(path, k + 1), OF_TIMEOUT, seconds=wait_s, reach=reach)
            if reach.is_over:
                return STOPPED
        return result

    def _is_in_doubt(self, path: str) -> bool:
        """Whether a step, or one inside of it, may have had an effect that must not be repeated."""
        return any(each == path or each.startswith((f"{path}/", f"{path}[")) for each in self._doubts)

    def _once(self, step: PlannedStep, scope: dict[str, Any], path: str, k: int, reach: Reach) -> Block:
        match step.kind:
            case "action":
                return (yield from self._attempts(step, scope, path, reach))
            case "group":
                return (yield from self._group(step, scope, tried_at(path, k), reach))
            case "wait":
                return (yield from self._wait(step, scope, path, reach))
            case "approval":
                return (yield from self._approval(step, scope, path, k, reach))
            case "workflow":
                return (yield from self._child(step, scope, path, k, reach))

    def _group(self, step: PlannedStep, scope: dict[str, Any], path: str, reach: Reach) -> Block:
        results = yield from self._list(step.steps, scope, path, reach)
        last = results.get(step.steps[-1].id)
        if failed := first_failure(step.steps, results):
            return StepResult("failed", None, problem_of(failed), retryable=failed.retryable, fatal=failed.fatal)
        return STOPPED if last is None else StepResult("succeeded", last.output)

    def _wait(self, step: PlannedStep, scope: dict[str, Any], path: str, reach: Reach) -> Block:
        try:
            if step.wait_for is not None:
                length = reading.duration(step, "wait.for", step.wait_for, render(step.wait_for, scope))
                pause = Pause(path, 1, seconds=length, reach=reach)
            else:
                latest = self._facts.started_at + reading.LONGEST_WAIT_S
                until = reading.instant(step, render(step.wait_until, scope), latest)
                pause = Pause(path, 1, until=until, reach=reach)
        except WeftError as error:
            return StepResult("failed", problem=error.problem)
        yield pause
        return self._stopped() if reach.is_over else StepResult("succeeded")

    # ---- approvals
    def _approval(self, step: PlannedStep, scope: dict[str, Any], path: str, k: int, reach: Reach) -> Block:
        try:
            message = str(render(step.message, scope))
            who = reading.names(step, render(step.who, scope))
            limit = None
            if step.deadline is not None:
                limit = reading.duration(step, "approval.deadline", step.deadline, render(step.deadline, scope))
        except WeftError as error:
            return StepResult("failed", problem=error.problem)
        ask = Ask(path, k, message, who, limit, reach=reach)
        if not step.notify:
            answer = yield ask
            return STOPPED if answer is None and reach.is_over else _answered(step, answer)
        telling = Reach(reach)
        ask = replace(ask, told=True, reach=Reach(reach))
        beside = (
            Child("question", (), lambda _: self._question(step, ask, telling)),
            Child("notify", (), lambda _: self._notify(step, ask, scope, telling)),
        )
        results = yield Spawn(iter(beside), None, reach)
        return results.get("question", STOPPED) if results.get("notify") is None else self._asked(results)

    @staticmethod
    def _asked(results: Mapping[str, StepResult]) -> StepResult:
        """Return what a question came to of which people were told, or could not be told."""
        question, notify = results.get("question", STOPPED), results["notify"]
        if question.state == "cancelled" and notify.problem is not None:
            return StepResult("failed", problem=notify.problem, retryable=notify.retryable)
        return replace(question, tolerated=False)

    def _question(self, step: PlannedStep, ask: Ask, telling: Reach) -> Block:
        answer = yield ask
        telling.end()  # nobody need be told of it any more
        if answer is None and ask.reach.is_over:
            return STOPPED
        return _answered(step, answer)

    def _notify(self, step: PlannedStep, ask: Ask, scope: dict[str, Any], reach: Reach) -> Block:
        """Tell people of a question that is on record; when that fails, nobody is waited for."""
        facts: JsonObject = yield OnRecord(key(ask))
        deadline = facts["deadline"]
        assert deadline is None or isinstance(deadline, int | float)  # noqa: S101  written by the reactor
        handles, links = links_of(self._facts.run_id, ask, deadline)
        self.handles.update(handles)
        told = {"message": ask.message, "deadline": None if deadline is None else iso(deadline), "links": links}
        path = f"{tried_at(ask.path, ask.n)}/@notify"
        results = yield from self._list(step.notify, {**scope, "approval": told}, path, reach)
        failed = first_failure(step.notify, results)
        if failed is None:
            return StepResult("succeeded")
        ask.reach.end()
        # Not as a failure: what stands beside it would not begin.
        return StepResult("succeeded", None, problem_of(failed), retryable=failed.retryable)

    # ---- child runs
    def _child(self, step: PlannedStep, scope: Scope, path: str, k: int, reach: Reach) -> Block:
        if step.child is None:
            raise WeftError(f"Step {step.name!r} has no workflow.", where=step.where())
        try:
            given = {name: render(value, scope) for name, value in step.arguments.items()}
            inputs = reading.inputs(step.child, given)
        except WeftError as error:
            self._known.unless_recorded(step, (path, -k) in self._known.waits)
            return StepResult("failed", problem=error.problem.at(step.where()))
        origin = without_tries(path)
        if origin in self._kept:
            return self._kept[origin]
        result: StepResult = yield from self._start(step, inputs, path, k, reach)
        if result.state == "succeeded" and path in self._spent_children:
            self._kept[origin] = result
        return result

    def _start(self, step: PlannedStep, inputs: JsonObject, path: str, k: int, reach: Reach) -> Block:
        assert step.child is not None  # noqa: S101  the callers have looked
        id_ = trigger_run_id("child", self._facts.run_id, path, str(k))
        try:
            trigger: JsonObject = {"type": "workflow", "run": self._facts.run_id, "step": path}
            gate_of(step.child, RunFacts(id_, self._facts.started_at, inputs, trigger))
        except WeftError as error:  # told here: its key is evaluated again when its start is put on record
            return StepResult("failed", problem=error.problem.at(step.where()))
        end = yield Start(path, k, id_, step.child, inputs, request_hash(step.uses, inputs), reach=reach)
        if end is None:
            return STOPPED
        if isinstance(end.get("result"), dict) and end["result"].get("doubt"):
            self._doubts.add(path)
        result = _ended(step, end, reach)
        if isinstance(end.get("result"), dict) and end["result"].get("sent_once"):
            self.sent_once = True
            self._spent_children.add(path)
            if result.state != "succeeded":
                self._doubts.add(path)
        return result

    # ---- attempts
    def _attempts(self, step: PlannedStep, scope: Scope, path: str, reach: Reach) -> Block:
        try:
            prepared = prepare(step, scope)
        except WeftError as error:
            self._known.unless_recorded(step, (path, 1) in self._known.tried)
            return StepResult("failed", problem=error.problem.at(step.where()))
        origin = without_tries(path)
        earlier = self._sent.get(origin)
        if earlier is not None and step.once and earlier[0].effect != "none":
            return _kept(earlier[1])  # it must not happen again in another try of its group
        if not self._may_begin(step, reach):
            return self._too_many(step)
        spent = None if earlier is None else earlier[0]
        chain = Chain(
            step,
            prepared,
            self._facts.run_id,
            self._facts.started_at,
            path,
            origin=origin,
            earlier=spent,
            inherited=self._known.inherited(origin),
        )
        result = yield from self._chain(chain, reach)
        if step.action is not None and step.action.manifest.effects == "send":
            self._sent[origin] = (chain.spent(result.state == "succeeded"), result)
        if chain.doubt and result.state != "succeeded":
            self._doubts.add(path)
        self.sent_once = self.sent_once or (step.once and chain.spent(result.state == "succeeded").effect != "none")
        return result

    def _chain(self, chain: Chain, reach: Reach) -> Block:
        while (call := chain.next()) is not None:
            outcome: Outcome = yield Perform(call, reach)
            stopped = outcome.failure is None or reach.is_over
            if outcome.state == "succeeded" or stopped:
                self.marks.append(Tried(call, outcome))
            if outcome.state == "succeeded":
                return StepResult("succeeded", outcome.output)
            if outcome.failure is None or stopped:
                problem = outcome.failure.problem if outcome.failure else self._why_stopped()
                chain.stopped(outcome.failure)
                return StepResult("cancelled", problem=problem)
            wait_s = chain.failed(outcome, outcome.failure)
            self.marks.append(Tried(call, outcome, wait_s))
            if (ask := chain.question(reach)) is not None:
                chain.answered((yield ask))
                if reach.is_over:
                    return StepResult("cancelled", problem=chain.problem)
            if wait_s:
                yield Pause(call.path, call.number, seconds=wait_s, reach=reach)
                if reach.is_over:
                    return STOPPED
        if chain.output is not None:
            return StepResult("succeeded", chain.output)
        return StepResult("failed", problem=chain.problem, retryable=chain.retryable)

    def _stopped(self) -> StepResult:
        return StepResult("cancelled", problem=self._why_stopped())

    def _why_stopped(self) -> Problem:
        return CANCELLED if self.cancelled else replace(CANCELLED, message="It was stopped with what is around it.")

    def _may_begin(self, step: PlannedStep, reach: Reach) -> bool:
        """Count an action of the main part, and tell whether the run's budget has room for it."""
        if self._budget is None or self._budget.steps is None or not _is_within(reach, self.reaches.main):
            return True
        self._actions += 1
        return self._actions <= self._budget.steps

    def _too_many(self, step: PlannedStep) -> StepResult:
        most = self._budget.steps if self._budget else 0
        message = f"The run may begin {most} actions; step {step.name!r} would be one more."
        return StepResult(
            "failed", problem=Problem("budget_exceeded", message, "Allow more `steps`.", step.where()), fatal=True
        )


def tried_at(path: str, k: int) -> str:
    """Return where try `k` of a step stands: the first one at the step's own path."""
    return path if k == 1 else f"{path}/@{k}"


def without_tries(path: str) -> str:
    """Return a path without the tries of its groups: `/each/@2/mail` → `/each/mail`."""
    return re.sub(r"/@\d+", "", path) if "/@" in path else path


def failure_inputs(child: Plan, workflow: str, facts: RunFacts, problem: Problem | None) -> JsonObject:
    """Return what a workflow that tells of failures is given: of what there is, the inputs that it declares."""
    error: JsonObject | None = None
    if problem is not None:
        error = {"kind": problem.code, "message": problem.message, "step": problem.where.step}
    started = iso(facts.started_at)
    run: JsonObject = {
        "id": facts.run_id,
        "workflow": workflow,
        "state": "failed",
        "error": error,
        "started_at": started,
    }
    known: JsonObject = {"run": run, "run_id": facts.run_id, "workflow": workflow, "error": error}
    return reading.inputs(child, {name: value for name, value in known.items() if name in child.workflow.inputs})


def _is_within(reach: Reach, outer: Reach) -> bool:
    each: Reach | None = reach
    while each is not None and each is not outer:
        each = each.outer
    return each is outer


def _with(problem: Problem, of_end: Problem | None) -> Problem:
    """Add to a run's problem that `finally` failed, too; it never replaces the first one (rule B9)."""
    if of_end is None:
        return problem
    return replace(problem, message=f"{problem.message} `finally` failed, too: {of_end.message}")


def _kept(earlier: StepResult) -> StepResult:
    """Return what a step comes to that is not tried again: what it came to, or that this is not known."""
    return earlier if earlier.state == "succeeded" else replace(earlier, state="failed")


def _answered(step: PlannedStep, answer: JsonObject | None) -> StepResult:
    if answer is None and step.default_answer is None:
        problem = Problem("no_answer", "Nobody answered before the deadline.", None, step.where())
        return StepResult("failed", problem=problem, retryable=True)
    answer = answer or {"answer": step.default_answer, "by": None, "how": "deadline", "comment": None, "at": None}
    if answer["answer"] == "approve":
        return StepResult("succeeded", answer)
    by = answer.get("by")
    message = f"It was rejected by {by}." if by else "It was rejected."
    return StepResult("failed", answer, Problem("rejected", message, None, step.where()))


def _ended(step: PlannedStep, end: JsonObject, reach: Reach) -> StepResult:
    """Return what a step comes to whose child run has ended."""
    run, found = str(end["run"]), end.get("result")
    result: Mapping[str, Any] = found if isinstance(found, dict) else {}
    match end["state"]:
        case "succeeded":
            return StepResult("succeeded", result.get("outputs"))
        case "skipped":
            return StepResult("skipped")
        case "cancelled" if reach.is_over:
            return STOPPED
    failed = end["state"] == "failed"
    told = (result.get("problem") or {}).get("message") if failed else None
    message = f"Run {run} of {step.uses} {'failed' if failed else 'was cancelled'}{f': {told}' if told else '.'}"
    code = "child_failed" if failed else "child_cancelled"
    problem = Problem(code, message, f"Look at it: weft runs show {run}", step.where())
    return StepResult("failed", problem=problem, retryable=failed)

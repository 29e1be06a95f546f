"""Runs the cases of a document of tests, and compares what came of each with what was expected."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from weft.engine.events import StepState
from weft.engine.report import StepReport
from weft.errors import InvalidDocument, InvalidInputs, NotFound, Problem, WeftError, Where
from weft.executor import Call
from weft.outcome import Failure
from weft.plan import Plan
from weft.redaction import Redactor
from weft.rehearsal import recording
from weft.rehearsal.cases import (
    SUFFIX,
    AnswerTree,
    Case,
    CaseFile,
    ExpectedStep,
    Names,
    StepAnswer,
    leaves,
    load,
    problems_with,
)
from weft.rehearsal.matching import MISSING, Difference, differences
from weft.rehearsal.performing import Answer, Made, name_of, output_of, turns_of
from weft.rehearsal.recording import RecordedError, Replay, masked
from weft.rehearsal.stage import RUN_ID, Rehearsal, Stage
from weft.rehearsal.stand_in import merged
from weft.runtime import Runtime
from weft.types import DocumentPath, Json, JsonObject
from weft.values import ValueCheck
from weft.workflow import instant


@dataclass(frozen=True, slots=True)
class Miss:
    """Something that was not as expected."""

    where: Where  #: in the document of tests
    difference: Difference | None = None
    message: str = ""  #: instead of a difference
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of one case."""

    name: str
    state: Literal["passed", "failed", "error"]  #: `error`: it could not be run
    where: Where
    ms: int = 0
    misses: tuple[Miss, ...] = ()
    problem: Problem | None = None  #: what the run failed for, to explain a miss


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of one document of tests."""

    path: Path
    workflow: str
    cases: tuple[CaseResult, ...] = ()
    problems: tuple[Problem, ...] = ()  #: why none of its cases could be run
    ms: int = 0

    def every_case(self) -> Iterator[CaseResult]:
        """Yield the cases; a document that could not be used is one case, in error."""
        yield from self.cases
        if self.problems:
            misses = tuple(Miss(each.where, None, each.message, each.remedy) for each in self.problems)
            yield CaseResult("the document", "error", Where(str(self.path), 1, 1), self.ms, misses)


@dataclass(slots=True)
class _Told:
    """The misses of a case, as they are found."""

    file: CaseFile
    case: DocumentPath
    found: list[Miss] = field(default_factory=list)

    def differ(self, expected: Json, got: Any, path: DocumentPath, *, subset: bool = True) -> None:
        for each in differences(expected, got, subset=subset):
            place = self.file.source.where((*self.case, *path, *each.path))
            self.found.append(Miss(place, replace(each, path=(*path, *each.path))))

    def say(self, message: str, path: DocumentPath = (), remedy: str | None = None) -> None:
        self.found.append(Miss(self.file.source.where((*self.case, *path)), None, message, remedy))


async def run_case(runtime: Runtime, plan: Plan, file: CaseFile, number: int) -> CaseResult:
    """Run one case in memory, and return what became of it; nothing is raised for what the case itself has done."""
    case = file.document.cases[number]
    began = time.monotonic()
    told = _Told(file, ("cases", number))
    where = file.source.where(("cases", number))
    problem: Problem | None = None
    state: Literal["passed", "failed", "error"] = "error"
    try:
        rehearsal, replayed = await _rehearsed(runtime, plan, file, number, told)
    except InvalidInputs as error:
        for each in error.problems:
            if each.where.field is None:  # of the recording, not of an input
                told.say(each.message, ("recorded",), each.remedy)
            else:
                told.say(f"{each.where.field}: {each.message}", ("inputs",), each.remedy)
    except WeftError as error:
        for each in error.problems:
            told.found.append(Miss(each.where if each.where.file else where, None, each.message, each.remedy))
    else:
        problem = _problem(rehearsal)
        _compare(rehearsal, case, Names(plan), told)
        if replayed is not None:
            for unused in replayed.unused():
                told.say(
                    f"The recorded answer to {unused} was not asked for.", ("recorded",), "Record the answers again."
                )
        state = "failed" if told.found else "passed"
    ms = round((time.monotonic() - began) * 1000)
    return CaseResult(case.name, state, where, ms, tuple(told.found), problem if told.found else None)


async def _rehearsed(
    runtime: Runtime, plan: Plan, file: CaseFile, number: int, told: _Told
) -> tuple[Rehearsal, Replay | None]:
    case = file.document.cases[number]
    replay, run_id = None, RUN_ID
    if case.recorded is not None:
        path = Path(file.path.parent, case.recorded)
        kept = recording.load(path)
        recording.require_of(kept, path, plan.workflow.name)
        replay, run_id = Replay(kept, path, runtime.redactor), kept.run
    answers = _Answers(Names(plan), file.answers[number], replay, told)
    begin = instant(case.at)
    if begin is None:
        raise RuntimeError("the model has checked it")
    stage = Stage(runtime, answers.answer, answers.approve, at=begin.timestamp(), run_id=run_id)
    rehearsal = await stage.run(plan, runtime.inputs(plan, case.inputs), case.trigger)
    answers.tell_unused()
    return rehearsal, replay


class _Answers:
    """The answers of one case: those that it gives, then those that were recorded."""

    def __init__(self, names: Names, given: Mapping[str, AnswerTree], replay: Replay | None, told: _Told) -> None:
        self._given = {path: (name, tree) for name, tree in given.items() if (path := names.path(name)) is not None}
        self._replay = replay
        self._told = told
        self._used: set[DocumentPath] = set()
        self._asked: Counter[tuple[str, tuple[int, ...]]] = Counter()  #: attempts by name and turn, over all tries

    def answer(self, path: str, call: Call) -> Answer | None:
        """Return the answer to an attempt; a failure that ends the case where a list has too few."""
        if name_of(path) not in self._given:
            return None if self._replay is None else self._replayed(path, call)
        name = name_of(path)
        self._asked[name, turns_of(path)] += 1
        number = self._asked[name, turns_of(path)]
        found = self._found(path, number)
        if found is None:
            message = f"The case has no answer for attempt {number} of {path.strip('/')}."
            self._told.say(message, ("answers", self._given[name][0]), "Add one to its list.")
            return Answer(failure=_ended("no_answer", message))
        return _as_answer(found, call)

    def _replayed(self, path: str, call: Call) -> Answer | None:
        if self._replay is None:
            return None
        before = len(self._replay.problems)
        answer = self._replay.answer(path, call)
        for problem in self._replay.problems[before:]:
            self._told.say(problem.message, ("recorded",), problem.remedy)
        return answer

    def approve(self, path: str, question: Mapping[str, Any]) -> JsonObject | None:
        """Return the answer to a question; None lets its deadline pass."""
        if name_of(path) not in self._given:
            return None if self._replay is None else self._replay.approve(path)
        found = self._found(path, 1)
        if found is None:
            return None
        answer = "approve" if found.approve is not None else "reject"
        return {"answer": answer, "by": found.approve or found.reject, "comment": found.comment}

    def _found(self, path: str, number: int) -> StepAnswer | None:
        name, tree = self._given[name_of(path)]
        place: DocumentPath = ("answers", name)
        for i in (*turns_of(path), number - 1):
            if not isinstance(tree, list):
                break
            if i >= len(tree):
                return None
            tree, place = tree[i], (*place, i)
        if isinstance(tree, list):
            self._told.say(f"The list for step {name!r} is deeper than its loops and attempts.", place)
            return None
        self._used.add(place)
        return tree

    def tell_unused(self) -> None:
        """Tell of answers that nothing asked for: the case does not show what it seems to show."""
        for name, tree in self._given.values():
            for place, _ in leaves(tree, ("answers", name)):
                if place not in self._used:
                    self._told.say(f"This answer of step {name!r} was not asked for.", place, "Delete it, or look why.")


def _as_answer(found: StepAnswer, call: Call) -> Answer:
    if isinstance(found.error, RecordedError):
        return Answer(failure=found.error.failure())
    if found.error is not None:
        return Answer(failure=RecordedError(kind=found.error).failure())
    if "stand_in" not in found.model_fields_set:
        return Answer(found.output)
    output = merged(output_of(call.step).example, found.stand_in)
    problems = ValueCheck(output_of(call.step).json_schema).problems(output)
    if problems:
        return Answer(
            failure=_ended("bad_output", f"With these parts the output breaks its schema: {problems[0].message}")
        )
    return Answer(output)


def _ended(kind: str, message: str) -> Failure:
    return Failure(Problem(kind, message), effect="none", details={"fallback": False, "max_tries": 1})


def _problem(rehearsal: Rehearsal) -> Problem | None:
    told = rehearsal.report.problem
    if told is None:
        return None
    place = told.where
    where = Where(place.file, place.line, place.column, place.step, place.field)
    return Problem(told.code, told.message, told.remedy, where)


# ---- comparing
def _compare(rehearsal: Rehearsal, case: Case, names: Names, told: _Told) -> None:
    report, expect = rehearsal.report, case.expect
    if rehearsal.stuck:
        told.say("The run waits for an answer that nobody gives.", ("answers",), "Add the answer to its approval.")
    told.differ(expect.state, report.state, ("expect", "state"))
    if expect.error is not None:
        told.differ(expect.error, report.problem.code if report.problem else MISSING, ("expect", "error"))
    if expect.outputs is not None:
        told.differ(expect.outputs, report.outputs if report.outputs is not None else MISSING, ("expect", "outputs"))
    results = _Results(rehearsal)
    for name, expected in expect.steps.items():
        path = names.path(name)
        if path is not None:
            _compare_step(results, name, path, expected, told)


@dataclass(frozen=True, slots=True)
class _Turn:
    """What a step came to in one turn of the loops around it."""

    state: StepState = "pending"
    output: Any = MISSING
    error: Any = MISSING
    arguments: Sequence[JsonObject] = ()  #: what its action was given at last, in each turn of its own loop
    calls: int = 0  #: attempts, those of all tries of a group


class _Results:
    """What the steps of a rehearsal came to, by name and turn; of a group that was tried again the last try counts."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self._reports: dict[str, dict[tuple[int, ...], StepReport]] = {}
        self._made: dict[str, list[tuple[tuple[int, ...], Made]]] = {}
        for scene in rehearsal.scenes:
            for report in scene.report.steps:
                path = scene.at + report.path
                self._reports.setdefault(name_of(path), {})[turns_of(path)] = report
        for at, made in rehearsal.made:
            path = at + made.call.path
            self._made.setdefault(name_of(path), []).append((turns_of(path), made))

    def turns(self, name: str) -> dict[tuple[int, ...], _Turn]:
        """Return what a step came to, by turn, in their order; nothing where it was not reached."""
        found = sorted(self._reports.get(name, {}).items(), key=lambda each: each[0])
        return {turns: self._turn(name, turns, report) for turns, report in found}

    def calls(self, name: str) -> int:
        """Count the attempts of a step in all turns."""
        return len(self._made.get(name, []))

    def _turn(self, name: str, turns: tuple[int, ...], report: StepReport) -> _Turn:
        made = [each for each in self._made.get(name, []) if each[0][: len(turns)] == turns]
        last = {at: {**each.call.arguments, **each.call.variant.arguments} for at, each in made}
        error = MISSING if report.problem is None else report.problem.code
        return _Turn(report.state, report.output, error, [last[at] for at in sorted(last)], len(made))


def _compare_step(
    results: _Results, name: str, path: str, expected: ExpectedStep | Sequence[ExpectedStep], told: _Told
) -> None:
    place: DocumentPath = ("expect", "steps", name)
    turns = results.turns(path)
    if isinstance(expected, ExpectedStep):
        for at, turn in (turns or {(): _Turn()}).items():
            before = len(told.found)
            _compare_turn(turn, expected, place, told)
            if at and len(told.found) > before:
                told.say(f"This was in turn {', '.join(map(str, at))}.", place)
        if expected.calls is not None:
            told.differ(expected.calls, results.calls(path), (*place, "calls"))
        return
    if len(expected) != len(turns):
        told.say(f"Step {name!r} had {len(turns)} turns, and {len(expected)} are expected.", place)
    for i, (one, turn) in enumerate(zip(expected, turns.values(), strict=False)):
        _compare_turn(turn, one, (*place, i), told)
        if one.calls is not None:
            told.differ(one.calls, turn.calls, (*place, i, "calls"))


def _compare_turn(turn: _Turn, expected: ExpectedStep, place: DocumentPath, told: _Told) -> None:
    given = expected.model_fields_set
    if expected.state is not None:
        told.differ(expected.state, turn.state, (*place, "state"))
    if "output" in given:
        told.differ(expected.output, turn.output, (*place, "output"))
    if expected.error is not None:
        told.differ(expected.error, turn.error, (*place, "error"))
    if "arguments" in given:
        _compare_arguments(expected.arguments, turn.arguments, (*place, "arguments"), told)


def _compare_arguments(expected: Json, given: Sequence[JsonObject], place: DocumentPath, told: _Told) -> None:
    """Compare with what each turn was given; what is no list holds for every turn."""
    if isinstance(expected, list):
        told.differ(expected, list(given), place)
    elif not given:
        told.differ(expected, MISSING, place)
    else:
        for arguments in given:
            told.differ(expected, arguments, place)


def find(paths: Sequence[Path]) -> list[Path]:
    """Return the documents of tests that paths lead to: themselves, those beside a workflow, those in a directory.

    Raises:
        NotFound: A path leads to none.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(path.rglob(f"*{SUFFIX}"))
            if not inside:
                raise _no_tests(path, f"Write one beside a workflow: {path / f'NAME{SUFFIX}'}")
            found.update(dict.fromkeys(inside))
            continue
        file = path if path.name.endswith(SUFFIX) else path.with_name(f"{path.stem}{SUFFIX}")
        if not file.is_file():
            if not path.exists():
                message = f"There is no file or directory {path}."
                raise NotFound(message, code="no_tests", remedy=f"Tests lie beside workflows, as NAME{SUFFIX}.")
            raise _no_tests(path, f"Its tests would stand in {file}.")
        found[file] = None
    return list(found)


def _no_tests(path: Path, remedy: str) -> NotFound:
    return NotFound(f"{path} has no tests.", code="no_tests", remedy=remedy)


def workflow_of(file: Path) -> Path:
    """Return the file of the workflow that a document of tests lies beside.

    Raises:
        NotFound: There is none.
    """
    stem = file.name.removesuffix(SUFFIX)
    for ending in (".yaml", ".yml"):
        workflow = file.with_name(f"{stem}{ending}")
        if workflow.is_file():
            return workflow
    raise NotFound(
        f"{file} lies beside no workflow {stem}.yaml.", code="unknown_workflow", remedy="Name it after its workflow."
    )


async def run_file(
    runtime: Runtime, path: Path, wanted: Callable[[str], bool], learn: Callable[[Plan], Awaitable[None]] | None = None
) -> FileResult:
    """Run the wanted cases of a document of tests, one after the other; what they tell has its secrets masked.

    Args:
        runtime: Actions and the secrets that are known.
        path: The document.
        wanted: Tells whether a case is to be run, by its name.
        learn: Makes the secrets of the plan's connections known to the runtime's redactor.
    """
    return _without_secrets(await _run_file(runtime, path, wanted, learn), runtime.redactor)


async def _run_file(
    runtime: Runtime, path: Path, wanted: Callable[[str], bool], learn: Callable[[Plan], Awaitable[None]] | None
) -> FileResult:
    began = time.monotonic()
    workflow = path.name.removesuffix(SUFFIX)
    try:
        file = load(path)
        plan = await _plan_of(runtime, path)
        if learn is not None:
            await learn(plan)
        if problems := problems_with(file, plan):
            raise InvalidDocument(problems=problems)
    except WeftError as error:
        return FileResult(path, workflow, problems=error.problems, ms=round((time.monotonic() - began) * 1000))
    cases = [await run_case(runtime, plan, file, i) for i, case in enumerate(file.document.cases) if wanted(case.name)]
    return FileResult(path, workflow, tuple(cases), ms=round((time.monotonic() - began) * 1000))


async def _plan_of(runtime: Runtime, path: Path) -> Plan:
    """Return the plan that tests are of: the workflow beside them, or in a database workspace the one of their name."""
    try:
        beside = workflow_of(path)
    except NotFound:
        if runtime.documents.kind == "directory":
            raise
        return await runtime.plan_of(path.name.removesuffix(SUFFIX))
    return await runtime.plan_at(str(beside))


# ---- secrets
def _without_secrets(result: FileResult, redactor: Redactor) -> FileResult:
    """Return a result with its secrets masked: before its values are cut to fit a line, which would hide them from search."""
    cases = [_case_without(case, redactor) for case in result.cases]
    problems = [_problem_without(each, redactor) for each in result.problems]
    return replace(result, cases=tuple(cases), problems=tuple(problems))


def _case_without(case: CaseResult, redactor: Redactor) -> CaseResult:
    problem = None if case.problem is None else _problem_without(case.problem, redactor)
    misses = tuple(_miss_without(each, redactor) for each in case.misses)
    return replace(case, name=masked(case.name, redactor), misses=misses, problem=problem)


def _miss_without(miss: Miss, redactor: Redactor) -> Miss:
    found = miss.difference
    if found is not None:
        expected, got = (each if each is MISSING else masked(each, redactor) for each in (found.expected, found.got))
        found = Difference(masked(found.path, redactor), expected, got)
    return replace(miss, difference=found, message=masked(miss.message, redactor), remedy=masked(miss.remedy, redactor))


def _problem_without(problem: Problem, redactor: Redactor) -> Problem:
    return replace(problem, message=masked(problem.message, redactor), remedy=masked(problem.remedy, redactor))

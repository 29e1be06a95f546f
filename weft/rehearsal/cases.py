"""The documents of tests, `<workflow>.test.yaml` beside a workflow: models, reader, rules, JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from pydantic import Field

from weft import publishing, validation, wording
from weft.engine.events import StepState
from weft.errors import InvalidDocument, Problem
from weft.plan import Plan, PlannedStep
from weft.rehearsal.recording import RecordedError
from weft.source import Source, read_file
from weft.types import DocumentPath, Json, JsonObject
from weft.validation import Findings
from weft.values import ValueCheck
from weft.workflow import Instant, Model

SUFFIX: Final = ".test.yaml"
"""How the name of a test document ends; before it stands the name of the workflow's file."""

BEGIN: Final = "2026-01-01T00:00:00+00:00"
"""When the run of a case starts that does not say when."""


class StepAnswer(Model):
    """What an attempt of a step comes to, or what is answered to an approval; one of the keys."""

    output: Json | None = None
    """What the action returns."""
    stand_in: Json | None = None
    """The manifest's example with these parts changed: mappings by key, lists by position."""
    error: str | RecordedError | None = None
    """Why the attempt fails: the kind of the error, or more of it."""
    approve: str | None = None
    """Who approves what the step asks."""
    reject: str | None = None
    """Who rejects what the step asks."""
    comment: str | None = None
    """What they say."""


KEYS: Final = ("output", "stand_in", "error", "approve", "reject")

AnswerTree: TypeAlias = "StepAnswer | list[AnswerTree]"
"""One answer for all turns and attempts, or a list by turns of loops, the outermost first, and last by attempts."""


class ExpectedStep(Model):
    """What a step must have come to."""

    state: StepState | None = None
    """How it ended; `pending`: it was not reached."""
    output: Json | None = None
    """Its output; of mappings these keys at least."""
    error: str | None = None
    """The kind of its problem."""
    arguments: Json | None = None
    """What its action is given, of mappings these keys at least; a list: by the turns of its loop."""
    calls: int | None = Field(default=None, ge=0)
    """How many attempts were made, over all turns."""


class Expected(Model):
    """What the run must come to; all that is given must hold."""

    state: Literal["succeeded", "failed", "cancelled"] = "succeeded"
    """How the run ends."""
    outputs: JsonObject | None = None
    """The outputs of the run, these at least."""
    error: str | None = None
    """The kind of the run's problem."""
    steps: dict[str, ExpectedStep | list[ExpectedStep]] = Field(default_factory=dict)
    """What steps come to, by name: `each/mail` for one in a group; a list: one for each turn."""


class Case(Model):
    """One run and what is expected of it."""

    name: str = Field(min_length=1)
    """What the case shows."""
    inputs: JsonObject = Field(default_factory=dict)
    """What the run is given."""
    trigger: Json | None = None
    """What expressions see as `trigger`."""
    at: Instant = BEGIN
    """When the run starts."""
    recorded: str | None = None
    """A file of `weft run --record` whose answers are given; its path counts from this file."""
    answers: dict[str, Json] = Field(default_factory=dict)
    """What steps are answered, by name; others that read or send have stand-ins."""
    expect: Expected = Field(default_factory=Expected)
    """What must come of it."""


class CaseDocument(Model):
    """The tests of one workflow."""

    cases: list[Case] = Field(min_length=1)
    """The cases; each is a run of its own."""


@dataclass(frozen=True, slots=True)
class CaseFile:
    """A document of tests that was read."""

    path: Path
    source: Source
    document: CaseDocument
    answers: Sequence[Mapping[str, AnswerTree]] = field(default_factory=tuple)  #: of each case


def load(path: Path) -> CaseFile:
    """Read a document of tests.

    Raises:
        InvalidDocument: It breaks rules; carries every problem with its place.
    """
    source = read_file(path)
    document = validation.document(CaseDocument, source, InvalidDocument, _check)
    answers = [_answers(case, ("cases", i, "answers"), source) for i, case in enumerate(document.cases)]
    return CaseFile(path, source, document, answers)


def _answers(case: Case, path: DocumentPath, source: Source) -> dict[str, AnswerTree]:
    return {name: _tree(value, (*path, name), source) for name, value in case.answers.items()}


def _tree(value: Json, path: DocumentPath, source: Source) -> AnswerTree:
    if isinstance(value, list):
        return [_tree(item, (*path, i), source) for i, item in enumerate(value)]
    return validation.build(StepAnswer, source, InvalidDocument, value, path)


def leaves(tree: AnswerTree, path: DocumentPath = ()) -> Iterator[tuple[DocumentPath, StepAnswer]]:
    """Yield the answers of a tree, each with its place in it."""
    if isinstance(tree, list):
        for i, item in enumerate(tree):
            yield from leaves(item, (*path, i))
    else:
        yield path, tree


def _check(document: CaseDocument, findings: Findings) -> None:
    seen: set[str] = set()
    for i, case in enumerate(document.cases):
        path: DocumentPath = ("cases", i)
        if case.name in seen:
            findings.add((*path, "name"), "duplicate", f"There are two cases {case.name!r}.", "Rename one of them.")
        seen.add(case.name)
        if case.expect.error is not None and case.expect.state != "failed":
            message = "'error' is of a run that fails."
            findings.add((*path, "expect", "error"), "needs_failed", message, "Add 'state: failed'.", key=True)
        _check_answers(case, (*path, "answers"), findings)


def _check_answers(case: Case, path: DocumentPath, findings: Findings) -> None:
    try:
        answers = _answers(case, path, findings.source)
    except InvalidDocument as invalid:
        findings.problems += invalid.problems
        return
    for name, tree in answers.items():
        for inner, answer in leaves(tree, (*path, name)):
            given = [key for key in KEYS if key in answer.model_fields_set]
            if len(given) != 1:
                said = f"has {wording.choice(given)}" if given else "says nothing"
                message = f"An answer is exactly one of {', '.join(KEYS)}; this one {said}."
                findings.add(inner, "exactly_one", message, "Keep one of them." if given else "Add one of them.")


def problems_with(file: CaseFile, plan: Plan) -> list[Problem]:
    """Return what is wrong with a document of tests for the workflow beside it: names and shapes that there are not."""
    findings = Findings(file.source)
    names = Names(plan)
    for i, case in enumerate(file.document.cases):
        path: DocumentPath = ("cases", i)
        for name, tree in file.answers[i].items():
            _check_answer(names, name, tree, (*path, "answers", name), findings)
        for name in case.expect.steps:
            names.check(name, (*path, "expect", "steps", name), findings)
        for name in case.expect.outputs or ():
            if name not in plan.outputs:
                told = wording.meant(name, plan.outputs) or f"There are: {', '.join(plan.outputs) or 'none'}."
                message = f"The workflow has no output {name!r}."
                findings.add((*path, "expect", "outputs", name), "unknown_output", message, told, key=True)
    return findings.problems


def _check_answer(names: Names, name: str, tree: AnswerTree, path: DocumentPath, findings: Findings) -> None:
    step = names.check(name, path, findings)
    if step is None:
        return
    for inner, answer in leaves(tree, path):
        if (step.kind == "approval") != bool({"approve", "reject"} & answer.model_fields_set):
            remedy = (
                "Write approve: NAME or reject: NAME."
                if step.kind == "approval"
                else "Write output, stand_in or error."
            )
            findings.add(inner, "other_kind", f"Step {name!r} is {_kind(step)}.", remedy)
        elif step.action is None and step.kind != "approval":
            remedy = f"Answer its steps: {name}/…" if step.kind == "workflow" else "Answer the steps in it."
            findings.add(inner, "other_kind", f"Step {name!r} is {_kind(step)}; only actions have answers.", remedy)
        elif step.action is not None and "output" in answer.model_fields_set:
            check = ValueCheck(step.action.manifest.output.json_schema)
            findings.add_all(check.problems(answer.output, (*inner, "output")))


def _kind(step: PlannedStep) -> str:
    words = {"approval": "an approval", "group": "a group", "wait": "a wait", "workflow": "a child workflow"}
    return words.get(step.kind, "an action")


class Names:
    """The names by which a document of tests speaks of steps: ids through groups, or the id alone where it is unique."""

    def __init__(self, plan: Plan) -> None:
        self._steps = dict(_named(plan, ""))
        short: dict[str, list[str]] = {}
        for path, step in self._steps.items():
            for name in {step.name, step.id} - {path}:
                short.setdefault(name, []).append(path)
        self._short = {name: paths[0] for name, paths in short.items() if len(paths) == 1 and name not in self._steps}

    def path(self, name: str) -> str | None:
        """Return the path, without the turns of loops, that a name stands for: `each/mail`; None when there is none."""
        found = self._short.get(name, name)
        return found if found in self._steps else None

    def check(self, name: str, path: DocumentPath, findings: Findings) -> PlannedStep | None:
        """Return the step of a name; None when there is none, which is told."""
        found = self.path(name)
        if found is None:
            told = wording.meant(name, [*self._steps, *self._short]) or f"There are: {', '.join(self._steps)}."
            findings.add(path, "unknown_step", f"The workflow has no step {name!r}.", told, key=True)
            return None
        return self._steps[found]


def _named(plan: Plan, before: str) -> Iterator[tuple[str, PlannedStep]]:
    """Yield the steps of a plan and of its child workflows, by their paths through all of them."""
    for step in plan.every_step():
        path = before + step.path.strip("/")
        yield path, step
        if step.child is not None:
            yield from _named(step.child, f"{path}/")


def json_schema() -> JsonObject:
    """Return the JSON Schema of documents of tests, for completion in editors."""
    schema = publishing.json_schema(CaseDocument, "Weft tests of a workflow")
    definitions: Any = schema["$defs"]
    answer: Any = publishing.json_schema(StepAnswer, "Answer")
    definitions.update(answer.pop("$defs", {}))
    definitions["StepAnswer"] = {key: value for key, value in answer.items() if key not in ("$schema", "title")}
    definitions["StepAnswer"]["oneOf"] = [{"required": [key]} for key in KEYS]
    definitions["Case"]["properties"]["answers"]["additionalProperties"] = {"$ref": "#/$defs/Answers"}
    definitions["Answers"] = {
        "anyOf": [{"$ref": "#/$defs/StepAnswer"}, {"type": "array", "items": {"$ref": "#/$defs/Answers"}}]
    }
    return schema

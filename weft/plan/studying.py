"""A workflow document while it is being written: all its faults, the names that each step sees, one step judged alone.

It is the compiler's own walk, so what is told here of a step is what `weft validate` will tell of it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from weft import wording
from weft.catalogue import load
from weft.errors import InvalidWorkflow, NotFound, Problem, Where
from weft.plan.compiler import ConnectionsKnown, Documents, _Compiler, _Place
from weft.plan.model import CHILD, Kind, Plan, PlannedStep
from weft.plan.references import Visible
from weft.registry import Action, Registry
from weft.sdk import Catalogue
from weft.source import Source
from weft.survey import Survey, survey
from weft.types import DocumentPath, Json, JsonObject
from weft.workflow import Step, Workflow

ANSWER: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "answer": {"enum": ["approve", "reject"]},
        "by": {"type": ["string", "null"], "description": "Who has answered."},
        "how": {"type": "string"},
        "comment": {"type": ["string", "null"]},
        "at": {"type": ["number", "null"], "description": "When, in seconds since 1970."},
    },
}
"""What an approval comes to."""


@dataclass(frozen=True, slots=True)
class Place:
    """A step in its document, and the names that its own expressions may use."""

    step: Step
    at: DocumentPath
    name: str  #: through groups, for people: `each/mail`
    path: str  #: of its records, without the turns of loops: `/each/mail`
    visible: Visible  #: as its arguments see them
    outer: Visible  #: as its `if` and `for_each` see them: without `item` and `index` of its own loop
    needs: tuple[str, ...]
    kind: Kind = "action"
    action: Action | None = None
    child: Workflow | None = None  #: of a child workflow that can be run

    @property
    def schema(self) -> Json:
        """What is declared of its output, as JSON Schema; true where nothing is."""
        if self.action is not None:
            schema: Json = self.action.manifest.output.json_schema
        elif self.child is not None:
            schema = {"type": "object", "properties": dict.fromkeys(self.child.outputs, True)}
        else:
            schema = ANSWER if self.kind == "approval" else True
        return schema if self.step.for_each is None else {"type": "array", "items": schema}

    @property
    def example(self) -> Json:
        """An output as it may be; null where none is known."""
        if self.action is None:
            return None
        example = self.action.manifest.output.example
        return example if self.step.for_each is None else [example]


@dataclass(frozen=True, slots=True)
class Around:
    """What a document is judged against.

    Args:
        registry: The actions and types of connections there are.
        connections: What is known of connections; left out, they are not checked.
        catalogue: What is known of models; left out, the one that is shipped.
        documents: Where child workflows come from; left out, they are not looked for.
        applied: Gives a workflow as it is in the environment that is in force.
    """

    registry: Registry
    connections: ConnectionsKnown | None = None
    catalogue: Catalogue | None = None
    documents: Documents | None = None
    applied: Callable[[Workflow], Workflow] = lambda workflow: workflow


@dataclass(frozen=True, slots=True)
class Study:
    """What can be known of a document, whatever is wrong with it."""

    source: Source  #: as it was read
    found: Survey
    problems: tuple[Problem, ...]  #: the same as of `weft validate`, warnings among them
    plan: Plan | None  #: None when it has errors
    places: Mapping[DocumentPath, Place] = field(default_factory=dict)

    @property
    def workflow(self) -> Workflow | None:
        """A model of it, mended where it is at fault; None when too little of it can be understood."""
        return self.found.workflow

    def place(self, name: str) -> Place:
        """Return the step of this name, `each/mail`, or of this document path's text, `steps[0]`.

        Raises:
            NotFound: There is none.
        """
        for place in self.places.values():
            if name.strip("/") in (place.name, place.path.strip("/")):
                return place
        raise NotFound(
            f"There is no step {name!r} in this document.",
            code="unknown_step",
            remedy=f"There are: {', '.join(place.name for place in self.places.values())}." if self.places else None,
        )


def study(source: Source, around: Around) -> Study:
    """Read a workflow document, check it, and note what each of its steps sees; faults are told, not raised."""
    found = survey(source)
    if found.workflow is None:
        return Study(source, found, found.problems, None)
    walk = _Walk(found, around)
    planned = walk.plan()
    problems = found.with_consequences((*found.source.warnings, *walk.problems))
    sound = not any(problem.severity == "error" for problem in problems)
    return Study(source, found, problems, planned if sound else None, walk.places)


def step_problems(known: Study, at: DocumentPath, step: JsonObject, around: Around) -> tuple[Problem, ...]:
    """Return what is wrong with a step that stands, or is to stand, at a place of a document.

    A place inside one of its texts is told by line and column of that text, `where.field` says which; there is no file.

    Args:
        known: The document.
        at: Which of its steps this takes the place of; an index behind the last one appends it.
        step: The step as the form has it.
        around: What it is judged against.

    Raises:
        NotFound: There is no such list of steps.
        InvalidWorkflow: Too little of the document can be understood.
    """
    form = _form(known.source, at, step)
    found = survey(form)
    if found.workflow is None:
        raise InvalidWorkflow(problems=found.problems)
    walk = _Walk(found, around, only=at)
    walk.plan()
    told = found.with_consequences(walk.problems)
    return tuple(_inside(each, wording.field(at)) for each in told if each.where.file == _HERE)


def _inside(problem: Problem, step: str) -> Problem:
    """Return a problem of the step as the form has it: no file, and its field without the way to the step."""
    where = problem.where
    name = None if where.field == step else (where.field or "").removeprefix(f"{step}.") or None
    return replace(problem, where=replace(where, file=None, field=name))


# ---- the walk
class _Walk(_Compiler):
    """The compiler, which notes where each step stands; `only` one of them is judged, when it is named."""

    def __init__(self, found: Survey, around: Around, only: DocumentPath | None = None) -> None:
        assert found.workflow is not None  # noqa: S101  the caller has looked
        super().__init__(
            around.applied(found.workflow),
            found.source,
            around.registry,
            around.connections,
            around.catalogue or load(),
            documents=around.documents,
        )
        self.places: dict[DocumentPath, Place] = {}
        self._only = only

    def _step(self, step: Step, place: _Place, needs: tuple[str, ...]) -> PlannedStep:
        visible = place.visible if step.for_each is None else replace(place.visible, loop=True)
        noted = Place(step, place.at, place.name, place.path, visible, place.visible, needs)
        self.places[place.at] = noted  # now, so that a group stands before its steps
        if self._only is None or _on_the_way(place.at, self._only):
            planned = super()._step(step, place, needs)
        else:
            planned = self._sketch(step, place, needs)
        child = None if planned.child is None else planned.child.workflow
        self.places[place.at] = replace(noted, kind=planned.kind, action=planned.action, child=child)
        return planned

    def _failure_workflow(self) -> PlannedStep | None:
        return super()._failure_workflow() if self._only is None else None

    def _sketch(self, step: Step, place: _Place, needs: tuple[str, ...]) -> PlannedStep:
        """Return a step of which no more is known than what others may say of its output."""
        action: Action | None = None
        kind: Kind = "group" if step.steps else "wait" if step.wait else "approval"
        if step.uses is not None:
            kind = "workflow" if step.uses.startswith(CHILD) else "action"
            try:
                action = self.registry.action(step.uses) if kind == "action" else None
            except NotFound:
                action = None  # it is told when the whole document is checked
        return PlannedStep(
            id=step.id,
            name=place.name,
            title=step.title or step.id,
            path=place.path,
            kind=kind,
            at=place.at,
            source=self.source,
            needs=needs,
            action=action,
            for_each=None if step.for_each is None else True,
        )


def _on_the_way(at: DocumentPath, wanted: DocumentPath) -> bool:
    shorter = min(len(at), len(wanted))
    return at[:shorter] == wanted[:shorter]


# ---- a step that no file holds
_HERE = "form"
"""Marks the places inside of the step that is judged."""


@dataclass(frozen=True)
class _Form(Source):
    """A document whose step comes from a form: places are those inside of the step's own texts."""

    at: DocumentPath = ()
    around: Source | None = None

    def where(self, path: DocumentPath, key: bool = False) -> Where:
        if path[: len(self.at)] == self.at or self.around is None:
            return Where(_HERE)
        return self.around.where(path, key)

    def place(self, index: int) -> Where:
        return Where(_HERE)  # the text is that of the step alone

    def locate(self, path: DocumentPath, offset: int) -> Where:
        value: Any = self.value
        for part in path:
            try:
                value = value[part]
            except (LookupError, TypeError):
                return self.where(path)
        before = value[: max(offset, 0)] if isinstance(value, str) else ""
        return replace(self.where(path), line=before.count("\n") + 1, column=len(before) - before.rfind("\n"))


def _form(source: Source, at: DocumentPath, step: JsonObject) -> Source:
    """Return the document with a step exchanged or appended.

    Raises:
        NotFound: There is no such list of steps.
    """
    value: Any = copy.copy(source.value)
    holder: Any = value
    for part in at[:-1]:
        inner = _member(holder, part, at)
        holder[part] = copy.copy(inner)
        holder = holder[part]
    index = at[-1] if at else None
    if not isinstance(holder, list) or not isinstance(index, int) or not 0 <= index <= len(holder):
        raise _no_place(at)
    holder[index : index + 1] = [step]
    return _Form(source.file, json.dumps(step, ensure_ascii=False), value, at=at, around=source)


def _member(holder: Any, part: str | int, at: Iterable[str | int]) -> Json:
    try:
        inner = holder[part]
    except (LookupError, TypeError):
        raise _no_place(at) from None
    if not isinstance(inner, dict | list):
        raise _no_place(at)
    return inner


def _no_place(at: Iterable[str | int]) -> NotFound:
    return NotFound(
        f"There is no list of steps at {list(at)} in this document.",
        code="unknown_step",
        remedy="Give the path of a step as the workflow's answer has it, or one behind the last of a list.",
    )

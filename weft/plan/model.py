"""What a plan is: steps whose names are resolved and whose templates are compiled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from weft import wording
from weft.errors import ExpressionError, Problem, Where
from weft.expressions import Template
from weft.registry import Action
from weft.sdk import Known
from weft.source import Source
from weft.types import DocumentPath, Json, Scope
from weft.workflow import Retry, StepBudget, Workflow

CHILD = "workflow:"
"""What the name of a child workflow stands behind, in `uses`."""

Kind: TypeAlias = Literal["action", "workflow", "group", "wait", "approval"]


@dataclass(frozen=True, slots=True)
class Located:
    """A template and where it stands, so that a fault in it can be shown in the file."""

    template: Template
    source: Source
    path: DocumentPath
    step: str | None = None
    shift: int = 0  #: characters that the template has before the text in the file

    def render(self, scope: Scope) -> Json:
        """Return the value over `scope`; an error carries file, line, column, step and field."""
        try:
            return self.template.render(scope)
        except ExpressionError as error:
            raise error.placed(self.where(error.offset)) from None

    def where(self, offset: int | None = 0) -> Where:
        place = self.source.locate(self.path, max(0, (offset or 0) - self.shift))
        return Where(place.file, place.line, place.column, self.step, inside_step(self.path))


Value: TypeAlias = "Located | Json | list[Value] | dict[str, Value]"
"""A JSON value some of whose texts are templates."""


def render(value: Value, scope: Scope) -> Json:
    """Return `value` with every template in it rendered over `scope`."""
    match value:
        case Located():
            return value.render(scope)
        case dict():
            return {key: render(item, scope) for key, item in value.items()}
        case list():
            return [render(item, scope) for item in value]
        case _:
            return value


def templates(value: Value) -> Iterator[Located]:
    """Yield the templates in `value`, in document order."""
    match value:
        case Located():
            yield value
        case dict():
            for item in value.values():
                yield from templates(item)
        case list():
            for item in value:
                yield from templates(item)


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step whose names are resolved and whose templates are compiled."""

    id: str
    name: str  #: path of ids through groups, for people: `each/mail`
    title: str
    path: str  #: of its events and records, without the turns of loops: `/each/mail`, `/@finally/tidy`
    kind: Kind
    at: DocumentPath
    source: Source
    needs: tuple[str, ...]
    uses: str = ""
    action: Action | None = None
    arguments: Mapping[str, Value] = field(default_factory=dict)
    connection: str | None = None
    connections: Mapping[str, str] = field(default_factory=dict)
    condition: Located | bool | None = None
    for_each: Value | None = None
    max_parallel: int | None = None
    steps: tuple[PlannedStep, ...] = ()
    retry: Retry | None = None
    timeout_s: float | None = None
    wait_for: Value | None = None
    wait_until: Value | None = None
    message: Value = None  #: of an approval: what is asked
    who: Value = field(default_factory=list)  #: may answer
    deadline: Value | None = None  #: for the answer
    default_answer: Literal["approve", "reject"] | None = None
    notify: tuple[PlannedStep, ...] = ()  #: tell people of the question
    child: Plan | None = None  #: what a child run follows
    goes_on: bool = False  #: `on_error` is not `fail`
    on_error: tuple[PlannedStep, ...] = ()
    at_most_once: bool = False
    budget: StepBudget | None = None
    known: Known = field(default_factory=Known)  #: what the action's own rules are told
    disabled: bool = False

    @property
    def once(self) -> bool:
        """Whether nothing may repeat an effect of which nobody knows whether it happened."""
        if self.action is None or self.action.manifest.effects != "send":
            return False
        return self.at_most_once or self.action.manifest.retry == "never"

    def where(self) -> Where:
        """Return the place of the step in its file."""
        place = self.source.where(self.at)
        return Where(place.file, place.line, place.column, self.name)


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a workflow that a run is to follow."""

    until: str | None = None  #: name of the step after which it ends
    only: str | None = None  #: name of the only step
    pins: Mapping[str, Json] = field(default_factory=dict)  #: outputs of steps that are left out


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run follows, from its start to its end."""

    workflow: Workflow
    source: Source
    steps: tuple[PlannedStep, ...]
    final: tuple[PlannedStep, ...] = ()
    on_failure: tuple[PlannedStep, ...] = ()
    failure_workflow: PlannedStep | None = None  #: in the place of steps
    outputs: Mapping[str, Value] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()
    selection: Selection | None = None  #: None: all of it
    pins: Mapping[str, Json] = field(default_factory=dict)  #: outputs of steps that are left out
    kept: str | None = None  #: the text that it was made from, where that was kept before
    whole: Plan | None = None  #: what it is a part of; that is what is kept of it
    concurrency_key: Value = None

    def children(self) -> dict[str, Plan]:
        """Return what the child runs of this plan follow, by name."""
        steps = (step for step in self.every_step() if step.child is not None)
        return {step.uses.removeprefix(CHILD): step.child for step in steps if step.child is not None}

    def every_step(self) -> Iterator[PlannedStep]:
        """Yield all steps, those of groups after their group; not those of child workflows."""
        yield from _every((*self.steps, *self.final, *self.on_failure))
        if self.failure_workflow is not None:
            yield self.failure_workflow


def _every(steps: Iterable[PlannedStep]) -> Iterator[PlannedStep]:
    for step in steps:
        yield step
        yield from _every((*step.steps, *step.notify, *step.on_error))


def inside_step(path: DocumentPath) -> str:
    """Return where `path` leads inside its innermost step, as an author reads it: `with.messages[0].role`."""
    rest = path[1:] if path[:1] == ("on_failure",) else path
    while rest[:1] in (("steps",), ("finally",)) and len(rest) > 1:
        rest = rest[2:]
        if rest[:2] == ("on_error", "steps") and len(rest) > 2:
            rest = rest[1:]
        elif rest[:2] == ("approval", "notify") and len(rest) > 2:
            rest = ("steps", *rest[2:])
    return wording.field(rest)


def ancestors(step: str, needs: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """Return every step that `step` needs, directly or through others."""
    found: set[str] = set()
    todo = list(needs.get(step, ()))
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += needs.get(name, ())
    return frozenset(found - {step})

"""What a canvas draws of a document: its steps, what they need, which others they speak of, and where they stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from weft import expressions, wording
from weft.errors import ExpressionError
from weft.plan.studying import Place, Study
from weft.server.routes.shapes import Shape
from weft.types import DocumentPath, Json
from weft.workflow import Step


class ReferenceObject(Shape):
    """A step that another one speaks of."""

    step: str
    """Its id."""
    field: str
    """Where: `with.subject`."""
    path: str
    """What is read: `steps.ask.output.text`."""


class StepObject(Shape):
    """A step as the canvas draws it."""

    path: list[str | int]
    """Where it stands in the document; operations speak of it so."""
    id: str
    name: str
    """Through groups, for people: `each/mail`; runs, pins and problems speak of it so."""
    record: str
    """Of its states in runs, without the turns of loops: `/each/mail`."""
    group: list[str | int]
    """The path of the list that it stands in."""
    kind: Literal["action", "workflow", "group", "wait", "approval"]
    title: str
    uses: str | None
    icon: str | None
    category: str | None
    effects: str | None
    """Of its action: none, read or send; null when the action is not known."""
    needs_connection: str | None
    """The type of connection that its action takes."""
    connection: str | None
    needs: list[str]
    """The steps of the same list that must be settled before, the implied one among them."""
    implied: bool
    """Whether `needs` does not stand in the document: it is the step before this one."""
    references: list[ReferenceObject]
    """The steps whose outputs it uses."""
    condition: bool
    loop: bool
    disabled: bool
    line: int
    """Where it begins, from 1."""
    column: int
    problems: int
    """Errors and warnings of the step itself and of those in it."""
    errors: int


def steps_of(known: Study) -> list[StepObject]:
    """Return every step of a document in its order, those of groups after their group."""

    def begins(place: Place) -> tuple[int, int, int]:
        where = known.source.where(place.at)
        return where.line or 0, where.column or 0, len(place.at)

    return [_step(known, place) for place in sorted(known.places.values(), key=begins)]


def _step(known: Study, place: Place) -> StepObject:
    step, where = place.step, known.source.where(place.at)
    manifest = None if place.action is None else place.action.manifest
    own = [
        problem
        for problem in known.problems
        if problem.where.step == place.name or (problem.where.step or "").startswith(f"{place.name}/")
    ]
    return StepObject(
        path=list(place.at),
        id=step.id,
        name=place.name,
        record=place.path,
        group=list(place.at[:-1]),
        kind=place.kind,
        title=step.title or (manifest.title if manifest is not None else step.id),
        uses=step.uses,
        icon=None if manifest is None else manifest.icon,
        category=None if manifest is None else manifest.category,
        effects=None if manifest is None else manifest.effects,
        needs_connection=None if manifest is None else manifest.connection,
        connection=step.connection,
        needs=list(place.needs),
        implied=step.needs is None,
        references=list(_references(step)),
        condition=step.condition is not None,
        loop=step.for_each is not None,
        disabled=step.disabled,
        line=where.line or 1,
        column=where.column or 1,
        problems=len(own),
        errors=sum(problem.severity == "error" for problem in own),
    )


def _references(step: Step) -> Iterator[ReferenceObject]:
    """Yield the steps that a step's own expressions read, each once for a field."""
    fields: list[tuple[DocumentPath, Json]] = [(("with",), step.arguments)]
    if step.wait is not None:
        fields += [(("wait", "for"), step.wait.duration), (("wait", "until"), step.wait.until)]
    if step.approval is not None:
        fields += [(("approval", key), getattr(step.approval, key)) for key in ("message", "who", "deadline")]
    fields.append((("if",), step.condition))
    fields.append((("for_each",), step.for_each))
    told: set[tuple[str, str, str]] = set()
    for at, value in fields:
        for path, text in _texts(value, at):
            for reference in _read(text, is_bare=path in (("if",), ("for_each",))):
                found = str(reference[1]), wording.field(path), wording.field(reference)
                if found not in told:
                    told.add(found)
                    yield ReferenceObject(step=found[0], field=found[1], path=found[2])


def _texts(value: Json, at: DocumentPath) -> Iterator[tuple[DocumentPath, str]]:
    match value:
        case str():
            yield at, value
        case dict():
            for key, item in value.items():
                yield from _texts(item, (*at, key))
        case list():
            for i, item in enumerate(value):
                yield from _texts(item, (*at, i))


def _read(text: str, *, is_bare: bool) -> Iterator[DocumentPath]:
    if expressions.has_expression(text):
        template = text
    elif is_bare:
        template = f"{{{{{text}}}}}"
    else:
        return
    try:
        references = expressions.compile(template).references
    except ExpressionError:
        return  # it is among the problems
    yield from (each.path for each in references if each.path[0] == "steps" and len(each.path) > 1)

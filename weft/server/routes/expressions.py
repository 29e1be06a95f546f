"""Expressions while they are being written: what one comes to with real data, and what may stand at the cursor.

Nothing is executed but the bounded evaluator: no action, no connection.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Request
from pydantic import Field

from weft import expressions
from weft.errors import ExpressionError, InvalidWorkflow, Problem, Where
from weft.expressions import Template, words
from weft.expressions.completing import Candidate, candidates, described, spot
from weft.plan.compiler import _Compiler
from weft.plan.references import fault
from weft.plan.studying import Study
from weft.server.deps import HouseDep, api, needs
from weft.server.problems import ProblemObject
from weft.server.routes.checks import text_of
from weft.server.routes.seen import LIMITS, Data, Given, Runs, Spot, data_at, spot_of
from weft.server.routes.shapes import LARGEST_TEXT, Asked, Object, Shape, masked, told
from weft.server.routes.studies import Studies, StudiesDep
from weft.types import Json
from weft.workflow import Workflow

router = api("expressions")

LARGEST_SHOWN: Final = 20_000
"""Characters of a value that is sent; of a longer one its beginning is, as text."""


class DataAsked(Asked):
    """Where values come from; the first that has one counts: inputs, pins, the run, examples of manifests."""

    run: str = Field(default="last", max_length=200)
    """The id of a run, `last` for the youngest of the workflow, `none` for none."""
    pins: bool = True
    """Whether pinned outputs count."""
    examples: bool = True
    """Whether the examples of manifests stand for what has not run."""
    inputs: Object = Field(default_factory=dict)
    """Values of inputs, as a form for a run has them."""
    turn: int = Field(default=0, ge=0, le=1_000_000)
    """Inside a loop: which turn."""


class PlaceAsked(Asked):
    """A field of a document."""

    workflow: str | None = Field(default=None, max_length=64)
    """The saved workflow: its runs and pins give values."""
    text: str | None = Field(default=None, max_length=LARGEST_TEXT)
    """The document as it is being written; left out: as it is saved."""
    at: list[str | int] = Field(min_length=1, max_length=50)
    """The path of the field: `["steps", 0, "with", "subject"]`."""
    template: str = Field(max_length=65_536)
    """What stands in the field."""
    data: DataAsked = Field(default_factory=DataAsked)


class CompletionAsked(PlaceAsked):
    """A cursor in a field."""

    cursor: int = Field(ge=0, le=65_536)
    """Between which characters, counted in code points from 0."""


class UsedName(Shape):
    """A name that a template reads."""

    name: str
    """As far as it is constant: `steps.ask.output.text`."""
    offset: int
    """Of its first character in the template, in code points."""
    source: Literal["given", "pin", "run", "default", "example", "computed", "document", "none"]
    """Where its value comes from."""


class Preview(Shape):
    """What a template comes to."""

    ok: bool
    value: Json
    """Null too when there is a problem, or when the value is too large to be sent."""
    text: str
    """The value as text; of a long one the beginning."""
    cut: bool
    """Whether `text` is only the beginning."""
    type: str | None
    """JSON type of the value."""
    problems: list[ProblemObject]
    """Line and column are those of the template."""
    uses: list[UsedName]
    run: str | None
    """The run whose values were used."""


class CandidateObject(Shape):
    """Something that may stand at the cursor."""

    label: str
    insert: str
    """What takes the place of the characters from `start` to `end`."""
    start: int
    kind: Literal["name", "member", "item", "filter", "test", "method", "keyword", "statement", "constant"]
    type: str | None
    """Types of JSON: `string`, `array or null`."""
    signature: str | None
    description: str
    value: str | None
    """The beginning of its value, as JSON."""
    note: str
    """Where the value comes from, or `not run yet`."""
    fits: bool
    """Of a filter: whether it is for values of this type."""


class Completion(Shape):
    """What may stand at the cursor, the likeliest first."""

    start: int
    """The first character that is replaced, in code points."""
    end: int
    """The character behind the last that is replaced."""
    prefix: str
    """What is written already of it."""
    items: list[CandidateObject]
    """All of a kind: the client keeps those that go with the prefix."""


class Word(Shape):
    """A word of the language."""

    name: str
    signature: str | None
    description: str


class Language(Shape):
    """Everything that an expression may use besides names; docs/expressions.md has examples."""

    filters: list[Word]
    tests: list[Word]
    methods: list[Word]
    statements: list[Word]
    keywords: list[Word]


def runs_of(request: Request) -> Runs:
    state = request.app.state
    if not hasattr(state, "seen_runs"):
        state.seen_runs = Runs(state.house.runtime)
    found: Runs = state.seen_runs
    return found


RunsDep = Annotated[Runs, Depends(runs_of)]


@router.post("/expressions/preview", dependencies=[needs("view")])
async def preview_expression(house: HouseDep, studies: StudiesDep, runs: RunsDep, asked: PlaceAsked) -> Preview:
    """Tell what a field comes to with the data of a run, with pinned outputs, or with examples."""
    known, workflow = await _known(house, studies, asked)
    where = spot_of(known, tuple(asked.at))
    given = await _given(house, runs, asked)
    data = await asyncio.to_thread(data_at, known, where, given, house.runtime)  # a loop's items are evaluated
    place = _Place(workflow, where, data, given)
    return _preview(house, place, await asyncio.to_thread(_evaluated, asked, place))


@router.post("/expressions/complete", dependencies=[needs("view")])
async def complete_expression(
    house: HouseDep, studies: StudiesDep, runs: RunsDep, asked: CompletionAsked
) -> Completion:
    """Tell what may stand at a cursor: names with their values or declared types, members, filters, methods."""
    found = spot(asked.template, asked.cursor, bare=_is_bare(asked.at))
    if found is None:
        return Completion(start=asked.cursor, end=asked.cursor, prefix="", items=[])
    known, _ = await _known(house, studies, asked)
    where = spot_of(known, tuple(asked.at))
    given = await _given(house, runs, asked)
    data = await asyncio.to_thread(data_at, known, where, given, house.runtime)  # a loop's items are evaluated
    near = await asyncio.to_thread(candidates, found, data.known)
    items = [_item(each, found.start) for each in near]
    return Completion(start=found.start, end=found.end, prefix=found.prefix, items=items)


@router.get("/expressions/reference", dependencies=[needs("view")])
async def show_language(house: HouseDep) -> Language:
    """List all filters, tests, methods, statements and keywords of expressions."""
    listed = {kind: [_word(each) for each in described(kind)] for kind in ("filter", "test", "method")}
    return Language(
        filters=listed["filter"],
        tests=listed["test"],
        methods=listed["method"],
        statements=[Word(name=name, signature=None, description=said) for name, said in words.STATEMENTS.items()],
        keywords=[Word(name=name, signature=None, description=said) for name, said in words.KEYWORDS.items()],
    )


def _word(each: Candidate) -> Word:
    return Word(name=each.label, signature=each.signature, description=each.description)


def _item(each: Candidate, start: int) -> CandidateObject:
    return CandidateObject(
        label=each.label,
        insert=each.insert,
        start=start if each.start is None else each.start,
        kind=each.kind,
        type=each.type,
        signature=each.signature,
        description=each.description,
        value=each.value,
        note=each.note,
        fits=each.fits,
    )


# ---- what is known
async def _known(house: HouseDep, studies: Studies, asked: PlaceAsked) -> tuple[Study, Workflow]:
    """Return the document that is spoken of; as it is saved when what is being written cannot be read.

    Raises:
        InvalidWorkflow: Nothing can be understood of it.
    """
    world = await studies.world()
    await studies.learn(world)
    texts = [asked.text, None] if asked.workflow is not None and asked.text is not None else [asked.text]
    problems: Sequence[Problem] = ()
    for text in texts:
        file, content = await text_of(house, asked.workflow, text)
        known = await studies.of(file, content, world)
        if isinstance(known, Study) and known.workflow is not None:
            return known, known.workflow
        problems = problems or known.problems
    raise InvalidWorkflow(problems=problems)


async def _given(house: HouseDep, runs: Runs, asked: PlaceAsked) -> Given:
    wanted, name = asked.data, asked.workflow
    run = None
    if wanted.run == "last":
        run = None if name is None else await runs.last(name)
    elif wanted.run != "none":
        run = await runs.of(wanted.run)
    pins = await house.runtime.documents.pins(name) if wanted.pins and name is not None else {}
    return Given(wanted.inputs, pins, run, wanted.examples, wanted.turn)


def _is_bare(at: Sequence[str | int]) -> bool:
    """Return whether a field is an expression whose braces may be left out."""
    return bool(at) and at[-1] in ("if", "for_each")


# ---- preview
class _Place:
    """Where a template stands, with what its names stand for."""

    def __init__(self, workflow: Workflow, where: Spot, data: Data, given: Given) -> None:
        self.workflow, self.where, self.data, self.given = workflow, where, data, given


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """What came of a template; nothing in it is masked yet."""

    value: Any
    problems: Sequence[Problem]
    uses: Sequence[UsedName]


def _evaluated(asked: PlaceAsked, place: _Place) -> _Evaluated:
    problems: list[Problem] = []
    uses: list[UsedName] = []
    value: Any = None
    try:
        template, shift = _compiled(asked, place)
        uses = [_used(path, offset - shift, place) for path, offset in _references(template)]
        problems = [_at(asked.template, each, offset - shift) for each, offset in _faults(template, place)]
        if not any(problem.severity == "error" for problem in problems):
            value = template.render(place.data.scope)
    except ExpressionError as error:
        offset = None if error.offset is None else error.offset - (2 if _wrapped(asked) else 0)
        problems += [_at(asked.template, problem, offset) for problem in error.problems]
    return _Evaluated(value, problems, uses)


def _preview(house: HouseDep, place: _Place, found: _Evaluated) -> Preview:
    redactor = house.runtime.redactor
    ok = not any(problem.severity == "error" for problem in found.problems)
    value = masked(found.value, redactor)
    text = "" if not ok else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    cut = len(text) > LARGEST_SHOWN
    return Preview(
        ok=ok,
        value=None if cut or not ok else value,
        text=text[:LARGEST_SHOWN],
        cut=cut,
        type=_type_of(value) if ok else None,
        problems=told(found.problems, redactor),
        uses=list(found.uses),
        run=None if place.given.run is None else place.given.run[0].row.id,
    )


def _wrapped(asked: PlaceAsked) -> bool:
    return asked.at[-1] == "for_each" and not expressions.has_expression(asked.template)


def _compiled(asked: PlaceAsked, place: _Place) -> tuple[Template, int]:
    """Return the template as the compiler makes it for this field, and what stands before the text in it."""
    if asked.at[-1] == "if":
        return expressions.compile_condition(asked.template, limits=LIMITS), 0
    if _wrapped(asked):
        return expressions.compile(f"{{{{{asked.template}}}}}", limits=LIMITS), 2
    return expressions.compile(asked.template, escape=_escape(place), limits=LIMITS), 0


def _escape(place: _Place) -> Literal["html"] | None:
    """Return how what is printed in this field is escaped."""
    step, field = place.where.place, place.where.field
    if step is None or step.action is None or len(field) < 2 or field[0] != "with":
        return None
    declared = {each.name: each for each in step.action.manifest.all_parameters}
    parameter = declared.get(str(field[1]))
    return None if parameter is None else _Compiler._escape(parameter, declared, step.step.arguments)


def _references(template: Template) -> Iterator[tuple[tuple[str | int, ...], int]]:
    for each in template.references:
        yield each.path, each.offset


def _used(path: tuple[str | int, ...], offset: int, place: _Place) -> UsedName:
    sources = place.data.sources
    name = ".".join(str(part) for part in path)
    found = next((sources[key] for key in (".".join(map(str, path[:2])), str(path[0])) if key in sources), None)
    if found is None:
        found = "document" if path[0] in ("variables", "run") else "none"
    return UsedName.model_validate({"name": name, "offset": max(0, offset), "source": found})


def _faults(template: Template, place: _Place) -> Iterator[tuple[Problem, int]]:
    for each in template.references:
        found = fault(each.path, place.where.visible, place.workflow)
        if found is not None and not (each.optional and found.code == "unknown_output"):
            yield found, each.offset
    for suspicion in template.warnings:
        yield suspicion.problem, suspicion.offset


def _at(text: str, problem: Problem, offset: int | None) -> Problem:
    """Return a problem with its place in the template."""
    before = text[: max(0, offset or 0)]
    where = Where(line=before.count("\n") + 1, column=len(before) - before.rfind("\n"))
    return Problem(problem.code, problem.message, problem.remedy, where, problem.severity)


_TYPES: Final = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


def _type_of(value: Any) -> str:
    return _TYPES.get(type(value), "object")

"""What an expression would see at its place: from a run, from pins, from the inputs that are given, or from examples."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from weft import expressions
from weft.engine.report import ProblemReport, RunReport, StepReport
from weft.engine.results import iso
from weft.errors import NotFound, WeftError
from weft.expressions import Limits
from weft.expressions.known import Known
from weft.expressions.values import MISSING
from weft.journal.base import Listed, RunQuery
from weft.outcome import decode
from weft.plan.compiler import AT_ACCEPTANCE
from weft.plan.references import APPROVAL_NAMES, RUN_NAMES, Visible
from weft.plan.studying import Place, Study
from weft.reading import Reading
from weft.runtime import Runtime
from weft.server.routes.shapes import masked
from weft.types import DocumentPath, Json, JsonObject
from weft.workflow import Step, Workflow

LIMITS: Final = Limits(seconds=0.5, output=200_000)
"""Of what is evaluated for a look: less than a run may do."""
MOST_KEPT: Final = 8
"""Reports of runs."""
NOT_RUN: Final = "not run yet"
STATES: Final[JsonObject] = {"type": "string", "enum": ["succeeded", "failed", "skipped", "cancelled"]}
ERROR: Final[JsonObject] = {
    "type": ["object", "null"],
    "properties": {"kind": {"type": "string"}, "message": {"type": "string"}},
}


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an expression stands in a document, and which names there are."""

    visible: Visible
    place: Place | None  #: the step that it is in
    field: DocumentPath  #: the path inside of the step, or the whole path when it is in none


@dataclass(frozen=True, slots=True)
class Data:
    """What names stand for."""

    scope: Mapping[str, Any]
    known: Mapping[str, Known]
    sources: Mapping[str, str] = field(default_factory=dict)  #: `steps.ask` → `run`, `pin`, `example`, `given`, …


def spot_of(known: Study, at: DocumentPath) -> Spot:
    """Return where a path of a document leads, and the names that an expression there may use.

    Raises:
        NotFound: No expression stands there.
    """
    for length in range(len(at), 0, -1):
        place = known.places.get(at[:length])
        if place is not None:
            return _in_step(place, at[length:])
    match at:
        case ("on", "schedule" | "webhook", *_):
            return Spot(Visible({}, roots=AT_ACCEPTANCE), None, at)
        case ("concurrency", *_):
            return Spot(Visible({}, roots=("inputs", *AT_ACCEPTANCE)), None, at)
        case ("outputs" | "finally" | "on_failure", *_):
            steps = {place.step.id: None for place in known.places.values() if len(place.at) == 2}
            return Spot(Visible(steps), None, at)
        case ("steps", int()):
            return Spot(_after_last(known, at), None, at)
    raise NotFound(
        f"No expression stands at {list(at)} in this document.",
        code="unknown_path",
        remedy="Give the path of a field: ['steps', 0, 'with', 'subject'].",
    )


def _in_step(place: Place, field_: DocumentPath) -> Spot:
    before_loop = field_[:1] in (("if",), ("for_each",))
    return Spot(place.outer if before_loop else place.visible, place, field_)


def _after_last(known: Study, at: DocumentPath) -> Visible:
    """Return what a step would see that is appended to the steps of the document."""
    above = [place for place in known.places.values() if len(place.at) == 2 and place.at[0] == "steps"]
    if not above:
        return Visible({})
    return Visible({**above[-1].visible.steps, above[-1].step.id: None})


# ---- the run
class Runs:
    """Reports of runs, secrets masked; the last few are kept, since somebody who writes asks at every pause."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._reading = Reading(runtime)
        self._kept: OrderedDict[tuple[str, float, int], tuple[RunReport, str]] = OrderedDict()

    async def last(self, workflow: str) -> tuple[Listed, RunReport] | None:
        """Return the youngest run of a workflow that can be read here in full, None when there is none."""
        journal = await self._runtime.opened()
        for found in await journal.runs(RunQuery(workflow=workflow, limit=3)):
            report, why = await self._report(found)
            if not why:
                return found, report
        return None

    async def of(self, run_id: str) -> tuple[Listed, RunReport]:
        """Return a run, as far as it can be read here.

        Raises:
            NotFound: There is no such run.
        """
        found = await (await self._runtime.opened()).status(run_id)
        return found, (await self._report(found))[0]

    async def _report(self, found: Listed) -> tuple[RunReport, str]:
        # With another secret known the same run is another report.
        key = found.row.id, found.status.changed_at, len(self._runtime.redactor._watched)
        if key not in self._kept:
            self._kept[key] = await self._reading.report(found)
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


# ---- the names
@dataclass(frozen=True, slots=True)
class Given:
    """Where values may come from, the first that has one counts."""

    inputs: Mapping[str, Json] = field(default_factory=dict)
    pins: Mapping[str, Json] = field(default_factory=dict)
    run: tuple[Listed, RunReport] | None = None
    examples: bool = True
    turn: int = 0


def data_at(known: Study, spot: Spot, given: Given, runtime: Runtime) -> Data:
    """Return what the names at a place stand for, secrets masked."""
    assert known.workflow is not None  # noqa: S101  there are no places in a document without a model
    maker = _Maker(known, known.workflow, spot, given, runtime)
    return maker.data()


class _Maker:
    def __init__(self, known: Study, workflow: Workflow, spot: Spot, given: Given, runtime: Runtime) -> None:
        self._known, self._workflow, self._spot, self._given, self._runtime = known, workflow, spot, given, runtime
        self._steps = {} if given.run is None else {step.path: step for step in given.run[1].steps}
        self._note = "" if given.run is None else f"run {given.run[0].row.id[:12]}"
        self._sources: dict[str, str] = {}

    def data(self) -> Data:
        makers = {
            "inputs": self._inputs,
            "steps": self._all_steps,
            "run": self._run,
            "trigger": self._trigger,
            "variables": self._variables,
            "approval": self._approval,
        }
        names: dict[str, Known] = {root: makers[root]() for root in self._spot.visible.roots if root in makers}
        scope = {name: _value(found) for name, found in names.items()}
        if self._spot.visible.loop:
            item = self._item(scope)
            names |= {"item": item, "index": Known(self._given.turn, {"type": "integer"})}
            scope |= {name: _value(names[name]) for name in ("item", "index") if names[name].value is not MISSING}
        return Data(scope, names, self._sources)

    def _masked(self, value: Any) -> Any:
        return masked(value, self._runtime.redactor)

    def _inputs(self) -> Known:
        recorded = {} if self._given.run is None else self._given.run[1].inputs
        named = {}
        for name, declared in self._workflow.inputs.items():
            value: Any = MISSING
            note = "not given yet"
            for source, values in (("given", self._given.inputs), ("run", recorded)):
                if name in values:
                    value = values[name] if source == "run" else self._masked(values[name])
                    note = self._note if source == "run" else source
                    self._sources[f"inputs.{name}"] = source
                    break
            else:
                if declared.default is not None:
                    value, note = declared.default, "default"
                    self._sources[f"inputs.{name}"] = "default"
                elif self._given.examples and declared.enum:
                    value, note = declared.enum[0], "example"
                    self._sources[f"inputs.{name}"] = "example"
                elif not declared.required:
                    value, note = MISSING, "not given"
            schema: JsonObject = {"type": declared.type}
            named[name] = Known(value, schema, note=note, description=declared.description or declared.title or "")
        return Known(named=named, description="What the run was given.")

    def _variables(self) -> Known:
        return Known(self._masked(dict(self._workflow.variables)), description="Values of this document.")

    def _run(self) -> Known:
        facts: dict[str, Json] = {
            "id": "example",
            "started_at": iso(datetime.now(UTC).timestamp()),
            "scheduled_at": None,
            "attempt": 1,
        }
        if self._given.run is not None:
            row = self._given.run[0].row
            scheduled = None if row.scheduled_at is None else iso(row.scheduled_at)
            facts |= {"id": row.id, "started_at": iso(row.started_at), "scheduled_at": scheduled}
        return Known({name: facts[name] for name in RUN_NAMES}, note=self._note, description="This run.")

    def _trigger(self) -> Known:
        if self._given.run is None:
            return Known(None, note=NOT_RUN, description="What has started the run; null for a person.")
        self._sources["trigger"] = "run"
        return Known(self._masked(decode(self._given.run[0].row.trigger)), note=self._note)

    def _approval(self) -> Known:
        return Known(named={name: Known(note="when it is asked") for name in APPROVAL_NAMES})

    # ---- steps
    def _all_steps(self) -> Known:
        named = {id_: self._step(id_) for id_ in self._spot.visible.steps}
        return Known(named=named, description="The steps before this one.")

    def _step(self, id_: str) -> Known:
        place = self._place_of(id_)
        schema: Json = True if place is None else place.schema
        title = "" if place is None else place.step.title or ""
        value, state, problem, note = self._come_to(id_, place)
        error = None if problem is None else {"kind": problem.code, "message": problem.message}
        ran = value is not MISSING
        named = {
            "output": Known(value, schema, schema, note, "What it has come to."),
            "state": Known(state if ran else MISSING, STATES, note=note),
            "error": Known(error if ran else MISSING, ERROR, ERROR, note),
        }
        return Known(named=named, note=note, description=title)

    def _come_to(self, id_: str, place: Place | None) -> tuple[Any, str, ProblemReport | None, str]:
        """Return output, state, problem and origin of a step."""
        if id_ in self._given.pins:
            self._sources[f"steps.{id_}"] = "pin"
            return self._masked(self._given.pins[id_]), "succeeded", None, "pinned"
        report = None if place is None else self._report(place)
        if report is not None and report.state in ("succeeded", "failed", "skipped", "cancelled"):
            self._sources[f"steps.{id_}"] = "run"
            return report.output, report.state, report.problem, self._note
        if self._given.examples and place is not None and place.example is not None:
            self._sources[f"steps.{id_}"] = "example"
            return place.example, "succeeded", None, "example"
        return MISSING, "", None, NOT_RUN

    def _report(self, place: Place) -> StepReport | None:
        return self._steps.get(self._record(place))

    def _record(self, place: Place) -> str:
        """Return the path of a step's records, in the turns of the loops that this expression stands in, too."""
        path, outer = "", ""
        for above in [*self._above(place), place]:
            path += above.path.removeprefix(outer)
            outer = above.path
            if above is not place and above.step.for_each is not None:
                path += f"[{self._given.turn}]"
        return path

    def _above(self, place: Place) -> Iterator[Place]:
        """Yield the groups that a step is in, the outermost first."""
        for length in range(2, len(place.at)):
            if (found := self._known.places.get(place.at[:length])) is not None:
                yield found

    def _place_of(self, id_: str) -> Place | None:
        """Return the step that a name means here: one of a list that this place is in, or of the document's own."""
        at = () if self._spot.place is None else self._spot.place.at
        named = [place for place in self._known.places.values() if place.step.id == id_]
        near = [place for place in named if place.at[:-1] == at[: len(place.at) - 1]]
        return next(iter(near or named), None)

    # ---- loops
    def _item(self, scope: Mapping[str, Any]) -> Known:
        """Return the item of the innermost loop: what its `for_each` comes to with the same data."""
        place = self._spot.place
        loops = [] if place is None else [*self._above(place), place]
        step = next((each.step for each in reversed(loops) if each.step.for_each is not None), None)
        items = None if step is None else _items(step, scope)
        if not isinstance(items, list) or not items:
            return Known(note="an item of `for_each`")
        self._sources["item"] = "computed"
        return Known(items[min(self._given.turn, len(items) - 1)], note="an item of `for_each`")


def _items(step: Step, scope: Mapping[str, Any]) -> Json:
    written = step.for_each
    if not isinstance(written, str):
        return written
    try:
        text = written if expressions.has_expression(written) else f"{{{{{written}}}}}"
        return expressions.compile(text, limits=LIMITS).render(scope)
    except WeftError:
        return None  # without an item only `item` itself is unknown, which is told where it is used


def _value(known: Known) -> Any:
    """Return the value of a name; members without one are left out, so that to use them is an error."""
    if known.value is not MISSING:
        return known.value
    found = {name: (_value(inner), inner) for name, inner in known.named.items()}
    return {name: value for name, (value, inner) in found.items() if inner.named or inner.value is not MISSING}

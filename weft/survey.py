"""A workflow document as far as it can be understood, so that its faults of every kind are told at once.

Rules and names are judged in a mended copy, and what only the mending brought about is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from weft import structure, validation
from weft.errors import InvalidWorkflow, Problem
from weft.mending import Mending
from weft.source import Source
from weft.types import DocumentPath
from weft.workflow import Workflow

CONSEQUENCES = frozenset(
    {"exactly_one", "missing", "missing_connection", "requires", "needs_for_each", "needs_deadline", "later_step"}
)
"""What is found in a step from which something was taken out may be found because it was taken out."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What can be known of a document: a model of it, mended, and what is wrong with it."""

    source: Source  #: mended as the model is; its places are those of the document
    workflow: Workflow | None  #: None when too little of the document can be understood
    problems: tuple[Problem, ...] = ()
    mended: frozenset[str] = frozenset()  #: names of the steps that were mended
    lost: frozenset[str] = frozenset()  #: keys of the document whose content is not known

    def with_consequences(self, found: Iterable[Problem]) -> tuple[Problem, ...]:
        """Return all problems, those `found` in the model among them but for what other faults have brought about."""
        own = [problem for problem in found if not self._brought_about(problem)]
        return tuple(validation.in_order([*self.problems, *own]))

    def _brought_about(self, problem: Problem) -> bool:
        step = problem.where.step
        if any(other.where == problem.where and other.code != problem.code for other in self.problems):
            return True  # this place has been told already
        if problem.code in CONSEQUENCES and step in self.mended:
            return True
        codes = {other.code for other in self.problems}
        match problem.code:
            case "unknown_step":
                return bool(self.lost & {"steps", "finally", "on_failure"}) or "duplicate_id" in codes
            case "unknown_input" | "missing_input":
                return "inputs" in self.lost
            case "unknown_variable":
                return "variables" in self.lost
            case "later_step":
                return "cycle" in codes or any(
                    other.where.step == step and (other.where.field or "").startswith("needs")
                    for other in self.problems
                )
        return False


def survey(source: Source) -> Survey:
    """Read a workflow document and go on where it is at fault."""
    try:
        return Survey(source, structure.load(source))
    except InvalidWorkflow as invalid:
        problems = invalid.problems
    mending = _Mending(Workflow, source)
    model = mending.built(InvalidWorkflow)
    if model is None:
        return Survey(source, None, problems)
    found = Survey(mending.source, model, problems, mending.steps(), frozenset(mending.lost))
    return replace(found, problems=found.with_consequences(structure.rule_problems(model, mending.source)))


class _Mending(Mending[Workflow]):
    """A workflow document that is being mended; its items are the steps."""

    NAME = "id"
    NEUTRAL: ClassVar = {"name": "unnamed", "timezone": "UTC", "attempts": 1, "message": "-", "connection": "unnamed"}

    def steps(self) -> frozenset[str]:
        """Return the names of the steps that were mended."""
        return frozenset(structure.step_of(path, self.value)[0] for path in self.items)

    def item(self, path: DocumentPath) -> DocumentPath:
        return structure.step_of(path, self.value)[1]

    def loses(self, path: DocumentPath) -> bool:
        return len(path) == 1 or (path[0] in {"inputs", "variables"} and path[-1] not in {"type", "default", "enum"})

    def supply(self, path: DocumentPath) -> None:
        if path == ("steps",):
            self.value["steps"] = [{"id": self.invented((*path, 0)), "wait": {"for": "1s"}}]
        else:
            super().supply(path)

"""A workflow document as far as it can be understood, so that its faults of every kind are told at once.

A fault of form leaves no model to check further. So what is at fault is mended in a copy: a misspelt key is given the
name that was meant, a wrong value is taken out, a missing one replaced by something neutral. Rules and names are then
judged in the copy, and what only the mending brought about is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from weft import validation, wording, workflow
from weft.errors import InvalidWorkflow, Problem
from weft.source import Source
from weft.types import DocumentPath
from weft.workflow import Workflow

ROUNDS = 6
"""How often a document is mended: one mending may bring another fault to light."""

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
        together = dict.fromkeys([*self.problems, *own])
        return tuple(sorted(together, key=lambda problem: (problem.where.line or 0, problem.where.column or 0)))

    def _brought_about(self, problem: Problem) -> bool:
        step = problem.where.step
        if any(other.where == problem.where and other.code != problem.code for other in self.problems):
            return True  # this place has been told already
        if problem.code in CONSEQUENCES and step in self.mended:
            return True
        codes = {other.code for other in self.problems}
        match problem.code:
            case "unknown_step":
                return "steps" in self.lost or "duplicate_id" in codes
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
        return Survey(source, workflow.load(source))
    except InvalidWorkflow as invalid:
        problems = invalid.problems
    if not isinstance(source.value, dict):
        return Survey(source, None, problems)
    mending = _Mending(source.copy())
    for _ in range(ROUNDS):
        try:
            model = validation.build(Workflow, mending.source, InvalidWorkflow)
        except InvalidWorkflow as invalid:
            for problem in invalid.problems:
                mending.mend(wording.path_of(problem.where.field or ""), problem.code)
        else:
            found = Survey(mending.source, model, problems, mending.steps(), frozenset(mending.lost))
            return replace(found, problems=found.with_consequences(workflow.rule_problems(model, mending.source)))
    return Survey(source, None, problems)


class _Mending:
    """A copy of a document that is being mended. Positions in its lists stay the same, so that paths do."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.value: Any = source.value
        self.lost: set[str] = set()
        self._steps: set[DocumentPath] = set()

    def steps(self) -> frozenset[str]:
        """Return the names of the steps that were mended."""
        return frozenset(workflow.step_of(path, self.value)[0] for path in self._steps)

    def mend(self, path: DocumentPath, code: str) -> None:
        """Mend one fault."""
        _, step = workflow.step_of(path, self.value)
        if step:
            self._steps.add(step)
        if step and path == (*step, "id"):
            self._name(step)
        elif step and path == step:
            self._replace(step, {"id": self._invented(step)})
        elif code == "missing_key":
            self._supply(path)
        else:
            holder = self._at(path[:-1])
            meant = validation.key_meant(Workflow, self.source, path) if code == "unknown_key" else None
            if meant is not None and meant not in holder:
                self.source.rename(path, meant)
            else:
                self._take_out(path)

    def _name(self, step: DocumentPath) -> None:
        """Give a step the name that its id comes nearest to, or one that nothing speaks of."""
        holder = self._at(step)
        name = wording.as_name(holder.get("id"))
        siblings = [other.get("id") for other in self._at(step[:-1]) if isinstance(other, dict)]
        holder["id"] = name if name and name not in siblings else self._invented(step)

    def _invented(self, step: DocumentPath) -> str:
        self.lost.add("steps")
        return f"step-{step[-1]}-without-name"

    def _supply(self, path: DocumentPath) -> None:
        """Put something neutral where a key is missing; without any, its holder is taken out."""
        key = str(path[-1])
        neutral = {"name": "unnamed", "timezone": "UTC", "attempts": 1, "message": "-", "connection": "unnamed"}
        if path == ("steps",):
            self.value["steps"] = [{"id": self._invented((*path, 0)), "wait": {"for": "1s"}}]
        elif key in neutral:
            self._at(path[:-1])[key] = neutral[key]
        else:
            self._take_out(path[:-1])

    def _take_out(self, path: DocumentPath) -> None:
        holder = self._at(path[:-1])
        if len(path) == 1 or (path[0] in {"inputs", "variables"} and path[-1] not in {"type", "default", "enum"}):
            self.lost.add(str(path[0]))
        if isinstance(holder, dict):
            holder.pop(path[-1], None)
        elif len(path) > 1:  # an item: without it the positions of others would change
            self._take_out(path[:-1])

    def _replace(self, path: DocumentPath, value: Any) -> None:
        self._at(path[:-1])[path[-1]] = value

    def _at(self, path: DocumentPath) -> Any:
        value = self.value
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

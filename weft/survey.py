"""A workflow document as far as it can be understood, so that its faults of every kind are told at once.

A fault of form leaves no model to check further. So what is at fault is taken out or replaced by something neutral, in
place, and the rest is read again: its rules and its names can then be judged beside the faults of form.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from weft import validation, wording, workflow
from weft.errors import InvalidWorkflow, Problem
from weft.source import Source
from weft.types import DocumentPath
from weft.workflow import Workflow

ROUNDS = 4
"""How often a document is mended: one mending may bring another fault to light."""

CONSEQUENCES = frozenset({"exactly_one", "missing", "missing_connection", "requires", "no_cap", "needs_for_each"})
"""What is found where something was taken out may be found because it was taken out."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What can be known of a document: a model of its sound parts, and what is wrong with it."""

    workflow: Workflow | None  #: None when too little of it is sound
    problems: tuple[Problem, ...]
    mended: frozenset[DocumentPath]  #: the steps from which something was taken out

    def with_consequences(self, found: Iterable[Problem]) -> tuple[Problem, ...]:
        """Return all problems, those `found` in the model among them but for what the mending itself brought about."""
        own = [problem for problem in found if not self._brought_about(problem)]
        together = dict.fromkeys([*self.problems, *own])
        return tuple(sorted(together, key=lambda problem: (problem.where.line or 0, problem.where.column or 0)))

    def _brought_about(self, problem: Problem) -> bool:
        at = wording.path_of(problem.where.field or "")
        return problem.code in CONSEQUENCES and _step_of(at) in self.mended


def survey(source: Source) -> Survey:
    """Read a workflow document and go on where it is at fault."""
    try:
        return Survey(workflow.load(source), (), frozenset())
    except InvalidWorkflow as invalid:
        problems = invalid.problems
    value: Any = copy.deepcopy(source.value)
    faults = problems
    mended: set[DocumentPath] = set()
    for _ in range(ROUNDS):
        try:
            model = validation.build(Workflow, source, InvalidWorkflow, value)
        except InvalidWorkflow as invalid:
            faults = invalid.problems
        else:
            found = Survey(model, problems, frozenset(mended))
            return Survey(model, found.with_consequences(workflow.rule_problems(model, source)), frozenset(mended))
        if not isinstance(value, dict) or not isinstance(value.get("steps"), list):
            break
        for problem in faults:
            path = wording.path_of(problem.where.field or "")
            _mend(value, path, problem.code)
            if step := _step_of(path):
                mended.add(step)
    return Survey(None, problems, frozenset())


def _mend(value: dict[str, Any], path: DocumentPath, code: str) -> None:
    """Take what is at fault out of the document's value, so that list positions and other paths stay the same."""
    step = _step_of(path)
    if not path:
        value.setdefault("name", "unnamed")
    elif code == "unknown_key":
        _delete(value, path)
    elif step:
        _neutral(value, step)
    elif path[0] == "inputs" and len(path) > 1 and isinstance(value.get("inputs"), dict):
        value["inputs"][path[1]] = {}
    elif path == ("name",):
        value["name"] = "unnamed"
    else:
        value.pop(str(path[0]), None)


def _step_of(path: DocumentPath) -> DocumentPath:
    """Return the part of `path` that leads to the innermost step; empty when there is none."""
    inner: DocumentPath = ()
    for i, part in enumerate(path[:-1]):
        if part == "with":
            break
        if part in {"steps", "finally"} and isinstance(path[i + 1], int):
            inner = path[: i + 2]
    return inner


def _delete(value: Any, path: DocumentPath) -> None:
    holder = _at(value, path[:-1])
    if isinstance(holder, dict):
        holder.pop(path[-1], None)


def _neutral(value: Any, path: DocumentPath) -> None:
    """Put a step in the place of one that cannot be read: of its name, and with an output of any shape."""
    holder = _at(value, path[:-1])
    if isinstance(holder, list) and isinstance(path[-1], int) and path[-1] < len(holder):
        old = holder[path[-1]]
        name = old.get("id") if isinstance(old, dict) else None
        sound = isinstance(name, str) and workflow.is_name(name)
        holder[path[-1]] = {"id": name if sound else f"unreadable-{path[-1]}", "wait": {"for": "1s"}}


def _at(value: Any, path: DocumentPath) -> Any:
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value

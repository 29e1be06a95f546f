"""The rules between the parts of one workflow document, which types cannot state, and its reader.

`load` gives a model whose parts agree with each other, or every problem with its place. What expressions refer to, and
whether actions and connections exist, is for the plan to find out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from cronsim import CronSim, CronSimError

from weft import validation, wording
from weft.errors import InvalidWorkflow, Problem
from weft.source import Source
from weft.types import DocumentPath, Json, JsonObject
from weft.validation import Findings
from weft.values import ValueCheck, pattern_fault
from weft.workflow import KINDS, ErrorSteps, Input, Schedule, Step, Workflow, instant, is_template, seconds


def load(source: Source) -> Workflow:
    """Return the workflow that a document holds.

    Raises:
        InvalidWorkflow: It breaks rules; carries every problem with its place.
    """
    try:
        return validation.document(Workflow, source, InvalidWorkflow, _check)
    except InvalidWorkflow as invalid:
        problems = [_with_step(problem, source.value) for problem in invalid.problems]
        raise InvalidWorkflow(problems=validation.in_order(problems)) from None


def rule_problems(workflow: Workflow, source: Source) -> list[Problem]:
    """Return the broken rules of a model that was built of some part of `source`."""
    findings = Findings(source)
    _check(workflow, findings)
    return [_with_step(problem, source.value) for problem in findings.problems]


def _with_step(problem: Problem, value: Any) -> Problem:
    """Return a problem that names its step, and the field inside of it."""
    path = wording.path_of(problem.where.field or "")
    name, inside = step_of(path, value)
    if not name:
        return problem
    where = replace(problem.where, step=name, field=wording.field(path[len(inside) :]) or None)
    return replace(problem, where=where)


def step_of(path: DocumentPath, value: Any) -> tuple[str, DocumentPath]:
    """Return the name of the innermost step that a path of a document leads into, as plans have it, and the step's path.

    Both are empty when it leads into no step; the name is empty when one of the steps has none.
    """
    names: list[str] = []
    step: DocumentPath = ()
    for i, part in enumerate(path):
        if part == "with" or not (isinstance(value, list) if isinstance(part, int) else isinstance(value, dict)):
            break
        try:
            value = value[part]
        except (KeyError, IndexError):
            break
        if part in _BESIDE:
            names.append(str(part))
        elif isinstance(part, int) and path[i - 1] in ("steps", "finally", "notify"):
            step = path[: i + 1]
            name = value.get("id") if isinstance(value, dict) else None
            if not isinstance(name, str):
                return "", step
            names.append(name)
    return "/".join(names[: len(names) - (bool(names) and names[-1] in _BESIDE)]), step


_BESIDE = ("finally", "on_error", "on_failure", "notify")
"""Keys whose steps stand beside others, and have the key in their names."""


def _check(workflow: Workflow, findings: Findings) -> None:
    for name, declared in workflow.inputs.items():
        _check_input(("inputs", name), declared, findings)
    for index, schedule in enumerate(workflow.on.schedule):
        path: DocumentPath = ("on", "schedule", index)
        _check_schedule(path, schedule, findings)
        _check_given_inputs((*path, "inputs"), schedule.inputs, workflow.inputs, findings)
    for index, webhook in enumerate(workflow.on.webhook):
        _check_given_inputs(("on", "webhook", index, "inputs"), webhook.inputs, workflow.inputs, findings)
        if webhook.name in {other.name for other in workflow.on.webhook[:index]}:
            message = f"Two webhooks have the name {webhook.name!r}; the name is what an address belongs to."
            findings.add(("on", "webhook", index), "same_webhook", message, "Give each an 'id' of its own.")
    if workflow.on_failure is not None:
        told = workflow.on_failure
        _exactly_one(("on_failure",), {"workflow": told.workflow, "steps": told.steps}, findings)
    _check_budget(workflow, findings)
    lists: list[tuple[DocumentPath, Sequence[Step]]] = [
        (("steps",), workflow.steps),
        (("finally",), workflow.final),
        (("on_failure", "steps"), (workflow.on_failure.steps if workflow.on_failure else None) or ()),
    ]
    _check_lists(lists, {}, findings)


def _check_budget(workflow: Workflow, findings: Findings) -> None:
    budget = workflow.budget
    if budget is None:
        return
    of_steps = any(step.budget is not None for step in _all_steps(workflow))
    if not budget.model_fields_set - {"currency", "unknown_price"} and not of_steps:
        message = "The budget caps nothing."
        findings.add(("budget",), "no_cap", message, "Give 'cost', 'tokens', 'steps', 'time' or 'day'.")
    if budget.day is not None and not budget.day.model_fields_set:
        findings.add(("budget", "day"), "no_cap", "'day' caps nothing.", "Give 'cost', 'tokens' or 'steps'.")
    if budget.time is not None and seconds(budget.time) <= 0:
        findings.add(("budget", "time"), "timeout", "'time' must be more than 0s.")


def _all_steps(workflow: Workflow) -> Iterator[Step]:
    """Yield every step of a document, those inside others too."""
    todo = [*workflow.steps, *workflow.final]
    if workflow.on_failure is not None:
        todo += workflow.on_failure.steps or ()
    while todo:
        step = todo.pop()
        yield step
        todo += [inner for _, steps in _inner_lists((), step) for inner in steps]


def _exactly_one(path: DocumentPath, keys: Mapping[str, Any], findings: Findings) -> None:
    """Check that exactly one of the keys at `path` has a value."""
    given = [key for key, value in keys.items() if value is not None]
    if len(given) == 1:
        return
    message = f"{wording.label(path)} needs exactly one of {wording.choice(keys)}"
    message += f"; it has {' and '.join(given)}." if given else "; it has none."
    place = (*path, given[1]) if given else path
    findings.add(place, "exactly_one", message, "Delete all but one." if given else "Add one.", key=True)


# inputs


def _check_input(path: DocumentPath, declared: Input, findings: Findings) -> None:
    before = len(findings.problems)
    for key in ("minimum", "maximum", "pattern"):
        kinds = ("string",) if key == "pattern" else ("integer", "number")
        if getattr(declared, key) is not None and declared.type not in kinds:
            message = f"{key!r} means nothing for the type {declared.type}."
            findings.add(
                (*path, key), "constraint_without_type", message, f"It is for {wording.choice(kinds)}.", key=True
            )
    if declared.minimum is not None and declared.maximum is not None and declared.minimum > declared.maximum:
        message = f"'minimum' ({declared.minimum}) is greater than 'maximum' ({declared.maximum})."
        findings.add((*path, "minimum"), "empty_range", message, "Swap them.")
    if declared.pattern is not None and (fault := pattern_fault(declared.pattern)):
        findings.add((*path, "pattern"), "pattern", f"'pattern' is no regular expression: {fault}.", "Correct it.")
    if declared.required and declared.default is not None:
        message = "A required input is always given: its default would never be used."
        findings.add((*path, "default"), "default", message, "Delete 'required' or 'default'.", key=True)
    if len(findings.problems) > before:  # its own rules cannot judge its values
        return
    check = ValueCheck(_input_schema(declared))
    if declared.default is not None:
        findings.add_all(check.problems(declared.default, (*path, "default")))
    for index, value in enumerate(declared.enum or ()):
        findings.add_all(check.problems(value, (*path, "enum", index)))


def _check_given_inputs(
    path: DocumentPath, given: JsonObject, declared: Mapping[str, Input], findings: Findings
) -> None:
    """Check the inputs that a trigger gives; templates are left to the plan."""
    for name, value in given.items():
        if name not in declared:
            known = f"Inputs: {', '.join(declared)}." if declared else "Declare it under 'inputs'."
            remedy = wording.meant(name, declared) or known
            findings.add((*path, name), "unknown_input", f"There is no input {name!r}.", remedy, key=True)
        elif value is not None and not _holds_template(value):
            findings.add_all(ValueCheck(_input_schema(declared[name])).problems(value, (*path, name)))
    for name, expected in declared.items():
        if expected.required and given.get(name) is None:
            message = f"The input {name!r} is required; these runs would not have it."
            findings.add(path, "missing_input", message, f"Give {name!r} here, or a default.", key=True)


def _holds_template(value: Json) -> bool:
    if isinstance(value, str):
        return is_template(value)
    if isinstance(value, dict):
        return any(_holds_template(item) for item in value.values())
    return isinstance(value, list) and any(_holds_template(item) for item in value)


def _input_schema(declared: Input) -> JsonObject:
    """Return the JSON Schema of one input's value."""
    schema: JsonObject = {
        "type": declared.type,
        "enum": declared.enum,
        "minimum": declared.minimum,
        "maximum": declared.maximum,
        "pattern": None if declared.pattern is None else f"^(?:{declared.pattern})$",
    }
    return {key: value for key, value in schema.items() if value is not None}


# schedules


def _check_schedule(path: DocumentPath, schedule: Schedule, findings: Findings) -> None:
    _exactly_one(path, {"cron": schedule.cron, "every": schedule.every}, findings)
    if schedule.cron is not None:
        _check_cron((*path, "cron"), schedule.cron, findings)
    if schedule.every is not None and seconds(schedule.every) < 1:
        findings.add((*path, "every"), "interval", "'every' must be at least 1s.", "Write 1s or more.")
    zones = _zones()
    if schedule.timezone not in zones:
        message = f"There is no time zone {wording.shown(schedule.timezone)}."
        places = [zone for zone in zones if "/" in zone]  # an abbreviation would be another zone: CEST is not EST
        remedy = wording.meant(schedule.timezone, places) or "Write an IANA name such as Europe/Zurich or UTC."
        findings.add((*path, "timezone"), "timezone", message, remedy)
    start, end = (instant(text) if text else None for text in (schedule.start, schedule.end))
    if start and end and start >= end:
        findings.add((*path, "end"), "empty_range", "'end' is not after 'start'.", "Swap them.")


_CRON = (
    ("the minute", "0 to 59"),
    ("the hour", "0 to 23"),
    ("the day of month", "1 to 31, or L for the last"),
    ("the month", "1 to 12 or JAN to DEC"),
    ("the day of week", "0 to 7 or SUN to SAT"),
)


def _check_cron(path: DocumentPath, line: str, findings: Findings) -> None:
    remedy = "Write minute, hour, day of month, month, day of week: '0 8 * * 1-5'."
    fields = list(re.finditer(r"\S+", line))
    if len(fields) != len(_CRON):
        message = f"'cron' is not a cron line: it has {len(fields)} fields, not {len(_CRON)}."
        findings.add(path, "cron", message, remedy)
        return
    wrong = [i for i, found in enumerate(fields) if not _comes(["*"] * i + [found[0]] + ["*"] * (4 - i))]
    for i in wrong:
        name, allowed = _CRON[i]
        message = f"'cron' is not a cron line: {name} cannot be {wording.shown(fields[i][0])}."
        told = f"It is {allowed}, several with commas, a range such as 1-5, every second with */2, or *."
        findings.add(path, "cron", message, told, offset=fields[i].start())
    if not wrong and not _comes([found[0] for found in fields]):
        message = "'cron' names no instant: that day never comes in that month."
        findings.add(path, "cron", message, remedy, offset=fields[2].start())


def _comes(fields: Sequence[str]) -> bool:
    """Return whether there is an instant that a cron line names."""
    try:
        next(CronSim(" ".join(fields), datetime(2024, 1, 1)))  # noqa: DTZ001 - any will do; the zone is not in question
    except (CronSimError, StopIteration):
        return False
    return True


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


# steps

_ACTION_ONLY = ("connection", "connections", "delivery", "budget")
_FITS: dict[str, tuple[str, ...]] = {
    "with": ("uses",),
    "connection": ("uses",),
    "connections": ("uses",),
    "delivery": ("uses",),
    "budget": ("uses",),
    "retry": ("uses", "steps", "approval"),
    "for_each": ("uses", "steps", "approval"),
    "max_parallel": ("uses", "steps", "approval"),
}
"""Key → the kinds of step that it means something for; keys not listed fit every kind."""

_FIELDS = {"with": "arguments"}
_USES = re.compile(r"(?:workflow:)?[a-z][a-z0-9_]*(?:-[a-z0-9_]+)*")


def _check_lists(
    lists: Sequence[tuple[DocumentPath, Sequence[Step]]], outer: Mapping[str, DocumentPath], findings: Findings
) -> None:
    """Check lists of steps whose ids stand side by side in records, and all lists inside them.

    Args:
        lists: Path and steps of each list; `steps` of a group and of its `on_error` share their records' names.
        outer: The ids around them, each with the path of its step.
        findings: Where problems go.
    """
    seen: dict[str, DocumentPath] = {}
    for path, steps in lists:
        for index, step in enumerate(steps):
            place = (*path, index)
            taken = seen.get(step.id) or outer.get(step.id)
            if taken is not None:
                line = findings.source.where((*taken, "id")).line
                message = f"The id {step.id!r} is taken already, in line {line}; 'steps.{step.id}' would be ambiguous."
                findings.add((*place, "id"), "duplicate_id", message, "Rename one of them.")
            seen.setdefault(step.id, place)
            _check_step(place, step, findings)
        _check_needs(path, steps, findings)
    for path, steps in lists:
        for index, step in enumerate(steps):
            inner = list(_inner_lists((*path, index), step))
            _check_lists(inner, {**outer, **seen}, findings)


def _inner_lists(path: DocumentPath, step: Step) -> Iterator[tuple[DocumentPath, Sequence[Step]]]:
    if step.steps:
        yield (*path, "steps"), step.steps
    if isinstance(step.on_error, ErrorSteps):
        yield (*path, "on_error", "steps"), step.on_error.steps
    if step.approval is not None and step.approval.notify:
        yield (*path, "approval", "notify"), step.approval.notify


def _check_step(path: DocumentPath, step: Step, findings: Findings) -> None:
    _exactly_one(path, {kind: getattr(step, kind) for kind in KINDS}, findings)
    kinds = [kind for kind in KINDS if getattr(step, kind) is not None]
    given = step.model_fields_set
    for key, fitting in _FITS.items():
        if _FIELDS.get(key, key) in given and kinds and not set(kinds) & set(fitting):
            message = f"{key!r} means nothing for a step with {kinds[0]!r}."
            findings.add((*path, key), "key_without_kind", message, f"It is for {wording.choice(fitting)}.", key=True)
    if step.uses is not None:
        _check_uses(path, step, findings)
    if step.max_parallel is not None and step.for_each is None:
        findings.add(
            (*path, "max_parallel"), "needs_for_each", "'max_parallel' needs 'for_each'.", "Delete it.", key=True
        )
    if step.wait is not None:
        _exactly_one((*path, "wait"), {"for": step.wait.duration, "until": step.wait.until}, findings)
    if step.approval is not None and step.approval.default is not None and step.approval.deadline is None:
        message = "'default' is for when the deadline has passed; there is no 'deadline'."
        findings.add((*path, "approval", "default"), "needs_deadline", message, "Add 'deadline'.", key=True)
    if step.budget is not None and not step.budget.model_fields_set:
        findings.add((*path, "budget"), "no_cap", "The step's budget caps nothing.", "Give 'cost' or 'tokens'.")
    if step.timeout is not None and seconds(step.timeout) <= 0:
        findings.add((*path, "timeout"), "timeout", "'timeout' must be more than 0s.")


def _check_uses(path: DocumentPath, step: Step, findings: Findings) -> None:
    uses = step.uses or ""
    if not _USES.fullmatch(uses):
        message = f"'uses' must be an action's id or workflow:<name>, not {wording.shown(uses)}."
        name = None if uses.startswith("workflow:") else wording.as_name(uses)
        remedy = f"Write {name!r}." if name else "`weft actions list` names the actions."
        findings.add((*path, "uses"), "uses", message, remedy)
    elif uses.startswith("workflow:"):
        for key in _ACTION_ONLY:
            if key in step.model_fields_set:
                message = f"{key!r} means nothing for a child workflow: its own steps have it."
                findings.add((*path, key), "key_without_kind", message, "Delete it.", key=True)
    if step.connection is not None and step.connections:
        message = "'connection' and 'connections' exclude each other."
        findings.add((*path, "connections"), "excludes", message, "Delete one of them.", key=True)


def _check_needs(path: DocumentPath, steps: Sequence[Step], findings: Findings) -> None:
    """Check that steps need siblings only, and that no step needs itself by way of others."""
    ids = [step.id for step in steps]
    for index, step in enumerate(steps):
        for position, needed in enumerate(step.needs or ()):
            place = (*path, index, "needs", position)
            if needed not in ids:
                message = f"There is no step {needed!r} in this list."
                remedy = wording.meant(needed, ids) or "'needs' names steps of the same list."
                findings.add(place, "unknown_step", message, remedy)
            elif needed in (step.needs or ())[:position]:
                findings.add(place, "duplicate_need", f"{needed!r} stands here twice.", "Delete one of them.")
    if cycle := _cycle(steps):
        index = ids.index(cycle[0])
        chain = " → ".join([*cycle, cycle[0]])
        implied = [step.id for step in steps if step.id in cycle and step.needs is None]
        remedy = "Take one of them out of 'needs'."
        if implied:
            remedy = f"{implied[0]!r} has no 'needs', so it needs the step before it; write 'needs: []' if it does not."
        where = (*path, index, "needs") if steps[index].needs is not None else (*path, index)
        findings.add(where, "cycle", f"These steps wait for each other: {chain}.", remedy, key=True)


def _cycle(steps: Sequence[Step]) -> list[str]:
    """Return the ids of steps each of which needs the next, and the last one the first; empty if there are none."""
    needs: dict[str, list[str]] = {}
    for index, step in enumerate(steps):
        before = [steps[index - 1].id] if index else []
        needs.setdefault(step.id, list(step.needs) if step.needs is not None else before)
    settled: set[str] = set()
    for first in needs:
        trail: list[str] = []
        pending = [iter([first])]  # a stack of our own: a list may be longer than Python's recursion is deep
        while pending:
            following = next(pending[-1], None)
            if following is None:
                pending.pop()
                if trail:
                    settled.add(trail.pop())
            elif following in trail:
                return trail[trail.index(following) :]
            elif following in needs and following not in settled:
                trail.append(following)
                pending.append(iter(needs[following]))
    return []

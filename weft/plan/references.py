"""Which names an expression may use at its place, and what it says when it uses another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from weft import wording
from weft.errors import Problem, Severity
from weft.manifest import Manifest
from weft.types import Json
from weft.workflow import Workflow

ROOTS = ("inputs", "steps", "run", "trigger", "variables")
RUN_NAMES = ("id", "started_at", "scheduled_at", "attempt")
APPROVAL_NAMES = ("message", "deadline", "links")
STEP_NAMES = ("output", "state", "error")

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Visible:
    """The names that an expression at one place may use."""

    steps: Mapping[str, Manifest | None]  #: what is known of their outputs
    later: frozenset[str] = frozenset()  #: steps that exist, but have not run yet
    loop: bool = False
    roots: tuple[str, ...] = ROOTS


def fault(path: Path, visible: Visible, workflow: Workflow) -> Problem | None:
    """Return what is wrong with the reference `path`, if it is known to be wrong."""
    root, rest = str(path[0]), path[1:]
    if root in ("item", "index"):
        if visible.loop:
            return None
        message = f"{root!r} exists only in what a `for_each` repeats, not in its own `if` and `on_error`."
        return Problem("unknown_name", message, "Give the step `for_each`, or use `inputs` or `steps`.")
    if root not in visible.roots:
        names = (*visible.roots, *(("item", "index") if visible.loop else ()))
        return _missing(root, names, "name", "unknown_name")
    match root:
        case "inputs":
            return _member(rest, workflow.inputs, "input", "unknown_input")
        case "variables":
            return _member(rest, workflow.variables, "variable", "unknown_variable")
        case "run":
            return _member(rest, RUN_NAMES, "name in `run`", "unknown_name")
        case "approval":
            return _member(rest, APPROVAL_NAMES, "name in `approval`", "unknown_name")
        case "steps" if rest:
            return _step_fault(str(rest[0]), rest[1:], visible)
    return None


def _step_fault(step: str, rest: Path, visible: Visible) -> Problem | None:
    if step not in visible.steps:
        if step in visible.later:
            return Problem(
                "later_step",
                f"Step {step!r} has not run when this is evaluated.",
                f"Let this step, or the group around it, need it (needs: [{step}]), or move it below.",
            )
        return _missing(step, visible.steps, "step", "unknown_step", "before this one")
    if rest and rest[0] not in STEP_NAMES:
        return Problem(
            "unknown_name",
            f"A step has {', '.join(STEP_NAMES)}, but no {str(rest[0])!r}.",
            f"Did you mean steps.{step}.output.{rest[0]}?",
        )
    manifest = visible.steps[step]
    if rest[:1] == ("output",) and manifest is not None:
        return _schema_fault(manifest.output.json_schema, rest[1:], step)
    return None


def _schema_fault(schema: Json, path: Path, step: str) -> Problem | None:
    """Return a problem when `schema` rules out that `path` exists; silence where it leaves room."""
    for i, part in enumerate(path):
        if not isinstance(schema, dict):
            return None
        if isinstance(part, int):
            schema = schema.get("items", True)
            continue
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return None
        if part not in properties:
            closed = schema.get("additionalProperties", True) is False
            meant = wording.meant(part, properties)
            if not closed and meant is None:
                return None
            before = wording.field(("steps", step, "output", *path[:i]))
            severity: Severity = "error" if closed else "warning"
            said = "has no" if closed else "is not known to have"
            listed = f"There are: {', '.join(list(properties)[:8])}."
            return Problem("unknown_output", f"{before} {said} {part!r}.", meant or listed, severity=severity)
        schema = properties[part]
    return None


def _member(rest: Path, known: Iterable[str], what: str, code: str) -> Problem | None:
    names = list(known)
    return None if not rest or rest[0] in names else _missing(str(rest[0]), names, what, code)


def _missing(name: str, known: Iterable[str], what: str, code: str, which: str = "") -> Problem:
    names = list(known)
    listed = f"There are: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}." if names else "There are none."
    return Problem(code, f"There is no {what} {name!r}{which and ' '}{which}.", wording.meant(name, names) or listed)

"""Makes a stand-in fit its workflow: what the workflow's expressions ask of an output is there, where the schema allows it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from weft import wording
from weft.errors import ExpressionError, Problem
from weft.manifest import value_schema
from weft.plan import Located, Plan, PlannedStep, Value, templates
from weft.rehearsal.stand_in import is_valid, made
from weft.types import Json, JsonObject

Path: TypeAlias = tuple[str | int, ...]

_ONE_REFERENCE: Final = re.compile(r"\{\{\s*\w+(?:\.\w+|\[\d+\]|\['[^']*'\])*\s*\}\}")

PLAIN: Final[tuple[Json, ...]] = ("text", 1, ["text"], {"name": "text"}, [{"name": "text"}])
"""Tried where an expression needs another type than an example has."""

MOST_NAMED: Final = 8
"""Of the members that an output has, in a message."""

MOST: Final = 500
"""Of the paths that are looked after for one output."""


class Wanted:
    """What the expressions of a plan ask of the outputs of its steps."""

    def __init__(self, plan: Plan) -> None:
        self._paths: dict[str, dict[Path, JsonObject | None]] = {}
        self._alone: dict[str, list[Located]] = {}  #: templates that speak of one step's output and of nothing else
        self._steps = {step.id: step for step in plan.every_step()}
        self._references: list[tuple[Located, int, Path]] = []  #: paths that are not guarded against absence
        for step in (*plan.steps, *plan.final, *plan.on_failure):
            self._take_in(step, {})
        for value in plan.outputs.values():
            self._add(value, {})

    def untold(self) -> Iterator[Problem]:
        """Yield a warning for each member that stands in a stand-in only because an expression names it.

        The schema leaves room for it and names others at its place. A real output may have it; a slip of the pen is more likely.
        """
        for located, offset, path in self._references:
            step = self._steps.get(str(path[1])) if path[:1] == ("steps",) and path[2:3] == ("output",) else None
            if step is None or step.action is None or len(path) == 3:
                continue
            known = _names_beside(step.action.manifest.output.json_schema, path[3:])
            if known:
                yield Problem(
                    "untold_member",
                    f"The manifest of {step.uses} tells of no {wording.field(path[3:])!r} in its output; the stand-in has it "
                    "because this asks for it.",
                    f"There are: {', '.join(known[:MOST_NAMED])}{', …' if len(known) > MOST_NAMED else ''}.",
                    located.where(offset),
                    "warning",
                )

    def fitted(self, step: PlannedStep, output: Json, schema: JsonObject) -> Json:
        """Return an output with what is asked of it; each part is taken only when the whole still fits the schema."""
        wanted = self._paths.get(step.id, {})
        for path, needed in list(wanted.items())[:MOST]:
            changed = _with(output, path, needed)
            if changed != output and is_valid(changed, schema):
                output = changed
        satisfied: list[Located] = []
        for located in self._alone.get(step.id, [])[:MOST]:
            if not _renders(located, step.id, output):
                output = self._retyped(step, output, schema, [*satisfied, located])
            satisfied.append(located)
        return output

    def _retyped(self, step: PlannedStep, output: Json, schema: JsonObject, all_of: list[Located]) -> Json:
        """Return an output of another type at a place where the last of some templates needs one, if that helps."""
        for reference in all_of[-1].template.references:
            for value in PLAIN:
                changed = _replaced(output, reference.path[3:], value)
                if is_valid(changed, schema) and all(_renders(each, step.id, changed) for each in all_of):
                    return changed
        return output

    def _take_in(self, step: PlannedStep, outer: Mapping[str, Path]) -> None:
        names, item = outer, _pure(step.for_each)
        if item is not None:
            names = {**outer, "item": (*_behind(item, outer), 0)}
            self._want(names["item"], None)
        if step.action is not None:
            for parameter in step.action.manifest.all_parameters:
                path = _pure(step.arguments.get(parameter.name))
                if path is not None:
                    self._want(_behind(path, names), value_schema(parameter))
        parts = (step.condition, step.for_each, step.wait_for, step.wait_until, step.message, step.who, step.deadline)
        for value in (*step.arguments.values(), *parts):
            self._add(value, names)
        for inner in (*step.steps, *step.on_error):
            self._take_in(inner, names)

    def _add(self, value: Value, names: Mapping[str, Path]) -> None:
        for located in templates(value):
            for reference in located.template.references:
                path = _behind(reference.path, names)
                self._want(path, None)
                if not reference.optional:
                    self._references.append((located, reference.offset, path))
            roots = {reference.path[:3] for reference in located.template.references}
            if len(roots) == 1 and len(root := next(iter(roots))) == 3 and (root[0], root[2]) == ("steps", "output"):
                self._alone.setdefault(str(root[1]), []).append(located)

    def _want(self, path: Path, schema: JsonObject | None) -> None:
        if len(path) > 2 and path[0] == "steps" and path[2] == "output":
            known = self._paths.setdefault(str(path[1]), {})
            known[path[3:]] = schema or known.get(path[3:])


def _names_beside(schema: Json, path: Path) -> list[str]:
    """Return the members that a schema names where a path leaves it; none where it has the path, or names nothing there."""
    for part in path:
        if not isinstance(schema, dict):
            return []
        if isinstance(part, int):
            schema = schema.get("items", True)
            continue
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return []
        if part not in properties:
            others = isinstance(schema.get("additionalProperties"), dict) or "patternProperties" in schema
            return [] if others else list(properties)
        schema = properties[part]
    return []


def _pure(value: Value) -> Path | None:
    """Return the path of a value that is one reference and nothing more."""
    if not isinstance(value, Located) or len(value.template.references) != 1:
        return None
    return value.template.references[0].path if _ONE_REFERENCE.fullmatch(value.template.text) else None


def _behind(path: Path, names: Mapping[str, Path]) -> Path:
    """Return a path with the name of an item of a loop replaced by where that item comes from."""
    return (*names[str(path[0])], *path[1:]) if path and str(path[0]) in names else path


def _with(value: Json, path: Path, schema: JsonObject | None) -> Json:
    """Return a value in which there is something at `path`, of the given schema if there is one."""
    if not path:
        return made(schema) if schema is not None and not is_valid(value, schema) else value
    part, rest = path[0], path[1:]
    if isinstance(part, int):
        items = list(value) if isinstance(value, list) else []
        while len(items) <= part and len(items) < MOST:
            items.append(_with(items[-1] if items else _blank(rest), rest, schema))
        if part < len(items):
            items[part] = _with(items[part], rest, schema)
        return items
    members: dict[str, Any] = dict(value) if isinstance(value, dict) else {}
    if part in members:
        members[part] = _with(members[part], rest, schema)
    else:
        members[part] = _with(made(schema) if schema is not None and not rest else _blank(rest) or part, rest, schema)
    return members


def _renders(located: Located, step: str, output: Json) -> bool:
    try:
        located.template.render({"steps": {step: {"output": output, "state": "succeeded", "error": None}}})
    except ExpressionError:
        return False
    return True


def _replaced(value: Json, path: Path, new: Json) -> Json:
    """Return a value with what stands at `path` replaced."""
    if not path:
        return new
    part = path[0]
    if isinstance(value, dict) and part in value:
        return {**value, str(part): _replaced(value[str(part)], path[1:], new)}
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return [*value[:part], _replaced(value[part], path[1:], new), *value[part + 1 :]]
    return value


def _blank(rest: Path) -> Json:
    """Return what a further path can be put into; None where it ends."""
    if not rest:
        return None
    return [] if isinstance(rest[0], int) else {}

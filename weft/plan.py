"""A workflow checked against the registry, ready to run.

`compile` finds every fault that can be known before a run and tells them all at once; what is left for a run
to fail on is the world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal, TypeAlias

from weft import arguments, expressions
from weft.errors import ExpressionError, InvalidWorkflow, NotFound, PackError, Problem, WeftError, Where
from weft.expressions import Template
from weft.manifest import Manifest
from weft.registry import Action, Registry
from weft.source import Source
from weft.types import DocumentPath, Json, JsonObject, Scope
from weft.workflow import Retry, Step, Workflow, seconds

RUN_NAMES = ("id", "started_at", "scheduled_at", "attempt")
STEP_NAMES = ("output", "state", "error")
CHILD = "workflow:"


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
        return Where(place.file, place.line, place.column, self.step, spelled(self.path[_depth(self.path) :]))


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
    kind: Literal["action", "workflow", "group", "wait", "approval"]
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
    goes_on: bool = False  #: `on_error` is not `fail`
    on_error: tuple[PlannedStep, ...] = ()
    at_most_once: bool = False
    disabled: bool = False

    def where(self) -> Where:
        """Return the place of the step in its file."""
        place = self.source.where(self.at)
        return Where(place.file, place.line, place.column, self.name)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run follows, from its start to its end."""

    workflow: Workflow
    source: Source
    steps: tuple[PlannedStep, ...]
    final: tuple[PlannedStep, ...] = ()
    on_failure: tuple[PlannedStep, ...] = ()
    outputs: Mapping[str, Value] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()

    def every_step(self) -> Iterator[PlannedStep]:
        """Yield all steps, those of groups after their group."""
        yield from _every((*self.steps, *self.final, *self.on_failure))


def _every(steps: Iterable[PlannedStep]) -> Iterator[PlannedStep]:
    for step in steps:
        yield step
        yield from _every((*step.steps, *step.on_error))


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """What is known of a connection without opening it."""

    name: str
    type: str
    source: str  #: `environment`, `file connections.yaml`, `built in`
    provider: str | None = None


ConnectionsKnown: TypeAlias = Callable[[str, str], "ConnectionFacts | None"]
"""From a connection's name and the type that is wanted to what is known of it; None when there is none."""


def compile(  # noqa: A001  the word of the trade; the built-in is not used here
    workflow: Workflow, source: Source, registry: Registry, *, connections: ConnectionsKnown | None = None
) -> Plan:
    """Check `workflow` against `registry` and return its plan.

    Args:
        workflow: The document as a model.
        source: The document as text, for places.
        registry: The actions and types of connections there are.
        connections: What is known of connections; left out, connections are not checked.

    Raises:
        InvalidWorkflow: The document has faults; all of them are in `problems`, warnings among them.
    """
    compiler = _Compiler(workflow, source, registry, connections)
    plan = compiler.plan()
    if any(problem.severity == "error" for problem in compiler.problems):
        raise InvalidWorkflow(problems=_in_order(compiler.problems))
    return Plan(
        workflow, source, plan.steps, plan.final, plan.on_failure, plan.outputs, tuple(_in_order(compiler.problems))
    )


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.where.line or 0, problem.where.column or 0))


def spelled(path: DocumentPath) -> str:
    """Return a document path as an author reads it: `with.messages[0].role`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _depth(path: DocumentPath) -> int:
    """Length of the part of `path` that leads to the innermost step."""
    starts = [
        i + 2 for i, part in enumerate(path[:-1]) if part in {"steps", "finally"} and isinstance(path[i + 1], int)
    ]
    return starts[-1] if starts else 0


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` was probably meant to be."""
    found = get_close_matches(name, list(known), 1)
    return found[0] if found else None


@dataclass(frozen=True, slots=True)
class _Visible:
    """The names that an expression at one place may use."""

    steps: Mapping[str, Manifest | None]
    later: frozenset[str] = frozenset()  #: exist, but have not run yet
    loop: bool = False
    failed: bool = False  #: inside `on_error` or `on_failure`, where every step has a state


class _Compiler:
    def __init__(
        self, workflow: Workflow, source: Source, registry: Registry, connections: ConnectionsKnown | None
    ) -> None:
        self.workflow = workflow
        self.source = source
        self.registry = registry
        self.connections = connections
        self.problems: list[Problem] = []

    def plan(self) -> Plan:
        steps = self._list(self.workflow.steps, ("steps",), "", _Visible({}))
        ended = _Visible(_manifests(steps), failed=True)
        final = self._list(self.workflow.final, ("finally",), "finally/", ended)
        told: tuple[PlannedStep, ...] = ()
        if self.workflow.on_failure and self.workflow.on_failure.steps:
            told = self._list(self.workflow.on_failure.steps, ("on_failure", "steps"), "on_failure/", ended)
        outputs = {
            name: self._value(value, ("outputs", name), None, ended) for name, value in self.workflow.outputs.items()
        }
        return Plan(self.workflow, self.source, steps, final, told, outputs)

    # ---- steps
    def _list(self, steps: Sequence[Step], at: DocumentPath, prefix: str, outer: _Visible) -> tuple[PlannedStep, ...]:
        ids = [step.id for step in steps]
        needs = {
            step.id: tuple(step.needs) if step.needs is not None else tuple(ids[i - 1 : i]) if i else ()
            for i, step in enumerate(steps)
        }
        planned: dict[str, PlannedStep] = {}
        for step, place in _by_need([(step, (*at, i)) for i, step in enumerate(steps)], needs):
            before = ancestors(step.id, needs)
            visible = _Visible(
                {**outer.steps, **_manifests(planned[name] for name in before if name in planned)},
                frozenset(ids) - before,
                outer.loop,
                outer.failed,
            )
            planned[step.id] = self._step(step, place, prefix, needs[step.id], visible)
        return tuple(planned[name] for name in ids if name in planned)

    def _step(
        self, step: Step, at: DocumentPath, prefix: str, needs: tuple[str, ...], visible: _Visible
    ) -> PlannedStep:
        name = f"{prefix}{step.id}"
        inner = visible if step.for_each is None else _Visible(visible.steps, visible.later, True, visible.failed)
        for_each = step.for_each
        kind, action = self._what(step, at, name)
        on_error: tuple[PlannedStep, ...] = ()
        if not isinstance(step.on_error, str):
            own = {**inner.steps, step.id: action.manifest if action else None}
            on_error = self._list(
                step.on_error.steps, (*at, "on_error", "steps"), f"{name}/on_error/", _Visible(own, loop=inner.loop)
            )
        return PlannedStep(
            id=step.id,
            name=name,
            title=step.title or (action.manifest.title if action else step.id),
            kind=kind,
            at=at,
            source=self.source,
            needs=needs,
            uses=step.uses or kind,
            action=action,
            arguments=self._arguments(step, at, name, action, inner),
            connection=step.connection,
            connections=step.connections,
            condition=self._condition(step, at, name, inner),
            for_each=(
                self._expression(for_each, (*at, "for_each"), name, visible)
                if isinstance(for_each, str)
                else None
                if for_each is None
                else self._value(for_each, (*at, "for_each"), name, visible)
            ),
            max_parallel=step.max_parallel,
            steps=self._list(step.steps or [], (*at, "steps"), f"{name}/", inner),
            retry=step.retry,
            timeout_s=None if step.timeout is None else seconds(step.timeout),
            wait_for=None if not step.wait else self._value(step.wait.duration, (*at, "wait", "for"), name, inner),
            wait_until=None if not step.wait else self._value(step.wait.until, (*at, "wait", "until"), name, inner),
            goes_on=step.on_error != "fail",
            on_error=on_error,
            at_most_once=step.delivery == "at_most_once",
            disabled=step.disabled,
        )

    def _what(
        self, step: Step, at: DocumentPath, name: str
    ) -> tuple[Literal["action", "workflow", "group", "wait", "approval"], Action | None]:
        if step.uses is None:
            return ("group" if step.steps else "wait" if step.wait else "approval"), None
        if step.uses.startswith(CHILD):
            return "workflow", None
        try:
            action = self.registry.action(step.uses)
            action.load()
        except (NotFound, PackError) as error:
            where = self._where((*at, "uses"), name)
            self.problems += [problem.at(where) for problem in _renamed(error, "unknown_action").problems]
            return "action", None
        self._connection(step, at, name, action)
        self._delivery(step, at, name, action)
        return "action", action

    def _connection(self, step: Step, at: DocumentPath, name: str, action: Action) -> None:
        wanted = action.manifest.connection
        if wanted is None:
            if step.connection is not None:
                self._problem(
                    "needless_connection", f"{action.manifest.id!r} takes no connection.", (*at, "connection"), name
                )
            return
        if step.connection is None:
            self._problem(
                "missing_connection",
                f"{action.manifest.id!r} needs a connection of type {wanted!r}.",
                at,
                name,
                remedy="Name one: connection: <name>.",
            )
            return
        named = {"connection": step.connection} | {f"connections.{k}": v for k, v in step.connections.items()}
        for key, connection in named.items():
            self._known_connection(connection, wanted, (*at, *key.split(".")), name)

    def _known_connection(self, connection: str, wanted: str, at: DocumentPath, name: str) -> None:
        if self.connections is None:
            return
        facts = self.connections(connection, wanted)
        if facts is None:
            self._problem(
                "unknown_connection",
                f"There is no connection {connection!r} here.",
                at,
                name,
                remedy=f"Add it to connections.yaml or set its variables, for example {variable(connection)}_….",
                severity="warning",
            )
        elif facts.type != wanted:
            self._problem(
                "wrong_connection",
                f"Connection {connection!r} is of type {facts.type!r}, but the action needs {wanted!r}.",
                at,
                name,
            )

    def _delivery(self, step: Step, at: DocumentPath, name: str, action: Action) -> None:
        manifest = action.manifest
        if step.delivery and manifest.effects != "send":
            self._problem(
                "needless_delivery",
                f"{manifest.id!r} has no effect that could happen twice, so a delivery policy says nothing.",
                (*at, "delivery"),
                name,
            )
        if step.retry is None:
            return
        if manifest.retry == "never":
            self._problem("never_retried", f"{manifest.id!r} must not be tried again by a retry.", (*at, "retry"), name)
        if action.load().attempts is not None and "num_retries" in step.arguments:
            self._problem(
                "two_retries",
                "Both num_retries and retry are given.",
                (*at, "retry"),
                name,
                remedy="Keep one of them.",
            )

    # ---- arguments
    def _arguments(
        self, step: Step, at: DocumentPath, name: str, action: Action | None, visible: _Visible
    ) -> dict[str, Value]:
        given: dict[str, Value] = {}
        constants: JsonObject = {}
        for key, value in step.arguments.items():
            parameter = next((p for p in action.manifest.all_parameters if p.name == key), None) if action else None
            escape = None if parameter is None else parameter.escape
            place = (*at, "with", key)
            given[key] = self._value(value, place, name, visible, escape=escape)
            found = list(templates(given[key]))
            if not found:
                constants[key] = value
            elif parameter is not None and parameter.literal:
                where = found[0].where()
                self._add(
                    Problem("not_literal", f"{key!r} takes no expressions.", "Write the value itself.", where), name
                )
        if action is not None:
            self._check_arguments(action, step, at, name, constants)
        return given

    def _check_arguments(
        self, action: Action, step: Step, at: DocumentPath, name: str, constants: JsonObject
    ) -> None:
        unknown = step.arguments.keys() - constants.keys()
        problems = arguments.check(action.manifest.all_parameters, step.arguments, unknown=unknown)
        check = action.load().check
        if check is not None and not any(problem.severity == "error" for problem in problems):
            problems += check(constants)
        for problem in problems:
            field_path = _path_of(problem.where.field)
            known = bool(field_path) and field_path[0] in step.arguments
            place = self.source.where((*at, "with", *field_path), key=problem.code == "unknown_name")
            if not known:
                place = self.source.where((*at, "with") if step.arguments else (*at, "uses"), key=True)
            spelled_field = f"with.{problem.where.field}" if problem.where.field else "with"
            where = Where(place.file, place.line, place.column, name, spelled_field)
            self.problems.append(Problem(problem.code, problem.message, problem.remedy, where, problem.severity))

    def _value(
        self,
        value: Json,
        at: DocumentPath,
        name: str | None,
        visible: _Visible,
        *,
        escape: Literal["html"] | None = None,
    ) -> Value:
        match value:
            case str() if expressions.has_expression(value):
                try:
                    template = expressions.compile(value, escape=escape)
                except ExpressionError as error:
                    self._fault(error, at, name)
                    return value
                return self._checked(Located(template, self.source, at, name), visible)
            case dict():
                return {k: self._value(item, (*at, k), name, visible, escape=escape) for k, item in value.items()}
            case list():
                return [self._value(item, (*at, i), name, visible, escape=escape) for i, item in enumerate(value)]
            case _:
                return value

    def _condition(self, step: Step, at: DocumentPath, name: str, visible: _Visible) -> Located | bool | None:
        if step.condition is None or isinstance(step.condition, bool):
            return step.condition
        try:
            template = expressions.compile_condition(step.condition)
        except ExpressionError as error:
            self._fault(error, (*at, "if"), name)
            return None
        return self._checked(Located(template, self.source, (*at, "if"), name), visible)

    def _expression(self, text: str, at: DocumentPath, name: str, visible: _Visible) -> Value:
        shift = 0 if expressions.has_expression(text) else 2
        try:
            template = expressions.compile(text if not shift else "{{" + text + "}}")
        except ExpressionError as error:
            self._fault(error, at, name, shift)
            return text
        return self._checked(Located(template, self.source, at, name, shift), visible)

    # ---- references
    def _checked(self, located: Located, visible: _Visible) -> Located:
        for reference in located.template.references:
            problem = self._reference(reference.path, visible)
            if problem is not None and not (reference.optional and problem.code == "unknown_output"):
                remedy = reference.hint or problem.remedy
                self._add(Problem(problem.code, problem.message, remedy, located.where(reference.offset)), located.step)
        return located

    def _reference(self, path: tuple[str | int, ...], visible: _Visible) -> Problem | None:
        root, rest = path[0], path[1:]
        match root:
            case "inputs":
                return _member(rest, self.workflow.inputs, "input", "unknown_input")
            case "variables":
                return _member(rest, self.workflow.variables, "variable", "unknown_variable")
            case "run":
                return _member(rest, RUN_NAMES, "name in `run`", "unknown_name")
            case "steps":
                return self._step_reference(rest, visible)
            case "item" | "index":
                return (
                    None
                    if visible.loop
                    else Problem("unknown_name", f"{root!r} exists only inside a step with `for_each`.")
                )
            case "trigger":
                return None
        names = ("inputs", "steps", "run", "trigger", "variables", *(("item", "index") if visible.loop else ()))
        return _missing(str(root), names, "name", "unknown_name")

    def _step_reference(self, rest: tuple[str | int, ...], visible: _Visible) -> Problem | None:
        if not rest:
            return None
        step = str(rest[0])
        if step not in visible.steps:
            if step in visible.later:
                return Problem(
                    "later_step",
                    f"Step {step!r} has not run when this is evaluated.",
                    f"Let this step need it: needs: [{step}], or move it below.",
                )
            return _missing(step, visible.steps, "step before this one", "unknown_step")
        if len(rest) > 1 and rest[1] not in STEP_NAMES:
            return Problem(
                "unknown_name",
                f"A step has {', '.join(STEP_NAMES)}, but no {str(rest[1])!r}.",
                f"Did you mean steps.{step}.output.{rest[1]}?",
            )
        manifest = visible.steps[step]
        if len(rest) > 2 and rest[1] == "output" and manifest is not None:
            return _in_schema(manifest.output.json_schema, rest[2:], step)
        return None

    # ---- problems
    def _where(self, at: DocumentPath, name: str | None) -> Where:
        place = self.source.where(at)
        return Where(place.file, place.line, place.column, name, spelled(at[_depth(at) :]) or None)

    def _problem(
        self,
        code: str,
        message: str,
        at: DocumentPath,
        name: str,
        *,
        remedy: str | None = None,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        self.problems.append(Problem(code, message, remedy, self._where(at, name), severity))

    def _add(self, problem: Problem, name: str | None) -> None:
        self.problems.append(problem.at(Where(step=name)))

    def _fault(self, error: ExpressionError, at: DocumentPath, name: str | None, shift: int = 0) -> None:
        place = self.source.locate(at, max(0, (error.offset or 0) - shift))
        where = Where(place.file, place.line, place.column, name, spelled(at[_depth(at) :]))
        self.problems += error.placed(where).problems


def variable(connection: str) -> str:
    """Return the prefix of the environment variables of a connection: `my-mail` → `MY_MAIL`."""
    return connection.upper().replace("-", "_")


def _manifests(steps: Iterable[PlannedStep]) -> dict[str, Manifest | None]:
    """What is known of each step's output: nothing for loops, groups and child workflows."""
    return {step.id: step.action.manifest if step.action and step.for_each is None else None for step in steps}


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


def _by_need(
    steps: Sequence[tuple[Step, DocumentPath]], needs: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[Step, DocumentPath]]:
    """Yield the steps so that each comes after those it needs; the document was checked for cycles."""
    left = list(steps)
    done: set[str] = set()
    while left:
        ready = [pair for pair in left if set(needs[pair[0].id]) <= done] or left[:1]
        for pair in ready:
            yield pair
            done.add(pair[0].id)
        left = [pair for pair in left if pair[0].id not in done]


def _renamed(error: WeftError, code: str) -> WeftError:
    if isinstance(error, NotFound):
        error.problems = tuple(Problem(code, p.message, p.remedy, p.where) for p in error.problems)
    return error


def _member(rest: tuple[str | int, ...], known: Iterable[str], what: str, code: str) -> Problem | None:
    if not rest or rest[0] in (names := list(known)):
        return None
    return _missing(str(rest[0]), names, what, code)


def _missing(name: str, known: Iterable[str], what: str, code: str) -> Problem:
    names = list(known)
    close = nearest(name, names)
    listed = f"There are: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}." if names else "There are none."
    return Problem(code, f"There is no {what} {name!r}.", f"Did you mean {close!r}?" if close else listed)


def _path_of(spelled_path: str | None) -> DocumentPath:
    """Return `messages[0].role` as a document path."""
    parts: list[str | int] = []
    for part in (spelled_path or "").replace("[", ".[").split("."):
        if part.startswith("[") and part[1:-1].isdigit():
            parts.append(int(part[1:-1]))
        elif part:
            parts.append(part)
    return tuple(parts)


def _in_schema(schema: Json, path: tuple[str | int, ...], step: str) -> Problem | None:
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
            if schema.get("additionalProperties", True) is not False:
                return None
            before = spelled(("steps", step, "output", *path[:i]))
            return _missing(part, properties, f"member of {before}:", "unknown_output")
        schema = properties[part]
    return None

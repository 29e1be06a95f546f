"""From a workflow to its plan: every check that needs the registry, with a place for every fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from weft import arguments, expressions, wording
from weft.catalogue import load
from weft.errors import (
    ConnectionUnusable,
    ExpressionError,
    InvalidDocument,
    InvalidWorkflow,
    NotFound,
    PackError,
    Problem,
    Severity,
    Where,
)
from weft.expressions import Template
from weft.manifest import Manifest, Parameter
from weft.plan import given
from weft.plan.hooks import foreseen
from weft.plan.model import CHILD, Kind, Located, Plan, PlannedStep, Value, ancestors, inside_step, templates
from weft.plan.references import Visible, fault
from weft.plan.signing import signing_facts, signing_types
from weft.registry import Action, Registry
from weft.sdk import Catalogue, Known
from weft.source import Source
from weft.types import DocumentPath, Json
from weft.workflow import ErrorSteps, Step, Workflow, seconds

OWN_RETRIES = ("num_retries", "retries")
"""The parameters by which actions with a chain of their own are told how often to try again."""
TOLD = {"run": "object", "run_id": "string", "workflow": "string", "error": "object"}
"""The inputs that a workflow for failures may declare, and their types."""
AT_ACCEPTANCE = ("run", "trigger", "variables")
"""What there is when a trigger's inputs are made: neither inputs nor steps yet."""


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """What is known of a connection without opening it."""

    name: str
    type: str
    source: str  #: `environment`, `file connections.yaml`, `directory …`, `store`, `built in`
    provider: str | None = None
    settings: Mapping[str, Json] = field(default_factory=dict)  #: the fields that are not secret, as far as known


@dataclass(frozen=True, slots=True)
class Document:
    """The document of a child workflow."""

    workflow: Workflow
    source: Source
    kept: str | None = None  #: as it was pinned with its parent's


@dataclass(frozen=True, slots=True)
class Documents:
    """Where the documents of child workflows come from.

    Args:
        find: Given a name and the document that names it; raises `NotFound` or `InvalidDocument`.
        on_failure: The workflow that tells of failures where a document does not say who does.
        chain: The workflows that this one is a child of, the outermost first.
    """

    find: Callable[[str, Source], Document]
    on_failure: str | None = None
    chain: tuple[str, ...] = ()


DEFAULT = ("on_failure of the workspace",)
"""What the default workflow for failures is a child of; a child has no such default, so it may start whom it tells of."""

DEEPEST = 8
"""Workflows, each the child of the one before it."""


class ConnectionsKnown(Protocol):
    """What is known of connections without opening one."""

    def facts(self, name: str, wanted: str) -> ConnectionFacts | None:
        """Return what is known of a connection; None when there is none of this name."""

    def choose(
        self, name: str | None, wanted: str, *, provider: str | None, others: Mapping[str, str], own: bool = False
    ) -> str:
        """Return the name of the connection that serves a call.

        Args:
            name: The step's own connection, if it names one.
            wanted: The type that the action needs.
            provider: The provider that the call goes to; None when the action has no providers.
            others: The step's connections by provider.
            own: Whether it is the step's own provider, for which its own connection is meant and no other.

        Raises:
            ConnectionUnusable: There is none, or there are several, or the one named belongs to another provider.
        """


def compile(  # noqa: A001  the word of the trade; the built-in is not used here
    workflow: Workflow,
    source: Source,
    registry: Registry,
    *,
    connections: ConnectionsKnown | None = None,
    catalogue: Catalogue | None = None,
    documents: Documents | None = None,
) -> Plan:
    """Check `workflow` against `registry` and return its plan.

    Args:
        workflow: The document as a model.
        source: The document as text, for places.
        registry: The actions and types of connections there are.
        connections: What is known of connections; left out, connections are not checked.
        catalogue: What is known of models; left out, the one that is shipped.
        documents: Where child workflows come from; left out, they are not looked for.

    Raises:
        InvalidWorkflow: The document has faults; all of them are in `problems`, warnings among them.
    """
    compiler = _Compiler(workflow, source, registry, connections, catalogue or load(), documents=documents)
    plan = compiler.plan()
    problems = sorted(compiler.problems, key=lambda problem: (problem.where.line or 0, problem.where.column or 0))
    if any(problem.severity == "error" for problem in problems):
        raise InvalidWorkflow(problems=problems)
    return replace(plan, warnings=tuple(problems))


def variable(connection: str) -> str:
    """Return the prefix of the environment variables of a connection: `my-mail` → `MY_MAIL`."""
    return connection.upper().replace("-", "_")


@dataclass(frozen=True, slots=True)
class _List:
    """Where a list of steps stands."""

    at: DocumentPath
    name: str  #: prefix of its steps' names
    path: str  #: prefix of its steps' paths


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a step stands, and what its expressions see."""

    at: DocumentPath
    name: str
    path: str
    visible: Visible


class _Compiler:
    def __init__(
        self,
        workflow: Workflow,
        source: Source,
        registry: Registry,
        connections: ConnectionsKnown | None,
        catalogue: Catalogue,
        *,
        documents: Documents | None,
    ) -> None:
        self.documents = documents
        self._children: dict[str, Plan | None] = {}
        self.workflow = workflow
        self.source = source
        self.registry = registry
        self.connections = connections
        self.catalogue = catalogue
        self.problems: list[Problem] = []

    def plan(self) -> Plan:
        document = self.workflow
        steps = self._steps(document.steps, _List(("steps",), "", ""), Visible({}))
        ended = Visible(_manifests(steps))
        final = self._steps(document.final, _List(("finally",), "finally/", "/@finally"), ended)
        told: tuple[PlannedStep, ...] = ()
        if document.on_failure and document.on_failure.steps:
            place = _List(("on_failure", "steps"), "on_failure/", "/@on_failure")
            told = self._steps(document.on_failure.steps, place, ended)
        outputs = {name: self._value(value, ("outputs", name), None, ended) for name, value in document.outputs.items()}
        key = self._check_around()
        return Plan(
            document,
            self.source,
            steps,
            final,
            told,
            self._failure_workflow(),
            outputs,
            concurrency_key=key,
        )

    def _check_around(self) -> Value:
        """Check the templates of the document that belong to no step; return that of `concurrency`."""
        document = self.workflow
        at_acceptance = Visible({}, roots=AT_ACCEPTANCE)
        for kind in ("schedule", "webhook"):
            for i, trigger in enumerate(getattr(document.on, kind)):
                self._value(trigger.inputs, ("on", kind, i, "inputs"), None, at_acceptance)
        for i, webhook in enumerate(document.on.webhook):
            self._check_signer(webhook.connection, ("on", "webhook", i, "connection"))
        if document.concurrency is None:
            return None
        started = Visible({}, roots=("inputs", *AT_ACCEPTANCE))
        return self._value(document.concurrency.key, ("concurrency", "key"), None, started)

    def _check_signer(self, connection: str, at: DocumentPath) -> None:
        """Check that a connection can prove who has sent a request; of a child nobody asks for that."""
        if self.connections is None or (self.documents is not None and self.documents.chain):
            return
        types = signing_types(self.registry)
        facts = signing_facts(self.connections, self.registry, connection)
        if facts is None:
            message = f"There is no connection {connection!r} here, so no request can be checked."
            remedy = f"Add it: weft connections add {connection} --type {types[0]}" if types else None
            self._problem("unknown_signer", message, at, "", severity="warning", remedy=remedy)
        elif facts.type not in types:
            message = f"Connection {connection!r} is of type {facts.type!r}, which has no signing secret."
            self._problem("no_signing_secret", message, at, "", remedy=f"Name one of type {wording.choice(types)}.")

    # ---- child workflows
    def _failure_workflow(self) -> PlannedStep | None:
        """Return the workflow that tells of a failure, as a step; the document's own, or else the workspace's."""
        told, documents = self.workflow.on_failure, self.documents
        name = told.workflow if told is not None else None
        if told is None and documents is not None and not documents.chain:
            name = documents.on_failure if documents.on_failure != self.workflow.name else None
        if name is None:
            return None
        at: DocumentPath = ("on_failure", "workflow") if told is not None else ()
        child = self._child_plan(name, at, "on_failure", above=DEFAULT if told is None else None)
        if child is not None:
            self._check_told(child, name, at)
        return PlannedStep(
            id="on_failure",
            name="on_failure",
            title=child.workflow.title or name if child else name,
            path="/@on_failure",
            kind="workflow",
            at=at,
            source=self.source,
            needs=(),
            uses=f"{CHILD}{name}",
            child=child,
        )

    def _check_told(self, child: Plan, name: str, at: DocumentPath) -> None:
        for input_, declared in child.workflow.inputs.items():
            if input_ not in TOLD and declared.required:
                message = f"Workflow {name!r} needs the input {input_!r}, which a failure does not give."
                remedy = f"A failure gives {wording.choice(TOLD)}."
                self._problem("missing_input", message, at, "on_failure", remedy=remedy)
            elif input_ in TOLD and declared.type != TOLD[input_]:
                message = f"The input {input_!r} of workflow {name!r} is declared as {declared.type}."
                remedy = f"A failure gives it as {TOLD[input_]}: declare it so in {child.source.file}."
                self._problem("unfit_input", message, at, "on_failure", remedy=remedy)

    def _child_plan(
        self, name: str, at: DocumentPath, step: str, *, above: tuple[str, ...] | None = None
    ) -> Plan | None:
        """Return what a child run follows; None, with every fault told, when there is no such thing.

        `above` are the workflows that it is a child of, where these are others than this one and its own.
        """
        if self.documents is None:
            return None
        if name not in self._children:
            self._children[name] = self._compiled_child(
                self.documents, name, at, step, above or (*self.documents.chain, self.workflow.name)
            )
        return self._children[name]

    def _compiled_child(
        self, documents: Documents, name: str, at: DocumentPath, step: str, chain: tuple[str, ...]
    ) -> Plan | None:
        if name in chain:
            circle = " → ".join([*chain[chain.index(name) :], name])
            message = f"These workflows start each other without end: {circle}."
            self._problem("cycle", message, at, step, remedy="Take one of them out.")
            return None
        if len(chain) >= DEEPEST:
            message = f"{' → '.join([*chain, name])}: at most {DEEPEST} workflows may be nested."
            self._problem("too_deep", message, at, step, remedy="Let one of them do what its children do.")
            return None
        try:
            found = documents.find(name, self.source)
            child = compile(
                found.workflow,
                found.source,
                self.registry,
                connections=self.connections,
                catalogue=self.catalogue,
                documents=replace(documents, chain=chain),
            )
        except NotFound as error:
            self._of_child(error.problems, at, step)
            return None
        except InvalidDocument as error:
            self._of_child(error.problems, at, step)
            return None
        self._of_child(child.warnings, at, step)
        return replace(child, kept=found.kept)

    def _of_child(self, problems: Iterable[Problem], at: DocumentPath, step: str) -> None:
        """Tell what is wrong with a child's document at the place that names it."""
        where = self._where(at, step)
        for problem in problems:
            origin = f"{problem.where}: " if problem.where.file else ""
            self.problems.append(replace(problem, message=f"{origin}{problem.message}", where=where))

    def _child(self, step: Step, place: _Place, kind: Kind) -> Plan | None:
        if kind != "workflow" or step.uses is None:
            return None
        child = self._child_plan(step.uses.removeprefix(CHILD), (*place.at, "uses"), place.name)
        if child is not None:
            self._place_problems(given.child_problems(child.workflow, step.arguments), step, place)
        return child

    # ---- steps
    def _steps(self, steps: Sequence[Step], place: _List, outer: Visible) -> tuple[PlannedStep, ...]:
        ids = [step.id for step in steps]
        needs = {
            step.id: tuple(step.needs) if step.needs is not None else tuple(ids[i - 1 : i])
            for i, step in enumerate(steps)
        }
        planned: dict[str, PlannedStep] = {}
        for i in _by_need(ids, needs):
            step = steps[i]
            before = ancestors(step.id, needs)
            known = _manifests(planned[name] for name in ids if name in before and name in planned)
            later = outer.later | (frozenset(ids) - before)
            visible = replace(outer, steps={**outer.steps, **known}, later=later)
            names = f"{place.name}{step.id}", f"{place.path}/{step.id}"
            planned[step.id] = self._step(step, _Place((*place.at, i), *names, visible), needs[step.id])
        return tuple(planned[name] for name in ids if name in planned)

    def _step(self, step: Step, place: _Place, needs: tuple[str, ...]) -> PlannedStep:
        at, name = place.at, place.name
        kind, action = self._what(step, place)
        inner = place if step.for_each is None else replace(place, visible=replace(place.visible, loop=True))
        group = _List((*at, "steps"), f"{name}/", place.path)
        asked = self._approval(step, inner)
        return PlannedStep(
            id=step.id,
            name=name,
            title=step.title or (action.manifest.title if action else step.id),
            path=place.path,
            kind=kind,
            at=at,
            source=self.source,
            needs=needs,
            uses=step.uses or kind,
            action=action,
            arguments=self._arguments(step, inner, action),
            connection=step.connection,
            connections=step.connections,
            condition=self._condition(step, place),  # asked once, before the loop
            for_each=self._items(step.for_each, place),
            max_parallel=step.max_parallel,
            steps=self._steps(step.steps or (), group, inner.visible),
            retry=step.retry,
            timeout_s=None if step.timeout is None else seconds(step.timeout),
            wait_for=None if not step.wait else self._at(step.wait.duration, ("wait", "for"), inner),
            wait_until=None if not step.wait else self._at(step.wait.until, ("wait", "until"), inner),
            goes_on=step.on_error != "fail",
            on_error=self._on_error(step, place, action),
            at_most_once=step.delivery == "at_most_once",
            disabled=step.disabled,
            budget=step.budget,
            known=self._known(step, action),
            message=asked.get("message"),
            who=asked.get("who", []),
            deadline=asked.get("deadline"),
            default_answer=step.approval.default if step.approval else None,
            notify=self._notify(step, inner),
            child=self._child(step, place, kind),
        )

    def _on_error(self, step: Step, place: _Place, action: Action | None) -> tuple[PlannedStep, ...]:
        """Plan the steps for a failure; they run once, after the loop if there is one, and see the step itself."""
        if not isinstance(step.on_error, ErrorSteps):
            return ()
        known = action.manifest if action and step.for_each is None else None
        visible = replace(place.visible, steps={**place.visible.steps, step.id: known})
        inside = _List((*place.at, "on_error", "steps"), f"{place.name}/on_error/", f"{place.path}/@on_error")
        return self._steps(step.on_error.steps, inside, visible)

    def _notify(self, step: Step, place: _Place) -> tuple[PlannedStep, ...]:
        """Plan the steps that tell people of a question, which they see as `approval`."""
        if step.approval is None or step.approval.notify is None:
            return ()
        inside = _List((*place.at, "approval", "notify"), f"{place.name}/notify/", f"{place.path}/@notify")
        return self._steps(
            step.approval.notify, inside, replace(place.visible, roots=(*place.visible.roots, "approval"))
        )

    def _what(self, step: Step, place: _Place) -> tuple[Kind, Action | None]:
        if step.uses is None:
            return ("group" if step.steps else "wait" if step.wait else "approval"), None
        if step.uses.startswith(CHILD):
            return "workflow", None
        try:
            action = self.registry.action(step.uses)
            action.load()
        except (NotFound, PackError) as error:
            where = self._where((*place.at, "uses"), place.name)
            for problem in error.problems:
                origin = f"{problem.where}: " if problem.where.file else ""
                self.problems.append(replace(problem, message=f"{origin}{problem.message}", where=where))
            return "action", None
        self._check_connection(step, place, action)
        self._check_delivery(step, place, action)
        return "action", action

    def _approval(self, step: Step, place: _Place) -> dict[str, Value]:
        if step.approval is None:
            return {}
        keys = ("message", "who", "deadline")
        return {key: self._at(getattr(step.approval, key), ("approval", key), place) for key in keys}

    def _check_connection(self, step: Step, place: _Place, action: Action) -> None:
        wanted = action.manifest.connection
        given: dict[DocumentPath, str] = {("connections", key): name for key, name in step.connections.items()}
        if step.connection is not None:
            given["connection",] = step.connection
        if wanted is None:
            for key in list(given)[:1]:
                message = f"{action.id!r} takes no connection."
                self._problem("needless_connection", message, (*place.at, key[0]), place.name, remedy="Delete it.")
        elif not given or (step.connection is None and action.load().attempts is None):
            message = f"{action.id!r} needs a connection of type {wanted!r}."
            self._problem("missing_connection", message, place.at, place.name, remedy="Name one: connection: <name>.")
        else:
            for key, connection in given.items():
                self._check_known(connection, wanted, (*place.at, *key), place.name)

    def _check_known(self, connection: str, wanted: str, at: DocumentPath, name: str) -> None:
        if self.connections is None:
            return
        facts = self.connections.facts(connection, wanted)
        if facts is None:
            self._problem(
                "unknown_connection",
                f"There is no connection {connection!r} here.",
                at,
                name,
                remedy=f"Add it: weft connections add {connection} --type {wanted}, or set its variables {variable(connection)}_….",
                severity="warning",
            )
        elif facts.type != wanted:
            self._problem(
                "wrong_connection",
                f"Connection {connection!r} is of type {facts.type!r}, but the action needs {wanted!r}.",
                at,
                name,
                remedy=f"Name one of type {wanted}.",
            )

    def _known(self, step: Step, action: Action | None) -> Known:
        """Return what the rules of the step's action are told."""
        wanted = action.manifest.connection if action else None
        connections = self.connections
        if wanted is None or connections is None:
            return Known(self.catalogue)

        def settings(provider: str) -> Mapping[str, Json]:
            try:
                name = connections.choose(step.connection, wanted, provider=provider, others=step.connections)
            except ConnectionUnusable:
                return {}
            facts = connections.facts(name, wanted)
            return {} if facts is None else facts.settings

        return Known(self.catalogue, settings)

    def _check_chain(self, action: Action, step: Step, place: _Place) -> None:
        """Check that each call of the step's chain has a connection of its provider."""
        wanted, connections = action.manifest.connection, self.connections
        by_provider = bool(step.connections) and action.load().attempts is not None
        if wanted is None or connections is None or not (step.connection or by_provider):
            return
        declared = action.manifest.all_parameters
        constants = given.constants(step.arguments)
        settled = [each for each in declared if each.name in constants or each.name not in step.arguments]
        complete = arguments.with_defaults(settled, constants)
        try:
            chain = foreseen(action, complete, self._known(step, action))
        except PackError as error:
            self.problems += error.problems
            return
        for provider in dict.fromkeys(variant.provider for variant in chain):
            own = provider == chain[0].provider
            try:
                connections.choose(step.connection, wanted, provider=provider, others=step.connections, own=own)
            except ConnectionUnusable as error:
                where = self._where((*place.at, "connections" if step.connections else "connection"), place.name)
                severity: Severity = "warning" if error.problem.code == "unknown_connection" else "error"
                self.problems += [replace(problem, where=where, severity=severity) for problem in error.problems]

    def _check_delivery(self, step: Step, place: _Place, action: Action) -> None:
        manifest, at, name = action.manifest, place.at, place.name
        if step.delivery and manifest.effects != "send":
            message = f"{manifest.id!r} has no effect that could happen twice, so a delivery policy says nothing."
            self._problem("needless_delivery", message, (*at, "delivery"), name, remedy="Delete it.")
        if step.retry is None:
            return
        if manifest.retry == "never":
            message = f"{manifest.id!r} must not be tried again by a retry."
            self._problem("never_retried", message, (*at, "retry"), name, remedy="Delete 'retry'.")
        own = next((each for each in OWN_RETRIES if each in step.arguments), None)
        if action.load().attempts is not None and own is not None:
            message, remedy = f"Both {own} and retry are given.", "Keep one of them."
            self._problem("two_retries", message, (*at, "retry"), name, remedy=remedy)

    # ---- arguments
    def _arguments(self, step: Step, place: _Place, action: Action | None) -> dict[str, Value]:
        declared = {} if action is None else {each.name: each for each in action.manifest.all_parameters}
        planned: dict[str, Value] = {}
        for key, value in step.arguments.items():
            parameter = declared.get(key)
            escape = None if parameter is None else self._escape(parameter, declared, step.arguments)
            planned[key] = self._at(value, ("with", key), place, escape=escape)
            found = next(templates(planned[key]), None)
            if found is not None and parameter is not None and parameter.literal:
                self.problems.append(
                    Problem("not_literal", f"{key!r} takes no expressions.", "Write the value itself.", found.where())
                )
            if found is not None and parameter is not None and parameter.escape_when is not None:
                self._check_known_now(parameter.escape_when.parameter, key, step, place)
        if action is not None:
            self._check_arguments(action, step, place)
        return planned

    @staticmethod
    def _escape(
        parameter: Parameter, declared: Mapping[str, Parameter], given: Mapping[str, Json]
    ) -> Literal["html"] | None:
        """Return how the values in a parameter's text are escaped, which another argument may decide."""
        condition = parameter.escape_when
        if condition is None:
            return parameter.escape
        value = given.get(condition.parameter)
        if value is None and condition.parameter in declared:
            value = declared[condition.parameter].default
        holds = value is not None and (condition.values is None or value in condition.values)
        return parameter.escape if holds else None

    def _check_known_now(self, decides: str, key: str, step: Step, place: _Place) -> None:
        value = step.arguments.get(decides)
        if isinstance(value, str) and expressions.has_expression(value):
            message = f"{decides!r} takes no expressions here: it decides how {key!r} is escaped."
            at = (*place.at, "with", decides)
            self._problem("not_literal", message, at, place.name, remedy="Write the value itself.")

    def _check_arguments(self, action: Action, step: Step, place: _Place) -> None:
        found = given.problems(action, step.arguments, self._known(step, action))
        if not any(problem.severity == "error" for problem in found):
            self._check_chain(action, step, place)
        self._place_problems(found, step, place)

    def _place_problems(self, found: Iterable[Problem], step: Step, place: _Place) -> None:
        """Tell what is wrong with a step's arguments where they stand."""
        for problem in found:
            path = wording.path_of(problem.where.field or "")
            if path and path[0] in step.arguments:
                of_key = problem.code in ("unknown_parameter", "unknown_input", "unknown_key", "requires", "excludes")
                at = self.source.where((*place.at, "with", *path), key=of_key)
            else:
                at = self.source.where((*place.at, "with" if step.arguments else "uses"), key=True)
            name = f"with.{problem.where.field}" if problem.where.field else "with"
            where = Where(at.file, at.line, at.column, place.name, name)
            self.problems.append(replace(problem, where=where))

    # ---- templates
    def _at(self, value: Json, key: DocumentPath, place: _Place, *, escape: Literal["html"] | None = None) -> Value:
        return self._value(value, (*place.at, *key), place.name, place.visible, escape=escape)

    def _value(
        self,
        value: Json,
        at: DocumentPath,
        name: str | None,
        visible: Visible,
        *,
        escape: Literal["html"] | None = None,
    ) -> Value:
        match value:
            case str() if expressions.has_expression(value):
                made = self._template(lambda: expressions.compile(value, escape=escape), at, name, visible)
                return value if made is None else made
            case str():
                self._suspect(value, at, name)
                return value
            case dict():
                return {k: self._value(item, (*at, k), name, visible, escape=escape) for k, item in value.items()}
            case list():
                return [self._value(item, (*at, i), name, visible, escape=escape) for i, item in enumerate(value)]
            case _:
                return value

    def _condition(self, step: Step, place: _Place) -> Located | bool | None:
        text = step.condition
        if text is None or isinstance(text, bool):
            return text
        return self._template(lambda: expressions.compile_condition(text), (*place.at, "if"), place.name, place.visible)

    def _items(self, items: str | list[Json] | None, place: _Place) -> Value | None:
        if not isinstance(items, str):
            return None if items is None else self._at(items, ("for_each",), place)
        at = (*place.at, "for_each")
        shift = 0 if expressions.has_expression(items) else 2
        text = f"{{{{{items}}}}}" if shift else items
        made = self._template(lambda: expressions.compile(text), at, place.name, place.visible, shift)
        if made is not None and not made.template.native:
            message = "`for_each` needs one expression that gives a list; this gives a text."
            self._problem("not_a_list", message, at, place.name, remedy="Write it as one: {{ … }}.")
        return items if made is None else made

    def _template(
        self, build: Callable[[], Template], at: DocumentPath, name: str | None, visible: Visible, shift: int = 0
    ) -> Located | None:
        """Return the template with its place, or None when it is none; problems of both kinds are kept."""
        try:
            made = Located(build(), self.source, at, name, shift)
        except ExpressionError as error:
            place = self.source.locate(at, max(0, (error.offset or 0) - shift))
            where = Where(place.file, place.line, place.column, name, inside_step(at))
            self.problems += error.placed(where).problems
            return None
        for reference in made.template.references:
            found = fault(reference.path, visible, self.workflow)
            if found is not None and not (reference.optional and found.code == "unknown_output"):
                remedy = reference.hint or found.remedy
                self.problems.append(replace(found, remedy=remedy, where=made.where(reference.offset)))
        for suspicion in made.template.warnings:
            self.problems.append(replace(suspicion.problem, where=made.where(suspicion.offset)))
        return made

    def _suspect(self, text: str, at: DocumentPath, name: str | None) -> None:
        """Warn of what looks like an expression of another language, and would stay as it is."""
        suspicion = expressions.suspicious(text)
        if suspicion is not None:
            found = self.source.locate(at, suspicion.offset)
            where = Where(found.file, found.line, found.column, name, inside_step(at))
            self.problems.append(replace(suspicion.problem, where=where))

    # ---- problems
    def _where(self, at: DocumentPath, name: str) -> Where:
        place = self.source.where(at)
        return Where(place.file, place.line, place.column, name or None, inside_step(at) or None)

    def _problem(
        self,
        code: str,
        message: str,
        at: DocumentPath,
        name: str,
        *,
        remedy: str | None = None,
        severity: Severity = "error",
    ) -> None:
        self.problems.append(Problem(code, message, remedy, self._where(at, name), severity))


def _manifests(steps: Iterable[PlannedStep]) -> dict[str, Manifest | None]:
    """What is known of each step's output: nothing for loops, groups and child workflows."""
    return {step.id: step.action.manifest if step.action and step.for_each is None else None for step in steps}


def _by_need(ids: Sequence[str], needs: Mapping[str, tuple[str, ...]]) -> Iterator[int]:
    """Yield the positions of steps so that each comes after those it needs; a cycle is the document's to refuse."""
    left = list(enumerate(ids))
    done: set[str] = set()
    while left:
        ready = [pair for pair in left if done.issuperset(needs[pair[1]])] or left[:1]
        yield from (i for i, _ in ready)
        done.update(name for _, name in ready)
        left = [pair for pair in left if pair[1] not in done]

"""What declares an action, and what declares a type of connection: models, reader, rules, JSON Schema.

`load` and `load_connection_type` give a model whose parts agree with each other, or every problem with its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from weft import publishing, validation, wording
from weft.errors import InvalidManifest, Problem
from weft.mending import M, Mending
from weft.source import Source
from weft.types import DocumentPath, Json, JsonObject, Name
from weft.validation import Findings
from weft.values import ValueCheck, pattern_fault, schema_problems

Type = Literal["string", "integer", "number", "boolean", "array", "object"]

Widget = Literal[
    "text",
    "multiline",
    "password",
    "url",
    "number",
    "slider",
    "switch",
    "select",
    "combobox",
    "list",
    "key_value",
    "json",
    "messages",
    "tools",
    "addresses",
    "attachments",
]
"""How the form draws a parameter. Closed: a form that knows these knows every manifest."""


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Condition(Model):
    """Holds when another parameter has one of these values, or any value at all when `values` is left out."""

    parameter: Name
    """The other parameter."""
    values: list[Json] | None = Field(default=None, min_length=1)
    """The values with which the condition holds; left out: any value."""


class Options(Model):
    """Suggestions for a value: a fixed list, or a named source that the runtime answers."""

    values: list[Json] | None = Field(default=None, min_length=1)
    """The suggestions themselves."""
    source: Literal["providers", "models"] | None = None
    """A list that the runtime knows."""
    depends_on: Name | None = None
    """The parameter whose value narrows the source."""
    closed: bool = False
    """Whether only these are allowed."""


class Parameter(Model):
    """One parameter of an action, or one field of a connection type."""

    name: Name
    """How workflows and the action's code call it."""
    title: str = Field(min_length=1, max_length=60)
    """How the form calls it."""
    description: str = Field(min_length=1)
    """What it does, for people; one to three sentences."""
    type: Type | Annotated[list[Type], Field(min_length=1)]
    """The JSON type of its value, or several."""
    required: bool = False
    """Whether it must be given."""
    default: Json | None = None
    """What it is when it is not given; null: it is simply not given."""
    minimum: int | float | None = None
    """The least number allowed."""
    maximum: int | float | None = None
    """The greatest number allowed."""
    min_length: int | None = Field(default=None, ge=0)
    """The least count of characters of a text, or of items of a list."""
    max_length: int | None = Field(default=None, ge=0)
    """The greatest count of characters of a text, or of items of a list."""
    pattern: str | None = None
    """A regular expression that the whole text must match, without look-around and references back: of these nobody can say how long they take."""
    enum: list[Json] | None = Field(default=None, min_length=1)
    """The only values allowed."""
    items: JsonObject | None = None
    """JSON Schema of a list's items."""
    properties: dict[str, JsonObject] | None = None
    """JSON Schema of each member of a mapping."""
    required_properties: list[str] | None = None
    """The members that a mapping must have."""
    additional_properties: bool | JsonObject = True
    """Whether a mapping may have further members, or their JSON Schema."""
    widget: Widget
    """How the form draws it."""
    placeholder: str | None = None
    """What the empty field of the form shows."""
    example: Json | None = None
    """A value that satisfies every rule, for documentation."""
    secret: bool = False
    """Whether its value is a credential: never shown, logged or recorded."""
    literal: bool = False
    """Whether expressions are refused in it."""
    escape: Literal["html"] | None = None
    """How values are escaped when an expression puts them into its text."""
    escape_when: Condition | None = None
    """Escape only while this holds; left out: always. The parameter that it names then takes no expression."""
    options: Options | None = None
    """Suggestions for its value."""
    visible_when: Condition | None = None
    """When the form shows it."""
    requires: list[Condition] = Field(default_factory=list)
    """What must hold of other parameters when this one is given."""
    excludes: list[Name] = Field(default_factory=list)
    """Parameters that must not be given together with this one."""

    @property
    def types(self) -> tuple[Type, ...]:
        return tuple(self.type) if isinstance(self.type, list) else (self.type,)


class Parameters(Model):
    """The two groups of a form: what most people need, and the rest."""

    basic: list[Parameter] = Field(default_factory=list)
    """What most people need, in the order of the form."""
    advanced: list[Parameter] = Field(default_factory=list)
    """The rest, folded away in the form."""


class Output(Model):
    """What the action returns: a JSON Schema and an example that satisfies it."""

    json_schema: JsonObject = Field(alias="schema")
    """JSON Schema (draft 2020-12) of the output."""
    example: Json
    """An output as it may be, for documentation and dry runs."""


class Manifest(Model):
    """The declaration of one action."""

    id: Name
    """The action's name; also that of its file and its function."""
    title: str = Field(min_length=1, max_length=60)
    """How people call it."""
    purpose: str = Field(min_length=1, max_length=120)
    """What it is for, in one line."""
    description: str = ""
    """What a reader should know before using it, in Markdown."""
    category: str = Field(min_length=1, max_length=40)
    """The group of actions that it is listed in."""
    icon: str = Field(min_length=1, max_length=40)
    """The name of its picture."""
    version: int = Field(ge=1)
    """Raised with every change that could break a workflow."""
    connection: Name | None = None
    """The type of connection that the action needs."""
    effects: Literal["none", "read", "send"]
    """What it does outside: nothing, reading, or something that cannot be taken back."""
    retry: Literal["safe", "guarded", "never"]
    """Whether it may run again after a failure: always, after proof that nothing happened, or not at all."""
    parameters: Parameters
    """What it takes."""
    output: Output
    """What it returns."""

    @property
    def all_parameters(self) -> tuple[Parameter, ...]:
        """Every parameter in the order of the form: basic, then advanced."""
        return (*self.parameters.basic, *self.parameters.advanced)


class FurtherFields(Model):
    """Fields that the value of another field brings."""

    source: Literal["providers"]
    """The list that knows them: the credentials of each provider."""
    by: Name
    """The field whose value says which."""


class ConnectionType(Model):
    """The declaration of one type of connection: its fields, and the environment variables they may come from."""

    id: Name
    """The type's name; also that of its file."""
    title: str = Field(min_length=1, max_length=60)
    """How people call it."""
    purpose: str = Field(min_length=1, max_length=120)
    """What it is for, in one line."""
    icon: str = Field(min_length=1, max_length=40)
    """The name of its picture."""
    fields: list[Parameter]
    """What makes a connection of this type; secret ones are marked `secret`."""
    environment: dict[Name, list[str]] = Field(default_factory=dict)
    """Field → environment variables it may come from, the first that is set; `{NAME}` is the connection's name."""
    further_fields: FurtherFields | None = None
    """Where further fields come from, that not every connection of this type has; their environment variables are
    `{NAME}_` and the field in upper case."""


CONCURRENCY, REQUESTS, TOKENS = "concurrency", "requests_per_minute", "tokens_per_minute"
LIMITS = (CONCURRENCY, REQUESTS, TOKENS)
"""Fields that say how much of a connection may be used, by all processes together. The first two every type has, the
third those that declare it: what counts tokens."""

_COMMON = (
    Parameter(
        name=CONCURRENCY,
        title="Most at Once",
        description="How many attempts may use this connection at the same time, those of all processes together.",
        type="integer",
        minimum=1,
        maximum=10_000,
        widget="number",
        example=4,
    ),
    Parameter(
        name=REQUESTS,
        title="Requests per Minute",
        description=(
            "How many attempts may begin within any 60 seconds, those of all processes together. One attempt counts as "
            "one request, whatever it sends."
        ),
        type="integer",
        minimum=1,
        maximum=1_000_000,
        widget="number",
        example=60,
    ),
)


def _with_limits(kind: ConnectionType) -> ConnectionType:
    """Return the type with the limits that it does not declare itself, and with their variables if it has any."""
    declared = {field.name for field in kind.fields}
    fields = [*kind.fields, *(field for field in _COMMON if field.name not in declared)]
    variables = {
        field.name: [f"{{NAME}}_{field.name.upper()}"] for field in fields if kind.environment and field.name in LIMITS
    }
    return kind.model_copy(update={"fields": fields, "environment": {**variables, **kind.environment}})


def value_schema(parameter: Parameter) -> JsonObject:
    """Return the JSON Schema (draft 2020-12) of one value of a parameter."""
    schema: dict[str, Any] = {
        "title": parameter.title,
        "description": parameter.description,
        "type": parameter.type,
        "default": parameter.default,
        "examples": None if parameter.example is None else [parameter.example],
        "writeOnly": parameter.secret or None,
        "enum": parameter.enum,
        "minimum": parameter.minimum,
        "maximum": parameter.maximum,
        "pattern": None if parameter.pattern is None else f"^(?:{parameter.pattern})$",
    }
    options = parameter.options
    closed = options.values if options and options.closed else None
    if "string" in parameter.types:
        schema |= {"minLength": parameter.min_length, "maxLength": parameter.max_length}
    if "array" in parameter.types:
        items = {**(parameter.items or {}), **({"enum": closed} if closed else {})}
        schema |= {"items": items or None, "minItems": parameter.min_length, "maxItems": parameter.max_length}
    elif closed and parameter.enum is None:
        schema["enum"] = closed
    if "object" in parameter.types:
        free = parameter.additional_properties is True
        schema |= {
            "properties": parameter.properties,
            "required": parameter.required_properties or None,
            "additionalProperties": None if free else parameter.additional_properties,
        }
    return {key: value for key, value in schema.items() if value is not None}


def load(source: Source) -> Manifest:
    """Return the manifest that a document holds.

    Raises:
        InvalidManifest: It breaks rules; carries every problem with its place.
    """
    return _load(Manifest, source, _check_manifest)


def load_connection_type(source: Source) -> ConnectionType:
    """Return the connection type that a document holds, with the limits that every type has.

    Raises:
        InvalidManifest: It breaks rules; carries every problem with its place.
    """
    return _with_limits(_load(ConnectionType, source, _check_connection_type))


def _load(model: type[M], source: Source, rules: Callable[[M, Findings], None]) -> M:
    """Return a document's model, or tell its faults of form together with the rules that it breaks besides."""
    try:
        return validation.document(model, source, InvalidManifest, rules)
    except InvalidManifest as invalid:
        problems = invalid.problems
    mending = _Mending(model, source)
    built = mending.built(InvalidManifest)
    findings = Findings(mending.source)
    if built is not None:
        rules(built, findings)
    own = [problem for problem in findings.problems if not mending.brought_about(problem, problems)]
    raise InvalidManifest(problems=validation.in_order([*problems, *own]))


class _Mending(Mending[M]):
    """A manifest or connection type that is being mended; its items are the parameters."""

    NAME = "name"
    NEUTRAL: ClassVar = {
        **dict.fromkeys(("title", "purpose", "description", "category", "icon"), "-"),
        "id": "unnamed",
        "version": 1,
        "effects": "none",
        "retry": "never",
        "parameters": {},
        "fields": [],
        "type": list(get_args(Type)),
        "widget": "json",
        "output": {"schema": {}, "example": None},
        "schema": {},
        "example": None,
    }
    CONSEQUENCES = frozenset({"widget", "escape", "options", "unknown_property", "unknown_key", "secret_type"})
    """What is found in a parameter from which something was taken out may be found because it was taken out."""

    def item(self, path: DocumentPath) -> DocumentPath:
        depth = 3 if path[:1] == ("parameters",) else 2
        inside = path[:1] in (("parameters",), ("fields",)) and len(path) >= depth and isinstance(path[depth - 1], int)
        return path[:depth] if inside else ()

    def loses(self, path: DocumentPath) -> bool:
        return path[0] in ("parameters", "fields") and not self.item(path)

    def brought_about(self, problem: Problem, told: Sequence[Problem]) -> bool:
        """Return whether a rule may be broken only because of what has been mended."""
        if any(other.where == problem.where and other.code != problem.code for other in told):
            return True  # this place has been told already
        if problem.code == "unknown_parameter":
            return bool(self.lost)
        item = self.item(wording.path_of(problem.where.field or ""))
        return problem.code in self.CONSEQUENCES and item in self.items


def json_schema() -> JsonObject:
    """Return the JSON Schema of manifests, for completion in editors."""
    return publishing.json_schema(Manifest, "Weft manifest")


def connection_type_json_schema() -> JsonObject:
    """Return the JSON Schema of connection types, for completion in editors."""
    return publishing.json_schema(ConnectionType, "Weft connection type")


# -- rules between the parts of one document, which types cannot state

_Placed = tuple[DocumentPath, Parameter]


def _check_manifest(manifest: Manifest, findings: Findings) -> None:
    groups = {"basic": manifest.parameters.basic, "advanced": manifest.parameters.advanced}
    _check_parameters(
        [(("parameters", group, index), item) for group, items in groups.items() for index, item in enumerate(items)],
        findings,
    )
    path: DocumentPath = ("output", "schema")
    if wrong := schema_problems(manifest.output.json_schema, path):
        findings.add_all(wrong)
    else:
        findings.add_all(
            ValueCheck(manifest.output.json_schema).problems(manifest.output.example, ("output", "example"))
        )


def _check_connection_type(declared: ConnectionType, findings: Findings) -> None:
    placed: list[_Placed] = [(("fields", index), item) for index, item in enumerate(declared.fields)]
    _check_parameters(placed, findings)
    names = [item.name for item in declared.fields]
    for name in declared.environment:
        if name not in names:
            _unknown_parameter(("environment", name), name, names, findings, key=True)
    further = declared.further_fields
    if further is not None and further.by not in names:
        _unknown_parameter(("further_fields", "by"), further.by, names, findings)
    for path, item in placed:
        if item.name in LIMITS and item.types != ("integer",):
            message = f"{item.name!r} is a limit that every type of connection may have: a whole number."
            findings.add((*path, "type"), "limit_type", message, "Write 'type: integer', or rename the field.")
        if item.secret and item.types != ("string",):
            message = f"The secret {item.name!r} must be a text: only texts are masked wherever they turn up."
            findings.add((*path, "type"), "secret_type", message, "Write 'type: string'.")


def _check_parameters(placed: list[_Placed], findings: Findings) -> None:
    places: dict[str, DocumentPath] = {}
    for path, parameter in placed:
        if parameter.name in places:
            line = findings.source.where((*places[parameter.name], "name")).line
            message = f"The name {parameter.name!r} is taken already, in line {line}."
            findings.add((*path, "name"), "duplicate_name", message, "Rename one of them.")
        places.setdefault(parameter.name, path)
    checks: dict[DocumentPath, ValueCheck] = {}  # of those whose own rules can judge values
    sound: dict[str, ValueCheck] = {}
    for path, parameter in placed:
        before = len(findings.problems)
        _check_constraints(path, parameter, findings)
        if len(findings.problems) == before:
            checks[path] = ValueCheck(value_schema(parameter))
            sound.setdefault(parameter.name, checks[path])
    for path, parameter in placed:
        _check_widget(path, parameter, findings)
        _check_relations(path, parameter, list(places), sound, findings)
        if path in checks:
            _check_values(path, parameter, checks[path], findings)


_NUMERIC = ("integer", "number")
_APPLIES: dict[str, tuple[str, ...]] = {
    "minimum": _NUMERIC,
    "maximum": _NUMERIC,
    "min_length": ("string", "array"),
    "max_length": ("string", "array"),
    "pattern": ("string",),
    "escape": ("string", "array", "object"),
    "items": ("array",),
    "properties": ("object",),
    "required_properties": ("object",),
    "additional_properties": ("object",),
}
"""Constraint → the types that it means something for."""


def _check_constraints(path: DocumentPath, parameter: Parameter, findings: Findings) -> None:
    if len(set(parameter.types)) < len(parameter.types):
        findings.add((*path, "type"), "types", "'type' lists a type twice.", "Delete one of them.")
    for key, kinds in _APPLIES.items():
        if key in parameter.model_fields_set and not set(kinds) & set(parameter.types):
            message = f"{key!r} means nothing for the type {wording.choice(parameter.types)}."
            remedy = f"It is for {wording.choice(kinds)}; delete it."
            findings.add((*path, key), "constraint_without_type", message, remedy, key=True)
    for low, high in (("minimum", "maximum"), ("min_length", "max_length")):
        least, most = getattr(parameter, low), getattr(parameter, high)
        if least is not None and most is not None and least > most:
            message = f"{low!r} ({least}) is greater than {high!r} ({most})."
            findings.add((*path, low), "empty_range", message, "Swap them.")
    if parameter.pattern is not None and (fault := pattern_fault(parameter.pattern)):
        findings.add((*path, "pattern"), "pattern", f"'pattern' is no regular expression: {fault}.", "Correct it.")
    for member in parameter.required_properties or ():
        if parameter.properties is not None and member not in parameter.properties:
            message = f"'required_properties' names {member!r}, which 'properties' does not declare."
            findings.add((*path, "required_properties"), "unknown_property", message)
    schemas: dict[DocumentPath, JsonObject] = {
        ("properties", key): of for key, of in (parameter.properties or {}).items()
    }
    if parameter.items is not None:
        schemas[("items",)] = parameter.items
    if isinstance(parameter.additional_properties, dict):
        schemas[("additional_properties",)] = parameter.additional_properties
    for inner, schema in schemas.items():
        findings.add_all(schema_problems(schema, (*path, *inner), references=False))


_WIDGET_TYPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("text", "multiline", "password", "url", "combobox"), ("string",)),
    **dict.fromkeys(("number", "slider"), _NUMERIC),
    "switch": ("boolean",),
    "key_value": ("object",),
    **dict.fromkeys(("list", "messages", "tools", "attachments"), ("array",)),
    "addresses": ("array", "string"),
}
"""Widget → the types that it can edit; `select` and `json` can edit all."""


def _check_widget(path: DocumentPath, parameter: Parameter, findings: Findings) -> None:
    place = (*path, "widget")
    kinds = _WIDGET_TYPES.get(parameter.widget)
    if kinds and not set(kinds) & set(parameter.types):
        message = f"The widget {parameter.widget} cannot edit the type {wording.choice(parameter.types)}."
        findings.add(place, "widget", message, f"It is for {wording.choice(kinds)}.")
    elif parameter.widget == "slider" and (parameter.minimum is None or parameter.maximum is None):
        findings.add(place, "widget", "The widget slider needs both ends.", "Give 'minimum' and 'maximum'.")
    elif parameter.widget == "select" and parameter.enum is None and parameter.options is None:
        findings.add(place, "widget", "The widget select has nothing to select from.", "Give 'enum' or 'options'.")


def _check_relations(
    path: DocumentPath, parameter: Parameter, names: list[str], sound: Mapping[str, ValueCheck], findings: Findings
) -> None:
    """Check that a parameter speaks of others that exist, and of values that these can have."""
    conditions: list[tuple[DocumentPath, Condition]] = [
        (("requires", index), rule) for index, rule in enumerate(parameter.requires)
    ]
    if parameter.visible_when is not None:
        conditions.append((("visible_when",), parameter.visible_when))
    if parameter.escape_when is not None:
        conditions.append((("escape_when",), parameter.escape_when))
        if parameter.escape is None:
            findings.add((*path, "escape_when"), "escape", "'escape_when' needs 'escape'.", "Add it.", key=True)
    named: list[tuple[DocumentPath, str]] = [
        ((*inner, "parameter"), condition.parameter) for inner, condition in conditions
    ]
    named += [(("excludes", index), name) for index, name in enumerate(parameter.excludes)]
    if parameter.options is not None and parameter.options.depends_on is not None:
        named.append((("options", "depends_on"), parameter.options.depends_on))
    for inner, name in named:
        if name == parameter.name:
            findings.add((*path, *inner), "own_name", f"{name!r} names itself.", "Name another parameter.")
        elif name not in names:
            _unknown_parameter((*path, *inner), name, names, findings)
    for inner, condition in conditions:
        for index, value in enumerate(condition.values or ()):
            if condition.parameter in sound:
                check = sound[condition.parameter]
                findings.add_all(check.problems(value, (*path, *inner, "values", index)))
    options = parameter.options
    if options is not None and (options.values is None) == (options.source is None):
        findings.add((*path, "options"), "options", "'options' needs either 'values' or 'source'.", "Give one of them.")


def _unknown_parameter(
    path: DocumentPath, name: str, names: list[str], findings: Findings, *, key: bool = False
) -> None:
    remedy = wording.meant(name, names) or f"There are: {', '.join(names)}."
    findings.add(path, "unknown_parameter", f"There is no parameter {name!r}.", remedy, key=key)


def _check_values(path: DocumentPath, parameter: Parameter, check: ValueCheck, findings: Findings) -> None:
    """Check that a parameter's own values keep its rules."""
    if parameter.required and parameter.default is not None:
        message = "A required parameter is always given: its default would never be used."
        findings.add((*path, "default"), "default", message, "Delete 'required' or 'default'.", key=True)
    for key in ("default", "example"):
        value = getattr(parameter, key)
        if value is None:
            continue
        if parameter.secret:
            findings.add((*path, key), "secret", f"A secret has no {key}.", "Delete it.", key=True)
        else:
            findings.add_all(check.problems(value, (*path, key)))
    for index, value in enumerate(parameter.enum or ()):
        findings.add_all(check.problems(value, (*path, "enum", index)))
    shown = parameter.placeholder
    if shown is not None and parameter.types == ("string",) and parameter.enum is None:
        findings.add_all(check.problems(shown, (*path, "placeholder")))
    elif shown is not None and set(parameter.types) <= set(_NUMERIC) and not re.fullmatch(r"-?\d+(\.\d+)?", shown):
        findings.add((*path, "placeholder"), "placeholder", "The placeholder of a number must be a number.")

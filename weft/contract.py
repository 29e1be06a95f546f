"""What an action's module offers, and whether it keeps what the manifest promises.

A manifest is read by people, forms and checks that never see the code, so the two must say the same. They are
compared once, when the module is first imported; every difference is told at once.
"""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from weft.errors import InvalidArguments, PackError, Problem, Where
from weft.manifest import Manifest, Parameter, value_schema
from weft.sdk import ActionContext, Connection, Estimate, Known, Usage, Variant
from weft.source import Source
from weft.types import DocumentPath, Json, JsonObject

TYPES = frozenset({"string", "number", "boolean", "array", "object"})
"""The types of JSON as the comparison sees them; null means that nothing was given, a number may be an integer."""


@dataclass(frozen=True, slots=True)
class Callables:
    """What an action's module exports."""

    function: Callable[..., Any]
    check: Callable[[Mapping[str, Json], Known], Iterable[Problem]] | None
    attempts: Callable[[Mapping[str, Json], Known], Sequence[Variant]] | None
    warm: Callable[[], object] | None  #: prepares a slow import or connection ahead of the first call
    arguments_model: type[BaseModel]  #: the action's own, or one made of its keyword parameters
    plain: bool  #: whether the function takes keywords after its context
    estimate: Callable[[Mapping[str, Json], Known], Estimate] | None = None  #: the most that an attempt may use up
    usage: Callable[[Mapping[str, Json], str | None], Usage] | None = None  #: what one has used up

    def bind(self, given: Mapping[str, Json], context: ActionContext) -> Callable[[], Any]:
        """Return the call of the function with `given` arguments, ready to be made.

        Raises:
            InvalidArguments: They do not fit the model.
        """
        try:
            model = self.arguments_model.model_validate(dict(given))
        except ValidationError as error:
            raise InvalidArguments(problems=_misfits(error)) from None
        if not self.plain:
            return functools.partial(self.function, model, context)
        fields = type(model).model_fields
        keywords = {_alias(name, field): getattr(model, name) for name, field in fields.items()}
        return functools.partial(self.function, context, **keywords)


ConnectionTest: TypeAlias = Callable[[Connection, ActionContext], Awaitable[str]]
"""Tests a connection without changing anything: returns what was proved in one sentence, or raises `ActionError`, with
kind `untestable` when the truth cannot be found out without an effect."""


def connection_test(module: ModuleType) -> ConnectionTest:
    """Return the test of a type of connection that `module` exports.

    Raises:
        PackError: It exports none.
    """
    test = getattr(module, "test", None)
    if not inspect.iscoroutinefunction(test) or len(inspect.signature(test).parameters) != 2:
        raise PackError(
            "This module exports no test of a connection.",
            code="no_test",
            remedy="Define `async def test(connection: Connection, context: ActionContext) -> str`.",
            where=Where(module.__file__ or module.__name__),
        )
    found: ConnectionTest = test
    return found


def _misfits(error: ValidationError) -> Iterator[Problem]:
    """Yield a problem for each fault; the values stay out, for they may be secret."""
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).lstrip(".")
        yield Problem("bad_argument", f"{fault['msg']}.", "Correct the argument.", Where(field=field))


def callables(module: ModuleType, manifest: Manifest, source: Source) -> Callables:
    """Return what `module` exports for the action that `manifest` declares.

    Structure inside lists and objects is compared by type alone: there the manifest's JSON Schema rules. A plain
    keyword parameter may leave limits to the manifest as well; those that it states are compared.

    Raises:
        PackError: The module and the manifest disagree; carries every difference.
    """
    file = module.__file__ or module.__name__
    function = getattr(module, manifest.id, None)
    if not inspect.isroutine(function):
        raise PackError(
            f"Action {manifest.id!r} has no function of its name.",
            code="no_function",
            remedy=f"Define `async def {manifest.id}(arguments: Arguments, context: ActionContext)`.",
            where=Where(file),
        )
    problems = [
        Problem("not_callable", f"{name!r} is not a function.", "Rename it or make it one.", Where(file))
        for name in ("check", "attempts", "warm", "estimate", "usage")
        if not callable(getattr(module, name, callable))
    ]
    model: type[BaseModel] = BaseModel
    plain = False
    try:
        model, plain = _model(function)
        problems += _differences(model, plain, manifest, source)
    except (TypeError, NameError, PydanticUserError) as error:
        problems.append(_bad_signature(manifest, str(error), file))
    if problems:
        raise PackError(problems=problems)
    check, attempts, estimate = (_with_known(getattr(module, name, None)) for name in ("check", "attempts", "estimate"))
    warm, usage = (getattr(module, name, None) for name in ("warm", "usage"))
    return Callables(function, check, attempts, warm, model, plain, estimate, usage)


def _with_known(hook: Callable[..., Any] | None) -> Callable[[Mapping[str, Json], Known], Any] | None:
    """Return a hook that is called with arguments and what else is known, whether or not it takes the second."""
    if hook is None or len(inspect.signature(hook).parameters) != 1:
        return hook
    return lambda given, known: hook(given)


def _bad_signature(manifest: Manifest, reason: str, file: str) -> Problem:
    return Problem(
        "signature",
        f"The signature of {manifest.id!r} cannot be used: {reason}",
        f"Write `async def {manifest.id}(arguments: Arguments, context: ActionContext)`, with a frozen pydantic model "
        f"that forbids extra fields, or `async def {manifest.id}(context: ActionContext, text: str, times: int = 1)`.",
        Where(file),
    )


def _hints(function: Callable[..., Any]) -> list[tuple[inspect.Parameter, Any]]:
    """Return the parameters of `function`, each with its resolved annotation."""
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"parameter {parameter.name!r} cannot be given by name.")
        if parameter.name not in hints:
            raise TypeError(f"parameter {parameter.name!r} has no annotation.")
    return [(parameter, hints[parameter.name]) for parameter in parameters]


def _model(function: Callable[..., Any]) -> tuple[type[BaseModel], bool]:
    """Return the model of the arguments, and whether it was made of plain keyword parameters."""
    hints = _hints(function)
    if hints and hints[0][1] is ActionContext:
        return _made_model(hints[1:]), True
    if len(hints) != 2 or hints[1][1] is not ActionContext:
        raise TypeError("the context is missing, or stands in another place.")
    model = hints[0][1]
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError("the first parameter is not a pydantic model.")
    if not model.model_config.get("frozen") or model.model_config.get("extra") != "forbid":
        raise TypeError(f'{model.__name__} lacks `ConfigDict(frozen=True, extra="forbid")`.')
    return model, False


def _made_model(hints: Sequence[tuple[inspect.Parameter, Any]]) -> type[BaseModel]:
    """Return a model with a field for each parameter; their names are aliases, since a model has names of its own."""
    fields: dict[str, Any] = {
        f"parameter_{parameter.name}": (
            Annotated[hint, Field(alias=parameter.name)],
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for parameter, hint in hints
    }
    return create_model("Arguments", __config__=ConfigDict(extra="forbid", frozen=True), **fields)


def _alias(name: str, field: FieldInfo) -> str:
    if field.validation_alias is not None and not isinstance(field.validation_alias, str):
        raise TypeError(f"field {name!r} has several names.")
    return field.validation_alias or field.alias or name


def _differences(model: type[BaseModel], plain: bool, manifest: Manifest, source: Source) -> Iterator[Problem]:
    """Yield a problem for every way in which the manifest's parameters and the model's fields differ."""
    fields = {_alias(name, field): field for name, field in model.model_fields.items()}
    schema = model.model_json_schema(by_alias=True)
    places = dict(_places(manifest))
    for name in sorted(fields.keys() - places.keys()):
        yield Problem(
            "undeclared",
            f"Action {manifest.id!r} takes {name!r}, which its manifest does not declare.",
            "Declare it, or take it out of the code.",
            source.where(("parameters",)),
        )
    for parameter in manifest.all_parameters:
        where = source.where(places[parameter.name])
        if parameter.name not in fields:
            yield Problem(
                "not_taken",
                f"The manifest declares {parameter.name!r}, which the action does not take.",
                "Add it to the code, or take it out of the manifest.",
                where,
            )
            continue
        declared = _declared(parameter)
        taken = _taken(fields[parameter.name], schema["properties"][parameter.name], schema.get("$defs", {}))
        if taken.get("pattern") in _whole(parameter.pattern):
            declared["pattern"] = taken["pattern"]
        for word in sorted(taken.keys() | (declared.keys() & ALWAYS if plain else declared.keys())):
            if (ours := declared.get(word)) != (theirs := taken.get(word)):
                yield Problem(
                    "differs",
                    f"Parameter {parameter.name!r}: {word} is {ours or 'not given'} in the manifest "
                    f"and {theirs or 'not given'} in the code.",
                    "Make the two alike.",
                    where,
                )


def _places(manifest: Manifest) -> Iterator[tuple[str, DocumentPath]]:
    for group, parameters in manifest.parameters:
        for position, parameter in enumerate(parameters):
            yield parameter.name, ("parameters", group, position)


ALWAYS = frozenset({"type", "required", "default"})
"""What both sides state, whatever the form of the function."""

Facts = dict[str, str]
"""What can be said of a parameter, as canonical JSON by the word for it; what is not said is left out."""


def _text(value: Any) -> str:
    """Return canonical JSON: 1.0 is 1, and the order of keys does not matter."""

    def plain(item: Any) -> Any:
        if isinstance(item, float) and item.is_integer():
            return int(item)
        if isinstance(item, list):
            return [plain(each) for each in item]
        return {key: plain(each) for key, each in item.items()} if isinstance(item, dict) else item

    return json.dumps(plain(value), sort_keys=True, ensure_ascii=False)


def _declared(parameter: Parameter) -> Facts:
    facts = _facts(value_schema(parameter), {})
    facts["required"] = _text(parameter.required)
    if parameter.default is not None:
        facts["default"] = _text(parameter.default)
    return facts


def _whole(pattern: str | None) -> tuple[str, ...]:
    """Return the ways to write that the whole text matches, which a manifest's pattern says without anchors."""
    return () if pattern is None else (f"^{pattern}$", f"^({pattern})$", f"^(?:{pattern})$")


def _taken(field: FieldInfo, schema: JsonObject, definitions: Mapping[str, JsonObject]) -> Facts:
    facts = _facts(schema, definitions)
    facts["required"] = _text(field.is_required())
    if not field.is_required():
        default = to_jsonable_python(field.get_default(call_default_factory=True, validated_data={}))
        if default is not None:
            facts["default"] = _text(default)
    return facts


NUMBERS = {
    "minimum": "minimum",
    "ge": "minimum",
    "maximum": "maximum",
    "le": "maximum",
    "exclusiveMinimum": "exclusive minimum",
    "gt": "exclusive minimum",
    "exclusiveMaximum": "exclusive maximum",
    "lt": "exclusive maximum",
}
"""Keywords of JSON Schema, and what pydantic writes in their stead beside a union, by the word in messages."""


def _facts(schema: JsonObject, definitions: Mapping[str, JsonObject]) -> Facts:
    """Return types, limits, enumeration and types of items of a JSON Schema."""
    alternatives = list(_alternatives(schema, definitions))
    types = _types(alternatives)
    facts: Facts = {"type": _text(sorted(types))}
    for part in alternatives:
        facts |= _limits(part, _types([part]))
        if "items" in part:
            items = part["items"] if isinstance(part["items"], dict) else {}
            facts["type of items"] = _text(sorted(_types(_alternatives(items, definitions))))
    if values := _enumeration(alternatives):
        facts["enumeration"] = f"[{', '.join(values)}]"
    return facts


def _alternatives(schema: JsonObject, definitions: Mapping[str, JsonObject]) -> Iterator[JsonObject]:
    """Yield the branches of a schema, references followed, what stands beside a union drawn into each branch."""
    reference = schema.get("$ref")
    if isinstance(reference, str):
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        yield from _alternatives({**definitions[reference.rsplit("/", 1)[-1]], **rest}, definitions)
        return
    for union in ("anyOf", "oneOf"):
        branches = schema.get(union)
        if isinstance(branches, list):
            outer = {key: value for key, value in schema.items() if key not in (union, "default")}
            for branch in branches:
                if isinstance(branch, dict):
                    yield from _alternatives({**outer, **branch}, definitions)
            return
    if schema.get("type") != "null":
        yield schema


def _types(alternatives: Iterable[JsonObject]) -> frozenset[str]:
    found: set[str] = set()
    for part in alternatives:
        stated = part.get("type")
        if isinstance(stated, str):
            found.add(stated)
        elif isinstance(stated, list):
            found.update(str(each) for each in stated)
        elif values := _values(part):
            found.update(_type_of(value) for value in values)
        else:
            return TYPES
    return frozenset(found - {"null"} - ({"integer"} if "number" in found else set()))


def _type_of(value: Json) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _values(part: JsonObject) -> list[Json]:
    listed = part.get("enum")
    return listed if isinstance(listed, list) else [part["const"]] if "const" in part else []


def _enumeration(alternatives: Sequence[JsonObject]) -> list[str]:
    """Return the allowed values as canonical JSON; nothing when a branch allows more than a list."""
    if not all(_values(part) for part in alternatives):
        return []
    return sorted({_text(value) for part in alternatives for value in _values(part) if value is not None})


def _limits(part: JsonObject, types: frozenset[str]) -> Facts:
    facts = {word: _text(part[key]) for key, word in NUMBERS.items() if key in part and types & {"integer", "number"}}
    for edge in ("min", "max"):
        for type_, noun in (("string", "Length"), ("array", "Items")):
            # Beside a union pydantic writes minLength for lists too.
            stated = part.get(edge + noun, part.get(f"{edge}Length"))
            if type_ in types and stated is not None:
                facts[f"{edge}imum length of {type_}"] = _text(stated)
    if "string" in types and isinstance(pattern := part.get("pattern"), str):
        facts["pattern"] = pattern
    return facts

"""From a document's value to its model: what pydantic finds wrong, told in our words and with its place."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from weft import wording
from weft.errors import InvalidDocument, Problem
from weft.redaction import MASK, PATTERNS
from weft.source import Source
from weft.types import DocumentPath, Json, Name

M = TypeVar("M", bound=BaseModel)


class _Unset:
    """Stands for an argument that was not given, where None is a value."""


def build(
    model: type[M],
    source: Source,
    error: type[InvalidDocument],
    value: Json | type[_Unset] = _Unset,
    path: DocumentPath = (),
    *,
    private: bool = False,
) -> M:
    """Build a model from a document's value.

    Args:
        model: What the value should be.
        source: The document, for the places.
        error: What to raise.
        value: A part of the document; its whole value when left out.
        path: Where that part stands.
        private: Show no values in messages, because they may be secret.

    Raises:
        InvalidDocument: As `error`, with every problem that was found.
    """
    whole = source.value if isinstance(value, type) else value
    try:
        built = model.model_validate(whole, by_alias=True, by_name=False)
    except ValidationError as invalid:
        problems = _Translator(model, source, whole, path, private).problems(invalid.errors(include_url=False))
        raise error(problems=problems) from None
    if empty := list(_empty(built, whole, path)):
        raise error(problems=[_no_value(source, place) for place in empty])
    return built


class Findings:
    """Collects what the rules of a document find, each at its place."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Problem] = []

    def add(
        self,
        path: DocumentPath,
        code: str,
        message: str,
        remedy: str | None = None,
        *,
        key: bool = False,
        offset: int = 0,
    ) -> None:
        """Note a problem of the value at `path`, of its key, or of the character at `offset` of its text."""
        place = self.source.locate(path, offset) if offset else self.source.where(path, key)
        where = replace(place, field=wording.field(path) or None)
        self.problems.append(Problem(code, message, remedy, where))

    def add_all(self, problems: Iterable[Problem]) -> None:
        """Note problems whose field is a path of this document."""
        for problem in problems:
            where = self.source.where(wording.path_of(problem.where.field or ""))
            self.problems.append(problem.at(where))


def document(model: type[M], source: Source, error: type[InvalidDocument], rules: Callable[[M, Findings], None]) -> M:
    """Build a model from a whole document that must hold no credential, and apply rules to it.

    Raises:
        InvalidDocument: As `error`, with every problem, in the order of the document.
    """
    pasted = credentials(source)
    findings = Findings(source)
    try:
        built = build(model, source, error)
        rules(built, findings)
    except InvalidDocument as invalid:
        raise error(problems=in_order([*pasted, *invalid.problems])) from None
    if problems := [*pasted, *findings.problems]:
        raise error(problems=in_order(problems))
    return built


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems in the order of their document, each once, and none that repeats a credential."""
    return sorted(
        dict.fromkeys(map(_masked, problems)), key=lambda problem: (problem.where.line or 0, problem.where.column or 0)
    )


def _masked(problem: Problem) -> Problem:
    """Return a problem that repeats no credential: one may stand in a key, or in a name that a message quotes."""
    where = problem.where
    message, remedy, field, step = (
        text and PATTERNS.sub(MASK, text) for text in (problem.message, problem.remedy, where.field, where.step)
    )
    return replace(problem, message=message or "", remedy=remedy, where=replace(where, field=field, step=step))


def credentials(source: Source) -> list[Problem]:
    """Return a problem for each credential that was pasted into a document, comments included; none shows it."""
    return [
        Problem(
            "credential",
            "A credential stands here. Documents are shared and recorded; they never hold secrets.",
            "Delete it, replace it where it was issued, and name a connection instead.",
            source.place(found.start()),
        )
        for found in PATTERNS.finditer(source.text)
        if found.start() == 0 or not source.text[found.start() - 1].isalnum()
    ]


def _empty(model: Any, value: Json, path: DocumentPath) -> Iterable[DocumentPath]:
    """Yield the keys of a document that have no value although they could only be left out."""
    if isinstance(model, BaseModel) and isinstance(value, dict):
        for name, info in type(model).model_fields.items():
            key = info.alias or name
            if key in value:
                if value[key] is None and not _takes_null(info.annotation):
                    yield (*path, key)
                yield from _empty(getattr(model, name), value[key], (*path, key))
    elif isinstance(model, list) and isinstance(value, list):
        for index, (part, item) in enumerate(zip(model, value, strict=True)):
            yield from _empty(part, item, (*path, index))
    elif isinstance(model, dict) and isinstance(value, dict):
        for key, part in model.items():
            yield from _empty(part, value[key], (*path, key))


def _takes_null(annotation: Any) -> bool:
    """Return whether null is a value of its own here: where any JSON value may stand."""
    return any("JsonValue" in str(member) and get_origin(member) not in (list, dict) for member in _members(annotation))


def _no_value(source: Source, path: DocumentPath) -> Problem:
    where = replace(source.where(path, key=True), field=wording.field(path))
    return Problem("no_value", f"{_label(path)} has no value.", "Give it one, or delete the key.", where)


@dataclass(frozen=True)
class _Fault:
    """One place that is wrong, and all that pydantic says of it: several errors where several types are allowed."""

    path: DocumentPath
    errors: tuple[ErrorDetails, ...]

    @property
    def kind(self) -> str:
        return self.errors[0]["type"]


def key_meant(model: type[BaseModel], source: Source, path: DocumentPath) -> str | None:
    """Return the key of a model's document that the unknown key at `path` was most probably meant to be."""
    return _Translator(model, source, source.value, (), False).meant(path)


class _Translator:
    """Turns the errors of one validation into problems."""

    def __init__(self, model: type[BaseModel], source: Source, value: Json, path: DocumentPath, private: bool) -> None:
        self.model = model
        self.source = source
        self.value = value
        self.path = path
        self.private = private

    def problems(self, errors: Sequence[ErrorDetails]) -> list[Problem]:
        faults = _faults([(error, error["loc"]) for error in errors], self.value, ())
        meant = {(*fault.path[:-1], self.meant(fault.path)) for fault in faults if fault.kind == "extra_forbidden"}
        told = (fault for fault in faults if not (fault.kind == "missing" and fault.path in meant))  # it is misspelt
        return in_order(self.problem(fault) for fault in told)

    def problem(self, fault: _Fault) -> Problem:
        error, path = fault.errors[0], fault.path
        match error["type"]:
            case "missing":
                return self.missing_key(path)
            case "extra_forbidden":
                return self.unknown_key(path)
        if error["loc"] and error["loc"][-1] == "[key]":
            message = f"The key {wording.shown(path[-1])} is not a name: {_rule(error)}."
            return self.told(path, "invalid_key", message, "Rename it.", key=True)
        if error["input"] is None and path:
            return _no_value(self.source, (*self.path, *path))
        allowed, values = self.allowed(fault)
        got = "" if self.private or allowed.endswith("empty") else f", not {wording.shown(error['input'])}"
        code = "invalid_choice" if values else "wrong_type" if error["type"] in _TYPES else "invalid_value"
        remedy = wording.meant(error["input"], [value for value in values if isinstance(value, str)])
        return self.told(path, code, f"{_label(path)} {allowed}{got}.", remedy or self.remedy(fault))

    def remedy(self, fault: _Fault) -> str | None:
        """Return what to write instead of a value of a wrong type or form, where it is plain what was meant."""
        error, value = fault.errors[0], fault.errors[0]["input"]
        if self.private:
            return None
        if error["type"] == "string_pattern_mismatch" and error["ctx"]["pattern"] in _PATTERNS:
            name = wording.as_name(value)
            return f"Write {name!r}." if name else None
        types = [_JSON_TYPES[error["type"]] for error in fault.errors if error["type"] in _JSON_TYPES]
        if self.is_name(fault.path) or len(types) < len(fault.errors):  # a closed list of values besides
            types = []
        known = [key for model in self.models(fault.path) for key in _keys(model)]
        if types == ["object"] and known and not isinstance(value, list | dict):
            return f"Its keys are {wording.choice(known)}."
        return error.get("ctx", {}).get("remedy") or wording.retyped(value, types)

    def missing_key(self, path: DocumentPath) -> Problem:
        fields = (_keys(model).get(str(path[-1])) for model in self.models(path[:-1]))
        what = next((field.description for field in fields if field and field.description), "")
        remedy = f"Add it: {what[0].lower()}{what[1:]}" if what else "Add it."
        return self.told(path, "missing_key", f"{_holder(path)} needs the key {path[-1]!r}.", remedy)

    def unknown_key(self, path: DocumentPath) -> Problem:
        models = self.models(path[:-1])
        known = [key for model in models for key in _keys(model)]
        found = self.meant(path)
        hints = [model.KEYS_HINT for model in models if hasattr(model, "KEYS_HINT")]
        remedy = f"Did you mean {found!r}?" if found else " ".join([f"Known keys: {', '.join(known)}.", *hints])
        message = f"{_holder(path)} has no key {wording.shown(path[-1])}."
        return self.told(path, "unknown_key", message, remedy, key=True)

    def meant(self, path: DocumentPath) -> str | None:
        """Return the known key that an unknown one was most probably meant to be."""
        known = [key for model in self.models(path[:-1]) for key in _keys(model)]
        names = {name: key for model in self.models(path[:-1]) for key, name in _names(model).items()}
        return names.get(str(path[-1])) or wording.nearest(path[-1], known)

    def is_name(self, path: DocumentPath) -> bool:
        """Return whether the value at `path` must be a name, which no number in quotes is."""
        fields = [_keys(model).get(str(path[-1])) for model in self.models(path[:-1])] if path else []
        rules = [rule for field in fields if field for rule in field.metadata]
        return any(getattr(rule, "pattern", None) in _PATTERNS for rule in rules)

    def models(self, path: DocumentPath) -> list[type[BaseModel]]:
        return [member for member in self.types(path) if _is_model(member)]

    def allowed(self, fault: _Fault) -> tuple[str, Sequence[Any]]:
        """Return what may stand at a fault's place, in words, and the closed list of values if there is one."""
        kinds = [error["type"] for error in fault.errors]
        if kinds == ["string_type"] and self.is_name(fault.path):
            return f"must be a name ({_NAME_RULE})", []
        values: list[Any] = []
        names: list[str] = []
        for error in fault.errors:
            if error["type"] == "literal_error":
                values = [value for member in self.types(fault.path) for value in _literals(member)]
            elif error["type"] in _TYPES and not (error["type"] == "int_type" and "float_type" in kinds):
                names.append(_TYPES[error["type"]])
            elif error["type"] not in _TYPES:
                return _rule(error), []
        return f"must be {wording.choice([*values, *', '.join(names).split(', ')] if names else values)}", values

    def types(self, path: DocumentPath) -> list[Any]:
        """Return the types that the models allow at `path`, unions taken apart."""
        found = list(_members(self.model))
        for part in path:
            found = [member for outer in found for inner in _inner(outer, part) for member in _members(inner)]
        return found

    def told(self, path: DocumentPath, code: str, message: str, remedy: str | None, *, key: bool = False) -> Problem:
        whole = (*self.path, *path)
        return Problem(
            code, message, remedy, replace(self.source.where(whole, key), field=wording.field(whole) or None)
        )


_TYPES = {
    "string_type": "text",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true, false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_JSON_TYPES = {
    "string_type": "string",
    "int_type": "integer",
    "float_type": "number",
    "bool_type": "boolean",
    "list_type": "array",
    "dict_type": "object",
    "model_type": "object",
}


def _faults(errors: Sequence[tuple[ErrorDetails, Sequence[str | int]]], value: Any, path: DocumentPath) -> list[_Fault]:
    """Group errors by the place they speak of; of a union, keep what concerns the member that was most likely meant.

    pydantic puts the name of a union's member among the keys of an error's location; here it is told from a key by
    looking whether the value has such a key.
    """
    faults: list[_Fault] = []
    inner: dict[str | int, list[tuple[ErrorDetails, Sequence[str | int]]]] = {}
    unions: dict[str | int, list[tuple[ErrorDetails, Sequence[str | int]]]] = {}
    for error, rest in errors:
        if not rest or rest[0] == "[key]":
            faults.append(_Fault(path, (error,)))
        elif (isinstance(value, dict) and rest[0] in value) or (isinstance(value, list) and isinstance(rest[0], int)):
            inner.setdefault(rest[0], []).append((error, rest[1:]))
        elif error["type"] == "missing" and len(rest) == 1:
            faults.append(_Fault((*path, rest[0]), (error,)))
        else:
            unions.setdefault(rest[0], []).append((error, rest[1:]))
    for part, deeper in inner.items():
        faults.extend(_faults(deeper, value[part], (*path, part)))
    if unions:
        faults.extend(_union_faults(list(unions.values()), value, path))
    return faults


def _union_faults(
    members: list[list[tuple[ErrorDetails, Sequence[str | int]]]], value: Any, path: DocumentPath
) -> list[_Fault]:
    """Return the faults of the union's member that `value` fits best; one fault for all if it fits none."""
    fitting = [errors for errors in members if not all(_mismatch(error, rest, value) for error, rest in errors)]
    if fitting and fitting[0][0][0]["type"] != "literal_error":
        return _faults(min(fitting, key=len), value, path)
    if fitting and fitting[0][0][1]:
        return _faults(fitting[0], value, path)
    return [_Fault(path, tuple(error for errors in members for error, rest in errors if not rest))]


def _mismatch(error: ErrorDetails, rest: Sequence[str | int], value: Any) -> bool:
    """Return whether an error says no more than that the value is of another type."""
    literal = error["type"] == "literal_error" and isinstance(value, dict | list)
    return not rest and (error["type"] in _TYPES or literal)


_NAME_RULE = "lower case letters, digits, '_' and single '-', beginning with a letter"
_PATTERNS = {get_args(Name)[1].pattern: f"must be a name ({_NAME_RULE})"}


def _rule(error: ErrorDetails) -> str:
    """Return the rule that a value of the right type breaks, as a predicate."""
    limits = {
        name: int(limit) if isinstance(limit, float) and limit.is_integer() else limit
        for name, limit in error.get("ctx", {}).items()
    }
    match error["type"]:
        case "string_pattern_mismatch":
            return _PATTERNS.get(limits["pattern"], f"must match the pattern {limits['pattern']}")
        case "string_too_short" | "too_short":
            least = limits["min_length"]
            return "must not be empty" if least == 1 else f"must have at least {least} {_unit(error)}"
        case "string_too_long" | "too_long":
            return f"must have at most {limits['max_length']:,} {_unit(error)}"
        case "greater_than_equal":
            return f"must be at least {limits['ge']}"
        case "greater_than":
            return f"must be more than {limits['gt']}"
        case "less_than_equal":
            return f"must be at most {limits['le']}"
        case "less_than":
            return f"must be less than {limits['lt']}"
    return error["msg"]  # a validator of our own speaks for itself


def _unit(error: ErrorDetails) -> str:
    return "characters" if error["type"].startswith("string") else "items"


def _label(path: DocumentPath) -> str:
    return wording.label(path) if path else "The document"


def _holder(path: DocumentPath) -> str:
    return _label(path[:-1])


def _keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a model by the keys that documents have for them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _names(model: type[BaseModel]) -> dict[str, str]:
    """Return the names of a model's fields in the code by their keys."""
    return {field.alias or name: name for name, field in model.model_fields.items()}


def _is_model(member: Any) -> bool:
    return isinstance(member, type) and issubclass(member, BaseModel)


def _literals(member: Any) -> tuple[Any, ...]:
    return get_args(member) if get_origin(member) is Literal else ()


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the types of a union, of a union in a union too; a type that is no union is its own only member."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _inner(member: Any, part: str | int) -> Iterator[Any]:
    """Yield the types of what `member` holds under a key or position."""
    if _is_model(member):
        yield from (info.annotation for name, info in member.model_fields.items() if part == (info.alias or name))
    elif get_origin(member) in (list, dict):
        yield get_args(member)[-1]

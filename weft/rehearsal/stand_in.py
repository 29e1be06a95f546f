"""Outputs that are made up: from a manifest's example, or from a JSON Schema. The same schema gives the same value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from weft.types import Json, JsonObject
from weft.values import ValueCheck

DEEPEST: Final = 12
"""Of a made value; what lies deeper is left out where it may be."""

LONGEST: Final = 200
"""Characters of a made text, items of a made list."""

FORMATS: Final[dict[str, str]] = {
    "date-time": "2026-01-01T08:00:00Z",
    "date": "2026-01-01",
    "time": "08:00:00Z",
    "duration": "PT1H",
    "email": "ada@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uri-reference": "/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
TEXTS: Final = ("text", "a", "A", "1", "0", "a@example.com", "https://example.com/", "2026-01-01", "00000000", "a1", "")
"""Tried where a pattern is asked for; there is no way to write a text for every pattern."""


def made(schema: Json) -> Json:
    """Return a value for `schema`: small, plain, and valid wherever one can be found; otherwise null.

    Whoever needs a valid value checks it: a schema may be one that nothing satisfies.
    """
    value = _Maker(schema).value(schema, 0)
    return None if value is _NOTHING else value


def is_valid(value: Json, schema: Json) -> bool:
    """Tell whether a value satisfies a schema."""
    return schema is not False if isinstance(schema, bool) else not ValueCheck(_object(schema)).problems(value)


def merged(base: Json, changes: Json) -> Json:
    """Return `base` with parts of it replaced: mappings by key, lists by position, anything else as a whole."""
    if isinstance(base, dict) and isinstance(changes, dict):
        return {**base, **{key: merged(base.get(key), value) for key, value in changes.items()}}
    if isinstance(base, list) and isinstance(changes, list) and base:
        return [merged(base[min(i, len(base) - 1)], value) for i, value in enumerate(changes)]
    return changes


_NOTHING: Final[Any] = object()


class _Maker:
    """Makes values for the parts of one schema, which may refer to each other."""

    def __init__(self, root: Json) -> None:
        self._root = root

    def value(self, schema: Json, depth: int) -> Any:
        """Return a value for a part of the schema, or `_NOTHING`."""
        candidates = list(self._candidates(schema, depth))
        whole = _with_definitions(schema, self._root)
        return next((each for each in candidates if is_valid(each, whole)), candidates[0] if candidates else _NOTHING)

    def _candidates(self, schema: Json, depth: int) -> Iterator[Any]:
        """Yield values that may do, the best first."""
        if not isinstance(schema, dict):
            if schema is not False:
                yield "text"
            return
        yield from _stated(schema)
        if depth > DEEPEST:
            return
        yield from self._referred(schema, depth)
        for type_ in _types(schema):
            yield from self._typed(type_, schema, depth)

    def _referred(self, schema: JsonObject, depth: int) -> Iterator[Any]:
        """Yield values for what a schema takes from elsewhere: references, unions, parts of a whole."""
        rest = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf", "oneOf", "allOf")}
        if isinstance(reference := schema.get("$ref"), str):
            yield from self._candidates(_together(self._resolved(reference), rest), depth + 1)
        for union in ("anyOf", "oneOf"):
            for branch in _list(schema.get(union)):
                yield from self._candidates(_together(branch, rest), depth + 1)
        if parts := _list(schema.get("allOf")):
            whole: Json = rest
            for part in parts:
                target = part.get("$ref") if isinstance(part, dict) else None
                whole = _together(self._resolved(target) if isinstance(target, str) else part, whole)
            yield from self._candidates(whole, depth + 1)

    def _typed(self, type_: str, schema: JsonObject, depth: int) -> Iterator[Any]:
        match type_:
            case "object":
                yield self._mapping(schema, depth)
            case "array":
                yield self._items(schema, depth)
            case "string":
                yield from self._texts(schema, depth)
            case "integer" | "number":
                yield _number(schema, whole=type_ == "integer")
            case "boolean":
                yield False
                yield True
            case _:
                yield None

    def _mapping(self, schema: JsonObject, depth: int) -> JsonObject:
        properties = _object(schema.get("properties"))
        required = [str(name) for name in _list(schema.get("required"))]
        names = (
            required if depth >= DEEPEST // 2 else [*properties, *(each for each in required if each not in properties)]
        )
        found = {}
        for name in names[:LONGEST]:
            value = self.value(properties.get(name, schema.get("additionalProperties", True)), depth + 1)
            if value is not _NOTHING:
                found[name] = value
        least = _count(schema.get("minProperties"))
        for i in range(len(found), least):
            found[f"name_{i + 1}"] = self.value(schema.get("additionalProperties", True), depth + 1)
        return found

    def _items(self, schema: JsonObject, depth: int) -> list[Json]:
        first = _list(schema.get("prefixItems"))
        rest = schema.get("items", True)
        most = schema.get("maxItems")
        count = max(_count(schema.get("minItems")), len(first), 1)
        count = min(count, most) if isinstance(most, int) else count
        made_items = [self.value(first[i] if i < len(first) else rest, depth + 1) for i in range(count)]
        if schema.get("uniqueItems") and count > 1:
            made_items = [_varied(item, i) for i, item in enumerate(made_items)]
        return [] if any(item is _NOTHING for item in made_items) else made_items

    def _texts(self, schema: JsonObject, depth: int) -> Iterator[str]:
        if schema.get("contentMediaType") == "application/json" and "contentSchema" in schema:
            yield json.dumps(_Maker(schema["contentSchema"]).value(schema["contentSchema"], depth + 1))
        if isinstance(format_ := schema.get("format"), str) and format_ in FORMATS:
            yield FORMATS[format_]
        least, most = _count(schema.get("minLength")), schema.get("maxLength")
        for text in TEXTS:
            long = text.ljust(least, text[-1:] or "-")
            yield long[:most] if isinstance(most, int) else long

    def _resolved(self, reference: str) -> Json:
        found: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict | bool) else True


def _stated(schema: JsonObject) -> Iterator[Json]:
    """Yield the values that a schema itself names."""
    if "const" in schema:
        yield schema["const"]
    yield from _list(schema.get("enum"))
    yield from _list(schema.get("examples"))
    if schema.get("default") is not None:
        yield schema["default"]


def _types(schema: JsonObject) -> Sequence[str]:
    """Return the types to try: those that are stated, else those that the keywords speak of, else text."""
    stated = schema.get("type")
    if stated is not None:
        types = [str(each) for each in (stated if isinstance(stated, list) else [stated])]
        return sorted(types, key=lambda each: each == "null")
    for type_, keywords in (
        ("object", ("properties", "required", "additionalProperties", "minProperties")),
        ("array", ("items", "prefixItems", "minItems", "uniqueItems")),
        ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
    ):
        if any(key in schema for key in keywords):
            return [type_]
    return ["string", "null"]


def _number(schema: JsonObject, *, whole: bool) -> int | float:
    """Return the least number that is allowed, or the greatest, or 1."""
    step = schema.get("multipleOf")
    least, most = _limit(schema, "inimum", 1), _limit(schema, "aximum", -1)
    value: float = 1 if isinstance(step, bool) or not isinstance(step, int | float) else step
    if least is not None and value < least:
        value = least if not isinstance(step, int | float) else step * -(-least // step)
    if most is not None and value > most:
        value = most if not isinstance(step, int | float) else step * (most // step)
    if whole or float(value).is_integer():
        return int(value)
    return value


def _limit(schema: JsonObject, edge: str, inwards: int) -> float | None:
    stated, exclusive = schema.get(f"m{edge}"), schema.get(f"exclusiveM{edge}")
    found = [float(stated)] if isinstance(stated, int | float) else []
    if isinstance(exclusive, int | float) and not isinstance(exclusive, bool):
        found.append(exclusive + inwards)
    return max(found, key=lambda each: each * inwards, default=None)


def _varied(item: Json, number: int) -> Json:
    if number == 0:
        return item
    if isinstance(item, str):
        return f"{item}{number + 1}"
    return item + number if isinstance(item, int | float) and not isinstance(item, bool) else item


def _together(schema: Json, others: Json) -> Json:
    """Return what satisfies two schemas, as far as their keywords can be put side by side."""
    if not isinstance(schema, dict) or not isinstance(others, dict):
        return others if schema is True else schema
    both: JsonObject = {**others, **schema}
    for key in ("properties", "$defs"):
        if isinstance(one := others.get(key), dict) and isinstance(other := schema.get(key), dict):
            both[key] = {**one, **other}
    if isinstance(one := others.get("required"), list) and isinstance(other := schema.get("required"), list):
        both["required"] = list(dict.fromkeys(map(str, [*one, *other])))
    return both


def _with_definitions(schema: Json, root: Json) -> Json:
    """Return a part of a schema with what it may refer to in the whole."""
    if not isinstance(schema, dict) or not isinstance(root, dict) or schema is root:
        return schema
    return {**{key: root[key] for key in ("$defs", "definitions") if key in root}, **schema}


def _object(value: Json) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _count(value: Json) -> int:
    return min(value, LONGEST) if isinstance(value, int) and not isinstance(value, bool) else 0

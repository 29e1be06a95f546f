"""What is known of a value while an expression is being written: the value itself, or the schema that it will fit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from weft.expressions.values import MISSING
from weft.types import Json

LONGEST_SHOWN: Final = 80
"""Characters of a value that are shown beside its name."""

_TYPES: Final[Mapping[type, str]] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
_DEEPEST: Final = 20
"""References of a schema that are followed for one member."""


@dataclass(frozen=True, slots=True)
class Known:
    """A name or a member of one, with what is known of it."""

    value: Any = MISSING  #: JSON; MISSING while there is none
    schema: Json = True  #: JSON Schema of the value, as far as it is declared
    root: Json = True  #: the schema that references in `schema` are of
    note: str = ""  #: where the value comes from, or why there is none: `not run yet`
    description: str = ""
    named: Mapping[str, Known] = field(default_factory=dict)  #: members that stand before all others

    @property
    def types(self) -> tuple[str, ...]:
        """The names of its types in JSON Schema, none when nobody knows."""
        if self.value is not MISSING:
            return (_TYPES.get(type(self.value), "object"),)
        if self.named:
            return ("object",)
        return tuple(dict.fromkeys(_types(self.schema, self.root)))

    @property
    def shown(self) -> str | None:
        """The value in a few characters, None when there is none."""
        if self.value is MISSING:
            return None
        text = json.dumps(_cut(self.value), ensure_ascii=False)
        return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"

    def members(self) -> Iterator[tuple[str, Known]]:
        """Yield the keys of an object, each with what is known of it; those that have a value before declared ones."""
        yield from self.named.items()
        told = set(self.named)
        declared = dict(_properties(self.schema, self.root))
        if isinstance(self.value, dict):
            for key, value in self.value.items():
                if key not in told:
                    told.add(key)
                    yield key, self._inner(value, declared.get(key, True))
            if self.value:  # what the schema has besides was left out of this value
                return
        for key, schema in declared.items():
            if key not in told:
                yield key, self._inner(MISSING, schema)

    def member(self, key: str | int) -> Known | None:
        """Return what is known of a member or item, None when nothing is."""
        if key in self.named:
            return self.named[str(key)]
        if isinstance(key, int):
            items = next((each for each in _alternatives(self.schema, self.root) if "items" in each), {})
            value = (
                self.value[key] if isinstance(self.value, list) and -len(self.value) <= key < len(self.value) else None
            )
            found = isinstance(self.value, list) and value is not None
            if not found and not items:
                return None
            return self._inner(value if found else MISSING, items.get("items", True))
        return next((known for name, known in self.members() if name == key), None)

    def _inner(self, value: Any, schema: Json) -> Known:
        description = schema.get("description") if isinstance(schema, dict) else None
        return Known(value, schema, self.root, self.note, description if isinstance(description, str) else "")


def follow(names: Mapping[str, Known], path: Sequence[str | int]) -> Known | None:
    """Return what is known behind a path of keys, None when nothing is."""
    found = names.get(str(path[0])) if path else None
    for key in path[1:]:
        if found is None:
            return None
        found = found.member(key)
    return found


def _cut(value: Any) -> Any:
    """Return a value no larger than what is shown of it."""
    match value:
        case str():
            return value[: LONGEST_SHOWN + 1]
        case list():
            return [_cut(item) for item in value[:LONGEST_SHOWN]]
        case dict():
            return {key: _cut(item) for _, (key, item) in zip(range(LONGEST_SHOWN), value.items(), strict=False)}
        case _:
            return value


# ---- schemas
def _resolved(schema: Json, root: Json) -> dict[str, Json]:
    for _ in range(_DEEPEST):
        if not isinstance(schema, dict):
            return {}
        target = schema.get("$ref")
        if not isinstance(target, str) or not target.startswith("#"):
            return schema
        found: Json = root
        for part in target.removeprefix("#").strip("/").split("/"):
            found = found.get(part) if isinstance(found, dict) and part else found
        schema = found
    return {}


def _alternatives(schema: Json, root: Json, depth: int = 0) -> Iterator[dict[str, Json]]:
    """Yield a schema and those that it is put together of."""
    resolved = _resolved(schema, root)
    yield resolved
    if depth >= _DEEPEST:
        return
    for key in ("allOf", "anyOf", "oneOf"):
        parts = resolved.get(key)
        for part in parts if isinstance(parts, list) else ():
            yield from _alternatives(part, root, depth + 1)


def _properties(schema: Json, root: Json) -> Iterator[tuple[str, Json]]:
    told: set[str] = set()
    for each in _alternatives(schema, root):
        properties = each.get("properties")
        for key, of in properties.items() if isinstance(properties, dict) else ():
            if key not in told:
                told.add(key)
                yield key, _resolved(of, root) or of


def _types(schema: Json, root: Json) -> Iterator[str]:
    for each in _alternatives(schema, root):
        declared = each.get("type")
        if isinstance(declared, str):
            yield declared
        elif isinstance(declared, list):
            yield from (name for name in declared if isinstance(name, str))
        elif "const" in each:
            yield _TYPES.get(type(each["const"]), "object")
        elif isinstance(enum := each.get("enum"), list):
            yield from (_TYPES.get(type(value), "object") for value in enum)

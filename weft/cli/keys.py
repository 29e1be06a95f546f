"""What may stand in a kind of document, as Markdown: one table for each mapping, made from the JSON Schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

TYPES = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
    "object": "mapping",
    "null": "null",
}


def markdown(schema: dict[str, Any]) -> str:
    """Return tables of all keys: of the document, then of each mapping that stands in it."""
    parts = {str(schema["title"]): {key: value for key, value in schema.items() if key != "$defs"}}
    for part in (waiting := list(parts.values())):  # grows while it is walked
        for name in re.findall(r"#/\$defs/(\w+)", json.dumps(part)):
            if name not in parts and "properties" in schema["$defs"][name]:
                parts[name] = schema["$defs"][name]
                waiting.append(parts[name])
    return "\n".join(line for name, part in parts.items() for line in _table(name, part)).rstrip()


def _table(name: str, part: dict[str, Any]) -> Iterator[str]:
    yield from (f"## {name}", "", *filter(None, [part.get("description", "")]), "")
    yield from ("| key | value | meaning |", "|---|---|---|")
    required = part.get("required", [])
    for key, value in part["properties"].items():
        shown = f"`{key}`" + (", required" if key in required else "")
        meaning = " ".join(str(value.get("description", "")).split())
        if value.get("default") not in (None, "", [], {}):
            meaning += f" Default: `{json.dumps(value['default'], ensure_ascii=False)}`."
        yield f"| {shown} | {_what(value)} | {meaning} |"
    yield ""


def _what(schema: dict[str, Any]) -> str:
    """Return in words what a value may be."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return "any value" if name == "JsonValue" else f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_what, schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    match schema.get("type"):
        case "array":
            return "list" if _what(schema.get("items", {})) == "any value" else f"list of {_what(schema['items'])}"
        case "object":
            inner = next(iter(schema.get("patternProperties", {}).values()), schema.get("additionalProperties"))
            told = _what(inner) if isinstance(inner, dict) else "any value"
            return "mapping" if told == "any value" else f"mapping of names to {told}"
        case "string":
            return _text(schema)
        case kind:
            return TYPES.get(str(kind), "any value") + _bounds(schema)


def _text(schema: dict[str, Any]) -> str:
    if "examples" in schema:
        return f"duration: {', '.join(f'`{example}`' for example in schema['examples'])}"
    if schema.get("format") == "date-time":
        return "instant: `2026-03-01T08:00:00+01:00`"
    if schema.get("pattern", "").startswith("^[a-z]"):
        return "name"
    return "template" if "pattern" in schema and "{" in schema["pattern"][:3] else "text"


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    return f", at least {low:g}" if low is not None else ""

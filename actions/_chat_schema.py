"""Whether an answer is what its JSON Schema demanded; no provider is trusted with that, some only try."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import jsonschema
import referencing.exceptions

from weft.sdk import Json, JsonObject

_UNUSABLE: Final = (
    jsonschema.exceptions.UnknownType,
    jsonschema.SchemaError,
    re.error,
    referencing.exceptions.Unresolvable,
    RecursionError,
)


def mismatch(output: JsonObject, wanted: Json) -> str | None:
    """Return how a completion breaks a strict schema, None when it does not or none was demanded.

    An answer that calls tools, was cut short or refused is judged by how it ended, not here. The text says where and
    by which rule, never what the model wrote.

    Args:
        output: The completion.
        wanted: The response format that was sent.
    """
    schema = _strict(wanted)
    choices = output.get("choices")
    if schema is None or not isinstance(choices, list):
        return None
    found = (_broken(choice, schema) for choice in choices if isinstance(choice, dict))
    return next((fault for fault in found if fault), None)


def _strict(wanted: Json) -> JsonObject | None:
    declared = wanted.get("json_schema") if isinstance(wanted, dict) else None
    if not isinstance(declared, dict) or declared.get("strict") is not True:
        return None
    return schema if isinstance(schema := declared.get("schema"), dict) else None


def _broken(choice: Mapping[str, Any], schema: JsonObject) -> str | None:
    text = (choice.get("message") or {}).get("content")
    if choice.get("finish_reason") != "stop" or not isinstance(text, str) or not text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "it is not JSON"
    try:
        fault = next(jsonschema.Draft202012Validator(schema).iter_errors(value), None)
    except _UNUSABLE:
        return None  # a schema that cannot be used says nothing about the answer
    return None if fault is None else f"{fault.json_path[:200]} breaks the rule {fault.validator!r}"

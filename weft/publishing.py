"""The JSON Schemas that editors complete documents with, made from the models."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from weft.types import JsonObject

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(model: type[BaseModel], title: str) -> JsonObject:
    """Return the JSON Schema of the documents that `model` reads.

    A key that may be left out may not be null: the loaders refuse a key without value too.
    """
    schema = _tidied(model.model_json_schema(by_alias=True))
    return {"$schema": DIALECT, **schema, "title": title}


def _tidied(schema: Any) -> Any:
    """Return a schema without what pydantic adds and editors do not need: null and null defaults."""
    if isinstance(schema, list):
        return [_tidied(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidied = {key: _tidied(value) for key, value in schema.items()}
    if isinstance(tidied.get("anyOf"), list) and {"type": "null"} in tidied["anyOf"]:
        members = [member for member in tidied["anyOf"] if member != {"type": "null"}]
        if members != [{}]:
            del tidied["anyOf"]
            tidied = {**members[0], **tidied} if len(members) == 1 else {**tidied, "anyOf": members}
        else:
            del tidied["anyOf"]
    if "patternProperties" in tidied:  # keys of any other form are refused by the loaders
        tidied["additionalProperties"] = False
    if tidied.get("default", ...) is None:
        del tidied["default"]
    return tidied

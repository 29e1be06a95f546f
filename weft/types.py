"""Values and instants that every layer speaks of; no behaviour beyond checking what they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import JsonValue, StringConstraints

Json: TypeAlias = JsonValue
"""null, boolean, integer, finite number, text, list of such, mapping of text to such."""

JsonObject: TypeAlias = dict[str, JsonValue]

Scope: TypeAlias = Mapping[str, Any]
"""The names an expression may see: `inputs`, `steps`, `run`, `trigger`, `variables`, `item`, `index`."""

Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*(?:-[a-z0-9_]+)*$", max_length=64)]
"""An identifier in a document: lower case letters, digits, `_` and single `-`, starting with a letter."""

DocumentPath: TypeAlias = tuple[str | int, ...]
"""Keys and list positions that lead from a document's root to a value: `("steps", 0, "with", "to")`."""

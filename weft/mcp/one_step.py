"""The call of a single action as a workflow of one step, so that it is a run like any other."""

from __future__ import annotations

import json
import re
from typing import Final

from weft import source
from weft.errors import InvalidInputs, InvalidSource
from weft.manifest import Manifest
from weft.source import Source
from weft.types import Json, JsonObject

STEP: Final = "call"

_MARK = re.compile(r"\{[{%#]")
_NOT_PRINTABLE = re.compile(r"[\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff\u2028\u2029]")


def document_of(manifest: Manifest, arguments: JsonObject, connection: str | None) -> Source:
    """Return the document of a call: what is given stands in it as it is, and is never read as a template.

    Args:
        manifest: Of the action.
        arguments: What it is given.
        connection: The account that it uses.

    Raises:
        InvalidInputs: They cannot stand in a document: too large, or nested too deeply.
    """
    step: JsonObject = {"id": STEP, "uses": manifest.id}
    if connection is not None:
        step["connection"] = connection
    step["with"] = {name: _quoted(value) for name, value in arguments.items()}
    document: JsonObject = {
        "name": manifest.id,
        "title": manifest.title,
        "steps": [step],
        "outputs": {"output": f"{{{{ steps.{STEP}.output }}}}"},
    }
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        return source.read(_NOT_PRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text), f"{manifest.id}.yaml")
    except InvalidSource as error:
        raise InvalidInputs(problems=error.problems) from None


def _quoted(value: Json) -> Json:
    """Return a value as it is written where texts are templates."""
    match value:
        case str():
            return _MARK.sub(lambda found: f'{{{{ "{found[0]}" }}}}', value)
        case dict():
            return {key: _quoted(item) for key, item in value.items()}
        case list():
            return [_quoted(item) for item in value]
        case _:
            return value

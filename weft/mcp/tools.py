"""What a workflow or an action looks like to an agent: a name, what it is for, schemas and hints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from weft import arguments
from weft.manifest import Manifest, Parameter
from weft.plan import Plan
from weft.plan.model import Located, PlannedStep, Value
from weft.types import Json, JsonObject

CONNECTION: Final = "connection"
"""The argument of an action's tool that says which account it uses."""

_PATH = re.compile(r"\{\{\s*steps\.([a-z][a-z0-9_]*)\.output((?:\.[A-Za-z_][A-Za-z0-9_]*)*)\s*\}\}")

Kind: TypeAlias = Literal["workflow", "action", "own"]


@dataclass(frozen=True, slots=True)
class Hints:
    """What a call may do, so that a client knows when to ask its user."""

    read_only: bool  #: changes nothing outside
    destructive: bool  #: something that cannot be taken back
    idempotent: bool  #: a second call with the same arguments does no more than the first
    open_world: bool  #: speaks with other systems


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool, as it is listed."""

    name: str
    kind: Kind
    title: str
    description: str
    input_schema: JsonObject
    output_schema: JsonObject
    hints: Hints


def of_workflow(planned: Plan) -> Tool:
    """Return the tool that runs a workflow."""
    workflow = planned.workflow
    title = workflow.title or workflow.name
    return Tool(
        workflow.name,
        "workflow",
        title,
        workflow.description or title,
        _object_schema(arguments.of_inputs(workflow.inputs)),
        answer_schema(_outputs_schema(planned)),
        _hints(step.action.manifest for step in _with_children(planned) if step.action is not None),
    )


def of_action(manifest: Manifest, connections: Sequence[str]) -> Tool:
    """Return the tool that runs an action alone.

    Args:
        manifest: Of the action.
        connections: The names that it may be used with; empty where it needs none.
    """
    schema = _object_schema([each for each in manifest.all_parameters if not each.secret])
    if manifest.connection is not None:
        choice: JsonObject = {
            "title": "Connection",
            "description": f"The account that is used, of type {manifest.connection}.",
            "type": "string",
            "enum": list(connections),
        }
        schema["properties"] = {CONNECTION: choice, **_mapping(schema["properties"])}
        schema["required"] = [CONNECTION, *_list(schema["required"])]
    return Tool(
        manifest.id,
        "action",
        manifest.title,
        "\n\n".join(filter(None, (manifest.purpose, manifest.description))),
        schema,
        answer_schema(manifest.output.json_schema),
        _hints([manifest]),
    )


def answer_schema(outputs: JsonObject | None = None) -> JsonObject:
    """Return the schema of what a call answers: the run, how it stands, and its outputs once it has succeeded."""
    inner = dict(outputs or {})
    definitions = inner.pop("$defs", None)
    text: JsonObject = {"type": "string"}
    schema: JsonObject = {
        "type": "object",
        "properties": {
            "run_id": {**text, "description": "The run, for get_run and cancel_run."},
            "state": {
                **text,
                "enum": ["ready", "running", "waiting", "parked", "succeeded", "failed", "cancelled"],
                "description": "How it stands; the last three are ends.",
            },
            "outputs": inner,
            "note": {**text, "description": "What is left out, or what to do next."},
            "problem": {
                "type": "object",
                "properties": {"code": text, "message": text, "remedy": {"type": ["string", "null"]}},
                "required": ["code", "message"],
            },
        },
        "required": ["run_id", "state"],
    }
    return schema if definitions is None else {**schema, "$defs": definitions}


def _object_schema(parameters: Sequence[Parameter]) -> JsonObject:
    """Return the schema of the arguments.

    The rules between parameters are left to the call, which tells them in words: models are given schemas of which many
    providers take no `allOf` at the top.
    """
    whole = arguments.schema(parameters)
    return {key: whole[key] for key in ("type", "properties", "required", "additionalProperties")}


def _hints(manifests: Iterable[Manifest]) -> Hints:
    found = list(manifests)
    sends = any(each.effects == "send" for each in found)
    return Hints(
        read_only=not sends,
        destructive=sends,
        idempotent=not sends,
        open_world=any(each.effects != "none" for each in found),
    )


def _with_children(planned: Plan) -> Iterable[PlannedStep]:
    yield from planned.every_step()
    for child in planned.children().values():
        yield from _with_children(child)


def _outputs_schema(planned: Plan) -> JsonObject:
    """Return what is known of a workflow's outputs before it runs: their names, and types where they are plain."""
    steps = {step.id: step for step in planned.steps}
    names: JsonObject = {name: _known(value, steps) for name, value in planned.outputs.items()}
    return {"type": "object", "properties": names, "required": list(names)}


def _known(value: Value, steps: Mapping[str, PlannedStep]) -> JsonObject:
    """Return the schema of an output, empty where nothing is certain."""
    if not isinstance(value, Located):
        return {}
    if not value.template.native:
        return {"type": "string"}
    found = _PATH.fullmatch(value.template.text.strip())
    step = steps.get(found[1]) if found else None
    if found is None or not found[2] or step is None or step.action is None or step.for_each is not None:
        return {}  # a skipped step has no output: only what is read inside of one is sure to be there
    schema: Json = step.action.manifest.output.json_schema
    for part in found[2].split(".")[1:]:
        schema = _mapping(_mapping(schema).get("properties")).get(part)
    told = _mapping(schema)
    return {} if "$ref" in json.dumps(told) else told


def _mapping(value: Json) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Json) -> list[Any]:
    return value if isinstance(value, list) else []

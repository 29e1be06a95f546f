"""What a run follows, as one text: kept when the run is accepted, so that no later change of a file reaches it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace

from weft import expressions, manifest, plan, source, structure
from weft.connections import NamedEnvironment
from weft.errors import Diverged
from weft.outcome import encode
from weft.plan import CHILD, ConnectionsKnown, Document, Documents, Plan, Selection
from weft.plan.selection import select
from weft.registry import Action, Registry
from weft.sdk import Catalogue
from weft.source import Source
from weft.types import JsonObject

FORMAT = 2
"""Of the text; raised when an older Weft could not read it, or would follow it otherwise."""

READABLE = (1, FORMAT)


def pin(planned: Plan, environment: NamedEnvironment) -> str:
    """Return what is needed to follow `planned` again: its document, environment and manifests, byte for byte.

    The documents of its child workflows are in it, each as it is kept for the child runs.
    """
    if planned.kept is not None:
        return planned.kept
    whole = planned.whole or planned  # the text is compiled as a whole before a part of it is selected
    actions = {action.id: action for action in _actions(whole)}
    kept: JsonObject = {
        "format": FORMAT,
        "expressions": expressions.REVISION,
        "file": planned.source.file,
        "text": planned.source.text,
        "environment": environment.model_dump(mode="json"),
        "manifests": {name: _manifest(actions[name]) for name in sorted(actions)},
        "children": {name: pin(child, environment) for name, child in sorted(whole.children().items())},
    }
    if whole.failure_workflow is not None and whole.workflow.on_failure is None:
        kept["on_failure"] = whole.failure_workflow.uses.removeprefix(CHILD)
    if planned.selection is not None:
        kept["selection"] = asdict(planned.selection)
    return encode(kept)


def _actions(planned: Plan) -> Iterator[Action]:
    """Yield the actions that a plan uses, and its children."""
    yield from (step.action for step in planned.every_step() if step.action is not None)
    for child in planned.children().values():
        yield from _actions(child)


def _manifest(action: Action) -> JsonObject:
    return {"pack": action.pack, "file": action.source.file, "text": action.source.text}


def unpin(text: str, registry: Registry, connections: ConnectionsKnown, catalogue: Catalogue) -> Plan:
    """Return the plan that was pinned, over the code that is here now.

    Args:
        text: What `pin` returned.
        registry: The actions that there are; their manifests are those that were pinned.
        connections: What is known of connections.
        catalogue: What is known of models.

    Raises:
        Diverged: It needs another revision of Weft (`other_revision`).
        WeftError: An action is not here, or its code no longer fits the manifest that was pinned.
    """
    kept = json.loads(text)
    if kept["format"] not in READABLE or kept["expressions"] != expressions.REVISION:
        raise Diverged(
            f"The run needs format {kept['format']} and expressions {kept['expressions']}; "
            f"this Weft has {FORMAT} and {expressions.REVISION}.",
            code="other_revision",
            remedy="Let a worker of the version that began it go on with it.",
        )
    found = _document(text)
    children: dict[int, dict[str, str]] = {id(found.source): kept.get("children", {})}

    def find(name: str, parent: Source) -> Document:
        text = children[id(parent)][name]
        child = _document(text)
        children[id(child.source)] = json.loads(text)["children"]
        return child

    planned = plan.compile(
        found.workflow,
        found.source,
        _Pinned(registry, kept["manifests"]),
        connections=connections,
        catalogue=catalogue,
        documents=Documents(find, kept.get("on_failure")),
    )
    if "selection" in kept:
        planned = select(planned, Selection(**kept["selection"]))
    return replace(planned, kept=text)


def _document(text: str) -> Document:
    kept = json.loads(text)
    document = source.read(kept["text"], kept["file"])
    workflow = NamedEnvironment.model_validate(kept["environment"]).applied(structure.load(document))
    return Document(workflow, document, text)


class _Pinned(Registry):
    """The registry with the manifests of a time past.

    Args:
        today: The actions that there are.
        manifests: Of the actions that are used, as they were.
    """

    def __init__(self, today: Registry, manifests: Mapping[str, JsonObject]) -> None:
        super().__init__()
        self._today = today
        self._kept = manifests

    def action(self, id_: str) -> Action:
        action = self._today.action(id_)
        kept = self._kept.get(id_)
        if kept is None or kept["text"] == action.source.text:
            return action
        document = source.read(str(kept["text"]), str(kept["file"]))
        return replace(action, manifest=manifest.load(document), source=document)

"""Packs, actions and types of connections: everything that a palette, a form and a reference are drawn from."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import Query

from weft import arguments
from weft.connections import fields_of
from weft.errors import PackError, Problem
from weft.manifest import ConnectionType, Manifest, Parameter
from weft.plan import pasting
from weft.registry import Action, Registry
from weft.server.deps import HouseDep, api, needs
from weft.server.problems import ProblemObject
from weft.server.routes.shapes import Shape, told
from weft.types import JsonObject

router = api("actions")


class PackObject(Shape):
    """A pack and what it brings."""

    name: str
    root: str | None
    """The directory that it lies in; null for one that cannot be used."""
    broken: bool
    """Whether it is left out because of its problems."""
    problems: list[ProblemObject]
    actions: list[str]
    connection_types: list[str]
    workflows: list[str]
    """Examples that a workflow can be made from."""


class ActionSummary(Shape):
    """An action as the palette shows it."""

    id: str
    title: str
    purpose: str
    category: str
    icon: str
    version: int
    connection: str | None
    """The type of connection that it needs."""
    effects: str
    retry: str
    pack: str


class ActionDetail(ActionSummary):
    """An action with all that its form, its reference and its completion need."""

    problems: list[ProblemObject]
    """Why its code cannot be used."""
    file: str
    """Where its manifest stands."""
    manifest: Manifest
    arguments_schema: JsonObject
    """JSON Schema of all arguments together, the rules between them included."""
    example: str
    """A step to paste, as YAML."""
    step: JsonObject
    """The same step, to insert."""


class ConnectionTypeObject(Shape):
    """A type of connection, its fields and those that a value of one of them brings."""

    declared: ConnectionType
    fields: list[Parameter]
    """All fields of its form; with `by`, those that this value brings are among them."""
    testable: bool
    """Whether a connection of this type can be tried out."""
    actions: list[str]
    """The actions that need one."""


@router.get("/packs", dependencies=[needs("view")])
async def list_packs(house: HouseDep) -> list[PackObject]:
    """List the packs in use, and those that cannot be used with the reasons."""
    registry, redactor = house.runtime.registry, house.runtime.redactor
    found = [
        PackObject(
            name=pack.name,
            root=str(pack.root),
            broken=False,
            problems=[],
            actions=sorted(action.id for action in pack.actions),
            connection_types=sorted(kind.id for kind in pack.connection_types),
            workflows=sorted(pack.workflows),
        )
        for pack in registry.packs
    ]
    for name, problems in registry.broken.items():
        found.append(
            PackObject(
                name=name,
                root=None,
                broken=True,
                problems=told(problems, redactor),
                actions=[],
                connection_types=[],
                workflows=[],
            )
        )
    return found


@router.get("/actions", dependencies=[needs("view")])
async def list_actions(
    house: HouseDep,
    find: Annotated[
        str, Query(max_length=200, description="Words of which each stands in its id, title, purpose or category.")
    ] = "",
    category: Annotated[str | None, Query(max_length=40)] = None,
) -> list[ActionSummary]:
    """List all actions by id."""
    words = find.casefold().split()
    found = [
        ActionSummary.model_validate(_summary(action))
        for action in house.runtime.registry.actions()
        if category is None or action.manifest.category == category
    ]
    return [each for each in found if all(word in _searched(each) for word in words)]


@router.get("/actions/{action}", dependencies=[needs("view")])
async def show_action(house: HouseDep, action: str) -> ActionDetail:
    """Show what an action takes and returns: its manifest in full, its schemas, and a step to paste."""
    found = house.runtime.registry.action(action)
    problems: Sequence[Problem] = ()
    try:
        await asyncio.to_thread(found.load)
    except PackError as error:
        problems = error.problems
    facts = {
        **_summary(found),
        "problems": told(problems, house.runtime.redactor),
        "file": found.source.file,
        "manifest": found.manifest,
        "arguments_schema": arguments.schema(found.manifest.all_parameters),
        "example": pasting.example(found.manifest),
        "step": pasting.step(found.manifest),
    }
    return ActionDetail.model_validate(facts)


@router.get("/connection-types", dependencies=[needs("view")])
async def list_connection_types(house: HouseDep) -> list[ConnectionTypeObject]:
    """List the types of connections by id."""
    registry = house.runtime.registry
    return [_type(registry, kind, tuple(kind.fields)) for kind in registry.connection_types()]


@router.get("/connection-types/{type_}", dependencies=[needs("view")])
async def show_connection_type(
    house: HouseDep,
    type_: str,
    by: Annotated[
        str | None,
        Query(max_length=200, description="The value of the field that brings further ones, such as a provider."),
    ] = None,
) -> ConnectionTypeObject:
    """Show a type of connection with the fields of its form."""
    kind = house.runtime.registry.connection_type(type_)
    chosen = {kind.further_fields.by: by} if kind.further_fields is not None and by is not None else {}
    return _type(house.runtime.registry, kind, fields_of(kind, chosen, house.runtime.catalogue))


def _summary(action: Action) -> dict[str, object]:
    manifest = action.manifest
    kept = ("id", "title", "purpose", "category", "icon", "version", "connection", "effects", "retry")
    return {**{name: getattr(manifest, name) for name in kept}, "pack": action.pack}


def _searched(action: ActionSummary) -> str:
    return f"{action.id} {action.title} {action.purpose} {action.category}".casefold()


def _type(registry: Registry, kind: ConnectionType, fields: tuple[Parameter, ...]) -> ConnectionTypeObject:
    tests = {id_ for pack in registry.packs for id_ in pack.connection_tests}
    return ConnectionTypeObject(
        declared=kind,
        fields=list(fields),
        testable=kind.id in tests,
        actions=[action.id for action in registry.actions() if action.manifest.connection == kind.id],
    )

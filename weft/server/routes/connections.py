"""Accounts on other systems. Secrets go in and are never answered: only whether they are there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from fastapi import Path as InPath
from fastapi import Query, Response
from pydantic import Field

from weft import source, wording
from weft.connections import (
    BuiltIn,
    Connections,
    Listed,
    Probed,
    checked,
    fields_of,
    missing_secrets,
    open_secrets,
    probe,
    problems_of,
    settings_of,
    short_secrets,
)
from weft.connections.store import Entry
from weft.connections.stored import SOURCE
from weft.connections.uses import Use, uses
from weft.errors import ConnectionUnusable, InvalidInputs, InvalidSource, NotFound, Problem, WeftError
from weft.manifest import ConnectionType, Parameter
from weft.plan import ConnectionFacts
from weft.plan.signing import signing_types
from weft.reading import BUILT_IN
from weft.redaction import Redactor, Secret
from weft.runtime import Runtime
from weft.sdk import Connection
from weft.server.deps import HouseDep, Who, api, needs
from weft.server.house import House
from weft.server.problems import ProblemObject
from weft.server.routes.shapes import Asked, Object, Shape, masked, told
from weft.types import Json, JsonObject

router = api("connections")

Name = Annotated[str, InPath(max_length=64, description="The connection's name.")]
Type = Annotated[str | None, Query(alias="type", max_length=64, description="Its type, where variables fit several.")]


ADDRESSES = frozenset({"host", "port", "tls", "provider", "allowed_hosts", "service", "domain", "region", "ca_file"})
"""Fields that say where secrets are sent or how, besides those that hold a text of their own."""
HARMLESS = frozenset(
    {
        "from",
        "allow_from",
        "allowed_recipient_domains",
        "allowed_targets",
        "allowed_channels",
        "targets",
        "channel",
        "channel_id",
        "team_id",
        "scope",
        "unsupported_parameters",
        "dkim_domain",
        "dkim_selector",
    }
)
"""Texts of which it is known that no secret goes elsewhere by them. Of all others it is not: the region of a cloud, the
project, the tenant or the version is a part of an address, too."""


class UseObject(Shape):
    """A place of a workflow that names a connection."""

    workflow: str
    step: str | None
    """Its id; null for a webhook."""
    path: list[str | int]


class ConnectionSummary(Shape):
    """A connection as lists show it; the one that is used comes before those that it hides."""

    name: str
    type: str
    provider: str | None
    source: str
    """Where it comes from: `environment`, `store`, `built in`, the name of a file."""
    shadowed_by: str | None
    """The source that answers in its stead."""
    writable: bool
    """Whether it can be changed and removed here."""
    used_by: list[UseObject]


class ConnectionDetail(ConnectionSummary):
    """A connection with all but its secrets."""

    shadows: list[str]
    """The sources of connections that it stands before."""
    settings: JsonObject
    """The fields that are not secret, defaults among them."""
    secrets: list[str]
    """The secret fields that have a value."""
    fields: list[Parameter]
    """The fields that it may have."""
    problems: list[ProblemObject]


class AddAsked(Asked):
    """A new connection."""

    name: str = Field(max_length=64)
    type: str = Field(max_length=64)
    fields: Object
    """Values by field, secret ones among them."""


class ChangeAsked(Asked):
    """A change of a connection."""

    fields: Object
    """Values by field: one that is left out stays as it is, null takes it away."""


class TestAsked(Asked):
    """A connection to try out before it is kept."""

    type: str = Field(max_length=64)
    fields: Object
    name: str | None = Field(default=None, max_length=64)
    """The kept connection that this is a change of: what is left out is taken from there."""


class TestObject(Shape):
    """What a test has found out, as `weft connections test --json` tells it."""

    name: str
    type: str
    provider: str | None
    source: str
    state: Literal["works", "failed", "untested"]
    message: str
    """What was proved, what is wrong, or why it is not known."""
    code: str | None
    remedy: str | None
    ms: int


@router.get("/connections", dependencies=[needs("view")])
async def list_connections(
    house: HouseDep,
    type_: Annotated[str | None, Query(alias="type", max_length=64, description="Only those of this type.")] = None,
) -> list[ConnectionSummary]:
    """List the connections there are, where each comes from, and which workflows use it."""
    used = await _used(house)
    listed = await asyncio.to_thread(house.runtime.connections.listed, used.asked)
    return [
        ConnectionSummary.model_validate(_summary(each, used))
        for each in listed
        if type_ is None or each.facts.type == type_
    ]


@router.get("/connections/{name}", dependencies=[needs("connections")])
async def show_connection(house: HouseDep, name: Name, type_: Type = None) -> ConnectionDetail:
    """Show what a connection says: all but its secrets, of which only it is told that they are there."""
    await _entry(house, name)  # looks: another server may have kept it a moment ago
    return await _detail(house, name, type_)


@router.post("/connections", dependencies=[needs("connections")], status_code=201)
async def add_connection(house: HouseDep, who: Who, asked: AddAsked, response: Response) -> ConnectionDetail:
    """Keep a new connection, its secrets encrypted."""
    if (right := wording.as_name(asked.name)) != asked.name:
        remedy = f"Did you mean {right!r}?" if right else None
        message = f"{wording.shown(asked.name)} is no name: lower case letters, digits, _ and -."
        raise InvalidInputs(message, code="name", remedy=remedy)
    if await _entry(house, asked.name) is not None:
        raise InvalidInputs(
            f"There is a connection {asked.name!r} in the store.",
            code="exists",
            remedy="Change that one, or choose another name.",
        )
    kind = house.runtime.registry.connection_type(asked.type)
    await _keep(house, asked.name, kind, asked.fields)
    await house.audit.record(who, "connection.added", asked.name, _facts(kind, asked.fields))
    response.headers["Location"] = f"/api/v1/connections/{asked.name}"
    return await _detail(house, asked.name, kind.id, source_=SOURCE)


@router.patch("/connections/{name}", dependencies=[needs("connections")])
async def change_connection(house: HouseDep, who: Who, name: Name, asked: ChangeAsked) -> ConnectionDetail:
    """Change a connection that is kept here: fields that are left out stay as they are, null takes one away."""
    entry = await _kept(house, name)
    kind = house.runtime.registry.connection_type(entry.type)
    values = await _with_kept(house, name, kind, asked.fields)
    await _keep(house, name, kind, {key: value for key, value in values.items() if value is not None})
    await house.audit.record(who, "connection.changed", name, _facts(kind, asked.fields))
    return await _detail(house, name, kind.id, source_=SOURCE)


@router.delete("/connections/{name}", dependencies=[needs("connections")], status_code=204)
async def remove_connection(
    house: HouseDep,
    who: Who,
    name: Name,
    force: Annotated[bool, Query(description="Remove it although workflows use it.")] = False,
) -> None:
    """Remove a connection that is kept here. One that workflows use is not removed, unless that is asked for."""
    await _kept(house, name)
    used = (await _used(house)).by.get(name, [])
    if used and not force:
        those = ", ".join(sorted({use.workflow for use in used}))
        raise ConnectionUnusable(
            f"Connection {name!r} is used by: {those}.",
            code="connection_used",
            remedy="Give these another one first, or remove it all the same with force=true.",
        )
    await asyncio.to_thread(house.runtime.store.remove, name)
    await house.audit.record(who, "connection.removed", name, {"used_by": [*sorted({use.workflow for use in used})]})


@router.post("/connections/{name}/test", dependencies=[needs("connections")])
async def probe_connection(house: HouseDep, who: Who, name: Name, type_: Type = None) -> TestObject:
    """Speak to the other side of a connection and tell what was proved; nothing is sent or changed there."""
    facts = (await _named(house, name, type_))[0]
    found = await _probed(house, facts.name, facts.type, house.runtime.connections)
    await house.audit.record(who, "connection.tested", name, {"state": found.state})
    return _outcome(facts, found, house.runtime.redactor)


@router.post("/connections/test", dependencies=[needs("connections")])
async def try_connection(house: HouseDep, who: Who, asked: TestAsked) -> TestObject:
    """Try out the values of a connection before they are kept."""
    runtime, kind = house.runtime, house.runtime.registry.connection_type(asked.type)
    values: JsonObject = dict(asked.fields)
    if asked.name is not None and (entry := await _entry(house, asked.name)) is not None and entry.type == kind.id:
        values = await _with_kept(house, asked.name, kind, values)
    values = {key: value for key, value in values.items() if value is not None}
    _secrets(runtime, fields_of(kind, values, runtime.catalogue), values)
    name = asked.name or "untried"
    provider = values.get("provider")
    facts = ConnectionFacts(name, kind.id, "request", provider if isinstance(provider, str) else None)

    async def opened() -> Connection:
        return checked(name, kind, values, "the request", catalogue=runtime.catalogue)

    only = Connections([BuiltIn({name: (facts, opened)})], runtime.redactor)
    found = await _probed(house, name, kind.id, only)
    await house.audit.record(who, "connection.tested", name, {"state": found.state, "kept": False})
    return _outcome(facts, found, runtime.redactor)


# ---- what is used where
@dataclass(frozen=True, slots=True)
class _Used:
    by: Mapping[str, Sequence[UseObject]]
    asked: frozenset[tuple[str, str]]  #: names with the types that their uses want


async def _used(house: House) -> _Used:
    """Return which workflows of the workspace name which connections, in the environment that is in force."""
    runtime = house.runtime
    types = {action.id: action.manifest.connection for action in runtime.registry.actions()}
    by: dict[str, list[UseObject]] = {}
    asked: set[tuple[str, str]] = set()
    for facts in await runtime.documents.list():
        try:
            value = source.read((await runtime.documents.peek(facts.name)).text, facts.file).value
        except (InvalidSource, NotFound):
            continue  # the list of workflows tells what is wrong with it
        for use in uses(value):
            name = runtime.environment.connection(use.connection)
            by.setdefault(name, []).append(UseObject(workflow=facts.name, step=use.step, path=list(use.at)))
            asked.update((name, wanted) for wanted in _wanted(use, types, runtime))
    return _Used(by, frozenset(asked))


def _wanted(use: Use, types: Mapping[str, str | None], runtime: Runtime) -> Iterable[str]:
    if not use.action:
        return signing_types(runtime.registry)
    wanted = types.get(use.action)
    return () if wanted is None else (wanted,)


def _summary(each: Listed, used: _Used) -> dict[str, object]:
    facts = each.facts
    return {
        "name": facts.name,
        "type": facts.type,
        "provider": facts.provider,
        "source": facts.source,
        "shadowed_by": each.shadowed_by,
        "writable": facts.source == SOURCE,
        "used_by": list(used.by.get(facts.name, ())),
    }


# ---- one
async def _named(house: House, name: str, wanted: str | None) -> list[ConnectionFacts]:
    """Return what the sources have under a name, the one that is used first.

    Raises:
        NotFound: There is none.
        InvalidInputs: Variables fit several types; it is not guessed, for a secret would go where that type's go.
    """
    registry, connections = house.runtime.registry, house.runtime.connections
    if wanted is not None:
        return await asyncio.to_thread(connections.named, name, [registry.connection_type(wanted).id])
    used = sorted(kind for each, kind in (await _used(house)).asked if each == name)
    kinds = used or [kind.id for kind in registry.connection_types()]
    found = await asyncio.to_thread(connections.named, name, kinds)
    fitting = [facts.type for facts in found if facts.source == "environment"]
    if not used and len(fitting) > 1 and found[0].source == "environment":
        raise InvalidInputs(
            f"The variables of {name!r} fit several types: {', '.join(fitting)}.",
            code="several_types",
            remedy="Say which with `type`.",
        )
    return found


async def _detail(house: House, name: str, wanted: str | None, *, source_: str | None = None) -> ConnectionDetail:
    runtime = house.runtime
    found = await _named(house, name, wanted)
    facts = next((each for each in found if each.source == source_), found[0])
    others = [each.source for each in found if each is not facts]
    first = found[0].source if facts is not found[0] else None
    kind = runtime.registry.connection_type(facts.type)
    secrets, problems = await _opened(house, facts, kind)
    told_facts = {
        **_summary(Listed(facts, first), await _used(house)),
        "shadows": others if first is None else [],
        "settings": masked(dict(facts.settings), runtime.redactor),
        "secrets": sorted(secrets),
        "fields": list(fields_of(kind, facts.settings, runtime.catalogue)),
        "problems": told(problems, runtime.redactor),
    }
    return ConnectionDetail.model_validate(told_facts)


async def _opened(house: House, facts: ConnectionFacts, kind: ConnectionType) -> tuple[set[str], list[Problem]]:
    """Return the names of the secrets that a connection has, and what is wrong with it."""
    runtime = house.runtime
    if facts.source == BUILT_IN:
        return {field.name for field in kind.fields if field.secret}, []  # to open it would start a server
    try:
        connection = await runtime.connections.get(facts.name, facts.type)
    except WeftError as error:
        return set(), list(error.problems)
    secrets = {name: value for name, value in connection.values.items() if isinstance(value, Secret)}
    revealed: JsonObject = {name: value.reveal() for name, value in secrets.items()}
    fields = fields_of(kind, facts.settings, runtime.catalogue)
    clear = [replace(problem, severity="warning") for problem in open_secrets(kind, fields, facts.settings)]
    return set(secrets), short_secrets(fields, revealed) + clear


# ---- the store
async def _entry(house: House, name: str) -> Entry | None:
    return await asyncio.to_thread(house.runtime.store.entry, name, now=True)


async def _kept(house: House, name: str) -> Entry:
    """Return what the store says of a connection.

    Raises:
        NotFound: It does not keep it; where it comes from is told.
    """
    entry = await _entry(house, name)
    if entry is not None:
        return entry
    listed = await asyncio.to_thread(house.runtime.connections.listed)
    elsewhere = next((each.facts for each in listed if each.facts.name == name), None)
    remedy = None if elsewhere is None else f"It comes from {elsewhere.source}: change it there."
    raise NotFound(f"There is no connection {name!r} in the store.", code="unknown_connection", remedy=remedy)


async def _values(house: House, name: str) -> dict[str, Json]:
    """Return all values of a kept connection, secret ones among them; never for an answer."""
    entry, secrets = await asyncio.to_thread(house.runtime.store.opened, name)
    return {**entry.settings, **{key: secret.reveal() for key, secret in secrets.items()}}


async def _with_kept(house: House, name: str, kind: ConnectionType, given: Mapping[str, Json]) -> dict[str, Json]:
    """Return the given values with those that are kept for what was left out; never for an answer.

    Raises:
        InvalidInputs: A kept secret would go to another address than the one that it was given for.
    """
    kept = await _values(house, name)
    values = {**kept, **given}
    fields = fields_of(kind, values, house.runtime.catalogue)
    moved = [each.name for each in fields if _is_address(each) and values.get(each.name) != kept.get(each.name)]
    silent = [each.name for each in fields if each.secret and each.name in kept and each.name not in given]
    if moved and silent:
        raise InvalidInputs(
            f"{wording.choice(moved)} changes where the secrets of {name!r} go.",
            code="secret_again",
            remedy=f"Give {wording.choice(silent)} again, or null to take it away.",
        )
    return values


def _is_address(field: Parameter) -> bool:
    """Return whether a field may say where secrets are sent, or how."""
    if field.secret or field.name in HARMLESS:
        return False
    return field.name in ADDRESSES or field.type not in ("integer", "number", "boolean")


def _facts(kind: ConnectionType, fields: Mapping[str, Json]) -> JsonObject:
    return {"type": kind.id, "fields": [*sorted(fields)]}


async def _keep(house: House, name: str, kind: ConnectionType, values: Mapping[str, Json]) -> None:
    """Check the values of a connection and keep them.

    Raises:
        InvalidInputs: They break the rules of its type; no message shows a secret.
    """
    runtime = house.runtime
    fields = fields_of(kind, values, runtime.catalogue)
    secrets = _secrets(runtime, fields, values)
    problems = problems_of(fields, values) + _missing(fields, values) + open_secrets(kind, fields, values)
    if problems:
        raise InvalidInputs(problems=problems)
    clear = settings_of(tuple(field.model_copy(update={"default": None}) for field in fields), values)
    await asyncio.to_thread(runtime.store.write, name, kind.id, clear, secrets)


def _missing(fields: tuple[Parameter, ...], values: Mapping[str, Json]) -> list[Problem]:
    """Return a problem for each value that says there are credentials when there are none, in the words of a form."""
    return [replace(each, remedy="Give it a value.") for each in missing_secrets(fields, values)]


def _secrets(runtime: Runtime, fields: tuple[Parameter, ...], values: Mapping[str, Json]) -> dict[str, Secret]:
    """Return the secret values, known to the redactor from now on."""
    found = {
        field.name: Secret(value)
        for field in fields
        if field.secret and isinstance(value := values.get(field.name), str)
    }
    for secret in found.values():
        runtime.redactor.add(secret)
    return found


# ---- tests
async def _probed(house: House, name: str, type_: str, connections: Connections) -> Probed:
    runtime = house.runtime
    return await probe(
        name,
        type_,
        connections=connections,
        registry=runtime.registry,
        redactor=runtime.redactor,
        catalogue=runtime.catalogue,
    )


def _outcome(facts: ConnectionFacts, found: Probed, redactor: Redactor) -> TestObject:
    return TestObject(
        name=facts.name,
        type=facts.type,
        provider=facts.provider,
        source=facts.source,
        state=found.state,
        message=masked(found.message, redactor),
        code=found.code,
        remedy=None if found.remedy is None else masked(found.remedy, redactor),
        ms=found.ms,
    )

"""Asks a person at a terminal for the fields of a connection; secrets are typed unseen."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

import click

from weft import arguments
from weft.catalogue import Catalogue
from weft.cli.terminal import clean_line
from weft.connections import fields_of, from_text, problems_of, without_secret
from weft.manifest import LIMITS, ConnectionType, Parameter
from weft.registry import Registry
from weft.types import Json, JsonObject


def possible() -> bool:
    """Return whether there is a person to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def type_of(registry: Registry, wanted: str | None) -> ConnectionType:
    """Return the type that is wanted, or that a person chooses.

    Raises:
        NotFound: There is no such type.
        UsageError: None is given, and there is nobody to ask.
    """
    if wanted is None:
        types = registry.connection_types()
        if not possible():
            raise click.UsageError(f"Missing option '--type'. There are: {', '.join(kind.id for kind in types)}.")
        for kind in types:
            click.echo(f"  {kind.id}  {click.style(clean_line(kind.purpose), dim=True)}")
        wanted = click.prompt("Type", type=click.Choice([kind.id for kind in types]), show_choices=False)
    return registry.connection_type(str(wanted))


def ask(kind: ConnectionType, known: Mapping[str, Json], catalogue: Catalogue, *, given: bool) -> JsonObject:
    """Return what a person says to the fields of a connection.

    Args:
        kind: The connection's type.
        known: Values so far; a line left empty keeps them.
        catalogue: What knows the fields that a provider brings.
        given: Whether values came by options; then only what is required and missing is asked for.
    """
    values: JsonObject = dict(known)
    if given:
        for field in _each(kind, values, catalogue):
            if _is_needed(field, kind, values, catalogue) and values.get(field.name) is None:
                values.update(_answer(field, values, needed=True))
        return values
    later: list[Parameter] = []
    for field in _each(kind, values, catalogue):
        if _is_visible(field, kind, values) and (_is_first(field) or _decides(field, kind)):
            needed = _is_needed(field, kind, values, catalogue)
            values.update(_answer(field, values, needed=needed))
        else:
            later.append(field)
    names = ", ".join(field.name for field in later if _is_visible(field, kind, values))
    if names and click.confirm(f"Set more ({names})?", default=False):
        for field in later:
            if _is_visible(field, kind, values):
                needed = _is_needed(field, kind, values, catalogue)
                values.update(_answer(field, values, needed=needed))
    return values


def _each(kind: ConnectionType, values: JsonObject, catalogue: Catalogue) -> Iterator[Parameter]:
    """Yield the fields in their order, with those that the answers so far have brought; nobody is asked for limits."""
    told: set[str] = set(LIMITS)
    while field := next((each for each in fields_of(kind, values, catalogue) if each.name not in told), None):
        told.add(field.name)
        yield field


def _is_first(field: Parameter) -> bool:
    """Tell the fields that most connections need from those that have a sound default or are lists."""
    return field.required or (field.default is None and not {"array", "object"} & set(field.types))


def _decides(field: Parameter, kind: ConnectionType) -> bool:
    """Tell the fields whose value decides which others there are: the kind of credentials."""
    return any(each.visible_when is not None and each.visible_when.parameter == field.name for each in kind.fields)


def _is_needed(field: Parameter, kind: ConnectionType, values: Mapping[str, Json], catalogue: Catalogue) -> bool:
    missing = without_secret(fields_of(kind, values, catalogue), values).values()
    return field.required or any([each.name for each in brought] == [field.name] for brought in missing)


def _is_visible(field: Parameter, kind: ConnectionType, values: Mapping[str, Json]) -> bool:
    when = field.visible_when
    if when is None:
        return True
    default = next((each.default for each in kind.fields if each.name == when.parameter), None)
    value = values.get(when.parameter)
    value = default if value is None else value
    return value is not None and (when.values is None or value in when.values)


def _answer(field: Parameter, values: Mapping[str, Json], *, needed: bool) -> JsonObject:
    """Ask until the answer keeps the field's rules; an empty one leaves everything as it is."""
    known = values.get(field.name)
    click.echo(click.style(clean_line(field.description), dim=True))
    while True:
        text = _line(field, known, needed=needed)
        if not text and not (needed and known is None):
            return {}
        value = from_text(field, text)
        alone = field.model_copy(update={"requires": [], "excludes": [], "required": needed})
        problems = problems_of((alone,), {field.name: value} if text else {})
        if not problems:
            return {field.name: arguments.with_defaults([alone], {field.name: value})[field.name]}
        click.echo(click.style(f"{problems[0].message} {problems[0].remedy or ''}".rstrip(), fg="yellow"), err=True)


def _line(field: Parameter, known: Json, *, needed: bool) -> str:
    label = field.title
    if field.enum:
        label += f" ({', '.join(str(value) for value in field.enum)})"
    if field.secret:
        label += " [kept]" if known is not None else "" if needed else " [none]"
        return str(click.prompt(label, default="", hide_input=True, show_default=False))
    shown = known if known is not None else field.default
    label += f" [{shown}]" if shown is not None else ""
    return str(click.prompt(label, default="", show_default=False)).strip()

"""`weft actions`: what actions there are, and what each takes and returns."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import click
from rich.table import Table
from rich.text import Text

from weft.cli import reference
from weft.cli.opening import action_ids, open_runtime, parameter_names
from weft.cli.problems import tell
from weft.cli.state import State, home_option, json_option, pack_option, pass_state
from weft.cli.terminal import Screen, clean_line, is_live, to_json
from weft.errors import NotFound
from weft.manifest import Manifest, Parameter
from weft.registry import Action
from weft.types import JsonObject
from weft.wording import meant


@click.group("actions")
def command() -> None:
    """List actions and read what they take."""


@command.command("list")
@json_option
@pack_option
@home_option
@pass_state
def list_(state: State, as_json: bool) -> None:
    """List all actions, with what each is for."""
    registry = open_runtime(state).registry
    tell([replace(problem, severity="warning") for found in registry.broken.values() for problem in found], state)
    actions = registry.actions()
    if as_json:
        click.echo(to_json([_entry(action) for action in actions]))
        return
    if not is_live(sys.stdout):
        for action in actions:
            click.echo(f"{action.id}\t{clean_line(action.manifest.purpose)}")
        return
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for action in actions:
        table.add_row(Text(action.id, "bold"), Text(action.manifest.purpose))
    Screen(sys.stdout).print(table)


@command.command("show", short_help="Print what an action takes and returns.")
@click.argument("action", shell_complete=action_ids)
@click.argument("parameters", metavar="[PARAMETER]...", nargs=-1, shell_complete=parameter_names)
@json_option
@click.option("--markdown", is_flag=True, help="Print it as Markdown.")
@pack_option
@home_option
@pass_state
def show(state: State, action: str, parameters: tuple[str, ...], as_json: bool, markdown: bool) -> None:
    """Print the reference of ACTION: its parameters, its output, and a step to paste into a workflow.

    With names of parameters, print no more than these.
    """
    runtime = open_runtime(state)
    document = runtime.registry.action(action).manifest
    if parameters:
        _show_parameters([_parameter(document, name) for name in parameters])
        return
    if as_json:
        click.echo(to_json(document.model_dump(mode="json", by_alias=True, exclude_defaults=True)))
    elif markdown:
        click.echo(reference.markdown(document))
    else:
        screen = Screen(sys.stdout)
        for line in reference.text(document, screen, min(screen.width, 100)):
            screen.print(line, soft_wrap=True)


def _parameter(document: Manifest, name: str) -> Parameter:
    known = {parameter.name: parameter for parameter in document.all_parameters}
    if name not in known:
        remedy = meant(name, known) or f"There are: {', '.join(known)}."
        raise NotFound(f"{document.id!r} has no parameter {name!r}.", code="unknown_parameter", remedy=remedy)
    return known[name]


def _show_parameters(parameters: Sequence[Parameter]) -> None:
    screen = Screen(sys.stdout)
    page = reference.Page(screen, min(screen.width, 100))
    for number, parameter in enumerate(parameters):
        if number:
            page.add("")
        page.parameter(parameter)
    for line in page.lines:
        screen.print(line, soft_wrap=True)


def _entry(action: Action) -> JsonObject:
    document = action.manifest
    return {
        "id": document.id,
        "title": document.title,
        "purpose": document.purpose,
        "category": document.category,
        "version": document.version,
        "connection": document.connection,
        "effects": document.effects,
        "pack": action.pack,
    }

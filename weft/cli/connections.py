"""`weft connections`: accounts on other systems. No command ever prints a secret."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import click
from click.shell_completion import CompletionItem
from rich.table import Table
from rich.text import Text

from weft import source, wording
from weft.cli import asking, logs, reference
from weft.cli.exits import ExitCode
from weft.cli.opening import documents, open_runtime
from weft.cli.problems import as_json as problem_json
from weft.cli.problems import tell
from weft.cli.state import State, connections_option, home_option, json_option, pack_option, pass_state
from weft.cli.terminal import Screen, clean_line, duration, is_live, symbols, to_json
from weft.connections import (
    Listed,
    Probed,
    fields_of,
    from_text,
    missing_secrets,
    open_secrets,
    probe,
    problems_of,
    settings_of,
    short_secrets,
)
from weft.connections.uses import uses
from weft.errors import InvalidInputs, NotFound, Problem, WeftError
from weft.manifest import ConnectionType, Parameter
from weft.plan import ConnectionFacts
from weft.redaction import MASK, Secret
from weft.runtime import LOCAL_MODEL, OUTBOX, Runtime
from weft.types import Json, JsonObject

BUILT_IN = (LOCAL_MODEL, OUTBOX)
STORE = "store"


def connection_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a connection."""
    try:
        found = open_runtime(context.find_object(State) or State()).connections.listed()
    except (WeftError, OSError):  # nowhere to tell it: the shell shows only what can be completed
        return []
    used = [each.facts for each in found if each.shadowed_by is None and each.facts.name.startswith(incomplete)]
    return [CompletionItem(facts.name, help=f"{facts.type}, {facts.source}") for facts in used]


def type_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a type of connection."""
    try:
        types = open_runtime(context.find_object(State) or State()).registry.connection_types()
    except (WeftError, OSError):
        return []
    return [CompletionItem(each.id, help=each.purpose) for each in types if each.id.startswith(incomplete)]


def _type_option(function: Any) -> Any:
    return click.option(
        "--type", "type_", metavar="TYPE", shell_complete=type_names, help="The connection's type: smtp, …"
    )(function)


@click.group("connections")
def command() -> None:
    """Add, test and list accounts on other systems.

    They come from variables, a file or a mounted directory, the encrypted store in the home, or are built in; the
    first that knows a name answers. Secrets go in and are never shown.
    """


# ---- what there is
@command.command("list")
@json_option
@pack_option
@connections_option
@home_option
@pass_state
def list_(state: State, *, as_json: bool) -> None:
    """List the connections there are, and where each comes from.

    Variables are looked at for providers of models and for the names that workflows in workflows/ use.
    """
    runtime = open_runtime(state)
    listed = runtime.connections.listed(_asked(runtime))
    if as_json:
        click.echo(to_json([_entry(each) for each in listed]))
    elif is_live(sys.stdout):
        Screen(sys.stdout).print(_table(listed))
    else:
        for each in listed:
            click.echo("\t".join(_cells(each)))


def _asked(runtime: Runtime) -> set[tuple[str, str]]:
    """Return names and types of the connections that the workflows here use."""
    found: set[tuple[str, str]] = set()
    types = {action.id: action.manifest.connection for action in runtime.registry.actions()}
    for path in documents():
        try:
            document = source.read_file(path)
        except WeftError:
            continue  # `weft validate` tells what is wrong with it
        for use in uses(document.value):
            if wanted := types.get(use.action):
                found.add((runtime.environment.connection(use.connection), wanted))
    return found


def _entry(each: Listed) -> JsonObject:
    facts = each.facts
    return {
        "name": facts.name,
        "type": facts.type,
        "provider": facts.provider,
        "source": facts.source,
        "shadowed_by": each.shadowed_by,
    }


def _cells(each: Listed) -> list[str]:
    facts = each.facts
    note = f"not used: {each.shadowed_by} comes first" if each.shadowed_by else ""
    return [clean_line(text) for text in (facts.name, facts.type, facts.provider or "-", facts.source, note)]


def _table(listed: Sequence[Listed]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    for style in ("bold", "", "", "dim", "yellow"):
        table.add_column(no_wrap=True, overflow="ellipsis", style=style)
    for each in listed:
        row = [Text(cell) for cell in _cells(each)]
        table.add_row(*row, style="dim" if each.shadowed_by else "")
    return table


@command.command("show")
@click.argument("name", shell_complete=connection_names)
@_type_option
@json_option
@pack_option
@connections_option
@home_option
@pass_state
def show(state: State, *, name: str, type_: str | None, as_json: bool) -> ExitCode:
    """Show what connection NAME says: all but its secrets, of which only it is told that they are there."""
    runtime = open_runtime(state)
    facts, *others = runtime.connections.named(name, _types(runtime, name, type_))
    kind = runtime.registry.connection_type(facts.type)
    secrets, problems = _opened(runtime, facts, kind)
    if as_json:
        click.echo(
            to_json(
                {
                    **_entry(Listed(facts)),
                    "shadows": [other.source for other in others],
                    "settings": dict(facts.settings),
                    "secrets": sorted(secrets),
                    "problems": [problem_json(problem, state.redactor) for problem in problems],
                }
            )
        )
    else:
        _print(facts, others, kind, secrets, fields_of(kind, facts.settings, runtime.catalogue))
        tell(problems, state)
    return ExitCode.NOT_FOUND if any(problem.severity == "error" for problem in problems) else ExitCode.OK


def _types(runtime: Runtime, name: str, wanted: str | None) -> list[str]:
    """Return the types that a connection may be of.

    Variables do not say their connection's type: it is the one that is asked for, or that the workflows here use, or
    the only one that they fit. It is not guessed, for a secret would go where that type's secrets go.

    Raises:
        click.UsageError: Variables fit several types.
        NotFound: There is no connection of this name.
    """
    if wanted is not None:
        return [runtime.registry.connection_type(wanted).id]
    if used := sorted({kind for each, kind in _asked(runtime) if each == name}):
        return used
    kinds = [kind.id for kind in runtime.registry.connection_types()]
    found = runtime.connections.named(name, kinds)
    fitting = [facts.type for facts in found if facts.source == "environment"]
    if len(fitting) < 2 or found[0].source != "environment":
        return kinds
    raise click.UsageError(f"The variables of {name!r} fit several types: {', '.join(fitting)}. Say which by --type.")


def _opened(runtime: Runtime, facts: ConnectionFacts, kind: ConnectionType) -> tuple[set[str], list[Problem]]:
    """Return the names of the secrets that a connection has, and what is wrong with it."""
    if facts.name in BUILT_IN and facts.source == "built in":
        return {field.name for field in kind.fields if field.secret}, []  # to open it would start a server
    try:
        connection = asyncio.run(runtime.connections.get(facts.name, facts.type))
    except WeftError as error:
        return set(), list(error.problems)
    secrets = {name: value for name, value in connection.values.items() if isinstance(value, Secret)}
    revealed: JsonObject = {name: value.reveal() for name, value in secrets.items()}
    fields = fields_of(kind, facts.settings, runtime.catalogue)
    clear = [replace(problem, severity="warning") for problem in open_secrets(kind, fields, facts.settings)]
    return set(secrets), short_secrets(fields, revealed) + clear


def _print(
    facts: ConnectionFacts,
    others: Sequence[ConnectionFacts],
    kind: ConnectionType,
    secrets: set[str],
    fields: Sequence[Parameter],
) -> None:
    screen = Screen(sys.stdout)
    screen.print(Text.assemble((facts.name, "bold"), (f"  {kind.title}, from {facts.source}", "dim")), soft_wrap=True)
    for other in others:
        screen.print(Text(f"stands before the one from {other.source}", "yellow"))
    shown_fields = [field for field in fields if field.name in facts.settings or field.name in secrets]
    width = max((len(field.name) for field in shown_fields), default=0)
    for field in shown_fields:
        line = Text(f"{field.name:{width}}  ")
        if field.name in facts.settings:
            value = facts.settings[field.name]
            line.append(clean_line(value if isinstance(value, str) else _in_one_line(value)))
            line.append("  (default)" if value == field.default else "", "dim")
        else:
            line.append(MASK, "dim")
        screen.print(line, soft_wrap=True)


def _in_one_line(value: Json) -> str:
    """Return a value that is no text, in one line."""
    return ", ".join(map(str, value)) if isinstance(value, list) else to_json(value).replace("\n", " ")


@command.command("types")
@click.argument("type_", metavar="[TYPE]", required=False, shell_complete=type_names)
@json_option
@pack_option
@home_option
@pass_state
def types(state: State, *, type_: str | None, as_json: bool) -> None:
    """List the types of connections, or show the fields of TYPE."""
    registry = open_runtime(state).registry
    if type_ is not None:
        _show_type(registry.connection_type(type_), as_json=as_json)
        return
    found = registry.connection_types()
    if as_json:
        click.echo(to_json([{"id": each.id, "title": each.title, "purpose": each.purpose} for each in found]))
        return
    if not is_live(sys.stdout):
        for each in found:
            click.echo(f"{each.id}\t{clean_line(each.purpose)}")
        return
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for each in found:
        table.add_row(Text(each.id), Text(clean_line(each.purpose)))
    Screen(sys.stdout).print(table)


def _show_type(kind: ConnectionType, *, as_json: bool) -> None:
    if as_json:
        click.echo(to_json(kind.model_dump(mode="json", by_alias=True, exclude_defaults=True)))
        return
    screen = Screen(sys.stdout)
    page = reference.Page(screen, min(screen.width, 100))
    page.add(Text.assemble((kind.title, "bold"), (f"  {kind.id}", "dim")))
    page.add(clean_line(kind.purpose))
    for field in kind.fields:
        page.add("")
        page.parameter(field)
        if variables := kind.environment.get(field.name):
            page.add(f"variable: {' or '.join(variables)}", 4)
    if kind.further_fields is not None:
        page.add("")
        page.add(f"Further fields depend on {kind.further_fields.by}.")
    for line in page.lines:
        screen.print(line, soft_wrap=True)


# ---- the store
@command.command("add")
@click.argument("name")
@_type_option
@click.option("--field", "pairs", metavar="FIELD=VALUE", multiple=True, help="Give a field that is no secret.")
@click.option(
    "--secret-from-env", "variables", metavar="FIELD=VARIABLE", multiple=True, help="Take a secret from a variable."
)
@click.option("--secret-stdin", "piped", metavar="FIELD", help="Read a secret from standard input.")
@click.option("--replace", "replaces", is_flag=True, help="Change the one that is kept; what is not given stays.")
@pack_option
@connections_option
@home_option
@pass_state
def add(
    state: State,
    *,
    name: str,
    type_: str | None,
    pairs: tuple[str, ...],
    variables: tuple[str, ...],
    piped: str | None,
    replaces: bool,
) -> None:
    """Keep connection NAME in the store, its secrets encrypted.

    On a terminal it asks for what is needed, secrets without showing them. A secret is never an argument, because
    arguments are seen by other users and kept by shells.
    """
    runtime = open_runtime(state)
    if (wrong := wording.as_name(name)) != name:
        remedy = f"Did you mean {wrong!r}?" if wrong else None
        raise InvalidInputs(f"{name!r} is no name: lower case letters, digits, _ and -.", code="name", remedy=remedy)
    kept = runtime.store.entry(name)
    if kept is not None and not replaces:
        remedy = "Change it with --replace, or choose another name."
        raise InvalidInputs(f"There is a connection {name!r} in the store.", code="exists", remedy=remedy)
    kind = asking.type_of(runtime.registry, type_ or (kept.type if kept else None))
    values: JsonObject = {}
    if kept is not None and kept.type == kind.id:
        _, secrets = runtime.store.opened(name)
        values = {**kept.settings, **{key: secret.reveal() for key, secret in secrets.items()}}
    given = _given(pairs, variables, piped)
    values |= _read(kind, given, values, runtime)
    if asking.possible() and piped is None:
        values |= asking.ask(kind, values, runtime.catalogue, given=bool(given))
    _keep(state, runtime, name, kind, values)


def _given(pairs: Sequence[str], variables: Sequence[str], piped: str | None) -> dict[str, tuple[str, bool]]:
    """Return field → its text, and whether it came by a way that is fit for secrets."""
    found: dict[str, tuple[str, bool]] = {}
    for option, texts in (("--field", pairs), ("--secret-from-env", variables)):
        for text in texts:
            key, equals, value = text.partition("=")
            if not key or not equals:
                raise click.BadParameter(f"{text!r} is not FIELD=…", param_hint=f"'{option}'")
            if option == "--field":
                found[key] = value, False
            elif value in os.environ:
                found[key] = os.environ[value], True
            else:
                raise click.BadParameter(f"The variable {value} is not set.", param_hint=f"'{option}'")
    if piped is not None:
        found[piped] = sys.stdin.read().rstrip("\r\n"), True
    return found


def _read(
    kind: ConnectionType, given: Mapping[str, tuple[str, bool]], before: Mapping[str, Json], runtime: Runtime
) -> JsonObject:
    """Return the given fields as values of their types."""
    texts = {key: text for key, (text, _) in given.items()}
    fields = {field.name: field for field in fields_of(kind, {**before, **texts}, runtime.catalogue)}
    for key, (_, fit) in given.items():
        field = fields.get(key)
        if field is not None and field.secret and not fit:
            raise InvalidInputs(
                f"{key!r} is a secret, and arguments are seen by others.",
                code="secret_argument",
                remedy=f"Use --secret-from-env {key}=VARIABLE or --secret-stdin {key}, and issue this one anew.",
            )
    return {key: from_text(fields[key], text) if key in fields else text for key, text in texts.items()}


def _keep(state: State, runtime: Runtime, name: str, kind: ConnectionType, values: JsonObject) -> None:
    fields = fields_of(kind, values, runtime.catalogue)
    problems = problems_of(fields, values) + missing_secrets(fields, values) + open_secrets(kind, fields, values)
    if problems:
        raise InvalidInputs(problems=problems)
    secrets = {
        field.name: Secret(value)
        for field in fields
        if field.secret and isinstance(value := values.get(field.name), str)
    }
    for secret in secrets.values():
        runtime.redactor.add(secret)
    clear = settings_of(tuple(_without_default(field) for field in fields), values)
    runtime.store.write(name, kind.id, clear, secrets)
    tell(short_secrets(fields, values), state)
    click.echo(f"Connection {name!r} is kept in the store.")
    first, *others = runtime.connections.named(name, [kind.id])
    if first.source != STORE:
        click.echo(f"It is not used here as long as there is one from: {first.source}.")
    elif any(other.source == "built in" for other in others):
        click.echo("It stands before the built-in one of this name.")
    packs = "".join(f" --pack {pack}" for pack in state.packs)
    click.echo(f"Test it: weft connections test {name}{packs}")


def _without_default(field: Parameter) -> Parameter:
    """Return the field without its default, so that the store keeps only what was given."""
    return field.model_copy(update={"default": None})


@command.command("remove")
@click.argument("name", shell_complete=connection_names)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pack_option
@connections_option
@home_option
@pass_state
def remove(state: State, *, name: str, yes: bool) -> None:
    """Take connection NAME out of the store."""
    runtime = open_runtime(state)
    if runtime.store.entry(name) is None:
        raise _not_kept(runtime, name)
    if not yes:
        click.confirm(f"Remove {name!r} from the store? Its secrets cannot be brought back.", abort=True)
    runtime.store.remove(name)
    click.echo(f"Connection {name!r} is removed.")


def _not_kept(runtime: Runtime, name: str) -> NotFound:
    elsewhere = next((each.facts for each in runtime.connections.listed() if each.facts.name == name), None)
    if elsewhere is None:
        kept = [entry.name for entry in runtime.store.entries()]
        remedy = wording.meant(name, kept) or (f"There are: {', '.join(kept)}." if kept else "It keeps none.")
    else:
        remedy = f"It comes from {elsewhere.source}: take it out there."
    return NotFound(f"There is no connection {name!r} in the store.", code="unknown_connection", remedy=remedy)


@command.command("rotate-key")
@home_option
@pack_option
@pass_state
def rotate_key(state: State) -> None:
    """Encrypt the store with a new key.

    With WEFT_KEY, put the new key and a comma before the old one first, and take the old one out afterwards.
    """
    old, new, count = open_runtime(state).store.rotate_key()
    click.echo(
        f"{count} connection{'' if count == 1 else 's'} encrypted with the new key {new}; the old one was {old}."
    )


# ---- does it work
@command.command("test")
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=connection_names)
@_type_option
@json_option
@pack_option
@connections_option
@home_option
@pass_state
def test(state: State, *, names: tuple[str, ...], type_: str | None, as_json: bool) -> ExitCode:
    """Speak to the other side of each connection NAME and say what was proved; nothing is sent or changed.

    Without names, all connections but the built-in ones are tested. What cannot be known without sending something
    is told as not tested. Ends with 1 when a connection does not work.
    """
    logs.start(state)
    runtime = open_runtime(state)
    if names:
        each = dict.fromkeys(names)
        wanted = [runtime.connections.named(name, _types(runtime, name, type_))[0] for name in each]
    else:
        listed = runtime.connections.listed(_asked(runtime))
        wanted = [each.facts for each in listed if each.shadowed_by is None and each.facts.source != "built in"]
        if not wanted and not as_json:
            click.echo("There are no connections but the built-in ones. Add one: weft connections add NAME")
    found = asyncio.run(_probe_all(runtime, wanted, show=not as_json))
    if as_json:
        click.echo(to_json([_outcome(facts, probed) for facts, probed in found]))
    return ExitCode.RUN_FAILED if any(probed.state == "failed" for _, probed in found) else ExitCode.OK


async def _probe_all(
    runtime: Runtime, wanted: Sequence[ConnectionFacts], *, show: bool
) -> list[tuple[ConnectionFacts, Probed]]:
    found = []
    async with runtime:
        for facts in wanted:
            probed = await probe(
                facts.name,
                facts.type,
                connections=runtime.connections,
                registry=runtime.registry,
                redactor=runtime.redactor,
                catalogue=runtime.catalogue,
            )
            found.append((facts, probed))
            if show:
                _print_outcome(facts, probed)
    return found


_WORDS = {"works": ("works", "green"), "failed": ("failed", "red"), "untested": ("not tested", "yellow")}


def _print_outcome(facts: ConnectionFacts, probed: Probed) -> None:
    marks = symbols(sys.stdout)
    mark = {"works": marks.succeeded, "failed": marks.failed, "untested": marks.skipped}[probed.state]
    word, colour = _WORDS[probed.state]
    screen = Screen(sys.stdout)
    screen.print(
        Text.assemble(
            (f"{mark} ", colour),
            (facts.name, "bold"),
            "  ",
            (word, colour),
            (f"  {facts.type} from {facts.source}, {duration(probed.ms / 1000)}", "dim"),
        ),
        soft_wrap=True,
    )
    screen.print(Text(f"  {clean_line(probed.message)}"), soft_wrap=not screen.is_terminal)
    if probed.remedy:
        screen.print(Text.assemble(("  help: ", "bold"), clean_line(probed.remedy)), soft_wrap=not screen.is_terminal)


def _outcome(facts: ConnectionFacts, probed: Probed) -> JsonObject:
    return {
        "name": facts.name,
        "type": facts.type,
        "provider": facts.provider,
        "source": facts.source,
        "state": probed.state,
        "message": probed.message,
        "code": probed.code,
        "remedy": probed.remedy,
        "ms": probed.ms,
    }

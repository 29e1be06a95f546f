"""`weft schema`: the JSON Schema of a kind of document, for editors."""

from __future__ import annotations

import click

from weft import catalogue, manifest, workflow
from weft.cli import keys
from weft.cli.terminal import to_json
from weft.rehearsal import cases

KINDS = {
    "workflow": workflow.json_schema,
    "manifest": manifest.json_schema,
    "connection-type": manifest.connection_type_json_schema,
    "models": catalogue.json_schema,
    "test": cases.json_schema,
}


@click.command("schema")
@click.argument("kind", metavar="KIND", type=click.Choice(list(KINDS)))
@click.option("--markdown", is_flag=True, help="Print tables of all keys instead, as Markdown.")
def command(kind: str, *, markdown: bool) -> None:
    """Print the JSON Schema of a kind of document, for completion and checks in an editor.

    KIND is workflow, manifest, connection-type, models or test.
    """
    schema = KINDS[kind]()
    click.echo(keys.markdown(schema) if markdown else to_json(schema))

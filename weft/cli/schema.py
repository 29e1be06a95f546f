"""`weft schema`: the JSON Schema of a kind of document, for editors."""

from __future__ import annotations

import click

from weft import manifest, workflow
from weft.cli.terminal import to_json

KINDS = {
    "workflow": workflow.json_schema,
    "manifest": manifest.json_schema,
    "connection-type": manifest.connection_type_json_schema,
}


@click.command("schema")
@click.argument("kind", type=click.Choice(list(KINDS)))
def command(kind: str) -> None:
    """Print the JSON Schema of a kind of document, for completion and checks in an editor."""
    click.echo(to_json(KINDS[kind]()))

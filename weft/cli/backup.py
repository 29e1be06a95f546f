"""`weft backup`: a copy of the whole home in one file, made while work goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from weft.cli import logs
from weft.cli.state import State, home_option, json_option, pass_state
from weft.cli.terminal import clean_line, size, to_json
from weft.errors import JournalRefused
from weft.runtime import DATABASE_URL
from weft.upkeep.backing_up import Parts, back_up
from weft.upkeep.members import LEFT_OUT, Manifest

WORKSPACE: Final = Path("workflows")
_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_DIRECTORY: Final = click.Path(file_okay=False, path_type=Path)


@click.command("backup", short_help="Copy the whole home while it works.")
@click.argument("to", metavar="FILE", type=_FILE)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@click.option(
    "--with-keys", is_flag=True, help="Put the keys of stored connections in, too; then guard FILE like them."
)
@click.option(
    "--workspace",
    type=_DIRECTORY,
    help="The directory of workflows [default: $WEFT_WORKSPACE, else workflows/ where it is there].",
)
@json_option
@home_option
@pass_state
def command(state: State, *, to: Path, force: bool, with_keys: bool, workspace: Path | None, as_json: bool) -> None:
    """Write a copy of the whole home to FILE, complete or not at all, and read it back. Work goes on meanwhile.

    It holds the journal, versions of workflows, tokens, the audit log, stored connections, the outbox, the settings in the
    home, and the workflows of this directory. What runs were given and gave stands in it as it is.
    """
    refuse_database(
        "Back the database up with PostgreSQL's own means, for example: pg_dump --format=custom --file=weft.dump. Keys are"
        " not in it."
    )
    if to.exists() and not force:
        raise JournalRefused(f"{to} is there already.", code="file_exists", remedy="Name another file, or add --force.")
    logs.start(state)
    parts = Parts(_workspace(workspace), with_keys, os.environ)
    manifest = asyncio.run(back_up(state.find_home(), to, parts))
    if as_json:
        click.echo(to_json({"file": str(to), "size": to.stat().st_size, **manifest.model_dump(mode="json")}))
        return
    for line in _told(to, manifest, parts):
        click.echo(clean_line(line))


def refuse_database(remedy: str) -> None:
    """Refuse where what is to be copied lies in a database."""
    if os.environ.get(DATABASE_URL):
        raise JournalRefused(
            f"{DATABASE_URL} is set: runs and their tables are in PostgreSQL, not in files.",
            code="no_file",
            remedy=remedy,
        )


def _workspace(named: Path | None) -> Path | None:
    if named is not None:
        return named
    given = os.environ.get("WEFT_WORKSPACE")
    usual = Path(given) if given else WORKSPACE
    return usual if usual.is_dir() else None


def _told(to: Path, manifest: Manifest, parts: Parts) -> Iterator[str]:
    counts = {
        kind: sum(member.kind == kind for member in manifest.members) for kind in ("database", "mail", "workspace")
    }
    databases = ", ".join(member.name for member in manifest.members if member.kind == "database")
    yield f"{to}: {size(to.stat().st_size)}; read back, and sound."
    yield f"It holds {databases}, {counts['mail']} files of the outbox and {counts['workspace']} of the workspace."
    if parts.workspace is None:
        yield "No directory of workflows was found: --workspace names one."
    if manifest.keys:
        yield "The keys are in it: whoever has this file can read every stored connection."
    elif os.environ.get("WEFT_KEY"):
        yield "The key in WEFT_KEY is not in it: keep it elsewhere; without it stored connections cannot be opened."
    else:
        yield "Keys are not in it: without them stored connections cannot be opened. Keep them elsewhere, or use --with-keys."
    yield f"Left out: {', '.join(f'{name}/ ({why})' for name, why in LEFT_OUT.items())}."

"""`weft restore`: a backup in the place of the home."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from weft.cli import logs
from weft.cli.backup import refuse_database
from weft.cli.state import State, home_option, json_option, pass_state
from weft.cli.terminal import clean_line, to_json
from weft.journal.health import of_file
from weft.runtime import JOURNAL
from weft.upkeep.members import WORKSPACE
from weft.upkeep.restoring import Restored, restore

_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_DIRECTORY: Final = click.Path(file_okay=False, path_type=Path)


@click.command("restore", short_help="Put a backup in the home's place.")
@click.argument("file", metavar="FILE", type=_FILE)
@click.option(
    "--workspace", type=_DIRECTORY, help="Put its workflows into this directory, which is empty or not there."
)
@json_option
@home_option
@pass_state
def command(state: State, *, file: Path, workspace: Path | None, as_json: bool) -> None:
    """Put the backup FILE in the home's place, after all of it was looked at. What was there is kept beside it.

    What its runs have done since the backup is not known: those that have not ended are held for review, schedules start
    nothing for the time between, and logins are ended. No process may be at work meanwhile.
    """
    refuse_database(
        "Restore the database with PostgreSQL's own means, then, before any worker starts: weft journal hold"
    )
    logs.start(state)
    home = state.find_home()
    done = restore(file, home, os.environ, workspace=workspace)
    review = of_file(home / JOURNAL).review
    if as_json:
        told = {
            "home": str(home),
            "made_at": done.manifest.made_at,
            "weft": done.manifest.weft,
            "aside": None if done.aside is None else str(done.aside),
            "workspace": None if done.workspace is None else str(done.workspace),
            "keys": list(done.keys),
            "keys_kept": list(done.keys_known),
            "for_review": review,
        }
        click.echo(to_json(told))
        return
    for line in _told(home, file, done, review):
        click.echo(clean_line(line))


def _told(home: Path, file: Path, done: Restored, review: int) -> Iterator[str]:
    yield f"{home} is what {file} says, made {done.manifest.made_at} by Weft {done.manifest.weft}."
    if done.aside is not None:
        yield f"What was there is {done.aside}."
    if review:
        yield f"{review} {'run' if review == 1 else 'runs'} held for review: weft runs list --state parked"
    if done.workspace is not None:
        yield f"Its workflows are in {done.workspace}."
    elif any(member.kind == WORKSPACE for member in done.manifest.members):
        yield "Its workflows were left in it: --workspace DIR puts them into a directory."
    for key in done.keys:
        yield f"Key put at {key}."
    for key in done.keys_known:
        yield f"Another key stands at {key}, and has stayed: what the backup's key opens cannot be opened with it."
    yield "API tokens that were revoked since the backup count again: look at weft tokens list."

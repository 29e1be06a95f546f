"""`weft audit`: who did what and when, and whether the log of it is whole."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime

import click
from rich.table import Table
from rich.text import Text

from weft.access import Access, Audit
from weft.access.shapes import AuditEntry, AuditReport, report_of, shown
from weft.cli.exits import ExitCode
from weft.cli.instants import started
from weft.cli.state import State, home_option, json_option, pass_state
from weft.cli.terminal import Screen, clean_line, is_live, to_json
from weft.cli.tokens import with_access


@click.group("audit")
def command() -> None:
    """See what was done by whom, and verify that the log of it is whole.

    \b
    weft audit list
    weft audit verify
    weft audit verify --noted 5120:9f86d081…   must still contain this entry
    """


@command.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
@json_option
@home_option
@pass_state
def list_(state: State, *, limit: int, as_json: bool) -> None:
    """List what was done, the newest last."""

    async def work(access: Access, audit: Audit) -> list[AuditEntry]:
        return [shown(entry) for entry in reversed(await audit.list(limit=limit))]

    found = with_access(state, work)
    if as_json:
        click.echo(to_json({"items": [entry.model_dump(mode="json") for entry in found]}))
    elif not found:
        click.echo("Nothing was done yet.", err=True)
    elif is_live(sys.stdout):
        table = Table("when", "who", "what", "to", "details", box=None, pad_edge=False, header_style="dim")
        for entry in found:
            table.add_row(*(Text(cell) for cell in _cells(entry)))
        Screen(sys.stdout).print(table)
    else:
        for entry in found:
            click.echo("\t".join([str(entry.number), *_cells(entry)]))


@command.command("verify")
@click.option("--noted", metavar="NUMBER:HASH", help="An entry that was noted elsewhere; the log must contain it.")
@json_option
@home_option
@pass_state
def verify(state: State, *, noted: str | None, as_json: bool) -> ExitCode:
    """Follow the log from its first entry to its last. The exit code is 1 when something was changed or is missing.

    Note the head that this prints in another place, now and then: whoever can write to the database could make all of
    the log anew, and then that place still knows better.
    """
    if noted is not None and not re.fullmatch(r"\d{1,18}:[0-9a-f]{64}", noted):
        raise click.BadParameter("it is what weft audit verify prints as head: NUMBER:HASH", param_hint="--noted")

    async def work(access: Access, audit: Audit) -> AuditReport:
        return report_of(await audit.verify(noted))

    found = with_access(state, work)
    if as_json:
        click.echo(to_json(found.model_dump(mode="json")))
    else:
        for fault in found.faults:
            click.echo(fault)
        count = f"{found.entries:,} {'entry' if found.entries == 1 else 'entries'}"
        click.echo(f"{count}, {'NOT whole' if found.faults else 'whole'}; head {found.head}")
    return ExitCode.RUN_FAILED if found.faults else ExitCode.OK


def _cells(entry: AuditEntry) -> list[str]:
    details = json.dumps(entry.details, ensure_ascii=False) if entry.details else ""
    texts = (started(entry.at, datetime.now(UTC)), f"{entry.who} ({entry.kind})", entry.action, entry.target, details)
    return [clean_line(text) for text in texts]

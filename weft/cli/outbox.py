"""`weft outbox`: the mail that was kept instead of delivered. Mails are foreign text, and shown as such."""

from __future__ import annotations

import os
import sys

import click
from rich.table import Table
from rich.text import Text

from weft.cli.state import State, home_option, json_option, pass_state
from weft.cli.terminal import Screen, clean, clean_line, is_live, size, to_json
from weft.embedded.outbox import Kept, KeptMessage, Outbox, outbox_at
from weft.errors import NotFound
from weft.types import JsonObject

OUTBOX = "outbox"
"""The directory in the home."""

HEADERS = ("From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID", "In-Reply-To")
WIDTH = 80
"""Cells of a line of text; longer lines are hard to read, however wide the terminal is."""


@click.group("outbox", invoke_without_command=True)
@home_option
@click.pass_context
def command(context: click.Context) -> None:
    """Read the mail that the outbox keeps: the built-in server that delivers nothing.

    Without a command, it lists the mails.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_, as_json=False)


@command.command("list")
@json_option
@home_option
@pass_state
def list_(state: State, *, as_json: bool) -> None:
    """List the mails, newest last."""
    mails = _outbox(state).messages()
    if as_json:
        click.echo(to_json([_entry(mail) for mail in mails]))
    elif not mails:
        click.echo("The outbox is empty.")
    elif is_live(sys.stdout):
        Screen(sys.stdout).print(_table(mails))
    else:
        for mail in mails:
            click.echo("\t".join(_cells(mail)))


@command.command("show")
@click.argument("which", metavar="[N]", required=False)
@click.option("--raw", "form", flag_value="raw", help="Print the mail as it was received.")
@click.option("--html", "form", flag_value="html", help="Print its HTML.")
@click.option("--json", "form", flag_value="json", help="Print JSON on standard output.")
@home_option
@pass_state
def show(state: State, *, which: str | None, form: str | None) -> None:
    """Show mail number N, the newest when N is left out."""
    outbox = _outbox(state)
    mail = outbox.message(_newest(outbox) if which is None else which)
    match form:
        case "raw":
            _put(mail.raw)
        case "html":
            if mail.html is None:
                raise NotFound(f"Mail {mail.kept.number} has no HTML.", remedy="Show its text: leave out --html.")
            _put(mail.html.encode("utf-8", "replace"))
        case "json":
            click.echo(to_json(_whole(mail)))
        case _:
            _print(mail)


def _outbox(state: State) -> Outbox:
    """Return the outbox of the home, or of the database; reading mail needs no packs and no connections."""
    return outbox_at(state.find_home() / OUTBOX, os.environ.get("WEFT_DATABASE_URL"))


def _newest(outbox: Outbox) -> str:
    mails = outbox.messages()
    if not mails:
        raise NotFound("The outbox is empty.", remedy="Run a workflow whose mail goes to the connection `outbox`.")
    return mails[-1].id


def _put(content: bytes) -> None:
    """Write foreign bytes: as they are to a file or pipe, harmless to a terminal."""
    if sys.stdout.isatty():
        click.echo(clean(content.decode("utf-8", "replace")))
    else:
        sys.stdout.buffer.write(content)


def _print(mail: KeptMessage) -> None:
    screen = Screen(sys.stdout)
    width = min(screen.width, WIDTH)
    for name, value in _shown_headers(mail):
        screen.print(
            Text.assemble((f"{name}: ", "dim"), (clean_line(value), "bold" if name == "Subject" else "")),
            soft_wrap=True,
        )
    screen.print()
    text = clean(mail.text or "").strip("\n").expandtabs(4)
    for line in Text(text or "(no text)", "" if text else "dim").wrap(screen, width):
        line.rstrip()
        screen.print(line, soft_wrap=True)
    if mail.attachments:
        screen.print()
    for attachment in mail.attachments:
        facts = f"{clean_line(attachment.content_type)}, {size(len(attachment.content))}"
        screen.print(
            Text.assemble(("attached ", "dim"), clean_line(attachment.filename) or "(no name)", (f" {facts}", "dim"))
        )
    if mail.html is not None:
        screen.print(Text(f"\nIts HTML: weft outbox show {mail.kept.number} --html", "dim"))


def _shown_headers(mail: KeptMessage) -> list[tuple[str, str]]:
    known = {name.lower(): name for name in HEADERS}
    shown = [(known[name.lower()], value) for name, value in mail.headers if name.lower() in known]
    shown.sort(key=lambda header: HEADERS.index(header[0]))
    named = " ".join(value for name, value in shown if name in {"To", "Cc"})
    if hidden := [address for address in mail.kept.to if address not in named]:
        shown.append(("Bcc", ", ".join(hidden)))
    return shown


def _table(mails: list[Kept]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(justify="right", no_wrap=True, style="bold")
    table.add_column(no_wrap=True, style="dim")
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=30)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for mail in mails:
        table.add_row(*(Text(cell) for cell in _cells(mail)))
    return table


def _cells(mail: Kept) -> list[str]:
    date = f"{mail.date.astimezone():%Y-%m-%d %H:%M}" if mail.date else "-"
    return [str(mail.number), date, clean_line(", ".join(mail.to)), clean_line(mail.subject)]


def _entry(mail: Kept) -> JsonObject:
    return {
        "number": mail.number,
        "id": mail.id,
        "subject": mail.subject,
        "from": mail.sender,
        "to": list(mail.to),
        "date": mail.date.isoformat() if mail.date else None,
        "size": mail.size,
    }


def _whole(mail: KeptMessage) -> JsonObject:
    return {
        **_entry(mail.kept),
        "headers": [list(header) for header in mail.headers],
        "text": mail.text,
        "html": mail.html,
        "attachments": [
            {"filename": each.filename, "content_type": each.content_type, "size": len(each.content)}
            for each in mail.attachments
        ],
    }

"""`weft webhooks`: where other programs post what starts workflows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from weft.cli.exits import ExitCode
from weft.cli.opening import workflow_names
from weft.cli.runs import runtime_options, with_runtime
from weft.cli.state import State, json_option, pass_state
from weft.cli.terminal import Screen, clean, clean_line, is_live, to_json
from weft.engine.approving import DEFAULT_URL
from weft.errors import InvalidInputs
from weft.runtime import Runtime
from weft.webhooks.reporting import WebhookReport, report_of, reports, rotate
from weft.webhooks.sending import Sent, send
from weft.workflow import seconds

LARGEST = 10_000_000
"""Bytes of a file that is sent."""


class _Webhooks(click.Group):
    """Without a command it lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = bool(args) and args[0].startswith("-") and args[0] not in ctx.help_option_names
        if options or not (args or ctx.resilient_parsing):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("webhooks", cls=_Webhooks)
def command() -> None:
    """See where other programs post what starts workflows, try it, and give a webhook another address.

    \b
    weft webhooks                      all webhooks and their addresses
    weft webhooks show orders          where to post for one workflow
    weft webhooks send orders --data '{"n": 1}'
                                       post a signed message to the server here
    weft webhooks rotate orders --overlap 24h
                                       another address; the old one ends tomorrow
    """


_WHICH = click.argument("workflow", metavar="WORKFLOW", shell_complete=workflow_names)
_NAME = click.argument("name", metavar="[WEBHOOK]", required=False)


def _base() -> str:
    return os.environ.get("WEFT_URL") or DEFAULT_URL


@command.command("list", short_help="List webhooks and their addresses.")
@json_option
@runtime_options
@pass_state
def list_(state: State, *, as_json: bool) -> None:
    """List the webhooks of all workflows, with their addresses and whether they take anything now."""

    async def work(runtime: Runtime) -> list[WebhookReport]:
        return await reports(runtime, _base())

    found = with_runtime(state, work)
    if as_json:
        click.echo(to_json([each.model_dump(mode="json") for each in found]))
    elif not found:
        click.echo("No workflow here declares a webhook.", err=True)
    elif is_live(sys.stdout):
        Screen(sys.stdout).print(_table(found))
    else:
        for each in found:
            click.echo("\t".join(map(clean_line, _cells(each))))


@command.command("show", short_help="Show where to post for one workflow.")
@_WHICH
@_NAME
@json_option
@runtime_options
@pass_state
def show(state: State, *, workflow: str, name: str | None, as_json: bool) -> None:
    """Show one webhook. WEBHOOK is needed only where WORKFLOW has several."""

    async def work(runtime: Runtime) -> WebhookReport:
        return await report_of(runtime, _base(), workflow, name)

    _tell(with_runtime(state, work), as_json=as_json)


@command.command("rotate", short_help="Give a webhook another address.")
@_WHICH
@_NAME
@click.option("--overlap", metavar="DURATION", help="For how long the old address is reached, too, such as 24h.")
@json_option
@runtime_options
@pass_state
def rotate_(state: State, *, workflow: str, name: str | None, overlap: str | None, as_json: bool) -> None:
    """Give a webhook another address. The old one ends at once, or after --overlap.

    What signs the requests is the connection's secret, which this leaves as it is.
    """
    _require_duration(overlap)

    async def work(runtime: Runtime) -> WebhookReport:
        return await rotate(runtime, _base(), workflow, name, overlap=overlap)

    _tell(with_runtime(state, work), as_json=as_json)


@command.command("send", short_help="Post a signed message to the server here.")
@_WHICH
@_NAME
@click.option("--data", metavar="JSON", help="The body [default: a small event of the webhook's style].")
@click.option(
    "--file", "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A file with the body."
)
@click.option("--id", "message_id", metavar="ID", help="The id of the message; sent again, it is the same message.")
@click.option("--to", "base", metavar="URL", help="The server [default: WEFT_URL, or http://127.0.0.1:8321].")
@json_option
@runtime_options
@pass_state
def send_(  # one argument for each option, as click calls it
    state: State,
    *,
    workflow: str,
    name: str | None,
    data: str | None,
    file: Path | None,
    message_id: str | None,
    base: str | None,
    as_json: bool,
) -> ExitCode:
    """Sign a message as its sender would, with the secret of the webhook's connection, and post it.

    What is answered is printed. The exit code is 1 when the message was not taken.
    """
    body = _body(data, file)

    async def work(runtime: Runtime) -> Sent:
        return await send(runtime, base or _base(), workflow, name, body=body, message_id=message_id)

    sent = with_runtime(state, work)
    if as_json:
        told = {"status": sent.status, "run_id": sent.run_id, "message_id": sent.message_id, "body": sent.body}
        click.echo(to_json(told))
    else:
        if sent.message_id is not None:
            click.echo(f"message {clean_line(sent.message_id)}", err=True)
        click.echo(f"{sent.status}", err=True)
        click.echo(clean(sent.body))
    return ExitCode.OK if sent.status < 300 else ExitCode.RUN_FAILED


def _body(data: str | None, file: Path | None) -> str | None:
    if data is not None and file is not None:
        raise InvalidInputs("--data and --file are two bodies.", code="two_bodies", remedy="Give one of them.")
    if file is None:
        return data
    with file.open("rb") as opened:
        content = opened.read(LARGEST + 1)
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = None
    if text is None or len(content) > LARGEST:
        raise InvalidInputs(f"{file} is no UTF-8 text of at most {LARGEST:,} bytes.", code="bad_body")
    return text


def _require_duration(overlap: str | None) -> None:
    try:
        if overlap is not None:
            seconds(overlap)
    except ValueError:
        raise InvalidInputs(
            f"--overlap {overlap!r} is no duration.", code="duration", remedy="Write 90s, 5m, 24h or 7d."
        ) from None


def _tell(report: WebhookReport, *, as_json: bool) -> None:
    if as_json:
        click.echo(to_json(report.model_dump(mode="json")))
        return
    how = "answers with the outputs" if report.synchronous else "answers at once"
    lines = [
        f"{report.workflow}/{report.name}: {report.style}, signed by connection {report.connection}, {how}",
        *_NOTES.get(report.state, ()),
        report.url or "",
    ]
    for line in lines:
        click.echo(clean_line(line))


_NOTES = {
    "disabled": ("It takes nothing: the workflow says `enabled: false`.",),
    "unsigned": ("It takes nothing: there is no such connection with a signing secret.",),
}


def _cells(report: WebhookReport) -> list[str]:
    return [report.workflow, report.name, report.style, report.connection, report.state, report.url or ""]


def _table(found: list[WebhookReport]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("WORKFLOW", "WEBHOOK", "STYLE", "CONNECTION", "STATE"):
        table.add_column(name)
    table.add_column("URL", overflow="fold")
    for each in found:
        table.add_row(*(Text(clean_line(cell)) for cell in _cells(each)))
    return table

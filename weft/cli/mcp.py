"""`weft mcp`: workflows and actions as tools of an agent, over standard input and output."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import click

from weft.cli import logs
from weft.cli.exits import ExitCode
from weft.cli.opening import action_ids, open_runtime
from weft.cli.state import State, connections_option, env_option, home_option, pack_option, pass_state
from weft.types import JsonObject
from weft.workspace import McpAction

LONGEST_WAIT_S = 3_600.0


@click.command("mcp")
@click.option(
    "--action",
    "actions",
    metavar="ID[=CONNECTION,…]",
    multiple=True,
    shell_complete=action_ids,
    help="Offer this action, too, with all connections of its type or with these. May be repeated.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, LONGEST_WAIT_S),
    default=50.0,
    show_default=True,
    help="Seconds that a call waits for the end of its run; then it answers with the run's id.",
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Go to this directory first: that of the workspace.",
)
@click.option("--print-config", is_flag=True, help="Print the entry for a client's configuration, and end.")
@pack_option
@connections_option
@env_option
@home_option
@pass_state
def command(
    state: State, *, actions: tuple[str, ...], wait_s: float, directory: Path | None, print_config: bool
) -> ExitCode:
    """Offer workflows that say `expose: true` to an agent as tools, over standard input and output (MCP).

    An agent's program starts this command as its own: see --print-config. Each call is a durable run, shown by weft runs.
    It ends when standard input is closed, or by SIGTERM; runs that go on then are left to weft worker.
    """
    if print_config:
        click.echo(json.dumps(_config(state, actions, wait_s, directory), indent=2))
        return ExitCode.OK
    if directory is not None:
        os.chdir(directory)
    stop = _Stop()
    log = logs.start(state)
    further = [allowed(each) for each in actions]
    runtime = open_runtime(state)
    from weft.mcp import stdio  # noqa: PLC0415  the SDK costs 0.7 s
    from weft.mcp.offering import Offering  # noqa: PLC0415

    offering = Offering(runtime, [*runtime.settings.mcp.actions, *further])

    async def whole() -> None:
        async with runtime:
            await runtime.opened()
            await stdio.serve(runtime, offering, stop.event(), wait_s=wait_s)

    asyncio.run(whole())
    if log.has_errors:
        click.echo(f"The log has more: {log.file}", err=True)
    sys.stderr.flush()
    os._exit(ExitCode.OK)  # a thread may still wait for standard input


class _Stop:
    """SIGTERM and SIGINT end the command as the end of standard input does; a second one ends it at once."""

    def __init__(self) -> None:
        self._asked = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def event(self) -> asyncio.Event:
        """Return what is set by a signal; for the loop that runs now."""
        self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()
        return self._event

    def _handle(self, number: int, frame: object) -> None:
        if self._asked or self._loop is None or self._event is None:
            os._exit(ExitCode.OK if not self._asked else ExitCode.TERMINATED)
        self._asked = True
        self._loop.call_soon_threadsafe(self._event.set)


def allowed(text: str) -> McpAction:
    """Return what an option allows: `send_email`, or `send_email=outbox,work`."""
    id_, _, names = text.partition("=")
    try:
        return McpAction(id=id_, connections=[name.strip() for name in names.split(",")] if names else None)
    except ValueError:
        raise click.UsageError(f"--action takes ID or ID=CONNECTION,…, not {text!r}.") from None


def _config(state: State, actions: tuple[str, ...], wait_s: float, directory: Path | None) -> JsonObject:
    """Return what is written into the configuration of a client: it starts the command from wherever it likes."""
    words = ["mcp", "--directory", str((directory or Path.cwd()).resolve())]
    for option, value in (("--home", state.home), ("--connections", state.connections)):
        if value is not None:
            words += [option, str(value.resolve())]
    if state.environment is not None:
        words += ["--env", state.environment]
    for pack in state.packs:
        words += ["--pack", str(pack.resolve())]
    for action in actions:
        words += ["--action", action]
    if wait_s != 50.0:
        words += ["--wait", f"{wait_s:g}"]
    return {"mcpServers": {"weft": {"command": shutil.which("weft") or sys.argv[0], "args": list(words)}}}

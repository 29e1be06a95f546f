"""`weft serve`: the API, webhooks, schedules and runs in one process, and the browser that looks at them."""

from __future__ import annotations

import gc
from typing import Final

import click

from weft.cli.exits import ExitCode
from weft.cli.state import State, connections_option, env_option, home_option, json_option, pack_option, pass_state
from weft.cli.worker import Seconds
from weft.worker import GRACE_S

HOST: Final = "127.0.0.1"
PORT: Final = 8321


@click.command("serve", short_help="Serve the API, webhooks, schedules and runs; open the browser.")
@click.option("--host", default=HOST, show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="Where to listen; 0 takes a free one.",
)
@click.option("--no-browser", is_flag=True, help="Do not open the browser.")
@click.option("--no-worker", is_flag=True, help="Answer requests only; weft worker does the work.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="How many runs to have in hand at a time.",
)
@click.option(
    "--grace",
    "grace_s",
    type=Seconds(0, 86_400),
    default=GRACE_S,
    show_default=True,
    metavar="SECONDS",
    help="After SIGTERM: how long steps that are under way may go on.",
)
@json_option
@pack_option
@connections_option
@env_option
@home_option
@pass_state
def command(
    state: State,
    *,
    host: str,
    port: int,
    no_browser: bool,
    no_worker: bool,
    concurrency: int,
    grace_s: float,
    as_json: bool,
) -> ExitCode:
    """Serve the workflows in workflows/: the API and its pages, webhooks, schedules and runs, in one process.

    It listens on this machine only, and prints a link that logs one browser in, once. Other programs come with a token
    (weft tokens create). On any other address it needs a token or an identity provider first; see docs/server.md. With
    WEFT_DATABASE_URL any number of servers and workers share the work: weft serve --no-worker, weft worker.

    Ctrl-C or SIGTERM stops it as it stops weft worker: runs rest and go on next time. With --json each event is a line
    of JSON; `ready` has the address and the link.
    """

    gc.disable()  # a fifth of the time to be ready: all that is made until then stays
    from weft.cli.serving import serve  # noqa: PLC0415  FastAPI and SQLAlchemy cost 0.6 s, which --help does without

    return serve(
        state,
        host,
        port,
        opens=not no_browser,
        works=not no_worker,
        concurrency=concurrency,
        grace_s=grace_s,
        as_json=as_json,
    )

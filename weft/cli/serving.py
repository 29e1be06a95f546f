"""What `weft serve` does, loaded when it does it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import getpass
import json
import os
import sys
import time
import webbrowser
from datetime import UTC, datetime
from typing import Any, Final

import click

from weft import __version__, retention
from weft.access.oidc import read_provider
from weft.cli import logs
from weft.cli.exits import ExitCode
from weft.cli.state import State
from weft.cli.terminal import duration
from weft.cli.worker import Lines, Signals, fast_loop, same
from weft.dispatch.base import happens
from weft.errors import JournalUnavailable, NotAllowed, StateUnavailable, WeftError
from weft.isolation import Say
from weft.reading import learn_secrets
from weft.runtime import Runtime
from weft.server.app import create_app
from weft.server.house import House, make_house
from weft.server.serving import Service, Serving, listen
from weft.server.settings import is_loopback, read_settings
from weft.server.warming import warming
from weft.types import JsonObject
from weft.worker import FINAL, LONGEST_PAUSE_S, SILENCE_S, Worker

NEVER: Final = frozenset({"bad_database_url", "state_too_new"})
"""Why the tables beside the journal cannot be opened in a database, where waiting does not help."""


def serve(
    state: State,
    host: str,
    port: int,
    *,
    opens: bool,
    works: bool,
    concurrency: int,
    grace_s: float,
    as_json: bool,
) -> ExitCode:
    """Serve until there is a signal; the options are those of the command."""
    signals = Signals(grace_s)
    log = logs.start(state)
    listening = listen(host, port)
    with contextlib.closing(listening):
        runtime = Runtime.open(
            home=state.home,
            packs=state.packs,
            connections=state.connections,
            environment=state.environment,
            concurrency=concurrency,
        )
        state.redactor = runtime.redactor
        say = Lines(sys.stdout, runtime.redactor, as_json=as_json)

        async def whole() -> None:
            async with runtime:
                house = _house(runtime, host, listening.getsockname()[1])
                worker = None
                if works:
                    keep_s = retention.retention(os.environ)
                    worker = Worker(runtime, say, command=same(state, grace_s), grace_s=grace_s, keep_s=keep_s)
                await _serve(house, worker, listening, signals, say, opens=opens, as_json=as_json)

        with asyncio.Runner(loop_factory=fast_loop()) as runner:
            runner.run(whole())
    if log.has_errors:
        click.echo(f"The log has more: {log.file}", err=True)
    return signals.code


def _house(runtime: Runtime, host: str, port: int) -> House:
    settings = read_settings(os.environ, host=host, port=port)
    return make_house(runtime, settings, read_provider(os.environ))


async def _serve(
    house: House, worker: Worker | None, listening: Any, signals: Signals, say: Say, *, opens: bool, as_json: bool
) -> None:
    app = create_app(house)
    service = Service(house, Serving(app, listening, headers_s=house.settings.headers_s), worker)
    signals.guide(service)
    if await _opened(house, service, say):
        gc.freeze()
        gc.enable()
        login = await _link(house) if is_loopback(house.settings.host) else None
        _tell(house, login, works=worker is not None, as_json=as_json)
        async with warming(house.runtime.registry):
            if opens and login is not None and _has_screen():
                await asyncio.to_thread(webbrowser.open, await _link(house, own=True))
            await service.run()
    else:
        await service.run()


async def _opened(house: House, service: Service, say: Say) -> bool:
    """Start the server, with what it stands on; tell whether that is there, or there was a request to stop.

    While it is away requests are answered, with 503, so that whoever asks `/ready` learns why.
    """
    opening = asyncio.create_task(_open(house))
    await asyncio.wait({opening}, timeout=SILENCE_S)
    if opening.done() and (opening.exception() is None or not _may_come(house, opening.exception())):
        await opening
        await service.start()
        return True
    await service.start()
    try:
        return await _awaited(house, opening, say)
    except BaseException:
        service.stop_now()
        await service.run()
        raise


async def _awaited(house: House, opening: asyncio.Task[None], say: Say) -> bool:
    stopping, pause_s, told = asyncio.create_task(house.closing.wait()), 0.25, ""
    while not stopping.done():
        if not opening.done() and not told:
            told = "The journal takes long to open; another program may hold it."
            say("journal_away", message=told, remedy=None)
        await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            break
        error = opening.exception()
        if error is None or not isinstance(error, WeftError) or not _may_come(house, error):
            await opening
            say("journal_back")
            break
        if error.problem.message != told:
            told = error.problem.message
            say("journal_away", message=told, remedy=error.problem.remedy)
        await happens(house.closing, pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        opening = asyncio.create_task(_open(house))
    stopping.cancel()
    opening.cancel()
    await asyncio.wait({opening})
    return not house.closing.is_set()


async def _open(house: House) -> None:
    """Open all that the server stands on, and learn what it must not tell.

    Raises:
        NotAllowed: Others can reach it, and none of them could be told from anybody.
        JournalUnavailable, StateUnavailable: It may be there later on; see `_may_come`.
    """
    await house.runtime.opened_state()
    host = house.settings.host
    if not is_loopback(host) and house.logins is None and not await house.access.has_token():
        raise NotAllowed(
            f"Others could reach this server on {host}, and there is nothing yet by which it would know them.",
            code="no_authentication",
            remedy=(
                "Create a token first: weft tokens create NAME --scope admin. Or name an identity provider "
                "(WEFT_OIDC_ISSUER, docs/server.md). Without --host only this machine reaches it."
            ),
        )
    await house.runtime.opened()
    await learn_secrets(house.runtime)


def _may_come(house: House, error: BaseException | None) -> bool:
    """Tell whether what is away may come back by itself, as a database does, or a file that another program holds."""
    match error:
        case JournalUnavailable():
            return error.problem.code not in FINAL
        case StateUnavailable():
            is_busy, in_database = error.problem.code == "state_busy", house.state.dialect == "postgresql"
            return is_busy or (in_database and error.problem.code not in NEVER)
        case _:
            return False


async def _link(house: House, *, own: bool = False) -> str:
    """Return an address that logs one browser in, once.

    Args:
        house: Whose server it is.
        own: Whether it is handed to a program. All users of a machine see the arguments of programs, so that such a link
            is for programs of this user alone.
    """
    facts: JsonObject = {"name": getpass.getuser()}
    if own and hasattr(os, "getuid"):
        facts["user"] = os.getuid()
    token = await house.access.issue("link", facts)
    return f"{house.settings.address}/login?token={token}"


def _tell(house: House, login: str | None, *, works: bool, as_json: bool) -> None:
    """Say that requests are answered. Written as it is: the link is a secret, meant for whoever reads this."""
    address, cpu_s = house.settings.address, time.process_time()
    if as_json:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        token = None if login is None else login.rpartition("token=")[2]
        facts = {"event": "ready", "at": at, "url": address, "login": login, "token": token, "works": works}
        click.echo(json.dumps({**facts, "cpu_s": round(cpu_s, 3)}))
        return
    click.echo(f"weft {__version__} serves {address}, ready after {duration(cpu_s)}")
    if login is None:
        click.echo(f"log in with a token (weft tokens create) at {address}/login")
    else:
        click.echo(f"log in, once: {login}")
    if not works:
        click.echo(
            "it answers requests only: runs and schedules wait for weft worker, or a weft serve without --no-worker"
        )


def _has_screen() -> bool:
    """Tell whether there is a screen for a browser; without one a text browser would take this terminal."""
    return sys.platform in {"darwin", "win32"} or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )

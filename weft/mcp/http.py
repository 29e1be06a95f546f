"""Tools over streamable HTTP, at `/mcp` of a server; loaded by the first request, because the SDK costs 0.7 s."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from weft.access import Identity
from weft.engine.events import Event, RunStarted, StepEnded, StepStarted
from weft.engine.report import StepReport
from weft.errors import NotFound
from weft.journal.base import ENDS, Listed
from weft.live import Frame, Hub, Listening
from weft.live.ring import RingUnavailable
from weft.mcp.calling import Calls
from weft.mcp.offering import Offering
from weft.reading import Reading
from weft.runtime import Runtime

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

LARGEST_BODY: Final = 1_000_000
IDLE_S: Final = 1_800.0
"""A client that has asked nothing for so long begins anew."""
SESSIONS: Final = 1_000
OVER: Final = (*ENDS, "parked")
LOOK_S: Final = (0.05, 1.0)
"""How soon and how seldom it is looked whether a run has ended."""


class House(Protocol):
    """What is needed of a server's parts."""

    runtime: Runtime
    hub: Hub


class McpApp:
    """The application at `/mcp`. Whoever comes here is known: `scope["weft.identity"]` says who it is.

    Args:
        house: The server's parts.
        shared: Whether other processes answer requests of the same client. Then none keeps anything of it: a client of a
            protocol before 2026-07-28 is not told when the tools change, and cancels by the tool `cancel_run` alone.
    """

    def __init__(self, house: House, *, shared: bool) -> None:
        self._house = house
        self._shared = shared
        self._wanted = asyncio.Event()
        self._ready: asyncio.Future[ASGIApp] | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the block lasts; nothing is loaded before the first request."""
        self._ready = asyncio.get_running_loop().create_future()
        keeping = asyncio.create_task(self._keep(self._ready))
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def _keep(self, ready: asyncio.Future[ASGIApp]) -> None:
        await self._wanted.wait()
        try:
            serving = await asyncio.to_thread(importlib.import_module, "weft.mcp.serving")
            manager_module = importlib.import_module("mcp.server.streamable_http_manager")
            runtime = self._house.runtime
            offering = Offering(runtime, runtime.settings.mcp.actions)
            server = serving.McpServer(
                runtime, offering, Calls(runtime, offering, Elsewhere(runtime, self._house.hub)), _who
            )
        except Exception as error:  # noqa: BLE001  told to whoever asks
            ready.set_exception(error)
            return
        manager = manager_module.StreamableHTTPSessionManager(
            server,
            stateless=self._shared,
            session_idle_timeout=None if self._shared else IDLE_S,
            max_request_body_size=LARGEST_BODY,
            max_sessions=SESSIONS,
        )
        announcing = asyncio.create_task(server.announce())
        try:
            async with manager.run():
                ready.set_result(manager.handle_request)
                await asyncio.Event().wait()
        finally:
            announcing.cancel()
            await asyncio.wait([announcing])
            await server.settled()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._ready is None:
            raise RuntimeError("McpApp.running() was not entered")
        self._wanted.set()
        app = await asyncio.shield(self._ready)
        inner = {**scope, "user": _user(scope["weft.identity"])}

        async def watched() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                inner["weft.left"] = True
            return message

        await app(inner, watched, send)


def _user(identity: Identity) -> object:
    """Return who asks as the SDK knows it: a session is for the one who has begun it alone."""
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser  # noqa: PLC0415  it is loaded by now
    from mcp.server.auth.provider import AccessToken  # noqa: PLC0415

    return AuthenticatedUser(
        AccessToken(
            token="", client_id=f"{identity.kind} {identity.key or identity.name}", scopes=sorted(identity.scopes)
        )
    )


def _who(ctx: ServerRequestContext[Any, Any]) -> str:
    request: Any = ctx.request  # over HTTP there always is one
    identity: Identity = request.scope["weft.identity"]
    return f"{identity.kind} {identity.name}"


class Elsewhere:
    """Waits for the end of runs that workers drive, in this process or in others.

    Args:
        runtime: Where the runs are.
        hub: What tells of them while they go on; without one, or while it cannot be heard, only their ends are seen.
    """

    drives = False

    def __init__(self, runtime: Runtime, hub: Hub | None) -> None:
        self._runtime = runtime
        self._hub = hub
        self._reading = Reading(runtime)

    async def end(self, run_id: str, observe: Callable[[Event], None]) -> Listed:
        async with self._heard(run_id) as heard:
            journal = await self._runtime.opened()
            found, known = await journal.status(run_id), None
            pauses = LookLessOften()
            while found.status.state not in OVER:
                if found != known:
                    await self._read(found, observe)
                frame = await pauses.next(heard)
                if frame is not None and frame.event == "step":
                    observe(_step(str(frame.data.get("path")), str(frame.data.get("state"))))
                elif frame is None or frame.event != "output":
                    found, known = await journal.status(run_id), found if frame is None else None
            return found

    async def _read(self, found: Listed, observe: Callable[[Event], None]) -> None:
        """Tell from the journal how far a run is: what happened before it was listened for was not told."""
        with contextlib.suppress(NotFound):  # it was removed meanwhile
            report, _ = await self._reading.report(found)
            outer = [step for step in report.steps if step.path.count("/") == 1]
            observe(RunStarted(report.run_id, report.workflow, report.started_at, tuple(map(_row, outer))))
            for step in outer:
                if step.state != "pending":
                    observe(_step(step.path, step.state))

    @contextlib.asynccontextmanager
    async def _heard(self, run_id: str) -> AsyncIterator[Listening | None]:
        async with contextlib.AsyncExitStack() as stack:
            heard = None
            if self._hub is not None:
                with contextlib.suppress(RingUnavailable):
                    heard = await stack.enter_async_context(self._hub.listen([f"run:{run_id}"]))
            yield heard


class LookLessOften:
    """The times between two looks at a run of which nothing is heard."""

    def __init__(self) -> None:
        self._wait_s, self._longest_s = LOOK_S

    async def next(self, heard: Listening | None) -> Frame | None:
        """Return what was heard next; None when it is time to look, because of the time or of what was heard."""
        wait_s, self._wait_s = self._wait_s, min(self._wait_s * 1.5, self._longest_s)
        if heard is None or heard.over:
            await asyncio.sleep(wait_s)
            return None
        return await heard.next(wait_s)


def _row(step: StepReport) -> tuple[str, str, str]:
    return step.path, step.uses, step.title


def _step(path: str, state: str) -> Event:
    if state in ("succeeded", "failed", "skipped", "cancelled"):
        return StepEnded(path, state, 0, None, None)  # type: ignore[arg-type]  # one of the states just named
    return StepStarted(path)

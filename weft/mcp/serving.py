"""The protocol, by the official SDK: a server whose tools are those of a workspace."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from mcp.server import Server
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.models import InitializationOptions
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    ToolAnnotations,
)
from mcp_types import Tool as Listed

from weft import __version__
from weft.errors import NotFound
from weft.mcp.calling import Answer, Caller, Calls
from weft.mcp.offering import Offering
from weft.mcp.tools import Tool
from weft.runtime import Runtime

PAGE: Final = 100
"""Tools that are listed at a time."""
KEY: Final = "weft/idempotency-key"
"""Of a request's `_meta`: who makes a call again with the same one gets the run of the first."""
SESSIONS: Final = 1_000
"""Clients that are told when the list has changed."""
CALLS: Final = 10_000
"""Of which it is remembered which run is theirs."""
FIRST_LOOK_S: Final = 1.0
LONGEST_LOOK_S: Final = 30.0
"""How soon and how seldom it is looked whether there are other tools, when no document changes."""
INSTRUCTIONS: Final = """\
Each tool starts a durable run of a workflow or of an action, and answers its outputs. A run that takes longer than the \
call goes on: the answer then has the state `running` and a `run_id`; ask for its end with get_run, or stop it with \
cancel_run. A run that waits for a person's approval has the state `waiting`."""

_LOG = logging.getLogger("weft.mcp")
Context = ServerRequestContext[Any, Any]
Who = Callable[[Context], str]
"""Says whose request it is."""


class McpServer(Server[Any]):
    """The tools of a workspace.

    Args:
        runtime: Where runs are made.
        offering: The tools.
        calls: What answers them.
        who: Says whose request it is.
    """

    def __init__(self, runtime: Runtime, offering: Offering, calls: Calls, who: Who) -> None:
        self._bus = InMemorySubscriptionBus()
        super().__init__(
            "weft",
            version=__version__,
            title="Weft",
            instructions=INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_subscriptions_listen=ListenHandler(self._bus),
        )
        self.middleware.append(self._watch)
        self._runtime = runtime
        self._offering = offering
        self._calls = calls
        self._who = who
        self._sessions: OrderedDict[str, ServerSession] = OrderedDict()  #: those that were given a list, by their ids
        self._runs: OrderedDict[tuple[str, str], str] = OrderedDict()  #: session and request → its run
        self._gone: OrderedDict[tuple[str, str], None] = OrderedDict()  #: calls that were cancelled before they had one
        self._cancelling: set[asyncio.Task[None]] = set()

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """Say, whoever asks, that the list of tools may change."""
        options = notification_options or NotificationOptions(tools_changed=True)
        return super().create_initialization_options(options, experimental_capabilities, extensions)

    # ---- the list
    async def _list_tools(self, ctx: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        session = _session(ctx)
        if session is not None:
            self._sessions[session] = ctx.session
            _shorten(self._sessions, SESSIONS)
        tools = await self._offering.tools()
        after = params.cursor if params is not None and params.cursor is not None else ""
        rest = [tool for name, tool in tools.items() if name > after]
        page = rest[:PAGE]
        return ListToolsResult(
            tools=[_listed(tool) for tool in page], next_cursor=page[-1].name if len(rest) > PAGE else None
        )

    async def announce(self) -> None:
        """Tell clients whenever their tools have changed; ends when it is cancelled.

        It looks when a document changes, and now and then besides: connections change, too, and what happens while the
        watching begins is no news to it.
        """
        known = await self._offering.tools()
        changes = self._runtime.documents.changes()
        change = asyncio.ensure_future(anext(changes))
        look_s = FIRST_LOOK_S
        try:
            while True:
                await asyncio.wait({change}, timeout=look_s)
                look_s = min(look_s * 2, LONGEST_LOOK_S)
                if change.done():
                    change.result()
                    change = asyncio.ensure_future(anext(changes))
                now = await self._offering.tools()
                if now != known:
                    known = now
                    await self._changed()
        finally:
            change.cancel()
            await asyncio.wait({change})

    async def _changed(self) -> None:
        await self._bus.publish(ToolsListChanged())
        for session in list(self._sessions.values()):
            await session.send_tool_list_changed()

    # ---- calls
    async def _call_tool(self, ctx: Context, params: CallToolRequestParams) -> CallToolResult:
        meta: Mapping[str, Any] = ctx.meta or {}
        key = meta.get(KEY)
        if key is not None and not isinstance(key, str):
            raise MCPError(INVALID_PARAMS, f"{KEY!r} must be a text.")
        client = ctx.session.client_params
        caller = Caller(self._who(ctx), client.client_info.name if client is not None else "", key)
        call = (_session(ctx) or secrets.token_hex(8), str(ctx.request_id))  # ids are unique within a session alone

        async def tell(done: float, of: float, now: str) -> None:
            await ctx.session.report_progress(done, of, now)

        def noted(run_id: str) -> None:
            self._runs[call] = run_id
            if call in self._gone:  # it was cancelled before there was a run
                self._cancel(call)
            _shorten(self._runs)

        try:
            answer = await self._calls.call(params.name, params.arguments or {}, caller, tell, noted)
        except NotFound as error:
            raise MCPError(INVALID_PARAMS, str(error)) from None
        except asyncio.CancelledError:
            if _has_left(ctx):
                self._cancel(call)
            raise
        self._runs.pop(call, None)
        return _result(answer)

    async def _watch(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """See which calls are cancelled by their clients; the SDK stops only the waiting, and does so at its end, too."""
        if ctx.method == "notifications/cancelled" and ctx.params is not None:
            session = _session(ctx)
            if session is not None:
                self._cancel((session, str(ctx.params.get("requestId"))))
        return await call_next(ctx)

    def _cancel(self, call: tuple[str, str]) -> None:
        run_id = self._runs.pop(call, None)
        if run_id is None:
            self._gone[call] = None
            _shorten(self._gone)
        else:
            task = asyncio.create_task(self._calls.cancel(run_id))
            self._cancelling.add(task)
            task.add_done_callback(self._cancelling.discard)

    async def settled(self) -> None:
        """Return when no start and no cancel is under way any more."""
        await self._calls.settled()
        while self._cancelling:
            await asyncio.wait(self._cancelling)


def _shorten(kept: OrderedDict[Any, Any], most: int = CALLS) -> None:
    while len(kept) > most:
        kept.popitem(last=False)


def _session(ctx: Context) -> str | None:
    """Return the id of the client's connection; none over HTTP where there are no sessions."""
    if ctx.request is None:
        return "stdio"
    found: str | None = ctx.request.headers.get("mcp-session-id")
    return found


def _has_left(ctx: Context) -> bool:
    """Return whether a request without a session has ended because its client closed it: that is how it is cancelled."""
    return ctx.request is not None and bool(ctx.request.scope.get("weft.left"))


def _listed(tool: Tool) -> Listed:
    hints = tool.hints
    return Listed(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=ToolAnnotations(
            title=tool.title,
            read_only_hint=hints.read_only,
            destructive_hint=hints.destructive,
            idempotent_hint=hints.idempotent,
            open_world_hint=hints.open_world,
        ),
    )


def _result(answer: Answer) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(text=answer.text)], structured_content=answer.facts, is_error=answer.is_error
    )

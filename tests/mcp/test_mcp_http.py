"""`/mcp` of a server: the same tools for clients that come by HTTP with a token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from agents import GREET
from mcp.client import Client
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client
from mcp.shared.exceptions import MCPError
from premises import Served, serve

from weft.access import Scope
from weft.journal.base import Listed, RunQuery

WORKSPACE = "mcp: {actions: [{id: parse_json}, {id: send_email, connections: [outbox]}]}\n"
Come: TypeAlias = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
async def server(place: Path) -> AsyncIterator[Served]:
    """A server with a worker, over the exposed workflows."""
    (place / "workspace.yaml").write_text(WORKSPACE, encoding="utf-8")
    async with serve(place) as served:
        yield served


@pytest.fixture
def come(server: Served) -> Come:
    """Connects a client of the official SDK with a token."""

    @asynccontextmanager
    async def connected(*scopes: Scope, mode: str = "legacy", token: str = "", **options: Any) -> AsyncIterator[Client]:
        token = token or await server.token(*scopes)
        async with (
            create_mcp_http_client(headers={"Authorization": f"Bearer {token}"}) as http,
            Client(streamable_http_client(f"{server.url}/mcp", http_client=http), mode=mode, **options) as client,
        ):
            yield client

    return connected


async def runs(server: Served) -> list[Listed]:
    return await server.house.runtime.journal.runs(RunQuery(limit=100))


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_workflow_is_called_over_http(come: Come, server: Served, mode: str) -> None:
    """A client of the official SDK lists and calls an exposed workflow; a worker makes the run, which tells how far it is."""
    progress: list[float] = []

    async def note(done: float, of: float | None = None, message: str | None = None) -> None:
        progress.append(done)

    async with come("run", mode=mode) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        answer = await client.call_tool("greet", {"who": "Ada"})
        await client.call_tool("slow", {"seconds": 1}, progress_callback=note)
        parsed = await client.call_tool("parse_json", {"text": '{"a": [1]}'})

    assert tools == {"greet", "slow", "asks", "parse_json", "send_email", "get_run", "cancel_run"}
    assert answer.structured_content["outputs"]["text"] == "Hello Ada"
    assert parsed.structured_content["outputs"] == {"a": [1]}
    assert progress == sorted(set(progress))
    assert progress
    assert progress[-1] <= 2.0
    assert {json.loads(run.row.trigger)["type"] for run in await runs(server)} == {"mcp"}


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_cancelled_call_cancels_its_run_over_http(come: Come, server: Served, mode: str) -> None:
    """A client that cancels its call, by a message or by closing the answer, stops the run."""
    begun = asyncio.Event()

    async def note(done: float, of: float | None = None, message: str | None = None) -> None:
        begun.set()

    async with come("run", mode=mode) as client:
        await client.list_tools()
        async with anyio.create_task_group() as group:

            async def call() -> None:
                await client.call_tool("slow", {}, progress_callback=note)

            group.start_soon(call)
            await asyncio.wait_for(begun.wait(), 20)
            group.cancel_scope.cancel()
        for _ in range(100):
            if [run.status.state for run in await runs(server)] == ["cancelled"]:
                return
            await asyncio.sleep(0.1)
    pytest.fail(f"the run goes on: {await runs(server)}")


async def test_a_repeated_call_over_http_is_one_run(come: Come, server: Served) -> None:
    """Rule A11: the same key from the same token is the same run; the key of another token is another one."""
    meta: Any = {"weft/idempotency-key": "order-17"}
    token = await server.token("run")
    found = []
    for _ in range(2):
        async with come(token=token) as client:
            answer = await client.call_tool("greet", {"who": "Ada"}, meta=meta)
            found.append(answer.structured_content["run_id"])
    stranger, _ = await server.house.access.create_token("stranger", ["run"], by="tests", expires_s=None)
    async with come(token=stranger) as client:
        other = await client.call_tool("greet", {"who": "Ada"}, meta=meta)
        looked = await client.call_tool("get_run", {"run_id": found[0]})

    assert found[0] == found[1] != other.structured_content["run_id"]
    assert looked.is_error  # of another's run nothing is told
    assert len(await runs(server)) == 2


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_change_is_told_over_http(come: Come, place: Path, mode: str) -> None:
    """A client hears that the list has changed, by its stream of the older protocol or by listening of the newer."""
    told = asyncio.Event()

    async def hear(message: Any) -> None:
        if "list_changed" in str(getattr(message, "method", "")):
            told.set()

    async with come("run", mode=mode, message_handler=hear) as client, anyio.create_task_group() as group:
        await client.list_tools()

        async def listen() -> None:
            async with client.listen(tools_list_changed=True) as events:
                async for _ in events:
                    told.set()

        if mode != "legacy":
            group.start_soon(listen)
        await asyncio.sleep(0.5)
        (place / "workflows" / "later.yaml").write_text(GREET.replace("name: greet", "name: later"))
        await asyncio.wait_for(told.wait(), 20)
        group.cancel_scope.cancel()


async def test_only_those_who_may_run_come_in(server: Served) -> None:
    """Without a token, with one that may not run, and from a page of another site, nobody comes in."""
    hello = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    nobody, viewer = await server.client(), await server.client("view", "edit", "connections")

    assert (await nobody.post("/mcp", json=hello)).status_code == 401
    assert (await nobody.get("/mcp")).status_code == 401
    assert (await viewer.post("/mcp", json=hello)).status_code == 403
    runner = await server.client("run")
    assert (await runner.post("/mcp", json=hello, headers={"Origin": "https://evil.example"})).status_code == 403
    assert (await runner.post("/mcp", json=hello, headers={"Host": "evil.example"})).status_code == 421
    large = await runner.post("/mcp", json={**hello, "params": {"x": "y" * 1_100_000}})
    assert large.status_code == 413


async def test_a_session_belongs_to_its_token(server: Served) -> None:
    """A session's id helps nobody who has another token."""
    first = await server.client("run")
    headers = {"Accept": "application/json, text/event-stream"}
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "by hand", "version": "1"},
        },
    }
    opened = await first.post("/mcp", json=hello, headers=headers)
    session = {**headers, "Mcp-Session-Id": opened.headers["mcp-session-id"]}
    stranger, _ = await server.house.access.create_token("stranger", ["run"], by="tests", expires_s=None)
    listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}

    mine = await first.post("/mcp", json=listing, headers=session)
    stolen = await first.post("/mcp", json=listing, headers={**session, "Authorization": f"Bearer {stranger}"})

    assert opened.status_code == mine.status_code == 200
    assert stolen.status_code == 404


async def test_a_wrong_action_in_the_settings_is_told(place: Path) -> None:
    """A workspace that allows an action that there is not says so to whoever comes."""
    (place / "workspace.yaml").write_text("mcp: {actions: [{id: parse_jsn}]}\n", encoding="utf-8")
    async with serve(place) as served:
        runner = await served.client("run")
        answer = await runner.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})

    assert answer.status_code == 404
    assert answer.json()["code"] == "unknown_action"
    assert "parse_json" in answer.text


async def test_who_is_no_client_gets_an_error_of_the_protocol(come: Come) -> None:
    """An unknown tool is an error of the protocol, not a result."""
    async with come("run") as client:
        with pytest.raises(MCPError, match="There is no tool 'hidden'"):
            await client.call_tool("hidden", {})

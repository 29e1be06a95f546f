"""`weft mcp` as a program of an agent sees it: the tools, what a call does, and how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import GREET, Connect, environ
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from weft.embedded.outbox import Outbox
from weft.engine.report import RunReport
from weft.runtime import Runtime


def weft(place: Path, *words: str) -> str:
    """Return what a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "weft", *words],
        cwd=place,
        env=environ(place),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


async def reports(place: Path) -> list[RunReport]:
    """Return the reports of all runs in the home, the youngest first."""
    from weft.journal.base import RunQuery

    async with Runtime.open(home=place / "home") as runtime:
        found = await (await runtime.opened()).runs(RunQuery(limit=100))
        return [await runtime.report(each.row.id) for each in found]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_an_exposed_workflow_is_listed_and_called(connect: Connect, place: Path, mode: str) -> None:
    """A client of the official SDK finds an exposed workflow, calls it, and gets its outputs; the run is a durable one."""
    progress: list[tuple[float, float | None, str | None]] = []

    async def note(done: float, of: float | None = None, message: str | None = None) -> None:
        progress.append((done, of, message))

    async with connect(mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        answer = await client.call_tool("greet", {"who": "Ada", "times": 3}, progress_callback=note)

    assert set(tools) == {"greet", "slow", "asks", "get_run", "cancel_run"}  # neither `hidden` nor `broken`
    assert tools["greet"].title == "Greet Somebody"
    assert tools["greet"].input_schema["required"] == ["who"]
    assert tools["greet"].input_schema["properties"]["style"]["enum"] == ["plain", "loud"]
    assert tools["greet"].input_schema["properties"]["times"]["default"] == 1
    assert tools["greet"].output_schema is not None
    assert tools["greet"].output_schema["properties"]["outputs"]["required"] == ["text", "line"]
    assert answer.structured_content["outputs"] == {"text": "Hello Ada", "line": "3 x Hello Ada"}
    assert json.loads(answer.content[0].text) == answer.structured_content  # type: ignore[union-attr]
    assert not answer.is_error
    assert [done for done, _, _ in progress] == [0.5, 1.0, 1.5, 2.0]
    assert {of for _, of, _ in progress} == {2.0}
    (report,) = await reports(place)
    assert (report.run_id, report.workflow, report.state) == (
        answer.structured_content["run_id"],
        "greet",
        "succeeded",
    )
    shown = await asyncio.to_thread(weft, place, "runs", "list", "--json")
    assert json.loads(shown)[0]["trigger"] == "mcp"


async def test_hints_follow_what_actions_do(talk: Connect) -> None:
    """A client learns which tools change nothing, and which do what cannot be taken back."""
    async with talk("send_email", "http_request", "parse_json") as client:
        hints = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}

    told = {
        name: (hint.read_only_hint, hint.destructive_hint, hint.idempotent_hint, hint.open_world_hint)
        for name, hint in hints.items()
        if hint is not None
    }
    assert told["greet"] == (True, False, True, False)
    assert told["parse_json"] == (True, False, True, False)
    assert told["send_email"] == (False, True, False, True)
    assert told["get_run"] == (True, False, True, False)


async def test_an_allowed_action_is_a_tool(talk: Connect, place: Path) -> None:
    """An action's arguments come as they were given: nothing in them is read as a template or escaped."""
    body = "<p>{{ inputs.x }} {% if %} {# no #} & more</p>\n"
    async with talk("send_email=outbox") as client:
        (tool,) = [tool for tool in (await client.list_tools()).tools if tool.name == "send_email"]
        answer = await client.call_tool(
            "send_email",
            {
                "connection": "outbox",
                "to": "ada@example.org",
                "subject": "{{ 1 + 1 }}",
                "body": body,
                "format": "html",
            },
        )
        wrong = await client.call_tool("send_email", {"connection": "other", "to": "x", "subject": "s", "body": "b"})

    assert tool.input_schema["properties"]["connection"]["enum"] == ["outbox"]
    assert "connection" in tool.input_schema["required"]
    assert answer.structured_content["outputs"]["state"] == "sent"
    assert wrong.is_error
    assert "Give one of: outbox." in wrong.content[0].text  # type: ignore[union-attr]
    kept = Outbox(place / "home" / "outbox").message(1)
    assert kept.kept.subject == "{{ 1 + 1 }}"
    assert kept.html is not None
    assert "<p>{{ inputs.x }} {% if %} {# no #} &" in kept.html
    (report,) = await reports(place)
    assert [step.path for step in report.steps] == ["/call"]


async def test_a_tool_that_was_not_allowed_is_none(talk: Connect, place: Path) -> None:
    """Neither a workflow that is not exposed nor an action that is not allowed can be called."""
    async with talk() as client:
        for name in ("hidden", "broken", "send_email", "nothing"):
            with pytest.raises(MCPError, match="There is no tool"):
                await client.call_tool(name, {"who": "x"})

    assert await reports(place) == []


async def test_wrong_arguments_and_failures_are_told(talk: Connect) -> None:
    """What is wrong is an answer in words that a model can act on, without places in files."""
    async with talk("fail") as client:
        missing = await client.call_tool("greet", {"style": "shrill", "tmes": 2})
        failed = await client.call_tool("fail", {"message": "The stars are wrong."})

    assert missing.is_error
    text = missing.content[0].text  # type: ignore[union-attr]
    assert "'who'" in text
    assert "'style' must be" in text
    assert "Did you mean 'times'?" in text
    assert ".yaml" not in text
    assert failed.is_error
    assert "The stars are wrong." in failed.content[0].text  # type: ignore[union-attr]
    assert failed.structured_content["state"] == "failed"
    assert failed.structured_content["problem"]["message"] == "The stars are wrong."


async def test_a_repeated_call_is_one_run(talk: Connect, place: Path) -> None:
    """Rule A11: a call that is made again with the same key answers the run of the first; with other arguments it is refused."""
    meta: Any = {"weft/idempotency-key": "order-17"}
    async with talk() as client:
        first = await client.call_tool("greet", {"who": "Ada"}, meta=meta)
        (place / "workflows" / "greet.yaml").write_text(GREET.replace("who: {", "whom: {"))
        again = await client.call_tool("greet", {"who": "Ada"}, meta=meta)
        other = await client.call_tool("greet", {"who": "Eve"}, meta=meta)

    assert first.structured_content == again.structured_content
    assert other.is_error
    assert "came before with another content" in other.content[0].text  # type: ignore[union-attr]
    assert len(await reports(place)) == 1


async def test_a_long_run_answers_with_its_id(talk: Connect, place: Path) -> None:
    """A call does not wait longer than the limit; the run goes on, is looked at, and is cancelled by its id."""
    async with talk(wait_s=0.3) as client:
        answer = await client.call_tool("slow", {"seconds": 30})
        run_id = answer.structured_content["run_id"]
        looked = await client.call_tool("get_run", {"run_id": run_id})
        short = await client.call_tool("slow", {"seconds": 1})
        ended = short
        while ended.structured_content["state"] != "succeeded":
            ended = await client.call_tool("get_run", {"run_id": short.structured_content["run_id"], "wait_s": 5})
        stopped = await client.call_tool("cancel_run", {"run_id": run_id})
        unknown = await client.call_tool("get_run", {"run_id": "nothing"})

    assert answer.structured_content["state"] in ("running", "waiting")
    assert "get_run" in answer.structured_content["note"]
    assert not answer.is_error
    assert looked.structured_content["state"] in ("running", "waiting")
    assert ended.structured_content["outputs"] == {"done": True}
    assert stopped.structured_content["state"] == "cancelled"
    assert not stopped.is_error
    assert unknown.is_error
    by_id = {report.run_id: report for report in await reports(place)}
    assert by_id[run_id].steps[-1].path == "/@finally/tidy"


async def test_runs_of_others_are_not_shown(talk: Connect, place: Path) -> None:
    """get_run and cancel_run know the runs that were started here, and no other."""
    async with Runtime.open(home=place / "home") as runtime:
        plan = runtime.compile(place / "workflows" / "greet.yaml")
        other = await runtime.run(plan, {"who": "me", "times": 1, "style": "plain"})
    async with talk() as client:
        looked = await client.call_tool("get_run", {"run_id": other.run_id})
        stopped = await client.call_tool("cancel_run", {"run_id": other.run_id})

    assert looked.is_error
    assert stopped.is_error
    assert "There is no run" in looked.content[0].text  # type: ignore[union-attr]


async def test_a_cancelled_call_cancels_its_run(connect: Connect, place: Path) -> None:
    """A client that cancels its call stops the run; what tidies up runs."""
    begun = asyncio.Event()

    async def note(done: float, of: float | None = None, message: str | None = None) -> None:
        begun.set()

    async with connect() as client:
        async with anyio.create_task_group() as group:

            async def call() -> None:
                await client.call_tool("slow", {}, progress_callback=note)

            group.start_soon(call)
            await asyncio.wait_for(begun.wait(), 20)
            group.cancel_scope.cancel()
        (run,) = await until(place, "cancelled")

    assert run.steps[-1].path == "/@finally/tidy"


async def until(place: Path, state: str) -> list[RunReport]:
    for _ in range(100):
        found = await reports(place)
        if [each.state for each in found] == [state]:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError(f"the run is not {state}: {found}")


async def test_the_end_of_a_client_cancels_nothing(connect: Connect, place: Path) -> None:
    """When standard input is closed the process ends, and its runs are left to workers."""
    async with connect("--wait", "0.2") as client:
        await client.call_tool("slow", {"seconds": 60})

    (run,) = await reports(place)
    assert run.state in ("ready", "waiting")


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_change_of_the_workspace_is_told(talk: Connect, place: Path, mode: str) -> None:
    """A client hears that the list has changed when a workflow is exposed, and finds it there."""
    told = asyncio.Event()

    async def hear(message: Any) -> None:
        if "list_changed" in str(getattr(message, "method", "")):
            told.set()

    async with talk(mode=mode, message_handler=hear) as client:
        assert client.server_capabilities.tools is not None
        assert client.server_capabilities.tools.list_changed
        await client.list_tools()
        async with anyio.create_task_group() as group:
            if mode != "legacy":
                group.start_soon(listen, client, told)
                await asyncio.sleep(0.5)
            (place / "workflows" / "later.yaml").write_text(GREET.replace("name: greet", "name: later"))
            await asyncio.wait_for(told.wait(), 20)
            group.cancel_scope.cancel()
        tools = await client.list_tools(cache_mode="bypass")

    assert "later" in {tool.name for tool in tools.tools}


async def listen(client: Client, told: asyncio.Event) -> None:
    async with client.listen(tools_list_changed=True) as events:
        async for _ in events:
            told.set()


def rpc(process: subprocess.Popen[str], message: dict[str, Any]) -> dict[str, Any]:
    """Send a message by hand and return the next line."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def begin(place: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "weft", "mcp", *words],
        cwd=place,
        env=environ(place),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


INITIALIZE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "by hand", "version": "1"},
    },
}


def test_messages_by_hand_and_a_clean_end_by_signal(place: Path) -> None:
    """Messages written by hand are answered; standard output holds nothing else; SIGTERM ends it with exit code 0."""
    process = begin(place)
    try:
        hello = rpc(process, INITIALIZE)
        assert process.stdin is not None
        process.stdin.write('{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
        call = {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "greet", "arguments": {"who": "Ada"}},
        }
        answer = rpc(process, call)
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=20)
    finally:
        process.kill()

    assert hello["result"]["serverInfo"]["name"] == "weft"
    assert hello["result"]["protocolVersion"] == "2025-06-18"
    assert answer["result"]["structuredContent"]["outputs"]["text"] == "Hello Ada"
    assert rest == ""
    assert process.returncode == 0


def test_the_end_of_input_ends_it(place: Path) -> None:
    """A client that closes standard input ends the command, with exit code 0 and nothing on standard output."""
    process = begin(place)

    out, err = process.communicate(timeout=20)

    assert (out, process.returncode) == ("", 0), err


def test_an_unknown_action_is_refused_at_the_start(place: Path) -> None:
    """An action that is allowed and does not exist is told, with the nearest name."""
    process = begin(place, "--action", "send_mail")

    _, err = process.communicate(timeout=20)

    assert process.returncode == 4
    assert "send_email" in err


def test_the_configuration_of_a_client(place: Path) -> None:
    """--print-config prints what starts this very server from any directory."""
    words = ["--print-config", "--action", "send_email=outbox", "--home", str(place / "home")]
    shown = weft(place, "mcp", *words)

    entry = json.loads(shown)["mcpServers"]["weft"]
    assert entry["args"][:3] == ["mcp", "--directory", str(place)]
    assert entry["args"][3:] == ["--home", str(place / "home"), "--action", "send_email=outbox"]
    process = subprocess.Popen(
        [sys.executable, "-m", "weft", *entry["args"]],
        cwd="/",
        env={**environ(place), "WEFT_HOME": "/nowhere"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        rpc(process, INITIALIZE)
        assert process.stdin is not None
        process.stdin.write('{"jsonrpc": "2.0", "method": "notifications/initialized"}\n')
        listed = rpc(process, {"jsonrpc": "2.0", "id": 2, "method": "tools/list"})
        process.communicate(timeout=20)
    finally:
        process.kill()
    assert {"greet", "send_email"} <= {tool["name"] for tool in listed["result"]["tools"]}

"""The client against a server: calls, retries, refusals, pages, events, and what is made of what."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import generate
import pytest
from aiohttp import web
from premises import Served

from weft import errors
from weft.client import AsyncClient, Client, Frame, models
from weft.client.frames import Frames
from weft.errors import InvalidInputs, JournalRefused, NotAllowed, NotAuthenticated, NotFound, ServerUnavailable


# ---- what is made
@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(generate.OPENAPI.read_text(encoding="utf-8"))
    return found


def test_the_published_description_is_that_of_the_routes() -> None:
    """docs/openapi.json says what the routes say; `python tests/client/generate.py` writes it."""
    assert generate.OPENAPI.read_text(encoding="utf-8") == generate.openapi()


def test_the_client_is_made_of_the_published_description(described: dict[str, Any]) -> None:
    """Models, operations and the synchronous half are exactly what the generator makes."""
    for name, text in generate.client(described).items():
        assert (generate.CLIENT / name).read_text(encoding="utf-8") == text, name


def test_both_clients_can_do_the_same() -> None:
    """The synchronous client has every operation of the asynchronous one, with the same parameters."""

    def able(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(of).parameters) for name, of in methods if not name.startswith("_")}

    both = able(AsyncClient)
    both["close"] = both.pop("aclose")
    assert able(Client) == both


def test_importing_it_is_cheap() -> None:
    """A program that imports the client loads neither the server nor what runs workflows."""
    code = "import sys, time, weft.client; print(time.process_time()); print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    seconds, modules = shown.split("\n", 1)
    heavy = ("fastapi", "sqlalchemy", "mcp", "jinja2", "litellm", "weft.runtime", "weft.server", "weft.engine", "yaml")
    assert not [name for name in modules.split() if name.startswith(heavy)]
    assert float(seconds) < 0.6  # 0.3 on an idle machine


# ---- calls
async def test_a_run_from_start_to_end(server: Served) -> None:
    """A program starts a run, waits for it, and reads its report."""
    async with AsyncClient() as client:
        report = await client.run("greet", {"who": "Ada"}, timeout_s=20)
        listed = await client.list_runs(workflow="greet")

    assert report.state == "succeeded"
    assert report.outputs == {"text": "Hello Ada 1"}
    assert [each.run_id for each in listed.items] == [report.run_id]


async def test_the_same_without_a_loop(server: Served) -> None:
    """The synchronous client does the same."""

    def whole() -> models.RunReport:
        with Client() as client:
            return client.run("greet", {"who": "Ada", "times": 2}, timeout_s=20)

    report = await asyncio.to_thread(whole)

    assert report.outputs == {"text": "Hello Ada 2"}


async def test_all_pages_are_read(server: Served) -> None:
    """Iterators go through all pages."""
    async with AsyncClient() as client:
        for number in range(5):
            await client.run("greet", {"who": str(number)}, timeout_s=20)
        found = [each async for each in client.each_of_runs(limit=2)]

    assert len({each.run_id for each in found}) == len(found) == 5
    begun = [each.started_at for each in found]
    assert begun == sorted(begun, reverse=True)


async def test_refusals_are_the_errors_that_they_were(server: Served) -> None:
    """What a server refuses is raised as the same class with the same code, places and remedies."""
    async with AsyncClient() as client:
        with pytest.raises(NotFound) as unknown:
            await client.show_run("nothing")
        with pytest.raises(InvalidInputs) as missing:
            await client.start_run(models.Start(workflow="greet", inputs={}))
        done = await client.run("greet", {"who": "x"}, timeout_s=20)
        with pytest.raises(JournalRefused) as ended:
            await client.cancel_run(done.run_id)
    async with AsyncClient(token="weft_" + "x" * 43) as stranger:
        with pytest.raises(NotAuthenticated):
            await stranger.list_runs()
    async with AsyncClient(token=await server.token("view")) as viewer:
        with pytest.raises(NotAllowed):
            await viewer.start_run(models.Start(workflow="greet", inputs={"who": "x"}))

    assert unknown.value.problem.code == "unknown_run"
    assert missing.value.problem.where.field == "inputs.who"
    assert missing.value.problem.remedy
    assert ended.value.problem.code == "has_ended"


async def test_a_start_with_a_key_is_one_run(server: Served) -> None:
    """Rule A11: a start that is made again with the same key is the same run; with other inputs it is refused."""
    async with AsyncClient() as client:
        asked = models.Start(workflow="greet", inputs={"who": "Ada"})
        first = await client.start_run(asked, idempotency_key="k")
        again = await client.start_run(asked, idempotency_key="k")
        with pytest.raises(JournalRefused, match="another content"):
            await client.start_run(models.Start(workflow="greet", inputs={"who": "Eve"}), idempotency_key="k")

    assert first.run_id == again.run_id


async def test_events_come_as_they_happen(server: Served) -> None:
    """A program hears of a run's steps, from how the run stands to its end."""
    async with AsyncClient() as client:
        started = await client.start_run(models.Start(workflow="greet", inputs={"who": "Ada"}))
        heard: list[Frame] = []
        async with asyncio.timeout(20):
            async for frame in client.events(f"run:{started.run_id}"):
                heard.append(frame)
                if "succeeded" in json.dumps(frame.data):
                    break

    assert "snapshot" in {frame.event for frame in heard}
    assert all(frame.id for frame in heard)


# ---- the wire
@asynccontextmanager
async def answering(handler: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    """A server on loopback that answers as it likes."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


SUMMARY = {"run_id": "r", "workflow": "w", "state": "ready", "started_at": "2026-01-01T00:00:00Z", "ms": 0}


async def test_lost_answers_are_asked_for_again_where_that_is_safe() -> None:
    """A start whose answer is lost is made again with the same key; a cancel is not made again."""
    seen: list[tuple[str, str | None]] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.path, request.headers.get("Idempotency-Key")))
        if len(seen) in (1, 3):
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(SUMMARY, status=201)

    async with answering(handle) as url, AsyncClient(url, token="t") as client:
        await client.start_run(models.Start(workflow="w"))
        with pytest.raises(ServerUnavailable):
            await client.cancel_run("r")

    assert [path for path, _ in seen] == ["/api/v1/runs", "/api/v1/runs", "/api/v1/runs/r/cancel"]
    assert seen[0][1] == seen[1][1] is not None


async def test_a_busy_server_is_given_time() -> None:
    """After 429 and 503 a call is made again when the server has said."""
    asked = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked < 3:
            body = {"code": "too_many", "kind": "too_many", "problems": []}
            return web.json_response(body, status=429 if asked == 1 else 503, headers={"Retry-After": "0"})
        return web.json_response({"items": [], "next": None})

    async with answering(handle) as url, AsyncClient(url, token="t") as client:
        await client.list_runs()

    assert asked == 3


async def test_a_call_has_a_deadline() -> None:
    """A server that says nothing, or a word now and then, is waited for until the deadline and no longer."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if request.path.endswith("/packs"):
            await response.prepare(request)
        for _ in range(100):
            await asyncio.sleep(0.1)
            if request.path.endswith("/packs"):
                await response.write(b" ")
        return response

    async with answering(handle) as url, AsyncClient(url, token="t", timeout_s=0.5) as client:
        for call in (client.list_packs, client.list_runs):
            with pytest.raises(ServerUnavailable, match="within"):
                async with asyncio.timeout(3):
                    await call()


async def test_a_head_that_never_ends_has_the_same_deadline() -> None:
    """A server that drips the head of its answer, each byte in time, is waited for until the deadline and no longer."""

    dripping: set[asyncio.Task[None] | None] = set()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dripping.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 40:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.1)
                if reader.at_eof():
                    break
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with AsyncClient(url, token="t", timeout_s=0.5) as client:
            with pytest.raises(ServerUnavailable, match="within"):
                async with asyncio.timeout(3):
                    await client.list_packs()
        with Client(url, token="t", timeout_s=0.5) as sync:
            began = time.monotonic()
            with pytest.raises(ServerUnavailable, match="within"):
                await asyncio.to_thread(sync.list_packs)
            assert time.monotonic() - began < 3
    await asyncio.gather(*filter(None, dripping))


async def test_an_answer_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer without end is not taken in, nor the refusal of an event stream."""
    monkeypatch.setattr("weft.client.async_transport.MOST_BYTES", 10_000)

    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 20_000, status=403 if request.path.endswith("/events") else 200)

    async with answering(handle) as url, AsyncClient(url, token="t") as client:
        with pytest.raises(errors.TooLarge):
            await client.list_packs()
        with pytest.raises(errors.TooLarge):
            await anext(client.events("runs"))


async def test_another_server_is_told_apart() -> None:
    """What no Weft server would say is an error of its own, also a redirect, which is not followed with the token."""

    async def handle(request: web.Request) -> web.Response:
        match request.path:
            case "/api/v1/packs":
                return web.Response(text="<html>hello</html>", content_type="text/html")
            case "/api/v1/runs":
                raise web.HTTPFound("http://127.0.0.1:9/steal")
            case _:
                return web.Response(status=502, text="bad gateway")

    async with answering(handle) as url, AsyncClient(url, token="t") as client:
        for call in (client.list_packs, client.list_runs, client.list_examples):
            with pytest.raises(ServerUnavailable) as error:
                await call()
            assert error.value.problem.code == "bad_answer"


async def test_an_event_stream_goes_on_where_it_broke() -> None:
    """A connection that breaks is made again with the id of the last event; nothing is told twice."""
    asked: list[str | None] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Last-Event-ID"))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        number = len(asked)
        await response.write(f"retry: 10\n\n: hello\n\nid: {number}\nevent: step\ndata: {number}\n\n".encode())
        if number == 1:
            await response.write(b"id: 9\ndata: half of an ev")  # what is not whole was not told
        return response

    heard = []
    async with answering(handle) as url, AsyncClient(url, token="t") as client:
        async for frame in client.events("runs"):
            heard.append((frame.id, frame.data))
            if len(heard) == 3:
                break

    assert heard == [("1", 1), ("2", 2), ("3", 3)]
    assert asked == [None, "1", "2"]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_frames_come_whole_whatever_the_pieces(size: int) -> None:
    """Events are the same however their bytes are cut: by line ends of both kinds, in the middle of a character."""
    text = '﻿id: 1\r\nevent: a\r\ndata: "é"\r\ndata: \r\n\r\n: x\ndata:1\n\nevent: empty\n\ndata: 2\n\n'.encode()
    frames = Frames()

    found = [frame for at in range(0, len(text), size) for frame in frames.feed(text[at : at + size])]

    assert found == [Frame("a", "é", "1"), Frame("message", 1, "1"), Frame("message", 2, "1")]


@pytest.mark.parametrize("url", ["", "ftp://x", "127.0.0.1:8321", "http://user:pw@x", "http://x/?a=1"])
def test_an_address_is_checked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be no address of a server is refused at once."""
    monkeypatch.delenv("WEFT_SERVER", raising=False)
    with pytest.raises(InvalidInputs, match="address of a server"):
        Client(url, token="t")


def test_a_token_file_is_the_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is taken from the file that is named, and refused when others can read it; it is in no repr."""
    file = tmp_path / "token"
    file.write_text("weft_secret\n")
    monkeypatch.delenv("WEFT_TOKEN", raising=False)
    monkeypatch.setenv("WEFT_TOKEN_FILE", str(file))
    file.chmod(0o644)
    with pytest.raises(InvalidInputs, match="Others than you"):
        Client("http://127.0.0.1:1")
    file.chmod(0o600)
    with Client("http://127.0.0.1:1") as client:
        assert "weft_secret" not in repr(vars(client))


# ---- the page about it
SNIPPETS = re.findall(
    r"^```python\n(.*?)^```$", (generate.ROOT / "docs" / "client.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
async def test_the_programs_of_the_page_work(number: int, server: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """Each program of docs/client.md starts a run on a server and tells of it."""
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(SNIPPETS[number].replace("http://127.0.0.1:8321", server.url), names)
    if inspect.iscoroutinefunction(names["main"]):
        await asyncio.wait_for(names["main"](), 30)
    else:
        await asyncio.wait_for(asyncio.to_thread(names["main"]), 30)

    assert "succeeded" in capsys.readouterr().out

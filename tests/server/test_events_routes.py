"""Events over HTTP: what a stream begins with, how it goes on and ends."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest
from premises import Served, serve
from streaming import Event, hearing

from weft.access import Identity
from weft.server import serving
from weft.server.routes import event_streams

SLOW = """
name: slow
steps:
  - {id: rest, wait: {for: 300ms}}
  - {id: say, uses: log, with: {message: "Hello."}}
"""


def ended(event: Event) -> bool:
    return event.name == "run" and event.data["state"] == "succeeded"


async def test_start_events_end(served: Served) -> None:
    """A run that is started is heard from where it stands to its end: a snapshot first, then each step, then the end."""
    served.write("slow", SLOW)
    client = await served.client("view", "run")
    run = (await client.post("/api/v1/runs", json={"workflow": "slow"})).raise_for_status().json()["run_id"]
    async with hearing(client, f"run:{run},runs") as ear:
        await ear.until(lambda event: event.data["topic"] == f"run:{run}" and ended(event))
    names = [event.name for event in ear.events]
    assert names[:2] == ["ready", "snapshot"]
    assert ear.events[1].data["run"]["run_id"] == run
    steps = {(each.data["path"], each.data["state"]) for each in ear.events if each.name == "step"}
    assert ("/say", "succeeded") in steps
    assert any(each.name == "log" and each.data["message"] == "Hello." for each in ear.events)
    numbers = [int(each.id.rpartition("-")[2]) for each in ear.events]
    assert numbers == sorted(numbers)


async def test_resume_after_a_disconnect(served: Served) -> None:
    """B5: with the id of the last event a stream goes on behind it; what happened meanwhile is told, nothing twice."""
    client = await served.client("view", "run")
    async with hearing(client, "runs") as ear:
        await ear.until(lambda event: event.name == "ready")
        first = (await client.post("/api/v1/runs", json={"workflow": "hello"})).json()["run_id"]
        last = await ear.until(ended)
    meanwhile = (await client.post("/api/v1/runs", json={"workflow": "hello"})).json()["run_id"]
    await asyncio.sleep(0.5)
    async with hearing(client, "runs", last.id) as ear:
        ready = await ear.until(lambda event: event.name == "ready")
        assert ready.data["resumed"]
        found = await ear.until(ended)
        assert found.data["run_id"] == meanwhile
        assert first not in {event.data.get("run_id") for event in ear.events}


async def test_an_id_that_is_too_old(served: Served) -> None:
    """Whoever was away too long is told so, and is given where things stand now."""
    client = await served.client("view", "run")
    run = (await client.post("/api/v1/runs", json={"workflow": "hello"})).json()["run_id"]
    async with hearing(client, f"run:{run}", "00000000-3") as ear:
        found = [await ear.next() for _ in range(3)]
    assert [event.name for event in found if event] == ["ready", "reset", "snapshot"]


async def test_polling_tells_the_same(served: Served) -> None:
    """Whoever asks now and then is given the snapshot first and then every event, as in a stream."""
    client = await served.client("view", "run")
    first = (await client.get("/api/v1/events/poll", params={"topics": "runs"})).raise_for_status().json()
    assert first["events"] == []
    await asyncio.sleep(0.5)
    run = (await client.post("/api/v1/runs", json={"workflow": "hello"})).json()["run_id"]
    await asyncio.sleep(0.6)
    asked = {"topics": f"runs,run:{run}", "after": first["next"]}
    told = (await client.get("/api/v1/events/poll", params=asked)).json()
    assert [event["event"] for event in told["events"]][:2] == ["reset", "snapshot"]  # the run is a new topic
    asked = {"topics": "runs", "after": first["next"]}
    told = (await client.get("/api/v1/events/poll", params=asked)).json()
    assert run in {event["data"].get("run_id") for event in told["events"]}
    again = (await client.get("/api/v1/events/poll", params={"topics": "runs", "after": told["next"]})).json()
    assert again["events"] == []


@pytest.mark.parametrize("topics", ["x", "run:", "runs,run:*", ",", "run:" + "a" * 300, "RUNS"])
async def test_no_topic(served: Served, topics: str) -> None:
    """What is no topic is refused with the topics that there are."""
    client = await served.client("view")
    response = await client.get("/api/v1/events", params={"topics": topics})
    assert response.status_code == 422
    assert response.json()["code"] == "unknown_topic"


async def test_a_run_that_is_not_there(served: Served) -> None:
    """Whoever listens for a run that there is not is told so before a stream begins."""
    client = await served.client("view")
    assert (await client.get("/api/v1/events", params={"topics": "run:nobody"})).status_code == 404
    assert (await client.get("/api/v1/events/poll", params={"topics": "run:nobody"})).status_code == 404


async def test_the_fifth_stream_of_a_browser(served: Served) -> None:
    """The oldest of five streams of one browser gives way, is told where to ask, and when it comes back it is sent away."""
    browser = await served.browser("view")
    streams = [hearing(browser, "runs") for _ in range(event_streams.PER_SESSION)]
    ears = [await each.__aenter__() for each in streams]
    for ear in ears:
        await ear.until(lambda event: event.name == "ready")
    async with hearing(browser, "runs") as another:
        await another.until(lambda event: event.name == "ready")
        told = await ears[0].until(lambda event: event.name == "superseded")
        assert await ears[0].next() is None
        assert told.data["poll"] == "/api/v1/events/poll"
        back = await browser.get("/api/v1/events", params={"topics": "runs"}, headers={"Last-Event-ID": told.id})
        assert back.status_code == 204
        polled = await browser.get("/api/v1/events/poll", params={"topics": "runs", "after": told.id})
        assert polled.json()["events"] == []
        assert served.house.hub.listeners == event_streams.PER_SESSION
    for each in streams:
        await each.__aexit__(None, None, None)


async def test_programs_have_as_many_as_they_like(served: Served) -> None:
    """The limit is of browsers: a program with a token may hear more at a time."""
    client = await served.client("view")
    streams = [hearing(client, "runs") for _ in range(event_streams.PER_SESSION + 3)]
    ears = [await each.__aenter__() for each in streams]
    for ear in ears:
        await ear.until(lambda event: event.name == "ready")
    assert served.house.hub.listeners == len(ears)
    for each in streams:
        await each.__aexit__(None, None, None)


async def test_a_revoked_token_hears_no_more(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream ends soon after the token that opened it is revoked."""
    monkeypatch.setattr(event_streams, "BEAT_S", 0.2)
    client = await served.client("view")
    async with hearing(client, "runs") as ear:
        await ear.until(lambda event: event.name == "ready")
        (token,) = await served.house.access.tokens()
        await served.house.access.revoke_token(token.id)
        await ear.until(lambda event: event.name == "revoked", 5)
        assert await ear.next() is None


async def test_a_quiet_stream_is_kept_open(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing happens a comment is sent now and then, so that no one on the way takes the connection for dead."""
    monkeypatch.setattr(event_streams, "BEAT_S", 0.1)
    client = await served.client("view")
    async with hearing(client, "runs") as ear:
        async with asyncio.timeout(3):
            lines = [await anext(ear.lines) for _ in range(9)]
    assert lines.count(": ") >= 2


async def test_whoever_leaves_is_forgotten(served: Served) -> None:
    """When a listener closes its connection, its place is free."""
    client = await served.client("view")
    async with hearing(client, "runs") as ear:
        await ear.until(lambda event: event.name == "ready")
        assert served.house.hub.listeners == 1
    async with asyncio.timeout(3):
        while served.house.hub.listeners:
            await asyncio.sleep(0.02)


async def test_a_run_that_nobody_has_taken_is_told(place: Path) -> None:
    """A run that is accepted is heard on the list of runs though no worker is there, whoever has accepted it."""
    async with serve(place, works=False) as served:
        client = await served.client("view", "run")
        async with hearing(client, "runs") as ear:
            await ear.until(lambda event: event.name == "ready")
            started = (await client.post("/api/v1/runs", json={"workflow": "hello"})).json()["run_id"]
            heard = await ear.until(lambda event: event.name == "run")
            assert (heard.data["run_id"], heard.data["state"], heard.data["epoch"]) == (started, "ready", 0)
            runtime = served.house.runtime
            beside = await runtime.submit(await runtime.plan_of("hello"), {"name": "Ada"}, trigger={"type": "mcp"})
            heard = await ear.until(lambda event: event.name == "run")
            assert (heard.data["run_id"], heard.data["state"]) == (beside, "ready")


async def test_a_client_that_takes_nothing_is_cut_off(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection whose client reads nothing is closed, though much waits for it."""
    monkeypatch.setattr(serving, "STALLED_S", 0.5)
    token, address = await served.token("view"), served.house.settings.address.removeprefix("http://")
    host, _, port = address.rpartition(":")
    asked = f"GET /api/v1/events?topics=runs HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.connect((host, int(port)))
        deaf.sendall(asked.encode())
        hub, texts, number = served.house.hub, ["x" * 2_000] * 7, 0
        async with asyncio.timeout(20):
            while not hub.listeners:
                await asyncio.sleep(0.02)
            while hub.listeners:
                for _ in range(100):
                    hub.publish("runs", "run", {"run_id": f"run-{(number := number + 1)}", "texts": [*texts]})
                await asyncio.sleep(0.05)


async def test_the_limit_of_a_process(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with as many streams as it may have says when to come back."""
    monkeypatch.setattr(event_streams, "IN_ALL", 1)
    client = await served.client("view")
    async with hearing(client, "runs") as ear:
        await ear.until(lambda event: event.name == "ready")
        refused = await client.get("/api/v1/events", params={"topics": "runs"})
    assert refused.status_code == 429
    assert refused.headers["Retry-After"]


async def test_stopping_waits_for_no_stream(served: Served) -> None:
    """With two hundred open streams the server ends them all as soon as it is told to stop."""
    client = await served.client("view")
    streams = [hearing(client, "runs") for _ in range(100)]
    another = await served.client("view")
    streams += [hearing(another, "runs") for _ in range(100)]
    ears = await asyncio.gather(*(each.__aenter__() for each in streams))
    await asyncio.gather(*(ear.until(lambda event: event.name == "ready") for ear in ears))
    began = time.monotonic()
    served.house.closing.set()
    assert await asyncio.gather(*(ear.next() for ear in ears)) == [None] * 200
    assert time.monotonic() - began < 3
    assert (await client.get("/api/v1/events", params={"topics": "runs"})).status_code == 503
    for each in streams:
        await each.__aexit__(None, None, None)


def test_superseding_counts_each_browser_by_itself() -> None:
    """Streams of one session count together, those of another, and of programs, do not."""

    class Closing:
        def is_set(self) -> bool:
            return False

    class House:
        closing = Closing()

    streams = event_streams.Streams(House())  # type: ignore[arg-type]
    one, two = (Identity("a", "session", frozenset(), key) for key in ("1", "2"))
    program = Identity("p", "token", frozenset(), "3")
    own = [streams.admit(one) for _ in range(4)]
    others = [streams.admit(each) for each in (two, program, program, program, program, program)]
    streams.admit(one)
    assert [each.superseded for each in own] == [True, False, False, False]
    assert not any(each.superseded for each in others)

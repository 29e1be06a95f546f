"""What somebody sends who has credentials and means harm: it is refused in plain words, and nothing breaks for others."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import httpx
import pytest
from premises import Served
from streaming import hearing

from weft.server.routes.foreign_html import harmless


def _cursor(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


async def _raw(served: Served, head: str, body: str = "") -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.house.settings.port)
    writer.write(head.replace("\n", "\r\n").encode("latin-1") + body.encode())
    try:
        async with asyncio.timeout(5):
            return (await reader.read()).decode("latin-1")
    finally:
        writer.close()


async def test_made_up_cursors(served: Served) -> None:
    """A cursor that was not made here is refused or means another place of the list; it is no fault of the server."""
    client = await served.client("admin")
    api = (await client.get("/api/openapi.json")).json()
    lists = [
        path for path, methods in api["paths"].items() if "cursor" in str(methods.get("get", {}).get("parameters"))
    ]
    made_up = [(10**40,), (-(10**40),), (-1,), (2**63,), ("\ud800",), ("a\0b",), ("nan",), ("a", "\ud800"), ("\0", "b")]

    told = {
        (path, parts): answer.json().get("code")
        for path in lists
        for parts in made_up
        if (answer := await client.get(path.replace("{name}", "hello"), params={"cursor": _cursor(*parts)})).is_error
    }

    assert len(lists) >= 8
    assert "fault" not in told.values()
    assert [told["/api/v1/audit", (number,)] for (number,) in made_up[:4]] == ["bad_cursor"] * 4


@pytest.mark.parametrize("value", ['"\\ud800"', '{"\\udfff": 1}', '["\\ud800x"]', "NaN", "[1e400]", '{"k": -Infinity}'])
async def test_values_that_are_no_json(served: Served, value: str) -> None:
    """What Python's parser takes and JSON has not is refused where it comes in: kept, it could never be answered again."""
    client = await served.client("admin")
    bodies = {
        ("PUT", "/api/v1/workflows/hello/pins/say"): '{"output": %s}',
        ("PUT", "/api/v1/workflows/hello/layout"): '{"layout": {"at": %s}}',
        ("POST", "/api/v1/runs"): '{"workflow": "hello", "inputs": {"name": %s}}',
        ("POST", "/api/v1/connections"): '{"name": "x", "type": "http", "fields": {"base_url": %s}}',
        ("POST", "/api/v1/schedules/explain"): '{"schedule": {"cron": %s}}',
    }

    for (method, path), body in bodies.items():
        headers = {"Content-Type": "application/json"}
        answer = await client.request(method, path, content=body % value, headers=headers)

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), path
    assert (await client.get("/api/v1/workflows/hello/pins")).json() == {"pins": {}}


async def test_names_that_are_no_text(served: Served) -> None:
    """A problem that repeats half of a surrogate pair, sent as a name, can still be answered."""
    client = await served.client("admin")

    for body in ('{"\\ud800": 1}', '{"workflow": "\\ud800"}', '{"workflow": "hello", "inputs": {"\\ud800": 1}}'):
        answer = await client.post("/api/v1/runs", content=body, headers={"Content-Type": "application/json"})

        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_two_lengths(served: Served) -> None:
    """A body with a length and in chunks is refused, and what stands behind it is not read as a request."""
    host, token = f"127.0.0.1:{served.house.settings.port}", await served.token("admin")
    smuggled = f"GET /api/v1/session HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
    answer = await _raw(
        served,
        f"POST /api/v1/tokens HTTP/1.1\nHost: {host}\nAuthorization: Bearer {token}\nContent-Type: application/json\n"
        "Content-Length: 5\nTransfer-Encoding: chunked\n\n",
        f"0\r\n\r\n{smuggled}",
    )

    assert answer.startswith("HTTP/1.1 400 ")
    assert answer.count("HTTP/1.1") == 1


@pytest.mark.parametrize("around", ["\xa0", "\x85", "\x1c"])
async def test_host_is_taken_as_it_is(served: Served, around: str) -> None:
    """Nothing that only Python thinks is a blank is cut from a header before it is compared."""
    host = f"127.0.0.1:{served.house.settings.port}"
    for name in (f"{host}{around}", f"{around}{host}"):
        answer = await _raw(served, f"GET /health HTTP/1.1\nHost: {name}\nConnection: close\n\n")

        assert answer[9:12] in {"400", "421"}


async def test_a_look_at_a_loop_holds_up_nobody(served: Served) -> None:
    """The items of a loop are evaluated beside the loop that answers all others."""
    client = await served.client("view")
    turns = "".join(f"{{% for {name} in inputs.l %}}" for name in "abc") + "1" + "{% endfor %}" * 3
    text = (
        "name: hello\ninputs:\n  l: {type: array}\nsteps:\n- id: say\n"
        f"  for_each: '[{turns}]'\n  uses: set_values\n  with: {{values: {{text: 'x'}}}}\n"
    )
    asked = {
        "text": text,
        "at": ["steps", 0, "with", "values", "text"],
        "template": "{{ item }}",
        "data": {"inputs": {"l": list(range(300))}},
    }
    gaps: list[float] = []

    async def watch() -> None:
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0)
            gaps.append(time.perf_counter() - begun)

    await client.post("/api/v1/expressions/preview", json=asked)  # what is loaded once, and the study
    watching = asyncio.create_task(watch())
    begun = time.perf_counter()
    (await client.post("/api/v1/expressions/preview", json=asked)).raise_for_status()
    took = time.perf_counter() - begun
    watching.cancel()

    assert max(gaps) < 0.6 * took


def test_html_without_end() -> None:
    """A mail of nothing but elements that begin does not keep a processor busy for minutes."""
    begun = time.process_time()
    for shape in ("<svg>", "<p>", "<a ", "<!--", "</"):
        harmless(shape * 40_000 + "</x>" * 40_000)

    assert time.process_time() - begun < 5


async def test_one_token_does_not_take_all_streams(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token has so many streams and no more; another one still gets its own."""
    monkeypatch.setattr("weft.server.routes.event_streams.PER_TOKEN", 2)
    greedy, other = await served.client("view"), await served.client("view")
    async with hearing(greedy, "runs"), hearing(greedy, "runs"):
        third = await greedy.get("/api/v1/events", params={"topics": "runs"})
        async with hearing(other, "runs") as ear:
            assert ear.response.status_code == 200

    assert (third.status_code, third.json()["code"]) == (429, "too_many")


async def test_nobody_is_locked_out_by_whoever_begins(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logins that anybody begins and never ends take no more room than there is; the youngest are those that count."""
    access = served.house.access
    monkeypatch.setattr("weft.access.access.MOST_ENTRIES", 3)
    link = await access.issue("link", {"name": "ada"})
    begun = []
    for second in range(6):
        access._clock = lambda second=second: time.time() + second
        begun.append(await access.issue("oidc", {"n": second}))

    for state in begun[:3]:
        with pytest.raises(Exception, match="used already"):
            await access.redeem("oidc", state)
    assert [(await access.redeem("oidc", state))["n"] for state in begun[3:]] == [3, 4, 5]
    assert await access.redeem("link", link) == {"name": "ada"}


async def test_a_link_is_redeemed_once_by_many(served: Served) -> None:
    """Of ten browsers that bring the link at the same moment, one is let in."""
    link = await served.house.access.issue("link", {"name": "ada"})

    async def bring() -> httpx.Response:
        return await (await served.client()).get("/login", params={"token": link})

    answers = await asyncio.gather(*(bring() for _ in range(10)))

    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 9
    assert sum("set-cookie" in answer.headers for answer in answers) == 1


async def test_a_pattern_that_takes_for_ever(served: Served) -> None:
    """A pattern that doubles its work with every character answers as soon as any other, and holds up nobody."""
    served.write(
        "slow",
        'name: slow\ninputs: {code: {type: string, pattern: "(a+)+"}}\nsteps: [{id: a, uses: log, with: {message: x}}]',
    )
    client = await served.client("run")

    async with asyncio.timeout(10):
        answer = await client.post("/api/v1/runs", json={"workflow": "slow", "inputs": {"code": "a" * 50_000 + "!"}})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_value")


async def test_a_pattern_that_nobody_can_bound(served: Served) -> None:
    """A pattern with look-around or references back is refused where it stands, with the reason."""
    client = await served.client("view")
    text = 'name: slow\ninputs: {code: {type: string, pattern: "(a)\\\\1"}}\nsteps: [{id: a, uses: log, with: {message: x}}]'
    asked = {"documents": [{"file": "slow.yaml", "text": text}]}

    (found,) = (await client.post("/api/v1/validate", json=asked)).raise_for_status().json()["documents"]

    assert [problem["code"] for problem in found["problems"]] == ["pattern"]
    assert "backreferences are not supported" in found["problems"][0]["message"]

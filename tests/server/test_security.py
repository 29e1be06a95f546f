"""What is refused before a route is looked for, as bytes on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter
from premises import Served, serve

from weft.errors import InvalidInputs
from weft.server import serving
from weft.server.app import create_app, refuse_open
from weft.server.deps import api, needs
from weft.server.settings import Settings, read_settings


async def _raw(served: Served, text: str | bytes) -> tuple[int, str]:
    """Send bytes and return the status and everything else of the answer; 0: none came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.house.settings.port)
    writer.write(text.encode("latin-1").replace(b"\n", b"\r\n") if isinstance(text, str) else text)
    try:
        async with asyncio.timeout(10):
            answer = (await reader.read()).decode("latin-1")
    except ConnectionResetError:  # it was let go before all of it was read
        answer = ""
    finally:
        writer.close()
    return int(answer.split(" ")[1]) if answer else 0, answer


@pytest.fixture
def host(served: Served) -> str:
    return f"127.0.0.1:{served.house.settings.port}"


async def test_host_header(served: Served, host: str) -> None:
    """One header Host, and one that this server is known by: everything else is refused."""
    port = served.house.settings.port
    good = [host, f"localhost:{port}", f"LocalHost:{port}", f"[::1]:{port}"]
    bad = [
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        "localhost",
        f"{host}.evil",
        f"evil@{host}",
        f"{host}/x",
        "",
    ]
    answers = {
        each: (await _raw(served, f"GET /health HTTP/1.1\nHost: {each}\nConnection: close\n\n"))[0]
        for each in (*good, *bad)
    }

    assert {answers[each] for each in good} == {200}
    assert {answers[each] for each in bad} <= {400, 421}
    twice = f"GET /health HTTP/1.1\nHost: {host}\nHost: evil.example\nConnection: close\n\n"
    assert (await _raw(served, twice))[0] in {400, 421}
    assert (await _raw(served, "GET /health HTTP/1.0\n\n"))[0] == 421
    absolute = f"GET http://evil.example/health HTTP/1.1\nHost: {host}\nConnection: close\n\n"
    assert (await _raw(served, absolute))[0] != 200


async def test_two_hosts(served: Served, host: str) -> None:
    """Two headers Host are refused here, too, should a server before this one let them through."""
    transport = httpx.ASGITransport(served.app)
    async with httpx.AsyncClient(transport=transport, base_url=served.url) as client:
        for hosts in ((host, "evil.example"), ("evil.example", host), (host, host)):
            answer = await client.get("/health", headers=[("Host", each) for each in hosts])

            assert answer.status_code == 421


async def test_names_of_an_installation(place: Path) -> None:
    """WEFT_HOSTS and WEFT_URL name further hosts; behind https the cookie is for https, and so is the origin."""
    environ = {"WEFT_URL": "https://weft.example.org", "WEFT_HOSTS": "box.lan"}
    async with serve(place, works=False, environ=environ) as served:
        direct = f"http://127.0.0.1:{served.house.settings.port}"
        async with httpx.AsyncClient(base_url=direct, trust_env=False) as client:
            statuses = {
                name: (await client.get("/health", headers={"Host": name})).status_code
                for name in ("weft.example.org", "box.lan", "example.org", "weft.example.org:81")
            }
            token = await served.house.access.issue("link", {"name": "ada"})
            login = await client.get("/login", params={"token": token}, headers={"Host": "weft.example.org"})
            plain, tls = [
                await client.post(
                    "/login",
                    json={"token": "x"},
                    headers={"Host": "weft.example.org", "Origin": f"{scheme}://weft.example.org"},
                )
                for scheme in ("http", "https")
            ]

    assert statuses == {"weft.example.org": 200, "box.lan": 200, "example.org": 421, "weft.example.org:81": 421}
    assert login.headers["set-cookie"].startswith("__Host-weft=")
    assert "; Secure" in login.headers["set-cookie"]
    assert login.headers["strict-transport-security"] == "max-age=31536000"
    assert (plain.json()["code"], tls.json()["code"]) == ("foreign_origin", "unknown_token")


async def test_no_websocket(served: Served, host: str) -> None:
    """A WebSocket is refused, from this machine and from elsewhere."""
    upgrade = "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: eHg=\n\n"

    own = await _raw(served, f"GET /api/v1/events HTTP/1.1\nHost: {host}\n{upgrade}")
    foreign = await _raw(served, f"GET /api/v1/events HTTP/1.1\nHost: evil.example\n{upgrade}")

    assert (own[0], foreign[0]) == (400, 421)


async def test_chunked_body(served: Served, host: str) -> None:
    """A body that does not say its length is counted while it comes, and cut off at the limit."""
    token = await served.token("admin")
    head = (
        f"POST /api/v1/tokens HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"

    status, answer = await _raw(served, head + chunk * 16)

    assert (status, json.loads(answer.partition("\r\n\r\n")[2])["code"]) == (413, "too_large")


@pytest.fixture
async def hasty(place: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """A server that waits for nobody long."""
    short = replace(read_settings({}), headers_s=0.3, body_s=0.3)
    monkeypatch.setattr("premises.read_settings", lambda environ, port: replace(short, port=port))
    async with serve(place, works=False) as served:
        yield served


async def test_slow_head(hasty: Served) -> None:
    """A client that does not send the whole head of a request in time is let go, on a new connection and on a kept one."""
    host = f"127.0.0.1:{hasty.house.settings.port}"
    async with asyncio.timeout(5):
        silent = await _raw(hasty, "")
        slow = await _raw(hasty, f"GET /health HTTP/1.1\nHost: {host}\nX-Slow: ")
        kept = await _raw(hasty, f"GET /health HTTP/1.1\nHost: {host}\n\nGET /health HTTP/1.1\nHost")

    assert (silent[0], slow[0]) == (0, 0)
    assert kept[1].count("HTTP/1.1") == 1


async def test_slow_body(hasty: Served) -> None:
    """A client that does not send the whole body in time is told so, and let go."""
    token = await hasty.token("admin")
    head = (
        f"POST /api/v1/tokens HTTP/1.1\nHost: 127.0.0.1:{hasty.house.settings.port}\nAuthorization: Bearer {token}\n"
        'Content-Type: application/json\nContent-Length: 100\n\n{"name": '
    )
    async with asyncio.timeout(5):
        assert (await _raw(hasty, head))[0] == 408


async def test_large_head(served: Served, host: str) -> None:
    """A head without end is refused."""
    status, _ = await _raw(served, f"GET /health HTTP/1.1\nHost: {host}\nX-Long: {'a' * 100_000}")

    assert status in {0, 400}


async def test_headers_of_every_answer(served: Served) -> None:
    """Every answer forbids scripts from elsewhere, framing, sniffing and keeping; also one to a fault of our own."""
    served.house.audit.list = None  # type: ignore[method-assign, assignment]
    client = await served.client("admin")
    for path, status in (("/api/v1/session", 200), ("/nothing", 404), ("/api/v1/audit", 500)):
        answer = await client.get(path)

        assert answer.status_code == status
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
        assert len(answer.headers["x-request-id"]) == 16


async def test_a_fault_is_told_in_a_line(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of the server's own shows no trace to whoever asked; the log has it, under the id of the request."""
    served.house.audit.list = None  # type: ignore[method-assign, assignment]
    client = await served.client("admin")

    told = (await client.get("/api/v1/audit")).json()

    assert (told["code"], told["status"]) == ("fault", 500)
    assert "audit.py" not in str(told)
    assert "Traceback" in caplog.text


async def test_no_preflight(served: Served) -> None:
    """There is no CORS: a browser that asks whether another site may send gets a no."""
    client = await served.client()

    answer = await client.options(
        "/api/v1/tokens", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    )

    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_links_from_elsewhere_open(served: Served) -> None:
    """A link in a mail or another page still opens a page: only what it embeds or sends is refused."""
    client = await served.client("view")
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

    assert (await client.get("/", headers=visit)).status_code == 200
    assert (await client.get("/", headers={"Sec-Fetch-Site": "none"})).status_code == 200


async def test_problems_are_those_of_the_command_line(served: Served) -> None:
    """An error over HTTP carries the same objects as `weft … --json`, and says where and what to do."""
    from weft.cli.problems import as_json
    from weft.errors import NotFound
    from weft.server.problems import problem_object

    error = NotFound("There is no x.", remedy="Take y.", code="unknown_x")
    told = problem_object(error.problem, served.house.runtime.redactor).model_dump()

    assert told == as_json(error.problem, served.house.runtime.redactor)
    client = await served.client("admin")
    answer = await client.post("/api/v1/tokens", json={"name": "", "scopes": ["all"], "more": 1})
    assert answer.status_code == 422
    assert {each["where"]["field"] for each in answer.json()["problems"]} == {"body.name", "body.scopes.0", "body.more"}


def test_a_route_must_say_what_it_needs() -> None:
    """A server with a route that nobody has thought about does not start."""
    router = api("x")

    @router.get("/forgotten")
    async def forgotten() -> None: ...

    @router.get("/closed", dependencies=[needs("view")])
    async def closed() -> None: ...

    bare = APIRouter()
    bare.add_api_route("/bare", closed, dependencies=[needs("view")])
    refuse_open(router.routes[1])
    for route in (router.routes[0], bare.routes[0]):
        with pytest.raises(RuntimeError, match="needs"):
            refuse_open(route)


def test_create_app_looks(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole table is looked at when the application is made."""
    monkeypatch.setattr("weft.server.app.PUBLIC", {})

    with pytest.raises(RuntimeError, match="public"):
        create_app(served.house)


@pytest.mark.parametrize(
    "environ",
    [
        {"WEFT_URL": "weft.example.org"},
        {"WEFT_URL": "https://weft.example.org/path"},
        {"WEFT_HOSTS": "*.example.org"},
        {"WEFT_HOSTS": "http://box.lan"},
        {"WEFT_MAX_BODY": "1 MB"},
        {"WEFT_MAX_BODY": "10"},
    ],
    ids=str,
)
def test_settings_that_cannot_be_meant(environ: dict[str, str]) -> None:
    """A setting that cannot be meant is refused by its name."""
    with pytest.raises(InvalidInputs, match=next(iter(environ))):
        read_settings(environ)


def test_hosts_of_addresses() -> None:
    """A server that listens on one address is known by it; one that listens on all needs its names."""
    assert "192.168.1.5:80" in Settings("192.168.1.5", 80).hosts()
    assert "[fe80::1]:8321" in Settings("fe80::1").hosts()
    assert not [name for name in Settings("0.0.0.0").hosts() if name.startswith("0.")]
    assert "box.lan:8321" in Settings(names=("box.lan",)).hosts()


def test_port_in_use() -> None:
    """A port that is taken, or an address that is not ours, is told plainly."""
    first = serving.listen("127.0.0.1", 0)
    with pytest.raises(InvalidInputs, match="is in use") as taken:
        serving.listen("127.0.0.1", first.getsockname()[1])
    first.close()
    assert "--port" in str(taken.value.problem.remedy)
    with pytest.raises(InvalidInputs, match="not an address of this machine"):
        serving.listen("203.0.113.1", 0)
    with pytest.raises(InvalidInputs, match="There is no address"):
        serving.listen("no such name", 0)

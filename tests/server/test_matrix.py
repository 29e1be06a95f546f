"""Every route by who asks, host, origin and content type, made of the route table: also of routes that come later."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from premises import Served
from routetable import Door, doors

from weft.access import ROLES, SCOPES, Scope
from weft.server.app import PUBLIC

UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
async def nobody(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A client without credentials, in this process: no socket for each of some thousand requests."""
    transport = httpx.ASGITransport(served.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=served.url, timeout=20) as client:
        yield client


async def _told(client: httpx.AsyncClient, door: Door, headers: dict[str, str], body: bytes | None = b"{}") -> int:
    content = body if door.method in UNSAFE else None
    kind = {"Content-Type": "application/json"} if content is not None else {}
    async with client.stream(door.method, door.path, headers={**kind, **headers}, content=content) as response:
        if response.status_code >= 400:
            await response.aread()
            assert response.headers["content-type"].startswith(
                ("application/problem+json", "text/", "application/json")
            )
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        return response.status_code


async def test_nobody_comes_in(served: Served, nobody: httpx.AsyncClient) -> None:
    """Without credentials every route answers 401, but for the few that are listed with their reason."""
    open_to_all = set()
    for door in doors(served.app):
        status = await _told(nobody, door, {})
        if status != 401:
            open_to_all.add(door.template)

    assert open_to_all <= set(PUBLIC)
    assert all(PUBLIC.values())


async def test_unknown_paths_are_closed(nobody: httpx.AsyncClient) -> None:
    """Nobody finds out which paths there are: one that is not there answers as one that is."""
    for path in ("/api/v1/nothing", "/nothing", "/api/v1/", "/api", "//", "/api/v1/runs/../tokens", "/..%2f"):
        assert (await nobody.get(path)).status_code == 401, path
    assert (await nobody.put("/api/v1/session")).status_code == 401


async def test_dead_credentials(served: Served, nobody: httpx.AsyncClient) -> None:
    """A revoked token and a session that was ended are worth as much as none, on every route."""
    content, token = await served.house.access.create_token("old", SCOPES, by="tests")
    await served.house.access.revoke_token(token.id)
    for headers in ({"Authorization": f"Bearer {content}"}, {"Cookie": f"{served.house.settings.cookie}=gone"}):
        for door in doors(served.app):
            if not door.is_public:
                assert await _told(nobody, door, {**headers, "Origin": served.url}) == 401, (str(door), headers)


async def test_each_scope_opens_its_own(served: Served, nobody: httpx.AsyncClient) -> None:
    """A token with every scope but the one that a route needs is refused there, before anything of the body is read."""
    for missing in SCOPES:
        others: list[Scope] = [scope for scope in SCOPES if scope not in (missing, "admin")]
        headers = {"Authorization": f"Bearer {await served.token(*others or ['view'])}"}
        for door in doors(served.app):
            if missing in door.scopes:
                assert await _told(nobody, door, headers, b"{ this is no JSON") == 403, (str(door), missing)


async def test_roles(served: Served, nobody: httpx.AsyncClient) -> None:
    """What each role may do is exactly what its scopes say, on every route."""
    for role, scopes in ROLES.items():
        session = await served.house.access.begin_session(role, "oidc", scopes)
        headers = {"Cookie": f"{served.house.settings.cookie}={session}", "Origin": served.url}
        for door in doors(served.app):
            lacking = [scope for scope in door.scopes if scope is not None and scope not in scopes]
            if lacking:
                assert await _told(nobody, door, headers) == 403, (str(door), role)


async def test_every_scope_is_needed(served: Served) -> None:
    """No route that changes something is open to who may only look, but for those that change nothing or one's own."""
    harmless = {
        "POST /api/v1/validate",
        "POST /api/v1/steps/check",
        "POST /api/v1/schedules/explain",
        "POST /api/v1/expressions/preview",
        "POST /api/v1/expressions/complete",
        "POST /api/v1/models/explain",
        "POST /api/v1/models/estimate",
        "DELETE /api/v1/session",
    }
    weak = {
        str(door)
        for door in doors(served.app)
        if door.method in UNSAFE and not door.is_public and not set(door.scopes) - {None, "view"}
    }

    assert weak <= harmless, f"needs('view') is little for {weak - harmless}"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", "127.0.0.1:{port}@evil", ""]
)
async def test_foreign_host(served: Served, nobody: httpx.AsyncClient, host: str) -> None:
    """A request under another name is refused on every route: a page that has bound its name to 127.0.0.1 gets nothing."""
    headers = {
        "Host": host.format(port=served.house.settings.port),
        "Authorization": f"Bearer {await served.token('admin')}",
    }
    for door in doors(served.app):
        assert await _told(nobody, door, headers) == 421, str(door)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://{host}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
    ids=str,
)
async def test_foreign_origin(served: Served, nobody: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """What a page of another site sends is refused on every route, whatever credentials come with it."""
    host = served.url.removeprefix("http://")
    sent = {name: value.format(host=host) for name, value in headers.items()}
    session = await served.house.access.begin_session("ada", "session", SCOPES)
    for credentials in (
        {"Cookie": f"{served.house.settings.cookie}={session}"},
        {"Authorization": f"Bearer {await served.token('admin')}"},
    ):
        for door in doors(served.app):
            assert await _told(nobody, door, {**credentials, **sent}) == 403, str(door)


async def test_cookie_without_origin(served: Served, nobody: httpx.AsyncClient) -> None:
    """With a cookie, whatever changes something must say which page it comes from."""
    session = await served.house.access.begin_session("ada", "session", SCOPES)
    for door in doors(served.app):
        if door.method in UNSAFE:
            assert await _told(nobody, door, {"Cookie": f"{served.house.settings.cookie}={session}"}) == 403, str(door)


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"])
async def test_forms(served: Served, nobody: httpx.AsyncClient, kind: str) -> None:
    """What an HTML form can send is refused on every route that is not made for one."""
    headers = {"Content-Type": kind, "Authorization": f"Bearer {await served.token('admin')}"}
    for door in doors(served.app):
        made_for_it = door.template in {"/login", "/approve/{token}"} and kind == FORM["Content-Type"]
        if door.method in UNSAFE and not door.template.startswith("/hooks/") and not made_for_it:
            assert await _told(nobody, door, headers, b"a=b") == 415, str(door)


async def test_large_bodies(served: Served, nobody: httpx.AsyncClient) -> None:
    """A body that is too large is refused before anything is read, on every route."""
    headers = {"Authorization": f"Bearer {await served.token('admin')}", "Content-Length": "10000001"}
    for door in doors(served.app):
        if door.method in UNSAFE:
            assert await _told(nobody, door, headers) == 413, str(door)

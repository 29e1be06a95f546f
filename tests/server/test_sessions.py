from __future__ import annotations

import asyncio
import os
import re

import httpx
import pytest
from premises import Served

from weft.server.neighbours import TABLES, user_of


async def _link(served: Served) -> str:
    return await served.house.access.issue("link", {"name": "ada"})


async def test_link_works_once(served: Served) -> None:
    """The link that is printed logs in one browser, once, with a cookie that no script and no other site can use."""
    browser, late = await served.client(), await served.client()
    token = await _link(served)

    first = await browser.get("/login", params={"token": token})
    second = await late.get("/login", params={"token": token})

    assert first.status_code == 200
    assert re.search(r"HttpOnly; Max-Age=\d+; Path=/; SameSite=strict$", first.headers["set-cookie"])
    assert second.status_code == 401
    assert "used already" in second.text
    assert (await browser.get("/api/v1/session")).json() == {
        "name": "ada",
        "kind": "session",
        "scopes": ["admin", "connections", "edit", "run", "view"],
    }
    assert (await late.get("/api/v1/session")).status_code == 401


async def test_link_for_a_program(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that stood among the arguments of a browser is worth nothing to another user of the machine."""
    monkeypatch.setattr("weft.server.routes.session.user_of", lambda peer, own: 1000)
    links = [await served.house.access.issue("link", {"name": "ada", "user": user}) for user in (1000, 1001)]
    browser = await served.client()

    own, thief, again = [await browser.get("/login", params={"token": links[at]}) for at in (0, 1, 1)]

    assert [own.status_code, thief.status_code, again.status_code] == [200, 401, 401]
    assert "another user" in thief.text
    assert "set-cookie" not in thief.headers


async def test_whose_a_connection_is(served: Served) -> None:
    """The table of connections tells who has made one, over IPv4; of one that there is not it tells nothing."""
    own = ("127.0.0.1", served.house.settings.port)
    _, writer = await asyncio.open_connection(*own)
    peer = writer.get_extra_info("sockname")

    found = user_of(peer, own), user_of(("127.0.0.1", 1), own), user_of(None, own)
    writer.close()

    assert found == (os.getuid() if TABLES[0].exists() else None, None, None)


async def test_logout_ends_the_session(served: Served) -> None:
    """What the cookie held is worth nothing after the logout, even where somebody has kept it."""
    browser = await served.browser("view")
    kept = dict(browser.cookies)

    assert (await browser.delete("/api/v1/session")).status_code == 204

    thief = httpx.AsyncClient(base_url=served.url, cookies=kept, trust_env=False)
    assert (await thief.get("/api/v1/session")).status_code == 401
    await thief.aclose()


async def test_token_makes_a_session(served: Served) -> None:
    """A browser logs in with a token, may do what the token may, and is out as soon as that is revoked."""
    content, token = await served.house.access.create_token("ci", ["view"], by="tests")
    browser = await served.client()

    answer = await browser.post("/login", data={"token": content}, headers={"Origin": served.url})

    assert answer.status_code == 200
    assert (await browser.get("/api/v1/session")).json()["scopes"] == ["view"]
    await served.house.access.revoke_token(token.id)
    assert (await browser.get("/api/v1/session")).status_code == 401


async def test_tokens_over_the_api(served: Served) -> None:
    """An administrator makes, lists and revokes tokens; what one is, is shown once and kept nowhere."""
    admin = await served.client("admin")
    asked = {"name": "deploy", "scopes": ["run", "view"], "expires_in_days": 30}

    made = (await admin.post("/api/v1/tokens", json=asked)).raise_for_status().json()
    user = httpx.AsyncClient(base_url=served.url, headers={"Authorization": f"Bearer {made['token']}"}, trust_env=False)
    listed = (await admin.get("/api/v1/tokens")).json()["items"]
    before = await user.get("/api/v1/session")
    await admin.delete(f"/api/v1/tokens/{made['id']}")
    after = await user.get("/api/v1/session")
    await user.aclose()

    assert re.fullmatch(r"weft_[A-Za-z0-9_-]{43}", made["token"])
    assert listed[0]["name"] == "deploy"
    assert made["token"] not in str(listed)
    assert before.json()["scopes"] == ["run", "view"]
    assert (after.status_code, after.json()["code"]) == (401, "token_revoked")
    assert after.headers["www-authenticate"] == 'Bearer realm="weft", error="invalid_token"'
    state = b"".join(file.read_bytes() for file in served.home.glob("state.db*"))
    assert made["id"].encode() in state
    assert made["token"].encode() not in state


async def test_expired_token(served: Served) -> None:
    """A token whose time is over opens nothing, and the answer says so."""
    served.house.access._clock = lambda: 0.0
    token = await served.token("admin", expires_s=60)
    served.house.access._clock = lambda: 61.0
    client = await served.client()

    answer = await client.get("/api/v1/session", headers={"Authorization": f"Bearer {token}"})

    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer weft_wrong", "Bearer \xff", "weft_x"])
async def test_wrong_credentials(served: Served, header: str) -> None:
    """A wrong token is refused even where the session beside it is good: whoever sends one means it."""
    browser = await served.browser("admin")

    answer = await browser.get("/api/v1/session", headers={"Authorization": header.encode("latin-1")})

    assert answer.status_code == 401


async def test_session_ends_by_itself(served: Served) -> None:
    """A session ends half a day after its last use, and a week after its begin however much it is used."""
    day, access = 86_400.0, served.house.access
    access._clock = lambda: 0.0
    left, used = await served.browser("view"), await served.browser("view")

    for hours in range(8, 7 * 24, 8):
        access._clock = lambda hours=hours: hours * 3600.0
        assert (await used.get("/api/v1/session")).status_code == 200, hours
    access._clock = lambda: 7 * day + 1

    assert (await left.get("/api/v1/session")).status_code == 401
    assert (await used.get("/api/v1/session")).status_code == 401


async def test_logins_are_limited(served: Served) -> None:
    """Whoever fails ten times within a minute is told when to come back; nobody can lock out others of one proxy so."""
    client = await served.client()
    answers = [await client.post("/login", json={"token": "weft_no"}) for _ in range(11)]

    good = await client.post("/login", json={"token": await served.token("view")})

    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert good.status_code == 200


async def test_a_browser_is_shown_where_to_log_in(served: Served) -> None:
    """Somebody who opens a page without a session gets a page that leads to the login, with the status 401."""
    client = await served.client()

    answer = await client.get("/", headers={"Accept": "text/html,*/*"})
    program = await client.get("/", headers={"Accept": "*/*"})

    assert answer.status_code == 401
    assert "/login" in answer.text
    assert program.headers["content-type"] == "application/problem+json"


async def test_every_step_is_audited(served: Served) -> None:
    """Logins and tokens leave entries, which hold no secret."""
    browser = await served.client()
    await browser.get("/login", params={"token": await _link(served)})
    made = (
        await browser.post("/api/v1/tokens", json={"name": "x", "scopes": ["view"]}, headers={"Origin": served.url})
    ).json()
    await browser.delete(f"/api/v1/tokens/{made['id']}", headers={"Origin": served.url})
    await browser.delete("/api/v1/session", headers={"Origin": served.url})

    entries = await served.house.audit.list()

    assert [entry.action for entry in reversed(entries)] == [
        "session.begun",
        "token.created",
        "token.revoked",
        "session.ended",
    ]
    assert {entry.who for entry in entries} == {"ada"}
    assert made["token"] not in str(entries)


async def test_session_ends_with_its_token(served: Served) -> None:
    """A session lasts no longer than the token that it was made of, also for streams that are open already."""
    access = served.house.access
    access._clock = lambda: 0.0
    content, token = await access.create_token("ci", ["view"], by="tests", expires_s=60)
    browser = await served.client()
    await browser.post("/login", json={"token": content}, headers={"Origin": served.url})
    session = await access.by_session(browser.cookies[served.house.settings.cookie])
    program = await access.by_token(content)
    before = [await access.still(session), await access.still(program)]

    access._clock = lambda: 61.0

    assert before == [True, True]
    assert [await access.still(session), await access.still(program)] == [False, False]
    assert (await browser.get("/api/v1/session")).status_code == 401
    assert token.expires_ms == 60_000

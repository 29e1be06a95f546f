"""Logins through an identity provider that is real but for its users."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import RSAKey
from premises import Served, serve
from servers.identity import CLIENT, SECRET, IdentityProvider

from weft.access.oidc import read_provider
from weft.access.pace import Pace
from weft.errors import InvalidInputs

ROLES = "weft-admins=admin, weft-editors=editor, others=viewer"


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider() as provider:
        yield provider


def environ(provider: IdentityProvider, **more: str) -> dict[str, str]:
    return {
        "WEFT_OIDC_ISSUER": provider.issuer,
        "WEFT_OIDC_CLIENT_ID": CLIENT,
        "WEFT_OIDC_CLIENT_SECRET": SECRET,
        "WEFT_OIDC_ROLES": ROLES,
        **more,
    }


@pytest.fixture
async def team(place: Path, provider: IdentityProvider) -> AsyncIterator[Served]:
    """A server whose people come through the provider."""
    async with serve(place, works=False, environ=environ(provider, WEFT_OIDC_DOMAINS="example.org")) as served:
        yield served


@contextlib.asynccontextmanager
async def visiting(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A browser: it follows redirects, and keeps cookies of two sites apart."""
    async with httpx.AsyncClient(base_url=served.url, follow_redirects=True, trust_env=False) as browser:
        yield browser


async def _log_in(browser: httpx.AsyncClient) -> httpx.Response:
    return await browser.get("/login/start")


async def test_login(team: Served, provider: IdentityProvider) -> None:
    """Who comes back with a good token is who it says, and may what the strongest of the groups may."""
    async with visiting(team) as browser:
        answer = await _log_in(browser)
        me = (await browser.get("/api/v1/session")).json()

    assert answer.status_code == 200
    assert me == {"name": "ada@example.org", "kind": "oidc", "scopes": ["edit", "run", "view"]}
    asked = provider.authorized[0]
    assert (asked["response_type"], asked["code_challenge_method"], asked["scope"]) == (
        "code",
        "S256",
        "openid email profile",
    )
    entry = (await team.house.audit.list())[0]
    assert (entry.who, entry.kind, entry.action, entry.details) == (
        "ada@example.org",
        "oidc",
        "session.begun",
        {"role": "editor"},
    )


LIES: list[dict[str, Any]] = [
    {"iss": "https://evil.example"},
    {"aud": "another"},
    {"aud": ["another", "third"]},
    {"aud": [CLIENT, "another"]},
    {"azp": "another"},
    {"nonce": "another"},
    {"nonce": None},
    {"exp": int(time.time()) - 3_600},
    {"exp": None},
    {"sub": None},
    {"iss": None},
    {"aud": None},
    {"email": "ada@evil.example"},
    {"email": "ada@example.org.evil.example"},
    {"email": None},
    {"email_verified": False},
    {"groups": ["nobody"]},
    {"groups": None},
]


async def test_a_lie_is_refused(team: Served, provider: IdentityProvider) -> None:
    """A token in which one claim is wrong, old or missing opens nothing."""
    for lie in LIES:
        provider.lies = lie
        team.house.pace = Pace()
        async with visiting(team) as browser:
            answer = await _log_in(browser)

            assert answer.status_code in {401, 403}, lie
            assert (await browser.get("/api/v1/session")).status_code == 401, lie
    assert not await team.house.audit.list()


async def test_foreign_signature(team: Served, provider: IdentityProvider) -> None:
    """A token that another key has signed, under the name of the provider's, opens nothing."""
    provider.signer = RSAKey.generate_key(2048, {"kid": provider.key.kid})
    async with visiting(team) as browser:
        assert (await _log_in(browser)).status_code == 401


async def test_rotation(team: Served, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the provider has changed its keys, the next login finds the new ones; they are not fetched at every login."""
    monkeypatch.setattr("weft.access.oidc.ASK_AGAIN_S", 0.0)
    statuses = []
    for rotates in (False, False, True):
        if rotates:
            provider.rotate()
        async with visiting(team) as browser:
            statuses.append((await _log_in(browser)).status_code)

    assert statuses == [200, 200, 200]
    assert provider.fetched.count("/keys") == 2
    assert provider.fetched.count("/.well-known/openid-configuration") == 1


async def test_state_is_of_this_browser(team: Served, provider: IdentityProvider) -> None:
    """The way back works once, and only in the browser that has begun the login."""
    async with visiting(team) as ada, visiting(team) as eve:
        begun = await ada.get("/login/start", follow_redirects=False)
        there = await ada.get(begun.headers["location"], follow_redirects=False)
        back = there.headers["location"]

        stolen = await eve.get(back)
        late = await ada.get(back)

    assert (stolen.status_code, "another browser" in stolen.text) == (401, True)
    assert late.status_code == 401


async def test_made_up_state(team: Served) -> None:
    """Whoever comes back without having been sent away is refused."""
    async with visiting(team) as browser:
        answer = await browser.get("/login/return", params={"state": "made up", "code": "x"})

    assert answer.status_code == 401


async def test_answer_of_another_provider(team: Served) -> None:
    """An answer that names another issuer is not taken to this one (RFC 9207)."""
    async with visiting(team) as browser:
        begun = await browser.get("/login/start", follow_redirects=False)
        state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]

        answer = await browser.get("/login/return", params={"state": state, "code": "x", "iss": "https://evil.example"})

    assert (answer.status_code, "another provider" in answer.text) == (401, True)


async def test_names_that_nobody_has_verified(place: Path, provider: IdentityProvider) -> None:
    """An address that anybody can write into a profile makes nobody its owner: approvals are asked of names."""
    names = []
    async with serve(place, works=False, environ=environ(provider)) as team:
        for lie in ({}, {"email_verified": False}, {"email_verified": None}, {"groups": 5}):
            provider.lies = lie
            async with visiting(team) as browser:
                await _log_in(browser)
                names.append((await browser.get("/api/v1/session")).json().get("name"))

    assert names == ["ada@example.org", provider.claims["sub"], provider.claims["sub"], None]


async def test_provider_away(team: Served, provider: IdentityProvider) -> None:
    """A provider that does not answer is told in plain words; tokens still work."""
    await provider._runner.cleanup()
    async with visiting(team) as browser:
        answer = await _log_in(browser)
        again = await browser.post("/login", json={"token": await team.token("view")})

    assert "identity provider failed" in answer.text
    assert again.status_code == 200


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"WEFT_OIDC_ISSUER": "http://id.example.org"}, "https://"),
        ({"WEFT_OIDC_CLIENT_ID": ""}, "WEFT_OIDC_CLIENT_ID"),
        ({"WEFT_OIDC_ROLES": ""}, "WEFT_OIDC_ROLES"),
        ({"WEFT_OIDC_ROLES": "a=owner"}, "owner"),
        ({"WEFT_OIDC_ROLES": "admin"}, "group=role"),
        ({"WEFT_OIDC_CLIENT_SECRET_FILE": "/nowhere"}, "CLIENT_SECRET_FILE"),
    ],
)
def test_what_is_set_wrong(wrong: dict[str, str], told: str) -> None:
    """A provider that is set up wrong is refused at start, with the name of the variable."""
    right = {"WEFT_OIDC_ISSUER": "https://id.example.org", "WEFT_OIDC_CLIENT_ID": "weft", "WEFT_OIDC_ROLES": "*=viewer"}
    assert read_provider(right) is not None

    with pytest.raises(InvalidInputs, match=told):
        read_provider({**right, **wrong})

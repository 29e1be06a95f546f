"""Who is logged in, how one logs in and out, and the tokens of programs."""

from __future__ import annotations

import secrets
from html import escape
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Path, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from weft.access import ROLES, Identity, Role, Scope
from weft.access.access import LONGEST_SESSION_S
from weft.access.identity import Kind
from weft.access.shapes import TokenFacts, facts_of
from weft.errors import InvalidInputs, NotAuthenticated, NotFound, WeftError
from weft.server.deps import HouseDep, Who, api, needs
from weft.server.house import House
from weft.server.middleware import FORM
from weft.server.neighbours import user_of
from weft.server.pages import page, refusal
from weft.server.problems import headers_of, status_of
from weft.types import JsonObject

router = api("session")
pages = api("login", prefix="")

OIDC_COOKIE = "weft_login"
OIDC_S = 600
"""How long somebody may take at the identity provider."""


# ---- shapes
class Me(BaseModel):
    """Who asks."""

    name: str
    kind: Kind
    scopes: list[Scope]


class NewToken(BaseModel):
    """A token to be made."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100, pattern=r"\S", description="What the audit log calls its user.")
    scopes: list[Scope] = Field(min_length=1, max_length=5)
    expires_in_days: float | None = Field(default=None, gt=0, le=3_650, description="Left out: it does not expire.")


class MadeToken(TokenFacts):
    """A token that was made just now."""

    token: str = Field(description="Shown this once.")


class TokenList(BaseModel):
    """All tokens, the newest first."""

    items: list[TokenFacts]


class _Login(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: str = Field(min_length=1, max_length=200)


# ---- who is there
@router.get("/session", dependencies=[needs(None)])
async def show_session(who: Who) -> Me:
    """Tell who asks, and what that one may do."""
    return Me(name=who.name, kind=who.kind, scopes=sorted(who.scopes))


@router.delete("/session", status_code=204, dependencies=[needs(None)])
async def end_session(who: Who, house: HouseDep, response: Response) -> None:
    """Log out. A token stays as it is: it is revoked, not logged out."""
    if who.kind != "token":
        await house.access.end_session(who)
        await house.audit.record(who, "session.ended", who.name)
        response.delete_cookie(house.settings.cookie, secure=house.settings.is_secure, httponly=True, samesite="strict")


# ---- tokens
@router.get("/tokens", dependencies=[needs("admin")])
async def list_tokens(house: HouseDep) -> TokenList:
    """List all tokens, revoked and expired ones too."""
    return TokenList(items=[facts_of(token) for token in await house.access.tokens()])


@router.post("/tokens", status_code=201, dependencies=[needs("admin")])
async def create_token(new: NewToken, who: Who, house: HouseDep) -> MadeToken:
    """Make a token. What it is, is shown this once."""
    expires_s = None if new.expires_in_days is None else new.expires_in_days * 86_400
    content, token = await house.access.create_token(new.name, new.scopes, by=who.name, expires_s=expires_s)
    await house.audit.record(who, "token.created", token.id, {"name": token.name, "scopes": list(token.scopes)})
    return MadeToken(token=content, **facts_of(token).model_dump())


@router.delete("/tokens/{id}", dependencies=[needs("admin")])
async def revoke_token(id_: Annotated[str, Path(alias="id", max_length=100)], who: Who, house: HouseDep) -> TokenFacts:
    """Revoke a token, at once; sessions that were made of it end with it."""
    token = await house.access.revoke_token(id_)
    await house.audit.record(who, "token.revoked", token.id, {"name": token.name})
    return facts_of(token)


# ---- logging in
@pages.get("/login", include_in_schema=False)
async def show_login(request: Request, house: HouseDep, token: Annotated[str | None, Query()] = None) -> Response:
    """Show where to log in; with the token of the link that `weft serve` has printed, log in."""
    if token is None:
        return _form(house)
    try:
        with house.pace.trying(_address(request)):
            facts = await house.access.redeem("link", token)
            _require_own(request, facts)
    except WeftError as error:
        return _form(house, error)
    return await _begin(house, Identity(str(facts["name"]), "session", ROLES["admin"]))


@pages.post("/login", include_in_schema=False)
async def log_in(request: Request, house: HouseDep) -> Response:
    """Log a browser in with an API token: its session may do what the token may, and ends with it."""
    is_form, content = request.headers.get("content-type") == FORM, await request.body()
    try:
        given = _of_form(content) if is_form else _Login.model_validate_json(content).token
        with house.pace.trying(_address(request)):
            identity = await house.access.by_token(given)
    except ValidationError:
        raise InvalidInputs('The body must be {"token": "weft_…"}.', code="invalid_request") from None
    except WeftError as error:
        if is_form:
            return _form(house, error)
        raise
    return await _begin(house, Identity(identity.name, "session", identity.scopes), token=identity.key)


@pages.get("/login/start", include_in_schema=False)
async def start_login(house: HouseDep) -> Response:
    """Send a browser to the identity provider."""
    if house.logins is None:
        return _form(house, NotFound("There is no identity provider here.", code="no_provider"))
    state, cookie = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    try:
        begun = await house.logins.begin(state)
    except WeftError as error:
        return _form(house, error)
    await house.access.issue("oidc", {**begun.facts, "cookie": cookie}, lasts_s=OIDC_S, content=state)
    response = RedirectResponse(begun.address, 303)
    is_secure = house.settings.is_secure
    response.set_cookie(  # lax: the browser comes back from another site
        OIDC_COOKIE, cookie, max_age=OIDC_S, path="/login", secure=is_secure, httponly=True, samesite="lax"
    )
    return response


@pages.get("/login/return", include_in_schema=False)
async def return_from_provider(
    request: Request,
    house: HouseDep,
    state: Annotated[str, Query(max_length=500)] = "",
    code: Annotated[str, Query(max_length=4_000)] = "",
    iss: Annotated[str | None, Query(max_length=1_000)] = None,
) -> Response:
    """Log in whom the identity provider has sent back, in the browser that has begun it."""
    if house.logins is None:
        return _form(house, NotFound("There is no identity provider here.", code="no_provider"))
    try:
        with house.pace.trying(_address(request)):
            facts = await house.access.redeem("oidc", state)
            brought = request.cookies.get(OIDC_COOKIE, "")
            if not secrets.compare_digest(str(facts["cookie"]).encode(), brought.encode()):
                raise NotAuthenticated("This login was begun in another browser.", code="foreign_login")
            if not code:
                raise NotAuthenticated("The identity provider did not let you in.", code="provider_refused")
            name, role = await house.logins.end(facts, code, iss)
    except WeftError as error:
        return _form(house, error)
    response = await _begin(house, Identity(name, "oidc", ROLES[role]), role=role)
    response.delete_cookie(OIDC_COOKIE, path="/login")
    return response


async def _begin(house: House, who: Identity, *, token: str | None = None, role: Role | None = None) -> Response:
    """Begin a session. The browser goes on by itself: a redirect would not take along the new cookie, where it came here
    from another site (RFC 6265bis, §5.2.1)."""
    content = await house.access.begin_session(who.name, who.kind, who.scopes, token=token)
    await house.audit.record(
        who, "session.begun", who.name, {"role": role} if role else {"token": token} if token else {}
    )
    response = page("Welcome", "<p>You are logged in. <a href='/'>Go on</a></p>", goes_to="/")
    settings = house.settings
    response.set_cookie(
        settings.cookie,
        content,
        max_age=int(LONGEST_SESSION_S),
        path="/",
        secure=settings.is_secure,
        httponly=True,
        samesite="strict",
    )
    return response


def _form(house: House, error: WeftError | None = None) -> HTMLResponse:
    """Return the page on which one logs in, with what went wrong before."""
    told = "" if error is None else refusal(error, house.runtime.redactor)
    provider = house.logins.provider.issuer if house.logins else None
    link = f"<p><a class='button' href='/login/start'>Log in through {escape(provider)}</a></p>" if provider else ""
    body = f"""{told}{link}
<form method="post" action="/login">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Log in</button>
</form>
<p class="quiet">A link that logs you in, once, stands in the terminal in which <code>weft serve</code> was started.
A token comes from <code>weft tokens create NAME --scope view</code>.</p>"""
    response = page("Log in", body, status=200 if error is None else status_of(error))
    response.headers.update(headers_of(error) if error is not None else {})
    return response


def _of_form(content: bytes) -> str:
    try:
        return parse_qs(content.decode("utf-8", "replace"), max_num_fields=5).get("token", [""])[0].strip()
    except ValueError:
        return ""


def _require_own(request: Request, facts: JsonObject) -> None:
    """Refuse a link that was for a program of one user, and comes from another's: arguments of programs are no secret.

    Raises:
        NotAuthenticated: It is used up; another one stands in the terminal.
    """
    found = user_of(request.scope.get("client"), request.scope.get("server"))
    if "user" in facts and found not in (None, 0, facts["user"]):
        raise NotAuthenticated(
            "This link is for the browser of another user of this machine.",
            code="foreign_link",
            remedy="Use the link that weft serve has printed.",
        )


def _address(request: Request) -> str:
    return request.client.host if request.client else ""

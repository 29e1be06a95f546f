"""What routes ask for: the house, who is there, a scope, a page of a list."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, Generic, TypeVar

from fastapi import APIRouter, Depends, Request, Response, params
from fastapi.routing import APIRoute
from fastapi.security import APIKeyCookie, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from weft.access import Identity, Scope
from weft.errors import InvalidInputs, NotAuthenticated
from weft.server.house import House
from weft.server.problems import PROBLEMS, is_storable

T = TypeVar("T")

API: Final = "/api/v1"
LONGEST_CURSOR: Final = 1_000

_BEARER = HTTPBearer(auto_error=False, scheme_name="token", description="An API token: `Authorization: Bearer weft_…`.")
_COOKIE = APIKeyCookie(name="weft", auto_error=False, scheme_name="session", description="The session of a browser.")


def house_of(connection: HTTPConnection) -> House:
    house: House = connection.app.state.house
    return house


HouseDep = Annotated[House, Depends(house_of)]


async def identified(connection: HTTPConnection) -> Identity:
    """Return who asks; the first call in a request looks it up.

    Raises:
        NotAuthenticated: There are no credentials, or they are over.
    """
    known = connection.scope.get("weft.identity")
    if known is None:
        known = await _identity(connection)
        connection.scope["weft.identity"] = known
    found: Identity = known
    return found


async def _identity(connection: HTTPConnection) -> Identity:
    house = house_of(connection)
    header = connection.headers.get("authorization")
    if header is not None:  # whoever sends a token means it: no cookie helps one that is wrong
        scheme, _, content = header.partition(" ")
        if scheme.lower() != "bearer":
            raise NotAuthenticated("The header Authorization is not of the kind Bearer.", code="unknown_scheme")
        return await house.access.by_token(content.strip())
    cookie = connection.cookies.get(house.settings.cookie)
    if cookie is not None:
        return await house.access.by_session(cookie)
    raise NotAuthenticated(
        "This needs a login or an API token.",
        remedy="Open the link that weft serve has printed, or send `Authorization: Bearer` with a token.",
    )


Who = Annotated[Identity, Depends(identified)]


async def perhaps(connection: HTTPConnection) -> Identity | None:
    """Return who asks; None for nobody, and for credentials that are over: for what answers everybody."""
    try:
        return await identified(connection)
    except NotAuthenticated:
        return None


MaybeWho = Annotated[Identity | None, Depends(perhaps)]


class Needs:
    """Refuses who lacks a scope. Asked before the body of a request is read, and found by `create_app`."""

    def __init__(self, scope: Scope | None) -> None:
        self.scope: Scope | None = scope

    async def __call__(self, connection: HTTPConnection) -> None:
        """Refuse whoever may not do this.

        Raises:
            NotAuthenticated: Nobody is known to ask.
            NotAllowed: The scope is missing.
        """
        identity = await identified(connection)
        if self.scope is not None:
            identity.require(self.scope)


def needs(scope: Scope | None) -> params.Depends:
    """Return what stands in `dependencies=[…]` of a route: nobody without this scope comes in; None: nobody unknown."""
    needed: params.Depends = Depends(Needs(scope))
    return needed


def needed(route: APIRoute) -> list[Needs]:
    """Return what a route asks for."""
    return [each.dependency for each in route.dependencies if isinstance(each.dependency, Needs)]


class GuardedRoute(APIRoute):
    """A route that asks for its scope before it reads anything of the request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, asked = super().get_route_handler(), needed(self)

        async def guarded(request: Request) -> Response:
            for each in asked:
                await each(request)
            return await handle(request)

        return guarded


class Guarded:
    """The same for a whole application that is mounted."""

    def __init__(self, app: ASGIApp, scope: Scope) -> None:
        self._app = app
        self.needs = Needs(scope)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        await self.needs(HTTPConnection(scope))
        await self._app(scope, receive, send)


def api(tag: str, prefix: str = API) -> APIRouter:
    """Return the router of a module of routes.

    Args:
        tag: What its operations are listed under.
        prefix: What all its paths begin with; empty for what is not part of the API.
    """
    shown = [Depends(_BEARER), Depends(_COOKIE)] if prefix == API else []
    return APIRouter(
        prefix=prefix,
        tags=[tag],
        route_class=GuardedRoute,
        dependencies=shown,
        responses=PROBLEMS,
        generate_unique_id_function=lambda route: route.name,
    )


# ---- pages of lists
class Page(BaseModel, Generic[T]):
    """A part of a list; `next` is what to send as `cursor` for the part after it."""

    model_config = ConfigDict(frozen=True)

    items: list[T]
    next: str | None = Field(default=None, description="What to send as `cursor` for more; none: this was the last.")


Cursor = Annotated[str | None, Field(max_length=LONGEST_CURSOR, description="What `next` of the page before said.")]
Limit = Annotated[int, Field(ge=1, le=500, description="How many items at most.")]


def cursor(*parts: str | int) -> str:
    """Return the place after an item, as a text that means nothing to whoever gets it."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def _is_place(part: str | int) -> bool:
    """Tell whether a part can be one that we have written: every number has a place in a table, every text in UTF-8."""
    return 0 <= part < 2**63 if isinstance(part, int) else "\0" not in part and is_storable(part)


def read_cursor(text: str, *kinds: type[str] | type[int]) -> list[Any]:
    """Return the parts that `cursor` was given.

    Raises:
        InvalidInputs: It is no cursor, or one of another list (`bad_cursor`).
    """
    try:
        parts = json.loads(base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        parts = None
    if isinstance(parts, list) and [type(part) for part in parts] == list(kinds) and all(map(_is_place, parts)):
        return parts
    raise InvalidInputs("This cursor is none of this list.", code="bad_cursor", remedy="Start without a cursor.")

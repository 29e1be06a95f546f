"""What a connection of type `http` says: where requests may go, and the credentials that they carry.

A request with credentials goes only to the origin of the connection's base address or to a host that the connection
names, whatever its address was made of. Tokens of OAuth 2.0 (client credentials, RFC 6749 §4.4) are fetched when they
are needed and kept in this process until they expire.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote, urlencode
from weakref import WeakKeyDictionary

from yarl import URL

from weft.sdk import ActionContext, ActionError, Connection, Secret

from ._http import Request, Response, Rules, address, exchange, host_of, rules
from ._http_token import token_of

LARGEST_TOKEN_ANSWER: Final = 100_000  #: bytes

NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "none": (),
    "basic": ("username", "password"),
    "bearer": ("token",),
    "api_key": ("api_key",),
    "oauth2": ("token_url", "client_id", "client_secret"),
}
"""Kind of credentials → the fields that it needs."""
OURS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that the exchange makes itself (RFC 9110 §7)."""
CREDENTIALS: Final = frozenset({"authorization", "proxy-authorization"})
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Account:
    """A connection of type `http`.

    Raises:
        ActionError: Its fields do not go together (`invalid_connection`).
    """

    def __init__(self, connection: Connection, *, redirects: int = 0) -> None:
        self.rules: Rules = replace(rules(connection, redirects=redirects), may=self._may)
        self.auth: str = connection.get("auth", "none")
        self._connection = connection
        for name in NEEDED[self.auth]:
            if not connection.values.get(name):
                raise self._invalid(f"has no `{name}`, which `auth: {self.auth}` needs", f"Add `{name}`.")
        self.base = self._base(connection.get("base_url"))
        self._hosts: list[str] = [str(host).lower() for host in connection.get("allowed_hosts", [])]
        self.headers: Mapping[str, str] = connection.get("headers", {})
        if barred := sorted(name for name in self.headers if name.lower() in OURS | CREDENTIALS | {"cookie"}):
            raise self._invalid(f"has the header {barred[0]!r}, which cannot stand in `headers`", "Use `auth`.")
        if self._restricted and self.base is None and not self._hosts:
            raise self._invalid(
                "has credentials or headers, and says neither `base_url` nor `allowed_hosts`",
                "Say where they may go.",
            )

    @property
    def _restricted(self) -> bool:
        return self.auth != "none" or bool(self.headers) or bool(self._connection.get("client_certificate_file"))

    @property
    def key_header(self) -> str | None:
        """The header that carries the API key, in lower case."""
        if self.auth != "api_key" or self._connection.get("api_key_in", "header") != "header":
            return None
        return str(self._connection.get("api_key_name", "X-Api-Key")).lower()

    def _invalid(self, what: str, remedy: str) -> ActionError:
        name = self._connection.name
        return ActionError(f"Connection {name!r} {what}.", kind="invalid_connection", effect="none", remedy=remedy)

    def _base(self, text: str | None) -> URL | None:
        if text is None:
            return None
        try:
            url = address(text)
        except ActionError:
            url = URL("?")
        if not url.absolute or url.query_string:
            raise self._invalid("has a `base_url` that is no http(s) address, or one with a query", "Correct it.")
        return url

    # -- where to

    def place(self, text: str) -> URL:
        """Return the whole address for the address or the path that a step gives.

        Raises:
            ActionError: It is none (`invalid_url`), or the connection may not be used there (`host_not_allowed`).
        """
        if _ABSOLUTE.match(text) or self.base is None:
            url = address(text)
        else:
            root = str(self.base).rstrip("/") + "/"
            url = address(root + text.lstrip("/")) if text and text[0] != "?" else address(str(self.base) + text)
            # What is left of `..` after the address was resolved is hidden behind escapes, for the server to find.
            hidden = ".." in re.split(r"[/\\]", unquote(url.raw_path))
            if hidden or not (url.path + "/").startswith(self.base.path.rstrip("/") + "/"):
                raise ActionError(
                    "The path leads out of the connection's `base_url`.",
                    kind="invalid_url",
                    effect="none",
                    remedy="Write it without `..`.",
                )
        self.check(url)
        return url

    def check(self, url: URL) -> None:
        """Refuse an address where the connection may not be used.

        Raises:
            ActionError: It is of another origin than the base address, and its host is not named (`host_not_allowed`).
        """
        if not self._may(url):
            raise ActionError(
                f"Connection {self._connection.name!r} may not be used for {host_of(url)}.",
                kind="host_not_allowed",
                effect="none",
                remedy="Add the host to the connection's `allowed_hosts` if its credentials may go there.",
            )

    def _may(self, url: URL) -> bool:
        if self.base is None and not self._hosts:
            return True
        if self.base is not None and url.origin() == self.base.origin():
            return True
        name = (url.host or "").lower()
        return any(_matches(allowed, name, f"{name}:{url.port}") for allowed in self._hosts)

    # -- with what

    async def send(self, request: Request, context: ActionContext) -> Response:
        """Send a request with the connection's headers and credentials, and return the answer.

        A token that was kept and is not taken any more is replaced, and the request sent once more: it was refused, so
        nothing has been done.

        Raises:
            ActionError: As `exchange`, or there is no token (`token_refused`).
        """
        headers = {name.lower(): text for name, text in (*self.headers.items(), *request.headers.items())}
        bare = replace(request, headers=headers, confidential=self.auth != "none" or bool(self.headers))
        if self.auth != "oauth2":
            return await exchange(self._signed(bare), self.rules, context)
        token, kept = await self._token(context)
        response = await self._with_token(bare, token, context)
        if response.status == 401 and kept:
            token, _ = await self._token(context, instead_of=token)
            response = await self._with_token(bare, token, context)
        return response

    async def _with_token(self, bare: Request, token: Secret, context: ActionContext) -> Response:
        headers = {**bare.headers, "authorization": f"Bearer {token.reveal()}"}
        return await exchange(replace(bare, headers=headers), self.rules, context)

    def _signed(self, bare: Request) -> Request:
        headers = dict(bare.headers)
        url = URL(bare.url)
        match self.auth:
            case "basic":
                headers["authorization"] = _basic(self._connection.get("username"), self._revealed("password"))
            case "bearer":
                headers["authorization"] = f"Bearer {self._revealed('token')}"
            case "api_key" if self.key_header is not None:
                headers[self.key_header] = self._revealed("api_key")
            case "api_key":
                name = self._connection.get("api_key_name", "api_key")
                url = url.without_query_params(name).extend_query([(name, self._revealed("api_key"))])
        return replace(bare, url=url, headers=headers)

    def _revealed(self, name: str) -> str:
        secret = self._connection.secret(name)
        return secret.reveal() if secret else ""

    # -- OAuth 2.0

    @property
    def _token_key(self) -> str:
        parts = [self._connection.get(name, "") for name in ("token_url", "client_id", "scope", "audience")]
        return hashlib.sha256(json.dumps([*parts, self._revealed("client_secret")]).encode()).hexdigest()

    async def _token(self, context: ActionContext, *, instead_of: Secret | None = None) -> tuple[Secret, bool]:
        """Return a token other than `instead_of`, and whether it had been kept."""
        slot = _tokens_of_loop().setdefault(self._token_key, _Slot(asyncio.Lock()))
        async with slot.lock:  # side by side, steps would fetch one each
            token, kept = slot.token, True
            if token is None or token == instead_of or time.monotonic() >= slot.until:
                token, life_s = await self._fetch(context)
                slot.token, slot.until, kept = token, time.monotonic() + life_s, False
            context.protect(token)  # a server may show what it was sent
            return token, kept

    async def _fetch(self, context: ActionContext) -> tuple[Secret, float]:
        form = {"grant_type": "client_credentials"}
        form |= {name: self._connection.get(name) for name in ("scope", "audience") if self._connection.get(name)}
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        client = str(self._connection.get("client_id"))
        if self._connection.get("client_auth", "header") == "header":
            quoted = [urlencode({"": text})[1:] for text in (client, self._revealed("client_secret"))]
            headers["authorization"] = _basic(*quoted)  # RFC 6749 §2.3.1
        else:
            form |= {"client_id": client, "client_secret": self._revealed("client_secret")}
        url = str(self._connection.get("token_url"))
        request = Request("POST", url, headers, urlencode(form).encode(), confidential=True, harmless=True)
        given = replace(self.rules, max_bytes=LARGEST_TOKEN_ANSWER, redirects=0)
        return token_of(await exchange(request, given, context))


@dataclass(slots=True)
class _Slot:
    """The token of one account, and the right to fetch it."""

    lock: asyncio.Lock
    token: Secret | None = None
    until: float = 0.0


_kept: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Slot]] = WeakKeyDictionary()


def _tokens_of_loop() -> dict[str, _Slot]:
    return _kept.setdefault(asyncio.get_running_loop(), {})


def _basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def _matches(allowed: str, name: str, with_port: str) -> bool:
    if allowed.startswith("*."):
        return name.endswith(allowed[1:])
    return allowed in (name, with_port)

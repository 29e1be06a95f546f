"""The door: everything that is refused before a route is looked for, read from the headers as they came."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from weft.server.problems import plain
from weft.server.settings import Settings

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
JSON: Final = re.compile(r"application/json(?:\s*;\s*charset=\"?utf-8\"?)?", re.IGNORECASE)
FORMS: Final = ("/login", "/approve/")
"""Where a plain HTML form posts to, which works without scripts."""
HOOKS: Final = "/hooks/"
"""Where other programs post what they like; the routes there have limits of their own for each hook."""
MOST_HOOK_BYTES: Final = 10_000_000
FORM: Final = "application/x-www-form-urlencoded"

CONTENT_SECURITY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS: Final = {
    "content-security-policy": CONTENT_SECURITY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""On every answer, whatever a route says."""


class Refused(HTTPException):
    """The body of a request is too large or too slow; raised where a route reads it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(status, message, headers={"connection": "close"})  # the rest of the body is not read
        self.code = code


class Door:
    """Refuses foreign hosts, foreign pages, forms and bodies that are too large or too slow; adds headers to all answers.

    A page of another site can make a browser send requests here: to a name that it has bound to 127.0.0.1 (DNS rebinding;
    the header Host shows it), or with the cookie of somebody who is logged in (the headers Origin and Sec-Fetch-Site
    show it). See OWASP's Cross-Site Request Forgery Prevention and W3C's Fetch Metadata.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._hosts = settings.hosts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1008})
            case _:
                await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope["weft.request_id"] = secrets.token_hex(8)

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("cache-control", "no-store")
                headers["x-request-id"] = request_id
                if self._settings.is_secure:
                    headers["strict-transport-security"] = "max-age=31536000"
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, dressed)
            return
        limit = MOST_HOOK_BYTES if scope["path"].startswith(HOOKS) else self._settings.most_bytes
        await self._app(scope, _Body(receive, limit, self._settings.body_s), dressed)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is not let in."""
        headers = _Headers(scope)
        instance = f"urn:weft:request:{scope['weft.request_id']}"
        found = self._of_host(headers) or self._of_origin(headers, scope) or self._of_body(headers, scope)
        if found is None:
            return None
        status, code, message, remedy = found
        response = plain(status, code, message, remedy=remedy, instance=instance)
        response.headers["connection"] = "close"  # whatever body comes is not read
        return response

    def _of_host(self, headers: _Headers) -> Told:
        hosts = headers.all(b"host")
        if len(hosts) == 1 and hosts[0].lower() in self._hosts:
            return None
        remedy = "Use the address that weft serve has printed; WEFT_HOSTS and WEFT_URL name further ones."
        return 421, "unknown_host", "This server is not known by the name in the header Host.", remedy

    def _of_origin(self, headers: _Headers, scope: Scope) -> Told:
        """Refuse what a page of another site has caused."""
        refused = (403, "foreign_origin", "A page of another site may not send this.", None)
        host, origins, sites = headers.all(b"host")[0].lower(), headers.all(b"origin"), headers.all(b"sec-fetch-site")
        if len(origins) > 1 or len(sites) > 1:
            return refused
        if origins and origins[0].lower() != f"{'https' if self._is_public(host) else 'http'}://{host}":
            return refused
        is_safe = scope["method"] in SAFE
        if sites and sites[0] not in ("same-origin", "none"):
            visits = is_safe and headers.all(b"sec-fetch-mode") == ["navigate"]
            framed = headers.all(b"sec-fetch-dest") not in (["document"], [])
            if not visits or framed:
                return refused
        if not is_safe and not origins and not sites and self._has_session(headers):
            return 403, "no_origin", "A request with a cookie must say which page it comes from (Origin).", None
        return None

    def _is_public(self, host: str) -> bool:
        """Tell whether browsers come to a host by TLS: to any but this machine's own names, where WEFT_URL says https."""
        local = host.rpartition(":")[0] in {"localhost", "127.0.0.1", "[::1]"}
        return self._settings.is_secure and not local

    def _has_session(self, headers: _Headers) -> bool:
        return any(f"{self._settings.cookie}=" in cookie for cookie in headers.all(b"cookie"))

    def _of_body(self, headers: _Headers, scope: Scope) -> Told:
        if headers.all(b"upgrade"):
            return 400, "no_upgrade", "This server speaks plain HTTP; events come by SSE (/api/v1/events).", None
        lengths, kinds, path = headers.all(b"content-length"), headers.all(b"content-type"), scope["path"]
        is_chunked = bool(headers.all(b"transfer-encoding"))
        if lengths and is_chunked:  # where a proxy ends the body elsewhere, what follows is a request that it never saw
            return 400, "bad_length", "A body has a Content-Length or is chunked (RFC 9112, §6.1).", None
        has_body = is_chunked or lengths not in ([], ["0"])
        is_hook = path.startswith(HOOKS)
        limit = MOST_HOOK_BYTES if is_hook else self._settings.most_bytes
        if lengths and (not lengths[0].isdigit() or int(lengths[0]) > limit):
            return 413, "too_large", f"The body may have {limit:,} bytes.", None
        if scope["method"] in SAFE or is_hook or (not has_body and not kinds):
            return None
        is_form = path.startswith(FORMS) and kinds == [FORM]
        if len(kinds) == 1 and (JSON.fullmatch(kinds[0]) or is_form):
            return None
        return 415, "wrong_content_type", "The body must be JSON, with the header Content-Type: application/json.", None


Told = tuple[int, str, str, str | None] | None
"""Status, code, message and remedy of a refusal."""


class _Headers:
    """The headers as they came; none of them folded into another."""

    def __init__(self, scope: Scope) -> None:
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]

    def all(self, name: bytes) -> list[str]:
        return [value.decode("latin-1").strip(" \t") for key, value in self._headers if key == name]


class _Body:
    """Hands the body on as it comes, until it is too large or takes too long."""

    def __init__(self, receive: Receive, limit: int, seconds: float) -> None:
        self._receive = receive
        self._limit = limit
        self._seconds = seconds
        self._count = 0
        self._until: float | None = None
        self._is_read = False

    async def __call__(self) -> Message:
        if self._is_read:  # whoever asks now waits for the client to go away
            return await self._receive()
        now = time.monotonic()
        self._until = self._until or now + self._seconds
        try:
            message = await asyncio.wait_for(self._receive(), max(self._until - now, 0.001))
        except TimeoutError:
            raise Refused(408, "too_slow", f"The body did not come within {self._seconds:g} seconds.") from None
        self._count += len(message.get("body", b""))
        if self._count > self._limit:
            raise Refused(413, "too_large", f"The body may have {self._limit:,} bytes.")
        self._is_read = not message.get("more_body", False)
        return message

"""Access tokens for accounts that log in by OAuth 2.0 (XOAUTH2) instead of by a password.

A token is fetched with the connection's refresh token (RFC 6749 §6), or, where it has none, with the program's own
credentials (§4.4), and kept in this process until it expires.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode
from weakref import WeakKeyDictionary

from yarl import URL

from weft.sdk import ActionContext, ActionError, Connection, Secret

from ._http import Request, Rules, exchange
from ._http_address import networks
from ._http_token import token_of

FETCH_S: Final = 30.0  #: a token is for all who wait for it, so its fetch has a deadline of its own
LARGEST_ANSWER: Final = 100_000  #: bytes
ANYWHERE: Final = networks(["0.0.0.0/0", "::/0"])
HERE: Final = networks(["127.0.0.0/8", "::1"])


@dataclass(frozen=True, slots=True)
class Grant:
    """How tokens of one account are got; they are kept under it."""

    token_url: str
    client_id: str
    client_secret: Secret | None
    refresh_token: Secret | None
    scope: str | None


def grant(connection: Connection) -> Grant:
    """Return what a connection with `auth: xoauth2` says.

    Raises:
        ActionError: A field is missing, or the address is not one to send secrets to (`invalid_connection`).
    """
    for name in ("token_url", "client_id"):
        if not connection.get(name):
            raise invalid(connection, name)
    if not (connection.secret("refresh_token") or connection.secret("client_secret")):
        raise invalid(connection, "refresh_token")
    url = str(connection.get("token_url"))
    if not _is_private(url):
        raise ActionError(
            f"`token_url` of connection {connection.name!r} is not an https address.",
            kind="invalid_connection",
            effect="none",
            remedy="Tokens are fetched over TLS; without it only from this machine.",
        )
    return Grant(
        token_url=url,
        client_id=connection.get("client_id"),
        client_secret=connection.secret("client_secret"),
        refresh_token=connection.secret("refresh_token"),
        scope=connection.get("scope"),
    )


def invalid(connection: Connection, name: str) -> ActionError:
    """Return the error for a connection by token that lacks a field."""
    return ActionError(
        f"Connection {connection.name!r} has no `{name}`, which `auth: xoauth2` needs.",
        kind="invalid_connection",
        effect="none",
        remedy=f"Add `{name}`.",
    )


def _is_private(url: str) -> bool:
    try:
        parsed = URL(url)
        if parsed.scheme == "https":
            return bool(parsed.host)
        here = parsed.host == "localhost" or ipaddress.ip_address(parsed.host or "").is_loopback
    except ValueError:
        return False
    return parsed.scheme == "http" and here


async def access_token(how: Grant, *, instead_of: Secret | None = None) -> tuple[Secret, bool]:
    """Return a token other than `instead_of`, and whether it had been kept.

    Raises:
        ActionError: None is given (`token_refused`), or its server cannot be asked.
    """
    slots = _kept.setdefault(asyncio.get_running_loop(), {})
    slot = slots.setdefault(how, _Slot(asyncio.Lock(), how.refresh_token))
    async with slot.lock:  # side by side, sessions would fetch one each
        if slot.token is not None and slot.token != instead_of and time.monotonic() < slot.until:
            return slot.token, True
        await _fetch(how, slot)
        assert slot.token is not None  # noqa: S101 - fetched in the line before
        return slot.token, False


@dataclass(slots=True)
class _Slot:
    """The tokens of one account, and the right to fetch them."""

    lock: asyncio.Lock
    refresh_token: Secret | None  #: the newest; some servers give another with each access token
    token: Secret | None = None
    until: float = 0.0  #: monotonic


_kept: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Grant, _Slot]] = WeakKeyDictionary()


async def _fetch(how: Grant, slot: _Slot) -> None:
    form = {"grant_type": "client_credentials", "client_id": how.client_id}
    if slot.refresh_token is not None:
        form |= {"grant_type": "refresh_token", "refresh_token": slot.refresh_token.reveal()}
    if how.client_secret is not None:
        form["client_secret"] = how.client_secret.reveal()
    if how.scope:
        form["scope"] = how.scope
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    body = urlencode(form).encode()
    request = Request("POST", how.token_url, headers, body, confidential=True, harmless=True)
    networks_ = ANYWHERE if how.token_url.startswith("https:") else HERE  # its address stands in the connection
    rules = Rules(private_networks=networks_, timeout_s=FETCH_S, max_bytes=LARGEST_ANSWER)
    response = await exchange(request, rules, _context())
    slot.token, life_s = token_of(response)
    slot.until = time.monotonic() + life_s
    newer = json.loads(response.body).get("refresh_token")
    if isinstance(newer, str) and newer and slot.refresh_token is not None:
        slot.refresh_token = Secret(newer)


def _context() -> ActionContext:
    """Return surroundings for the fetch: it belongs to no step."""
    return ActionContext(
        run_id="",
        path="",
        attempt=1,
        started_at=datetime.now(UTC),
        idempotency_key="",
        deadline=time.monotonic() + FETCH_S,
    )

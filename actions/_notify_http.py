"""What the actions that post to a messenger have in common: the webhook's address, the request, the reading of answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from yarl import URL

from weft.sdk import ActionContext, ActionError, Connection, Json, JsonObject

from ._http import Request, Response, exchange, host_of, rules
from ._http import address as address_of

JSON_TYPE: Final = "application/json; charset=utf-8"
LARGEST_ANSWER: Final = 1_000_000  #: bytes


def needed(context: ActionContext, action: str, kind: str) -> Connection:
    """Return the step's connection.

    Raises:
        ActionError: There is none.
    """
    if context.connection is None:
        raise ActionError(
            f"{action} needs a connection of type {kind}.",
            kind="connection_missing",
            effect="none",
            remedy="Name one in the step: `connection: …`.",
        )
    return context.connection


def incomplete(connection: Connection, lacks: str) -> ActionError:
    """Return the error for a connection whose fields do not go together."""
    return ActionError(
        f"The connection {connection.name!r} {lacks}.",
        kind="invalid_connection",
        effect="none",
        remedy="Correct the connection.",
    )


def webhook_address(connection: Connection, field: str = "webhook_url") -> URL | None:
    """Return the address of the connection's webhook, which is a secret as a whole, or None when it has none.

    Raises:
        ActionError: It is not an http(s) address.
    """
    secret = connection.secret(field)
    if secret is None:
        return None
    try:
        return address_of(secret.reveal())
    except ActionError:
        raise incomplete(connection, f"has a `{field}` that is not an http(s) address") from None


async def post(
    url: URL,
    payload: Json | bytes,
    context: ActionContext,
    connection: Connection,
    *,
    headers: Mapping[str, str] | None = None,
    repeatable: bool = False,
) -> Response:
    """Post a JSON value, or bytes of one, and return the answer whatever its status.

    Raises:
        ActionError: There is no whole answer; `effect` says whether the message may have arrived.
    """
    body = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    given = {"Content-Type": JSON_TYPE, **(headers or {})}
    request = Request("POST", url, given, body, confidential=True, repeatable=repeatable)
    return await exchange(request, replace(rules(connection), max_bytes=LARGEST_ANSWER), context)


async def get(
    url: URL, context: ActionContext, connection: Connection, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Ask for something that changes nothing, for the test of a connection."""
    request = Request("GET", url, headers or {}, confidential=True)
    return await exchange(request, replace(rules(connection), max_bytes=LARGEST_ANSWER), context)


async def reach(url: URL, context: ActionContext, connection: Connection) -> str:
    """Speak HTTP with the host of a webhook, not with the webhook itself, and return the host's name."""
    request = Request("HEAD", url.origin(), confidential=True)
    await exchange(request, replace(rules(connection), max_bytes=LARGEST_ANSWER), context)
    return host_of(url)


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a token (RFC 6750)."""
    return {"Authorization": f"Bearer {token}"}


def parsed(response: Response) -> JsonObject:
    """Return the JSON object that was answered; an empty one when it is none."""
    try:
        value = json.loads(response.body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def text_of(value: Json) -> str | None:
    """Return a text of an answer, None when it is something else."""
    return value if isinstance(value, str) else None


def ok(response: Response) -> bool:
    return 200 <= response.status < 300


def unclear(response: Response) -> ActionError:
    """Return the error for a success that does not say what became of the message."""
    return ActionError(
        f"{host_of(response.url)} answered {response.status}, but not as it should. The message may have been posted.",
        kind="unclear_answer",
        effect="unknown",
        status=response.status,
        remedy="Check that the connection's address is the right one.",
    )


def unproved(host: str, known: str = "") -> ActionError:
    """Return what the test of a connection says when everything short of a message was proved."""
    told = f"{host} answers. {known}".rstrip()
    return ActionError(
        f"{told} Whether it takes messages shows only when one is sent.",
        kind="untestable",
        effect="none",
        remedy="Run a workflow that sends one.",
    )

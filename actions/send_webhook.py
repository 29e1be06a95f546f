"""Tell another system of an event: a JSON body, signed as Standard Webhooks 1.0 says (standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from weft.sdk import ActionContext, ActionError, Connection, Json, JsonObject, Problem, Secret

from ._http import Response
from ._http_answer import refusal
from ._markdown_blocks import refused
from ._notify_http import incomplete, needed, ok, post
from ._notify_http import webhook_address as webhook_of

LARGEST_BODY: Final = 1_000_000  #: bytes
LONGEST_ANSWER: Final = 10_000  #: characters
SHORTEST_HIDDEN: Final = 8  #: characters; shorter parts of an address would hide ordinary words
SHORTEST_KEY: Final = 16  #: bytes; the specification asks senders for 24 to 64, and some make shorter ones
OURS: Final = frozenset({"content-type", "content-length", "host", "transfer-encoding", "connection", "authorization"})


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    type: str | None = Field(None, max_length=200, pattern="^[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*$")
    data: dict[str, Any]
    headers: dict[str, str] | None = None


async def send_webhook(arguments: Arguments, context: ActionContext) -> JsonObject:
    """Sign the event, post it, and report what was answered.

    The event's id is made from the run and the step, so that a receiver knows a repeated one.

    Raises:
        ActionError: It was refused (`effect` none), or nobody knows whether it was taken (`effect` unknown).
    """
    connection = needed(context, "Send Webhook", "webhook")
    url = webhook_of(connection, "url")
    if url is None:
        raise incomplete(connection, "has no `url`")
    body = _body(arguments, context)
    event = f"msg_{hashlib.sha256(context.step_key.encode()).hexdigest()[:32]}"
    headers = {**_headers(arguments.headers or {}), **_signed(event, body, keys(connection))}
    response = await post(url, body, context, connection, headers=headers, repeatable=True)
    if not ok(response):
        raise refusal(response)
    context.log("webhook delivered", status=response.status)
    return {
        "state": "delivered",
        "webhook_id": event,
        "status": response.status,
        "response": _shown(response),
        "size_bytes": len(body),
        "possible_repeat": context.repeated,
    }


def _body(arguments: Arguments, context: ActionContext) -> bytes:
    """The event as bytes; every attempt has the same, so that it is one event."""
    event: JsonObject = arguments.data
    if arguments.type is not None:
        event = {"type": arguments.type, "timestamp": context.started_at.isoformat(), "data": arguments.data}
    try:
        body = json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise refused("The data hold half a character, or are nested too deeply.", field="data") from None
    if len(body) > LARGEST_BODY:
        raise refused(
            f"An event has at most {LARGEST_BODY:,} bytes; this one has {len(body):,}.",
            field="data",
            kind="too_large",
            remedy="Send an address where the rest can be fetched.",
        )
    return body


def _headers(given: Mapping[str, str]) -> Mapping[str, str]:
    for name in given:
        if name.lower() in OURS or name.lower().startswith("webhook-"):
            raise refused(
                f"The header {name!r} is made by this action.", field=f"headers.{name}", remedy="Leave it out."
            )
    return given


def keys(connection: Connection) -> list[bytes]:
    """Return the keys that sign: the connection's own, and the one before it while it is being replaced.

    Raises:
        ActionError: There is none, or one has not the form that the specification gives it.
    """
    own, previous = connection.secret("signing_secret"), connection.secret("previous_signing_secret")
    if own is None:
        raise incomplete(connection, "has no `signing_secret`")
    named = (("signing_secret", own), ("previous_signing_secret", previous))
    return [_key(connection, name, secret) for name, secret in named if secret is not None]


def _key(connection: Connection, name: str, secret: Secret) -> bytes:
    try:
        key = base64.b64decode(secret.reveal().removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < SHORTEST_KEY:
        raise incomplete(connection, f"has a `{name}` that is not `whsec_` and base64 of at least {SHORTEST_KEY} bytes")
    return key


def _signed(event: str, body: bytes, keys: Iterable[bytes]) -> dict[str, str]:
    """The three headers; the time is this attempt's, because receivers refuse old ones."""
    timestamp = str(int(time.time()))
    content = f"{event}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys)
    return {
        "webhook-id": event,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _shown(response: Response) -> str:
    """The beginning of the answer, without the parts of the secret address that it may repeat."""
    url, text = response.url, response.body.decode("utf-8", "replace")
    parts = {url.raw_path_qs, url.path_qs, url.raw_path, url.path, url.raw_query_string, url.query_string}
    parts |= {*url.raw_parts, *url.parts, *url.query.values()}
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, "…") if len(part) >= SHORTEST_HIDDEN else text
    return text[:LONGEST_ANSWER]


def check(arguments: Mapping[str, Json]) -> Iterator[Problem]:
    """Yield what is wrong with the headers, when they are known."""
    if isinstance(given := arguments.get("headers"), dict):
        try:
            _headers({name: str(text) for name, text in given.items()})
        except ActionError as error:
            yield from error.problems

"""A message as the sender would post it, to try a webhook without the sender."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import Final

import httpx

from weft.errors import ConnectionUnusable, NotFound, WeftError
from weft.runtime import Runtime
from weft.types import JsonObject
from weft.webhooks import addresses
from weft.webhooks.hooks import Hook, secrets_of
from weft.webhooks.reporting import address_url, report_of
from weft.webhooks.requests import Refused
from weft.webhooks.styles import BadSecret, Style, sign
from weft.workflow import seconds

PATIENCE_S: Final = 10.0
"""Beyond what a synchronous webhook may take."""

LONGEST_ANSWER: Final = 100_000


@dataclass(frozen=True, slots=True)
class Sent:
    """What came back."""

    status: int
    body: str
    run_id: str | None
    message_id: str | None  #: send it again, and it is the same message; None: the style signs none


async def send(
    runtime: Runtime,
    base: str,
    workflow: str,
    name: str | None = None,
    *,
    body: str | None = None,
    message_id: str | None = None,
) -> Sent:
    """Sign a message with the connection's secret, post it to a server, and return the answer.

    Args:
        runtime: Open.
        base: The address of the server.
        workflow: The document's name.
        name: The webhook's; left out, its only one.
        body: JSON; left out, a small event of the style.
        message_id: Of the message, for styles that have one in a header; left out, a new one.

    Raises:
        NotFound: There is no such workflow or webhook.
        ConnectionUnusable: The connection cannot sign.
        WeftError: Nobody answers (`unreachable`).
    """
    report = await report_of(runtime, base, workflow, name)
    planned = await runtime.plan_of(workflow)
    webhook = next((each for each in planned.workflow.on.webhook if each.name == report.name), None)
    if webhook is None:
        raise NotFound(f"Workflow {workflow!r} has no webhook {report.name!r}.", code="unknown_webhook")
    id_ = message_id or f"msg_{secrets.token_hex(12)}"
    content = (json.dumps(example(webhook.style, id_)) if body is None else body).encode()
    try:
        secret = (await secrets_of(runtime, Hook(planned, webhook)))[0]
        headers = sign(webhook.style, secret, content, id_=id_, at=time.time())
    except (BadSecret, Refused) as error:
        why = str(error) if isinstance(error, BadSecret) else "is not there, or has no signing secret"
        raise ConnectionUnusable(
            f"Connection {webhook.connection!r} {why}.",
            code="no_signing_secret",
            remedy=f"Look at it: weft connections test {webhook.connection}",
        ) from None
    headers |= {"content-type": "application/json", "user-agent": "Weft"}
    if webhook.style == "github":
        headers["x-github-event"] = "test"
    address = await addresses.address_of(await runtime.opened_state(), workflow, webhook.name)
    response = await _post(address_url(base, address), base, content, headers, seconds(webhook.timeout))
    shown = id_ if webhook.style in ("standard", "github") else None
    return Sent(response.status_code, response.text[:LONGEST_ANSWER], response.headers.get("weft-run"), shown)


async def _post(url: str, base: str, content: bytes, headers: dict[str, str], answer_s: float) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=answer_s + PATIENCE_S) as client:
        try:
            return await client.post(url, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise WeftError(
                f"Nobody answers at {base} ({type(error).__name__}).",
                code="unreachable",
                remedy="Start a server: weft serve. Or name the one that runs: --to http://127.0.0.1:PORT",
            ) from None


def example(style: Style, id_: str) -> JsonObject:
    """Return a small event as a sender of this style would send it."""
    match style:
        case "standard":
            return {"type": "test", "data": {}}
        case "github":
            return {"action": "test"}
        case "slack":
            return {"type": "event_callback", "event_id": id_.replace("msg_", "Ev"), "event": {"type": "test"}}
        case "stripe":
            return {"id": id_.replace("msg_", "evt_"), "object": "event", "type": "test"}

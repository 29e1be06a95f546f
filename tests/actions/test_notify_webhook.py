"""Send Webhook, against a real server on loopback; the signatures are judged by the standard's own library."""

from __future__ import annotations

import base64
import importlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import standardwebhooks
import yaml
from servers.webhooks import LOOPBACK, HookServer, Reply, attempt

from weft.redaction import forms
from weft.sdk import ActionError, Connection, JsonObject, Secret

send_webhook = importlib.import_module("weft_core.actions.send_webhook")

SCHEMA = yaml.safe_load((Path(__file__).parents[2] / "manifests" / "send_webhook.yaml").read_text())["output"]["schema"]
SECRET = "whsec_" + base64.b64encode(b"canary signing secret 9876").decode()
OLDER = "whsec_" + base64.b64encode(b"an older canary secret 1234").decode()
PATH = "/hooks/canaryPath9876?key=canaryKey9876"
DATA = {"report": 47, "name": "Zürich", "open": None, "rows": [1, 2.5, True]}


def connection(server: HookServer, **more: Any) -> Connection:
    values = {"url": Secret(server.url + PATH), "signing_secret": Secret(SECRET), "private_networks": LOOPBACK, **more}
    return Connection("receiver", "webhook", values)


async def send(server: HookServer, arguments: Mapping[str, Any] = {}, /, **more: Any) -> JsonObject:
    where = connection(server, **more.pop("values", {}))
    parsed = send_webhook.Arguments.model_validate({"data": DATA, **arguments})
    output: JsonObject = await send_webhook.send_webhook(parsed, attempt(where, **more))
    jsonschema.validate(output, SCHEMA)
    return output


async def failure(server: HookServer, arguments: Mapping[str, Any] = {}, /, **more: Any) -> ActionError:
    with pytest.raises(ActionError) as caught:
        await send(server, arguments, **more)
    return caught.value


async def test_an_event_is_signed() -> None:
    """The library that receivers use accepts the event, and refuses it with a byte changed or another secret."""
    async with HookServer() as server:
        output = await send(server, {"type": "report.finished", "headers": {"X-Tenant": "north"}})

    [request] = server.requests
    assert (request.method, request.path, request.query) == ("POST", "/hooks/canaryPath9876", {"key": "canaryKey9876"})
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    assert request.headers["x-tenant"] == "north"
    assert standardwebhooks.Webhook(SECRET).verify(request.body, request.headers) == {
        "type": "report.finished",
        "timestamp": "2026-11-22T08:00:00+00:00",
        "data": DATA,
    }
    for secret, body in ((SECRET, request.body + b" "), (OLDER, request.body)):
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(secret).verify(body, request.headers)
    assert output == {
        "state": "delivered",
        "webhook_id": request.headers["webhook-id"],
        "status": 204,
        "response": "",
        "size_bytes": len(request.body),
        "possible_repeat": False,
    }


async def test_without_a_type_the_body_is_the_data() -> None:
    """A receiver with a shape of its own gets just the data."""
    async with HookServer() as server:
        await send(server)

    assert server.requests[0].json == DATA


async def test_a_secret_can_be_replaced() -> None:
    """While there are two secrets each event is signed with both, so that a receiver may hold either."""
    async with HookServer() as server:
        await send(server, values={"previous_signing_secret": Secret(OLDER)})

    [request] = server.requests
    for secret in (SECRET, OLDER):
        standardwebhooks.Webhook(secret).verify(request.body, request.headers)


async def test_all_attempts_are_one_event() -> None:
    """A second attempt has the same id and body and a time of its own; another step has another id."""
    async with HookServer() as server:
        server.script(Reply(503), Reply(200))
        first = await failure(server, {"type": "a.b"})
        output = await send(server, {"type": "a.b"}, attempt=2, repeated=True)
        await send(server, {"type": "a.b"}, idempotency_key="r1/other")

    one, two, other = server.requests
    assert (first.effect, first.retryable) == ("unknown", True)
    assert one.headers["webhook-id"] == two.headers["webhook-id"] != other.headers["webhook-id"]
    assert one.body == two.body
    assert abs(int(two.headers["webhook-timestamp"]) - time.time()) < 5
    assert output["possible_repeat"] is True


async def test_the_answer_is_shown_without_the_address() -> None:
    """What the receiver says is in the output, cut short, without the path that it may repeat."""
    async with HookServer() as server:
        server.script(Reply(200, f"got {PATH} and /hooks/canaryPath9876 " + "x" * 20_000))
        output = await send(server)

    assert str(output["response"]).startswith("got … and … xxx")
    assert len(str(output["response"])) == 10_000


STATUSES = [
    (400, "invalid_request", "none", False),
    (401, "authentication", "none", False),
    (404, "not_found", "none", False),
    (410, "not_found", "none", False),
    (429, "rate_limited", "none", True),
    (302, "redirect", "unknown", False),
    (500, "server_error", "unknown", True),
    (503, "server_error", "unknown", True),
]


@pytest.mark.parametrize("told", STATUSES, ids=lambda told: str(told[0]))
async def test_a_status_is_told(told: tuple[int, str, str, bool]) -> None:
    """A refusal is final; a failure may be tried again, for the id tells a repeated event."""
    async with HookServer() as server:
        server.script(Reply(told[0]))
        error = await failure(server)

    assert (error.status, error.kind, error.effect, error.retryable) == told


async def test_a_lost_answer_may_be_tried_again() -> None:
    """When the answer does not come it is not known whether the event was taken; sending it again does no harm."""
    async with HookServer() as server:
        server.script(Reply(pause_s=5))
        late = await failure(server, seconds=0.6)
        server.script(Reply(drop=True))
        lost = await failure(server)
    gone = await failure(server)

    assert [(error.kind, error.effect, error.retryable) for error in (late, lost, gone)] == [
        ("timeout", "unknown", True),
        ("lost", "unknown", True),
        ("unreachable", "none", True),
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"signing_secret": None},
        {"signing_secret": Secret("whsec_not base64!")},
        {"signing_secret": Secret("whsec_" + base64.b64encode(b"short").decode())},
        {"previous_signing_secret": Secret("whsec_")},
        {"url": None},
        {"url": Secret("localhost")},
    ],
)
async def test_a_connection_that_cannot_sign_is_told(values: dict[str, Any]) -> None:
    """A secret that is missing, malformed or short, or an address that is none, sends nothing."""
    async with HookServer() as server:
        error = await failure(server, values=values)

    assert (error.kind, error.effect) == ("invalid_connection", "none")
    assert server.requests == []


@pytest.mark.parametrize("name", ["webhook-id", "Webhook-Signature", "Content-Type", "host", "Authorization"])
async def test_headers_of_the_signature_cannot_be_set(name: str) -> None:
    """What this action makes itself is refused, before a run where it is known."""
    async with HookServer() as server:
        error = await failure(server, {"headers": {name: "x"}})

    assert (error.kind, error.effect) == ("invalid_message", "none")
    assert server.requests == []
    [problem] = send_webhook.check({"headers": {name: "x"}})
    assert problem.where.field == f"headers.{name}"
    assert list(send_webhook.check({"data": {}})) == []


@pytest.mark.parametrize(
    ("data", "kind"), [({"x": "\ud800"}, "invalid_message"), ({"x": "y" * 1_000_000}, "too_large")]
)
async def test_what_is_no_event_is_refused(data: dict[str, Any], kind: str) -> None:
    """Half a character, or more than a million bytes, is told before anything is sent."""
    async with HookServer() as server:
        error = await failure(server, {"data": data})

    assert (error.kind, error.effect) == (kind, "none")
    assert server.requests == []


async def test_secrets_stay_inside(caplog: pytest.LogCaptureFixture) -> None:
    """No secret and no part of the address stands in an output, an error or a log, whatever the receiver repeats."""
    caplog.set_level(logging.DEBUG)
    canaries = ("canaryPath9876", "canaryKey9876", SECRET, SECRET.removeprefix("whsec_"), "canary signing secret 9876")
    said: list[str] = []

    async with HookServer() as server:
        server.script(Reply(200, json.dumps({"url": PATH, "path": PATH.partition("?")[0]})))
        said.append(repr(await send(server, write=lambda *facts: said.append(repr(facts)))))
        for reply in (*(Reply(status, PATH) for status in (302, 400, 429, 500)), Reply(drop=True), Reply(size=-1)):
            server.script(reply)
            error = await failure(server)
            said += [repr(error), repr(error.problems), repr(error.details)]
        said.append(repr(await failure(server, values={"signing_secret": Secret(SECRET + "!")})))

    text = "\n".join([*said, caplog.text])
    assert [form for canary in canaries for form in forms(canary) if form in text] == []

"""The tests of the messengers' connections: they prove what can be proved, post nothing, and say the truth."""

from __future__ import annotations

import base64
import importlib
from typing import Any

import pytest
from servers.webhooks import LOOPBACK, HookServer, Reply, attempt

from weft.sdk import ActionError, Connection, Secret

KEY = Secret("whsec_" + base64.b64encode(b"a secret of enough bytes!").decode())


def values(server: HookServer) -> dict[str, dict[str, Any]]:
    return {
        "slack webhook": {"webhook_url": Secret(f"{server.url}/services/T0/B0/canary9876")},
        "slack token": {"token": Secret("xoxb-canary-1"), "api_base": f"{server.url}/api"},
        "teams webhook": {"webhook_url": Secret(f"{server.url}/workflows/1?sig=canary9876")},
        "teams token": {
            "token": Secret("eyJ.canary"),
            "graph_base": f"{server.url}/v1.0",
            "team_id": "fbe2",
            "channel_id": "19:1@thread.tacv2",
        },
        "discord webhook": {"webhook_url": Secret(f"{server.url}/webhooks/1/canary9876")},
        "discord token": {
            "bot_token": Secret("MTk4.canary"),
            "api_base": f"{server.url}/v10",
            "channel_id": "112233445566778899",
        },
        "webhook": {"url": Secret(f"{server.url}/hooks/canary9876"), "signing_secret": KEY},
        "apprise": {"url": Secret(f"json://127.0.0.1:{server.port}/canary9876")},
        "apprise fields": {"service": "pushover", "user_key": Secret("u" * 30), "token": Secret("a" * 30)},
    }


async def tell(case: str, given: dict[str, Any]) -> str:
    service = case.partition(" ")[0]
    module = importlib.import_module(f"weft_core.actions._connection_{service}")
    where = Connection("c", service, {"private_networks": LOOPBACK, **given})
    said: str = await module.test(where, attempt(where))
    return said


@pytest.mark.parametrize(
    ("case", "said", "asked"),
    [
        ("slack token", "The token belongs to weft of Acme; nothing was posted.", "GET /api/auth.test"),
        (
            "teams token",
            "The token sees the channel Reports; nothing was posted.",
            "GET /v1.0/teams/fbe2/channels/19:1@thread.tacv2",
        ),
        ("discord webhook", "The webhook Reports is there; nothing was posted.", "GET /webhooks/1/canary9876"),
        (
            "discord token",
            "The bot sees the channel reports; nothing was posted.",
            "GET /v10/channels/112233445566778899",
        ),
    ],
)
async def test_what_works_is_told(case: str, said: str, asked: str) -> None:
    """One request that changes nothing shows that the credentials hold."""
    async with HookServer() as server:
        assert await tell(case, values(server)[case]) == said

    assert [f"{request.method} {request.path}" for request in server.requests] == [asked]


@pytest.mark.parametrize("case", ["slack webhook", "teams webhook", "webhook", "apprise", "apprise fields"])
async def test_what_only_a_message_would_show_is_not_claimed(case: str) -> None:
    """Where every request would be a message, the host at most is asked, and the answer is that nobody knows."""
    async with HookServer() as server:
        with pytest.raises(ActionError) as caught:
            await tell(case, values(server)[case])

    assert (caught.value.kind, caught.value.effect) == ("untestable", "none")
    assert [(request.method, request.path) for request in server.requests] in ([], [("HEAD", "/")])
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("case", "reply", "kind"),
    [
        ("slack token", Reply(200, {"ok": False, "error": "invalid_auth"}), "authentication"),
        ("slack token", Reply(500), "server_error"),
        ("slack token", Reply(200, "<html>"), "invalid_connection"),
        ("teams token", Reply(401), "authentication"),
        ("teams token", Reply(200, {"displayName": "Reports"}), "invalid_connection"),
        ("discord webhook", Reply(200, "<html>"), "invalid_connection"),
        ("discord webhook", Reply(200, {"name": "Reports", "id": None}), "invalid_connection"),
        ("discord token", Reply(200, []), "invalid_connection"),
        ("teams token", Reply(403), "untestable"),
        ("discord webhook", Reply(404, {"code": 10015}), "not_found"),
        ("discord webhook", Reply(401, {"code": 50027}), "authentication"),
        ("discord token", Reply(403, {"code": 50001}), "forbidden"),
        ("webhook", Reply(drop=True), "lost"),
    ],
)
async def test_what_does_not_work_is_told(case: str, reply: Reply, kind: str) -> None:
    """A refusal is a failure of the connection; a right that the test lacks, and the step does not need, is none."""
    async with HookServer() as server:
        server.script(reply)
        with pytest.raises(ActionError) as caught:
            await tell(case, values(server)[case])

    assert (caught.value.kind, caught.value.effect) == (kind, "none")


@pytest.mark.parametrize("case", ["slack webhook", "slack token", "teams webhook", "discord token", "webhook"])
async def test_nobody_there_is_told(case: str) -> None:
    """A host that is not reached, or that may not be, fails the test."""
    async with HookServer() as server:
        given = values(server)[case]
        with pytest.raises(ActionError) as inside:
            await tell(case, {**given, "private_networks": []})
    with pytest.raises(ActionError) as gone:
        await tell(case, given)

    assert (inside.value.kind, gone.value.kind) == ("address_refused", "unreachable")


@pytest.mark.parametrize(
    ("case", "given"),
    [
        ("slack", {}),
        ("teams", {}),
        ("teams", {"token": Secret("eyJ.canary")}),
        ("discord", {}),
        ("discord", {"bot_token": Secret("MTk4.canary")}),
        ("webhook", {"url": Secret("https://example.com")}),
        ("apprise", {}),
        ("apprise", {"service": "pushover", "user_key": Secret("u" * 30)}),
        ("apprise", {"url": Secret("pover://short@")}),
        ("apprise", {"url": Secret("syslog://")}),
        ("apprise", {"url": Secret("json://example.com"), "private_networks": ["home"]}),
        ("apprise", {"url": Secret("json://example.com"), "user_key": Secret("u" * 30)}),
        ("apprise", {"service": "json", "host": "example.com", "user_key": Secret("u" * 30)}),
    ],
)
async def test_what_cannot_work_is_told(case: str, given: dict[str, Any]) -> None:
    """Fields that are missing or do not fit fail the test without a request."""
    with pytest.raises(ActionError) as caught:
        await tell(case, given)

    assert (caught.value.kind, caught.value.effect) == ("invalid_connection", "none")

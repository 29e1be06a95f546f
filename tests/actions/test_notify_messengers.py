"""Send Slack, Teams and Discord Message, against a real server on loopback."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from servers.webhooks import LOOPBACK, HookServer, Reply, attempt

from weft.redaction import forms
from weft.sdk import ActionError, Connection, JsonObject, Problem, Secret

MANIFESTS = Path(__file__).parents[2] / "manifests"
PATHS = {
    "slack": "/services/T0123/B0456/canary_slack_hook_9876",
    "teams": "/workflows/0123/triggers/manual/paths/invoke?sig=canaryTeamsHook9876",
    "discord": "/webhooks/112233445566778899/canaryDiscordHook9876",
}
TOKENS = {"slack": "token", "teams": "token", "discord": "bot_token"}
CANARIES = {"slack": "xoxb-canary-token-1234", "teams": "eyJ.canary.token.1234", "discord": "MTk4.canary.token.1234"}
PLACES: dict[str, dict[str, Any]] = {
    "slack": {"channel": "C0123456789"},
    "teams": {"team_id": "fbe2bf47-16c8", "channel_id": "19:4a95@thread.tacv2"},
    "discord": {"channel_id": "112233445566778899"},
}
BASES = {"slack": ("api_base", "/api"), "teams": ("graph_base", "/v1.0"), "discord": ("api_base", "/v10")}
EVERY = [(service, way) for service in PATHS for way in ("webhook", "token")]


def module(service: str) -> Any:
    return importlib.import_module(f"weft_core.actions.send_{service}_message")


def connection(service: str, way: str, server: HookServer, **more: Any) -> Connection:
    values: dict[str, Any] = {"private_networks": LOOPBACK, **more}
    if way == "webhook":
        values["webhook_url"] = Secret(server.url + PATHS[service])
    else:
        field, path = BASES[service]
        values |= {TOKENS[service]: Secret(CANARIES[service]), field: server.url + path, **PLACES[service], **more}
    return Connection("tell", service, values)


async def send(
    service: str, way: str, server: HookServer, arguments: Mapping[str, Any] = {}, /, **more: Any
) -> JsonObject:
    action = module(service)
    values = more.pop("values", {})
    parsed = action.Arguments.model_validate({"message": "Good **morning**.", **arguments})
    call = getattr(action, f"send_{service}_message")
    output: JsonObject = await call(parsed, attempt(connection(service, way, server, **values), **more))
    schema = yaml.safe_load((MANIFESTS / f"send_{service}_message.yaml").read_text())["output"]["schema"]
    jsonschema.validate(output, schema)
    return output


async def failure(
    service: str, way: str, server: HookServer, arguments: Mapping[str, Any] = {}, /, **more: Any
) -> ActionError:
    with pytest.raises(ActionError) as caught:
        await send(service, way, server, arguments, **more)
    return caught.value


def problems(service: str, **arguments: Any) -> list[Problem]:
    return list(module(service).check(arguments))


# -- what goes out


async def test_slack_by_webhook() -> None:
    """The webhook gets blocks and words for notifications, and is told to look for no names and no previews."""
    async with HookServer() as server:
        output = await send("slack", "webhook", server)

    [request] = server.requests
    assert (request.method, request.path) == ("POST", PATHS["slack"])
    assert request.headers["content-type"] == "application/json; charset=utf-8"
    assert "authorization" not in request.headers
    section = {
        "type": "rich_text_section",
        "elements": [
            {"type": "text", "text": "Good "},
            {"type": "text", "text": "morning", "style": {"bold": True}},
            {"type": "text", "text": "."},
        ],
    }
    assert request.json == {
        "text": "Good morning.",
        "blocks": [{"type": "rich_text", "elements": [section]}],
        "mrkdwn": False,
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }
    assert output == {"state": "sent", "channel": None, "ts": None, "possible_repeat": False}


async def test_slack_by_token() -> None:
    """An app names the channel and the thread, and learns where its message stands."""
    async with HookServer() as server:
        given = {
            "channel": "#reports",
            "thread_ts": "1768721350.000200",
            "reply_broadcast": True,
            "unfurl": True,
            "mention": ["U0123456789", "U0123456789", "W0123456789"],
        }
        output = await send("slack", "token", server, given)

    [request] = server.requests
    assert request.path == "/api/chat.postMessage"
    assert request.headers["authorization"] == f"Bearer {CANARIES['slack']}"
    sent = request.json
    assert sent["blocks"][0]["elements"][0]["elements"] == [
        {"type": "user", "user_id": "U0123456789"},
        {"type": "user", "user_id": "W0123456789"},
    ]
    assert {name: sent[name] for name in ("channel", "thread_ts", "reply_broadcast", "unfurl_links")} == {
        "channel": "#reports",
        "thread_ts": "1768721350.000200",
        "reply_broadcast": True,
        "unfurl_links": True,
    }
    assert (output["channel"], output["ts"]) == ("C0123456789", "1768721350.000200")


async def test_slack_posts_only_where_the_connection_allows() -> None:
    """A step's channel needs the connection's leave; a webhook has one channel; without any there is no message."""
    async with HookServer() as server:
        allowed = {"allowed_channels": ["#reports"]}
        await send("slack", "token", server, {"channel": "#reports"}, values=allowed)
        await send("slack", "token", server, {}, values=allowed)
        other = await failure("slack", "token", server, {"channel": "#all"}, values=allowed)
        hook = await failure("slack", "webhook", server, {"channel": "#all"})
        none = await failure("slack", "token", server, {}, values={"channel": None})

    assert [request.json["channel"] for request in server.requests] == ["#reports", "C0123456789"]
    assert (other.kind, hook.kind, none.kind) == ("channel_not_allowed", "channel_not_allowed", "channel_missing")
    assert {error.effect for error in (other, hook, none)} == {"none"}


async def test_teams_by_webhook() -> None:
    """Workflows gets the message that its template reads, and the output says no more than that it was taken on."""
    async with HookServer() as server:
        output = await send("teams", "webhook", server, {"title": "Weekly"})

    [request] = server.requests
    assert request.path == "/workflows/0123/triggers/manual/paths/invoke"
    assert request.query == {"sig": "canaryTeamsHook9876"}
    [attachment] = request.json["attachments"]
    assert request.json["type"] == "message"
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["content"]["type"] == "AdaptiveCard"
    assert [element["type"] for element in attachment["content"]["body"]] == ["RichTextBlock", "RichTextBlock"]
    assert output == {"state": "accepted", "message_id": None, "url": None, "possible_repeat": False}


async def test_teams_by_token() -> None:
    """Microsoft Graph gets the card as text inside a message, and tells where it is."""
    async with HookServer() as server:
        output = await send("teams", "token", server)

    [request] = server.requests
    assert request.path == "/v1.0/teams/fbe2bf47-16c8/channels/19:4a95@thread.tacv2/messages"
    assert request.headers["authorization"] == f"Bearer {CANARIES['teams']}"
    [attachment] = request.json["attachments"]
    assert request.json["body"] == {
        "contentType": "html",
        "content": f'<attachment id="{attachment["id"]}"></attachment>',
    }
    assert json.loads(attachment["content"])["type"] == "AdaptiveCard"
    assert output == {
        "state": "sent",
        "message_id": "1616990032035",
        "url": "https://teams.example/l/message/1616990032035",
        "possible_repeat": False,
    }


async def test_discord_by_webhook() -> None:
    """The webhook is asked to wait for the message, and nobody is pinged."""
    async with HookServer() as server:
        output = await send("discord", "webhook", server, {"thread_id": "223344556677889900", "username": "Reports"})

    [request] = server.requests
    assert request.path == PATHS["discord"]
    assert request.query == {"wait": "true", "thread_id": "223344556677889900"}
    assert request.json == {
        "allowed_mentions": {"parse": [], "users": []},
        "content": "Good **morning**.",
        "username": "Reports",
    }
    assert output["message_id"] == "1330000000000000000"


async def test_discord_by_token() -> None:
    """A bot posts in the connection's channel or a thread, pings those who are named, and can tell a repeat."""
    async with HookServer() as server:
        people = ["112233445566778899", "112233445566778899"]
        await send("discord", "token", server, {"mention": people, "title": "Weekly", "color": "#2da44e"})
        await send("discord", "token", server, {"thread_id": "223344556677889900"}, attempt=2, repeated=True)

    first, second = server.requests
    assert first.path == "/v10/channels/112233445566778899/messages"
    assert first.headers["authorization"] == f"Bot {CANARIES['discord']}"
    assert first.json["allowed_mentions"] == {"parse": [], "users": ["112233445566778899"]}
    assert first.json["content"] == "<@112233445566778899>"
    assert first.json["embeds"] == [{"title": "Weekly", "description": "Good **morning**.", "color": 0x2DA44E}]
    assert second.path == "/v10/channels/223344556677889900/messages"
    assert first.json["nonce"] == second.json["nonce"]
    assert len(first.json["nonce"]) == 25
    assert first.json["enforce_nonce"] is True


async def test_discord_keeps_within_its_lengths() -> None:
    """Up to 2,000 characters are content, mentions counted; more is an embed."""
    async with HookServer() as server:
        await send("discord", "webhook", server, {"message": "x" * 2000})
        await send("discord", "webhook", server, {"message": "x" * 2000, "mention": ["112233445566778899"]})
        await send("discord", "webhook", server, {"message": "x" * 5000})

    plain, called, long = (request.json for request in server.requests)
    assert plain["content"] == "x" * 2000
    assert (len(called["content"]), len(called["embeds"])) == (21, 1)
    assert "content" not in long
    assert [len(embed["description"]) for embed in long["embeds"]] == [4092, 908]


@pytest.mark.parametrize(("service", "way"), EVERY)
async def test_a_repeated_attempt_says_so(service: str, way: str) -> None:
    """After an attempt that may have posted, the output says that there may be two."""
    async with HookServer() as server:
        output = await send(service, way, server, repeated=True)

    assert output["possible_repeat"] is True


@pytest.mark.parametrize(("service", "way"), EVERY)
async def test_the_run_is_told_before_anything_can_be_posted(service: str, way: str) -> None:
    """The point of no return is awaited when the connection stands and the server has seen nothing yet."""
    seen: list[int] = []

    async with HookServer() as server:

        async def barrier() -> None:
            seen.append(len(server.requests))

        await send(service, way, server, barrier=barrier)

    assert seen == [0]
    assert len(server.requests) == 1


# -- what goes wrong

STATUSES = [
    (400, "invalid_request", "none", False),
    (401, "authentication", "none", False),
    (403, "forbidden", "none", False),
    (404, "not_found", "none", False),
    (429, "rate_limited", "none", True),
    (302, "redirect", "unknown", False),
    (500, "server_error", "unknown", False),
    (503, "server_error", "unknown", False),
]


@pytest.mark.parametrize(("service", "way"), EVERY)
@pytest.mark.parametrize("told", STATUSES, ids=lambda told: str(told[0]))
async def test_a_status_is_told(service: str, way: str, told: tuple[int, str, str, bool]) -> None:
    """Each status is a kind of its own, and a failure leaves a doubt; the other side's wish to wait is kept."""
    async with HookServer() as server:
        status = told[0]
        server.script(Reply(status, "<html>", {"Retry-After": "7", "Location": "http://127.0.0.1:1/"}))
        error = await failure(service, way, server)

    assert (error.status, error.kind, error.effect, error.retryable) == told
    assert error.retry_after_s == (7.0 if status in (429, 503) else None)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("code", "kind", "effect", "retryable"),
    [
        ("invalid_auth", "authentication", "none", False),
        ("missing_scope", "forbidden", "none", False),
        ("channel_not_found", "not_found", "none", False),
        ("not_in_channel", "not_found", "none", False),
        ("msg_blocks_too_long", "too_long", "none", False),
        ("ratelimited", "rate_limited", "none", True),
        ("fatal_error", "server_error", "unknown", False),
        ("invalid_blocks", "refused", "none", False),
        ("something_new", "refused", "none", False),
    ],
)
async def test_slack_says_why(code: str, kind: str, effect: str, retryable: bool) -> None:
    """Slack's own code decides, in a 200 of the API as in an error of a webhook."""
    async with HookServer() as server:
        server.script(Reply(200, {"ok": False, "error": code}), Reply(400, code))
        errors = [await failure("slack", way, server) for way in ("token", "webhook")]

    for error in errors:
        assert (error.kind, error.effect, error.retryable) == (kind, effect, retryable)
        assert error.details == {"code": code}


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(404, 10015, "not_found"), (401, 50027, "authentication"), (403, 50013, "forbidden"), (400, 50035, "refused"), (400, 1, "invalid_request")],
)  # fmt: skip
async def test_discord_says_why(status: int, code: int, kind: str) -> None:
    """Discord's own code decides where it is known, else the status."""
    async with HookServer() as server:
        server.script(Reply(status, {"message": "no", "code": code}))
        error = await failure("discord", "webhook", server)

    assert (error.kind, error.effect, error.status) == (kind, "none", status)


@pytest.mark.parametrize(
    ("service", "way", "reply"),
    [
        ("slack", "webhook", Reply(200, "<html>Log in</html>")),
        ("slack", "token", Reply(200, "<html>Log in</html>")),
        ("slack", "token", Reply(200, {"ok": "yes"})),
        ("teams", "token", Reply(200, "[]")),
        ("discord", "webhook", Reply(204)),
        ("discord", "token", Reply(200, {"id": 1})),
    ],
)
async def test_a_success_that_says_nothing_is_none(service: str, way: str, reply: Reply) -> None:
    """An answer from somebody else, or without what it should say, is no proof of a message."""
    async with HookServer() as server:
        server.script(reply)
        error = await failure(service, way, server)

    assert (error.kind, error.effect) == ("unclear_answer", "unknown")


@pytest.mark.parametrize(("service", "way"), EVERY)
async def test_a_lost_answer_leaves_a_doubt(service: str, way: str) -> None:
    """When the answer does not come, nobody knows whether the message was posted, and it is not posted again unasked."""
    async with HookServer() as server:
        server.script(Reply(drop=True))
        lost = await failure(service, way, server)
        server.script(Reply(pause_s=5))
        late = await failure(service, way, server, seconds=0.6)
        server.script(Reply(size=-1))
        endless = await failure(service, way, server)

    assert (lost.kind, late.kind, endless.kind) == ("lost", "timeout", "too_large")
    for error in (lost, late, endless):
        assert (error.effect, error.retryable) == ("unknown", False)
    assert len(server.requests) == 3


@pytest.mark.parametrize(("service", "way"), EVERY)
async def test_what_was_never_sent_may_be_tried_again(service: str, way: str) -> None:
    """Nobody there leaves no doubt; an address inside a network needs the connection's leave."""
    async with HookServer() as server:
        inside = await failure(service, way, server, values={"private_networks": []})
    gone = await failure(service, way, server)

    assert (inside.kind, inside.effect, inside.retryable) == ("address_refused", "none", False)
    assert (gone.kind, gone.effect, gone.retryable) == ("unreachable", "none", True)
    assert server.requests == []


@pytest.mark.parametrize(("service", "way"), EVERY)
async def test_certificates_are_checked(service: str, way: str, tmp_path: Path) -> None:
    """Over TLS a server is trusted by the machine's authorities, or by the connection's own."""
    async with HookServer(tls=tmp_path) as server:
        unknown = await failure(service, way, server)
        await send(service, way, server, values={"ca_file": server.ca_file})

    assert (unknown.kind, unknown.effect) == ("certificate", "none")
    assert len(server.requests) == 1


@pytest.mark.parametrize("service", PATHS)
async def test_a_connection_without_credentials_is_told(service: str) -> None:
    """A connection that has neither a webhook nor a token, or a webhook that is no address, sends nothing."""
    action = module(service)
    parsed = action.Arguments(message="hello")
    call = getattr(action, f"send_{service}_message")
    for where, kind in [
        (None, "connection_missing"),
        (Connection("tell", service, {}), "invalid_connection"),
        (Connection("tell", service, {"webhook_url": Secret("not an address")}), "invalid_connection"),
        (Connection("tell", service, {"webhook_url": Secret("ftp://x.example/y")}), "invalid_connection"),
    ]:
        with pytest.raises(ActionError) as caught:
            await call(parsed, attempt(where))
        assert (caught.value.kind, caught.value.effect) == (kind, "none")


# -- what is checked before a run


@pytest.mark.parametrize("service", PATHS)
def test_a_message_is_checked_before_a_run(service: str) -> None:
    """What is known of a message is judged by the rules of its messenger; what is not known is no problem."""
    assert problems(service) == []
    assert problems(service, message="hello", format="text") == []
    [blank] = problems(service, message=" ")
    assert (blank.code, blank.where.field) == ("invalid_message", "message")
    [long] = problems(service, message="**a** b " * 2400, format="markdown")
    assert long.code == "too_long"


# -- secrets


@pytest.mark.parametrize(("service", "way"), EVERY)
async def test_credentials_stay_inside(service: str, way: str, caplog: pytest.LogCaptureFixture) -> None:
    """No token and no part of a webhook's path stands in an output, an error or a log, whatever the server repeats."""
    caplog.set_level(logging.DEBUG)
    canary = CANARIES[service] if way == "token" else PATHS[service].rpartition("/")[2].rpartition("=")[2]
    echo = {"ok": False, "error": canary, "message": canary, "id": 7, "code": 10015}
    said: list[str] = []

    async with HookServer() as server:
        said.append(repr(await send(service, way, server, write=lambda *facts: said.append(repr(facts)))))
        for reply in (
            *(Reply(status, echo) for status in (200, 302, 400, 401, 404, 429, 500)),
            *(Reply(status, canary) for status in (400, 403)),
            *(Reply(drop=True), Reply(size=-1)),
        ):
            if service == "teams" and way == "webhook" and reply.status == 200 and not (reply.drop or reply.size):
                continue  # its success has no shape that could be wrong
            server.script(reply)
            error = await failure(service, way, server)
            said += [repr(error), str(error), repr(error.problems), repr(error.details), repr(error.__cause__)]

    assert any(canary in repr(request) for request in server.requests)
    text = "\n".join([*said, caplog.text])
    assert [form for form in forms(canary) if form in text] == []

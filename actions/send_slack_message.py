"""Post a message in Slack, by an incoming webhook or as an app with a token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from yarl import URL

from weft.sdk import ActionContext, ActionError, Connection, Json, JsonObject, Problem, Secret

from ._markdown_blocks import Format, blocks, refused
from ._notify_http import bearer, incomplete, needed, post
from ._notify_http import webhook_address as webhook_of
from ._slack_answer import api_answer, webhook_answer
from ._slack_blocks import fallback, slack_blocks

User = Annotated[str, Field(pattern="^[UW][A-Z0-9]{2,30}$")]


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    message: str = Field(max_length=20_000)
    channel: str | None = Field(None, min_length=1, max_length=100, pattern="^#?[\\w.-]+$")
    mention: list[User] | None = Field(None, max_length=20)
    format: Format = "markdown"
    thread_ts: str | None = Field(None, pattern="^[0-9]{10,12}[.][0-9]{6}$")
    reply_broadcast: bool = False
    unfurl: bool = False


async def send_slack_message(arguments: Arguments, context: ActionContext) -> JsonObject:
    """Build the message's blocks, post it, and report where it stands.

    Raises:
        ActionError: Nothing was posted (`effect` none), or nobody knows (`effect` unknown).
    """
    connection = needed(context, "Send Slack Message", "slack")
    payload = _payload(arguments)
    url, token = webhook_of(connection), connection.secret("token")
    if url is not None:
        _refuse_places(arguments, connection)
        response = await post(url, payload, context, connection)
        where: JsonObject = webhook_answer(response)
    elif token is not None:
        payload["channel"] = _channel(arguments, connection)
        response = await post(api(connection, "chat.postMessage"), payload, context, connection, headers=_auth(token))
        where = api_answer(response)
    else:
        raise incomplete(connection, "has neither a `webhook_url` nor a `token`")
    context.log("message posted", channel=where["channel"])
    return {"state": "sent", **where, "possible_repeat": context.repeated}


def api(connection: Connection, method: str) -> URL:
    """Return the address of one of the methods of Slack's web API."""
    return URL(f"{connection.get('api_base', 'https://slack.com/api').rstrip('/')}/{method}")


def _auth(token: Secret) -> dict[str, str]:
    return bearer(token.reveal())


def _payload(arguments: Arguments) -> JsonObject:
    """The request's body; `parse` and `link_names` say that names in the text are not looked for."""
    found = blocks(arguments.message, arguments.format, "message")
    made = slack_blocks(found, "message", mention=arguments.mention or ())
    payload: JsonObject = {
        "text": fallback(found),
        "blocks": [*made],
        "mrkdwn": False,
        "parse": "none",
        "link_names": False,
        "unfurl_links": arguments.unfurl,
        "unfurl_media": arguments.unfurl,
    }
    if arguments.thread_ts is not None:
        payload["thread_ts"] = arguments.thread_ts
        payload["reply_broadcast"] = arguments.reply_broadcast
    return payload


def _refuse_places(arguments: Arguments, connection: Connection) -> None:
    if arguments.channel is not None:
        raise refused(
            f"The connection {connection.name!r} is a webhook, which posts to one channel of its own.",
            field="channel",
            kind="channel_not_allowed",
            remedy="Leave `channel` out, or use a connection with a token.",
        )


def _channel(arguments: Arguments, connection: Connection) -> str:
    """The step's channel if the connection lets it be used, else the connection's own."""
    own, allowed = connection.get("channel"), connection.get("allowed_channels")
    channel = arguments.channel or own
    if channel is None:
        raise refused(
            f"Neither the step nor the connection {connection.name!r} names a channel.",
            field="channel",
            kind="channel_missing",
            remedy="Give the step or the connection a `channel`.",
        )
    if allowed is not None and channel != own and channel not in allowed:
        raise refused(
            f"The connection {connection.name!r} does not allow messages to this channel.",
            field="channel",
            kind="channel_not_allowed",
            remedy="Add it to the connection's `allowed_channels`.",
        )
    return str(channel)


def check(arguments: Mapping[str, Json]) -> Iterable[Problem]:
    """Yield what is wrong with the message, when it is known."""
    message, form = arguments.get("message"), arguments.get("format", "markdown")
    if isinstance(message, str) and form in ("markdown", "text"):
        try:
            slack_blocks(blocks(message, "text" if form == "text" else "markdown", "message"), "message")
        except ActionError as error:
            yield from error.problems

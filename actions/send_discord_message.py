"""Post a message in Discord, by a webhook or as a bot."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from yarl import URL

from weft.sdk import ActionContext, ActionError, Connection, Json, JsonObject, Problem

from ._discord_text import LONGEST_CONTENT, LONGEST_TITLE, discord_text, embeds
from ._http import Response
from ._http_answer import refusal
from ._markdown_blocks import Format, blocks, check_text
from ._markdown_blocks import refused as argument_refused
from ._notify_http import incomplete, needed, ok, parsed, post, text_of, unclear
from ._notify_http import webhook_address as webhook_of

Snowflake = Annotated[str, Field(pattern="^[0-9]{15,21}$")]

KINDS: Final = {
    10003: ("not_found", "The channel is not there, or the bot does not see it."),
    10004: ("not_found", "The server is not there, or the bot is no member of it."),
    10015: ("not_found", "The webhook was deleted: make a new one and change the connection."),
    40001: ("authentication", "Renew the connection's token."),
    50001: ("forbidden", "Let the bot see the channel."),
    50013: ("forbidden", "Give the bot the right to send messages there."),
    50027: ("authentication", "The webhook's token is not valid: copy its address again."),
    50035: ("refused", "Discord does not take a value of the message; its length is the likeliest."),
    50083: ("refused", "The thread is archived."),
    220001: ("refused", "The channel is a forum: give `thread_id`."),
}
"""Discord's own code → kind, what to do (discord.com/developers/docs/topics/opcodes-and-status-codes#json)."""


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    message: str = Field(max_length=6000)
    title: str | None = Field(None, min_length=1, max_length=LONGEST_TITLE)
    mention: list[Snowflake] | None = Field(None, max_length=20)
    format: Format = "markdown"
    color: str | None = Field(None, pattern="^#[0-9A-Fa-f]{6}$")
    thread_id: Snowflake | None = None
    username: str | None = Field(None, min_length=1, max_length=80)


async def send_discord_message(arguments: Arguments, context: ActionContext) -> JsonObject:
    """Build the message, post it, and report where it stands.

    Raises:
        ActionError: Nothing was posted (`effect` none), or nobody knows (`effect` unknown).
    """
    connection = needed(context, "Send Discord Message", "discord")
    payload = _payload(arguments)
    url, token = webhook_of(connection), connection.secret("bot_token")
    if url is not None:
        if arguments.username is not None:
            payload["username"] = arguments.username
        thread = {} if arguments.thread_id is None else {"thread_id": arguments.thread_id}
        response = await post(url.update_query({"wait": "true", **thread}), payload, context, connection)
    elif token is not None:
        # Discord answers the message that it has when the same bot posts the same nonce again within some minutes.
        digest = hashlib.sha256(context.step_key.encode()).hexdigest()
        payload |= {"nonce": digest[:25], "enforce_nonce": True}
        channel = _channel(arguments, connection)
        headers = {"Authorization": f"Bot {token.reveal()}"}
        response = await post(
            api(connection) / "channels" / channel / "messages", payload, context, connection, headers=headers
        )
    else:
        raise incomplete(connection, "has neither a `webhook_url` nor a `bot_token`")
    where = _answer(response)
    context.log("message posted", channel=where["channel_id"])
    return {"state": "sent", **where, "possible_repeat": context.repeated}


def api(connection: Connection) -> URL:
    """Return the address that the methods of Discord's API begin with."""
    return URL(connection.get("api_base", "https://discord.com/api/v10").rstrip("/"))


def _payload(arguments: Arguments) -> JsonObject:
    """The request's body; it says outright who may be pinged: those whom the step names, else nobody."""
    users = list(dict.fromkeys(arguments.mention or ()))
    called = " ".join(f"<@{user}>" for user in users)
    content, cards = _content(arguments)
    payload: JsonObject = {"allowed_mentions": {"parse": [], "users": [*users]}}
    if said := "\n".join(filter(None, (called, content))):
        payload["content"] = said
    if cards:
        payload["embeds"] = [*cards]
    return payload


def _content(arguments: Arguments) -> tuple[str, list[JsonObject]]:
    """The message as plain content while that holds it, else as embeds."""
    if arguments.title is not None:
        check_text(arguments.title, "title")
    text = discord_text(blocks(arguments.message, arguments.format, "message"))
    called = 25 * len(arguments.mention or ())
    if arguments.title is None and arguments.color is None and len(text) + called <= LONGEST_CONTENT:
        return text, []
    color = None if arguments.color is None else int(arguments.color[1:], 16)
    return "", embeds(text, arguments.title, color, "message")


def _channel(arguments: Arguments, connection: Connection) -> str:
    """Where a bot posts: a thread is a channel of its own."""
    if arguments.username is not None:
        raise argument_refused(
            f"The connection {connection.name!r} is a bot, which has one name.",
            field="username",
            remedy="Leave `username` out, or use a connection with a webhook.",
        )
    channel = arguments.thread_id or connection.get("channel_id")
    if channel is None:
        raise incomplete(connection, "has a `bot_token`, which needs a `channel_id`")
    return str(channel)


def _answer(response: Response) -> JsonObject:
    if not ok(response):
        raise refused(response)
    answer = parsed(response)
    if not isinstance(answer.get("id"), str):
        raise unclear(response)
    return {"message_id": answer["id"], "channel_id": text_of(answer.get("channel_id"))}


def refused(response: Response) -> ActionError:
    """Return the error that Discord's own code stands for, else the status."""
    code = parsed(response).get("code")
    if response.status in (408, 429) or response.status >= 500 or not isinstance(code, int) or code not in KINDS:
        return refusal(response)
    kind, remedy = KINDS[code]
    return ActionError(
        f"Discord refused the request (status {response.status}, code {code}).",
        kind=kind,
        effect="none",
        status=response.status,
        remedy=remedy,
        details={"code": code},
    )


def check(arguments: Mapping[str, Json]) -> Iterable[Problem]:
    """Yield what is wrong with the message, when it is known."""
    message, title, form = arguments.get("message"), arguments.get("title"), arguments.get("format", "markdown")
    if isinstance(message, str) and isinstance(title, str | None) and form in ("markdown", "text"):
        try:
            embeds(
                discord_text(blocks(message, "text" if form == "text" else "markdown", "message")),
                title,
                None,
                "message",
            )
        except ActionError as error:
            yield from error.problems

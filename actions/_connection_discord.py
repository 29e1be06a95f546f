"""Tests connections of type `discord` without posting anything."""

from __future__ import annotations

from weft.sdk import ActionContext, Connection

from ._notify_http import get, incomplete, ok, parsed, text_of, webhook_address
from .send_discord_message import api, refused


async def test(connection: Connection, context: ActionContext) -> str:
    """Ask Discord for the webhook, or for the bot's channel.

    Raises:
        ActionError: The webhook is not there, or the token does not see the channel.
    """
    url, token = webhook_address(connection), connection.secret("bot_token")
    if url is not None:
        response = await get(url, context, connection)
        if not ok(response):
            raise refused(response)
        if text_of(parsed(response).get("id")) is None:
            raise incomplete(connection, "has a `webhook_url` that does not answer as Discord does")
        return f"The webhook {text_of(parsed(response).get('name'))} is there; nothing was posted."
    if token is None or not connection.get("channel_id"):
        raise incomplete(connection, "needs a `webhook_url`, or a `bot_token` with a `channel_id`")
    channel = api(connection).joinpath("channels", connection.get("channel_id"))
    response = await get(channel, context, connection, headers={"Authorization": f"Bot {token.reveal()}"})
    if not ok(response):
        raise refused(response)
    if text_of(parsed(response).get("id")) is None:
        raise incomplete(connection, "has an `api_base` that does not answer as Discord does")
    return f"The bot sees the channel {text_of(parsed(response).get('name'))}; nothing was posted."

"""Tests connections of type `teams` without posting anything."""

from __future__ import annotations

from weft.sdk import ActionContext, Connection

from ._http_answer import refusal
from ._notify_http import bearer, get, incomplete, ok, parsed, reach, text_of, unproved, webhook_address
from .send_teams_message import channel_address


async def test(connection: Connection, context: ActionContext) -> str:
    """Ask Microsoft Graph for the channel; of a webhook, only its host can be asked without posting.

    Raises:
        ActionError: The channel cannot be seen with the token, or nobody can say (kind `untestable`).
    """
    url, token = webhook_address(connection), connection.secret("token")
    if url is not None:
        raise unproved(await reach(url, context, connection))
    if token is None:
        raise incomplete(connection, "has neither a `webhook_url` nor a `token`")
    response = await get(channel_address(connection), context, connection, headers=bearer(token.reveal()))
    if response.status == 403:  # ChannelMessage.Send alone does not allow to look
        raise unproved("Microsoft Graph", "The token is one that Microsoft Graph accepts.")
    if not ok(response):
        raise refusal(response)
    if text_of(parsed(response).get("id")) is None:
        raise incomplete(connection, "has a `graph_base` that does not answer as Microsoft Graph does")
    return f"The token sees the channel {text_of(parsed(response).get('displayName'))}; nothing was posted."

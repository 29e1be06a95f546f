"""Tests connections of type `slack` without posting anything."""

from __future__ import annotations

from weft.sdk import ActionContext, Connection

from ._http_answer import refusal
from ._notify_http import bearer, get, incomplete, ok, parsed, reach, text_of, unproved, webhook_address
from ._slack_answer import refused
from .send_slack_message import api


async def test(connection: Connection, context: ActionContext) -> str:
    """Ask Slack whose token this is; of a webhook, only its host can be asked without posting.

    Raises:
        ActionError: The token is not valid, or nobody can say (kind `untestable`).
    """
    url, token = webhook_address(connection), connection.secret("token")
    if url is not None:
        raise unproved(await reach(url, context, connection))
    if token is None:
        raise incomplete(connection, "has neither a `webhook_url` nor a `token`")
    response = await get(api(connection, "auth.test"), context, connection, headers=bearer(token.reveal()))
    answer = parsed(response)
    if answer.get("ok") is not True:
        if (code := text_of(answer.get("error"))) is not None:
            raise refused(response, code)
        if not ok(response):
            raise refusal(response)
        raise incomplete(connection, "has an `api_base` that does not answer as Slack does")
    return f"The token belongs to {text_of(answer.get('user'))} of {text_of(answer.get('team'))}; nothing was posted."

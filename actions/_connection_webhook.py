"""Tests connections of type `webhook` without sending an event."""

from __future__ import annotations

from weft.sdk import ActionContext, Connection

from ._notify_http import incomplete, reach, unproved, webhook_address
from .send_webhook import keys


async def test(connection: Connection, context: ActionContext) -> str:
    """Check the secrets, and speak HTTP with the receiver's host; more would be an event.

    Raises:
        ActionError: Something of that fails, or else nobody can say (kind `untestable`).
    """
    keys(connection)
    url = webhook_address(connection, "url")
    if url is None:
        raise incomplete(connection, "has no `url`")
    raise unproved(await reach(url, context, connection), "The signing secret has the right form.")

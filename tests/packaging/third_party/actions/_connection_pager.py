"""Tests a connection of type pager: `weft connections test NAME`."""

from __future__ import annotations

import aiohttp

from weft.sdk import ActionContext, ActionError, Connection


async def test(connection: Connection, context: ActionContext) -> str:
    """Ask the pager who the token belongs to; nobody is paged."""
    token = connection.secret("token")
    headers = {"Authorization": f"Bearer {token.reveal() if token else ''}"}
    time_limit = aiohttp.ClientTimeout(total=context.remaining_s())
    async with aiohttp.ClientSession(timeout=time_limit, headers=headers) as session:
        try:
            async with session.get(f"{connection.get('address')}/me", allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            raise ActionError("The pager cannot be reached.", kind="unreachable", effect="none") from None
    if status != 200:
        raise ActionError(f"The pager refuses the token: status {status}.", kind="refused", effect="none")
    return "The pager knows the token; nobody was paged."

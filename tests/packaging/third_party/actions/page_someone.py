"""Pages the person on call."""

from __future__ import annotations

import json

import aiohttp

from weft.sdk import ActionContext, ActionError, JsonObject

PASSING = frozenset({429, 502, 503, 504})
MOST_BYTES = 10_000


async def page_someone(context: ActionContext, text: str, urgent: bool = False) -> JsonObject:
    """Post a page and return its number."""
    pager = context.connection
    if pager is None:
        raise ActionError("Page Someone needs a connection of type pager.", kind="connection_missing", effect="none")
    token = pager.secret("token")
    headers = {
        "Authorization": f"Bearer {token.reveal() if token else ''}",
        "Idempotency-Key": context.idempotency_key,  # the same for a repeat: the service pages once
    }
    time_limit = aiohttp.ClientTimeout(total=context.remaining_s())
    async with aiohttp.ClientSession(timeout=time_limit, headers=headers) as session:
        await context.point_of_no_return()  # from here on somebody may be woken up
        try:
            async with session.post(
                f"{pager.get('address')}/pages", json={"text": text, "urgent": urgent}, allow_redirects=False
            ) as answer:
                status = answer.status
                said = json.loads(await answer.content.read(MOST_BYTES)) if status == 201 else {}
        except aiohttp.ClientConnectorError:
            raise ActionError(
                "The pager cannot be reached.",
                kind="unreachable",
                effect="none",  # no connection, so nothing was sent
                retryable=True,
                remedy="Check the connection's address.",
            ) from None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            # Somebody may have been paged: nothing is said of the effect, which makes it unknown.
            raise ActionError("The pager gave no answer that can be read.", kind="no_answer", retryable=True) from None
    if status != 201:
        raise ActionError(
            f"The pager refused: status {status}.",
            kind="refused",
            effect="none" if status < 500 else "unknown",  # it says that it did nothing, or that it broke on the way
            status=status,
            retryable=status in PASSING,
            remedy="Check the connection's token.",
        )
    return {"number": said["number"]}

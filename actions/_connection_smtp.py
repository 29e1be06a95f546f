"""Whether a connection of type `smtp` works: connect, encrypt, log in, NOOP, QUIT; no mail is sent."""

from __future__ import annotations

import asyncio

from weft.sdk import ActionContext, ActionError, Connection

from ._mail_faults import phase
from ._mail_session import client, drop, leave, log_on, server

_HOW = {"starttls": "STARTTLS", "implicit": "TLS", "none": "without TLS"}


async def test(connection: Connection, context: ActionContext) -> str:
    """Speak to the server as a mail would, up to the point where a sender would be named.

    Raises:
        ActionError: A mail would not get as far as that.
    """
    where = server(connection)
    smtp = client(where)
    try:
        async with asyncio.timeout(context.remaining_s()):
            await log_on(smtp, where)
            with phase("asking whether it listens (NOOP)"):
                await smtp.noop()
            await leave(smtp)
    except TimeoutError:
        message = f"{where.host}:{where.port} has not answered in time."
        raise ActionError(message, kind="timeout", effect="none", remedy="Check host, port and TLS.") from None
    finally:
        drop(smtp)
    place = f"{where.host}:{where.port}, {_HOW[where.tls]}"
    if where.username:
        return f"Logged in as {where.username} ({place}). No mail was sent."
    return f"The server answers ({place}). No mail was sent, so whether it takes any from here is not known."

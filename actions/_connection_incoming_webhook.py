"""Tests connections of type `incoming_webhook`: there is nobody to ask, so the secret is looked through."""

from __future__ import annotations

from weft.sdk import ActionContext, ActionError, Connection

from ._notify_http import incomplete

SHORTEST = 16
"""Characters of a secret that nobody guesses."""


async def test(connection: Connection, context: ActionContext) -> str:
    """Refuse secrets that are too short to prove anything.

    Raises:
        ActionError: One is too short, or else nobody can say (kind `untestable`).
    """
    for name in ("signing_secret", "previous_signing_secret"):
        secret = connection.secret(name)
        if secret is not None and len(secret.reveal()) < SHORTEST:
            raise incomplete(connection, f"has a `{name}` of fewer than {SHORTEST} characters")
    raise ActionError(
        "The secret is long enough. Whether it is the sender's shows only when a request comes.",
        kind="untestable",
        effect="none",
        remedy="Let the sender send a test event.",
    )

"""The answer of a server that gives tokens (OAuth 2.0, RFC 6749 §5)."""

from __future__ import annotations

import json
import re
from typing import Final

from weft.sdk import ActionError, Secret

from ._http import Response, host_of
from ._http_answer import refusal

EARLY_S: Final = 60.0  #: before its end a token is replaced
USUAL_LIFE_S: Final = 300.0  #: of a token whose life is not told
LONGEST_LIFE_S: Final = 86_400.0


def token_of(response: Response) -> tuple[Secret, float]:
    """Return the token of an answer and how long to keep it, in seconds.

    Raises:
        ActionError: There is none in it (`token_refused`, or the kind of a fault that passes).
    """
    if response.status != 200:
        told = refusal(response)
        raise ActionError(
            f"No token was given: {told.problem.message}",
            kind="token_refused" if 400 <= response.status < 500 and response.status != 429 else told.kind,
            effect="none",
            remedy="Check `client_id`, `client_secret`, `scope` and `token_url` of the connection.",
            retryable=told.retryable,
            retry_after_s=told.retry_after_s,
            status=response.status,
        )
    try:
        answer = json.loads(response.body)
    except ValueError:
        answer = None
    token = answer.get("access_token") if isinstance(answer, dict) else None
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]{1,16384}", token):
        raise ActionError(
            f"{host_of(response.url)} gave an answer without a token.",
            kind="token_refused",
            effect="none",
            remedy="Check the connection's `token_url`.",
        )
    life = answer.get("expires_in")
    told_s = float(life) if isinstance(life, int | float) and not isinstance(life, bool) else USUAL_LIFE_S
    life_s = min(max(told_s, 0.0), LONGEST_LIFE_S)
    return Secret(token), life_s - min(EARLY_S, life_s / 2)

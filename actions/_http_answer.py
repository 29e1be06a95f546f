"""What the status of an answer means for the step (RFC 9110 §15)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from weft.sdk import ActionError

from ._http import Response, host_of

KINDS: Final = {
    401: "authentication",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    407: "authentication",
    408: "timeout",
    409: "conflict",
    410: "not_found",
    412: "conflict",
    413: "request_too_large",
    425: "too_early",
    429: "rate_limited",
}
"""Kinds of single statuses; others are told by their hundreds."""

REMEDIES: Final = {
    "authentication": "Check the credentials of the connection.",
    "forbidden": "Check what the account of the connection is allowed to do.",
    "not_found": "Check the address.",
    "rate_limited": "Retry later, or ask less often.",
    "redirect": "Use the new address, or let redirects be followed.",
}
PASSING: Final = frozenset({408, 425, 429})
"""Not carried out, and may be later."""


def refusal(response: Response) -> ActionError:
    """Return the error for an answer whose status is not the one hoped for.

    A 4xx says that the request was not carried out; after any other the server may have done it all the same.
    """
    status, request = response.status, response.request
    kind = _kind(status)
    done_nothing = request.safe or 400 <= status < 500
    passing = status in PASSING or (status >= 500 and status != 501 and request.may_repeat)
    return ActionError(
        f"{host_of(response.url)} answered {_shown(status)}.",
        kind=kind,
        remedy=REMEDIES.get(kind),
        retryable=passing,
        retry_after_s=retry_after_s(response.headers) if status in (429, 503) else None,
        effect="none" if done_nothing else "unknown",
        status=status,
    )


def _shown(status: int) -> str:
    """The status with its own words, not the server's."""
    return f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)


def _kind(status: int) -> str:
    if status in KINDS:
        return KINDS[status]
    if 300 <= status < 400:
        return "redirect"
    if 400 <= status < 500:
        return "invalid_request"
    return "server_error" if status >= 500 else "unexpected_status"


def retry_after_s(headers: Mapping[str, str], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """Return the seconds that a server asks to wait, None when it does not say (RFC 9110 §10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if until.tzinfo is None:  # "-0000": the zone is not known, the instant is in UTC (RFC 5322 §3.3)
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - now()).total_seconds())

"""What goes wrong between us and an SMTP server, as errors that say what it leaves behind.

Until the final dot has been written no server delivers anything (RFC 5321 §4.1.1.4): a fault before it leaves nothing
behind. After the dot only a reply tells; a fault there leaves the delivery unknown (RFC 1047).

Kinds of errors: `unreachable`, `timeout`, `tls`, `certificate`, `not_smtp`, `authentication`, `insecure`, `refused`,
`too_large`, `smtputf8` (all: nothing was sent) and `delivery_unknown`.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator
from typing import Never

from aiosmtplib import SMTPException, SMTPResponse, SMTPResponseException, SMTPTimeoutError

from weft.sdk import ActionError

LONGEST_WORDS = 1000  #: of a server; RFC 5321 §4.5.3.1.5 allows 512 octets a line, and refusals have several


@contextlib.contextmanager
def phase(doing: str, *, kind: str = "refused", quote: bool = True) -> Iterator[None]:
    """Turn what goes wrong in one phase before the dot into an error that says so.

    Args:
        doing: What we were doing, for the message.
        kind: The error's kind when the server says no.
        quote: Whether the server's words may be shown; after a password was sent they may hold it.
    """
    try:
        yield
    except SMTPResponseException as error:
        raise refusal(doing, SMTPResponse(error.code, error.message), kind=kind, quote=quote) from None
    except (SMTPTimeoutError, TimeoutError):
        raise failure("timeout", f"The server did not answer in time while we were {doing}.") from None
    except (SMTPException, OSError) as error:
        cause = error if isinstance(error, ssl.SSLError) else error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise ActionError(
                f"The server's certificate does not hold: {legible(cause.verify_message)}.",
                kind="certificate",
                effect="none",
                remedy="Check the host's name; for an authority of your own, set the connection's `ca_file`.",
            ) from None
        if isinstance(cause, ssl.SSLError):
            raise failure("tls", f"TLS failed while we were {doing}.") from None
        raise failure("unreachable", f"The connection failed or broke while we were {doing}.") from None


def failure(kind: str, message: str) -> ActionError:
    """Return the error for a fault that may pass by itself; nothing was sent."""
    return ActionError(message, kind=kind, effect="none", retryable=True)


def refusal(doing: str, response: SMTPResponse, *, kind: str = "refused", quote: bool = True) -> ActionError:
    """Return the error for a server's no: 4xx means later, 5xx means never (RFC 5321 §4.2.1)."""
    if not 200 <= response.code < 600:
        return failure("not_smtp", f"The other side does not speak SMTP; we were {doing}.")
    said = f'{response.code} "{legible(response.message)}"' if quote else str(response.code)
    return ActionError(
        f"The server refused while we were {doing}: {said}.",
        kind=kind,
        effect="none",
        retryable=400 <= response.code < 500,
        status=response.code,
        remedy="Check the credentials of the connection." if kind == "authentication" else None,
    )


def raise_unknown() -> Never:
    """Raise the error for a dot without an answer."""
    raise ActionError(
        "The mail was sent whole, but the server did not say whether it took it on. It may have been delivered.",
        kind="delivery_unknown",
        effect="unknown",
        retryable=True,
        remedy="Ask the recipient before sending it by hand; a retry keeps the Message-ID and is marked.",
    ) from None


def legible(text: str) -> str:
    """Return a server's words without control characters, on one line; too many are left out, never cut.

    A server may repeat the password. Who masks it later must see all of it: half of one would be told.
    """
    if len(text) > LONGEST_WORDS:
        return f"({len(text):,} characters)"
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+", " ", text).strip()

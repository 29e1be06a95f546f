"""What may go wrong with a completion, told by facts: statuses, headers and codes, never by the text of a message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from weft.sdk import ActionError

from ._chat_error_facts import DAILY_QUOTA, codes_of, first_code, parsed, retry_after_s, status_told
from ._litellm import Exchange, Fault


class Kind(StrEnum):
    """The closed set of kinds that `retry.on` and `on_error` may speak of."""

    RATE_LIMITED = "rate_limited"  #: too many requests just now
    QUOTA_EXHAUSTED = "quota_exhausted"  #: the account has nothing left to spend
    OVERLOADED = "overloaded"  #: the provider has no room
    SERVER_ERROR = "server_error"  #: the provider failed
    CONFLICT = "conflict"  #: the provider was in the middle of something else
    TIMEOUT = "timeout"  #: no answer, or not all of it, in time
    CONNECTION_FAILED = "connection_failed"  #: no connection, or it broke
    CERTIFICATE = "certificate"  #: the server could not prove who it is
    REDIRECTED = "redirected"  #: the server wanted the conversation sent elsewhere
    BAD_RESPONSE = "bad_response"  #: an answer that is no completion
    SCHEMA_MISMATCH = "schema_mismatch"  #: an answer that breaks the strict schema it was to follow
    EMPTY_RESPONSE = "empty_response"  #: a completion with nothing in it
    RESPONSE_TOO_LARGE = "response_too_large"  #: more than the connection lets us read
    TRUNCATED = "truncated"  #: all tokens were used up before the first word
    CONTENT_FILTER = "content_filter"  #: the provider's filter stopped question or answer
    REFUSED = "refused"  #: the model refused to answer
    AUTHENTICATION = "authentication"  #: the key is not accepted
    PERMISSION = "permission"  #: the key may not do this
    NOT_FOUND = "not_found"  #: no such model or address
    CONTEXT_WINDOW = "context_window"  #: the conversation is too long for the model
    INVALID_REQUEST = "invalid_request"  #: the provider, or LiteLLM before it, calls the request wrong
    UNSUPPORTED_PARAMETER = "unsupported_parameter"  #: the model does not take a parameter; nothing was sent
    MISSING_KEY = "missing_key"  #: the connection has no key; nothing was sent
    BAD_KEY = "bad_key"  #: the connection's key cannot stand in a header; nothing was sent
    MISSING_PACKAGE = "missing_package"  #: a library that the provider needs is not installed; nothing was sent
    WRONG_PROVIDER = "wrong_provider"  #: the connection belongs to another provider; nothing was sent
    HOST_NOT_ALLOWED = "host_not_allowed"  #: the key must not go to this host; nothing was sent


RETRYABLE: Final = {408, 409, 429, 500, 502, 503, 504, 529}
"""Statuses after which the same request may succeed."""

_UNCERTAIN: Final = {Kind.BAD_RESPONSE, Kind.EMPTY_RESPONSE, Kind.SCHEMA_MISMATCH}
"""Worth one more try and no more: the other side says that all is well."""

_PASSING: Final = {Kind.OVERLOADED, Kind.RATE_LIMITED, Kind.SERVER_ERROR}
"""Worth another try also where no status says so, as in an event of a stream."""

_TEXTS: Final[dict[Kind, tuple[str, str]]] = {
    Kind.RATE_LIMITED: (
        "{target} takes no more requests just now.",
        "Send fewer, or allow retries with Num Retries.",
    ),
    Kind.QUOTA_EXHAUSTED: (
        "The account of connection {connection} has no credit or quota left at {target}.",
        "Look at plan and billing with the provider.",
    ),
    Kind.OVERLOADED: ("{target} is overloaded or out of service.", "Try later, or allow retries or fallbacks."),
    Kind.SERVER_ERROR: ("{target} failed.", "Try later, or allow retries or fallbacks."),
    Kind.CONFLICT: ("{target} reports a conflict.", "Try later, or allow retries."),
    Kind.TIMEOUT: (
        "{target} did not answer in full within the time limit.",
        "Allow more with the step's `timeout` or the connection's request_timeout_s, or ask for fewer tokens.",
    ),
    Kind.CONNECTION_FAILED: (
        "There was no connection to {target}, or it broke.",
        "Check API Base and the network.",
    ),
    Kind.CERTIFICATE: (
        "The server of {target} has no certificate that this machine trusts.",
        "Check API Base; a private authority is made known by SSL_CERT_FILE.",
    ),
    Kind.REDIRECTED: (
        "The server of {target} points to another address; the conversation was not sent there.",
        "Put the right address into API Base.",
    ),
    Kind.BAD_RESPONSE: (
        "{target} answered with something that is not a completion.",
        "Check that API Base is the address of a model server; often `/v1` is missing at its end.",
    ),
    Kind.EMPTY_RESPONSE: ("{target} answered with nothing.", "Try again, or change the messages or the stop tokens."),
    Kind.SCHEMA_MISMATCH: (
        "The answer of {target} does not follow the schema of Response Format: {detail}.",
        "Allow a retry, simplify the schema, or use a model that follows one.",
    ),
    Kind.RESPONSE_TOO_LARGE: (
        "The answer of {target} is larger than connection {connection} allows.",
        "Ask for less, or allow more with max_response_mb.",
    ),
    Kind.TRUNCATED: (
        "{target} used up all its tokens before it wrote anything.",
        "Allow more with Max Completion Tokens or Max Tokens.",
    ),
    Kind.CONTENT_FILTER: (
        "The provider's content filter stopped the request to {target}, or its answer.",
        "Change the messages.",
    ),
    Kind.REFUSED: ("{target} refused to answer.", "Change the messages."),
    Kind.AUTHENTICATION: (
        "{target} does not accept the key of connection {connection}.",
        "Put a valid key into the connection.",
    ),
    Kind.PERMISSION: (
        "{target} does not permit this with the key of connection {connection}.",
        "Use a key with that right, or a model that the key may use.",
    ),
    Kind.NOT_FOUND: ("{target} is not there.", "Check Model ID and API Base."),
    Kind.CONTEXT_WINDOW: (
        "The conversation is too long for {target}.",
        "Shorten it, or use a model with a larger context.",
    ),
    Kind.INVALID_REQUEST: ("{target} calls the request wrong.", "Check the parameters against the provider's rules."),
}

_CODES: Final[dict[str, Kind]] = {
    DAILY_QUOTA: Kind.QUOTA_EXHAUSTED,
    "insufficient_quota": Kind.QUOTA_EXHAUSTED,  # OpenAI
    "billing_hard_limit_reached": Kind.QUOTA_EXHAUSTED,
    "billing_not_active": Kind.QUOTA_EXHAUSTED,
    "billing_error": Kind.QUOTA_EXHAUSTED,  # Anthropic
    "insufficient_balance": Kind.QUOTA_EXHAUSTED,
    "context_length_exceeded": Kind.CONTEXT_WINDOW,  # OpenAI, Azure, Groq
    "exceed_context_size_error": Kind.CONTEXT_WINDOW,  # llama.cpp
    "content_filter": Kind.CONTENT_FILTER,  # Azure
    "ResponsibleAIPolicyViolation": Kind.CONTENT_FILTER,
    "content_policy_violation": Kind.CONTENT_FILTER,  # OpenAI
    "data_inspection_failed": Kind.CONTENT_FILTER,  # Alibaba
    "invalid_api_key": Kind.AUTHENTICATION,
    "API_KEY_INVALID": Kind.AUTHENTICATION,  # Google, with status 400
    "authentication_error": Kind.AUTHENTICATION,  # Anthropic
    "permission_error": Kind.PERMISSION,
    "model_not_found": Kind.NOT_FOUND,
    "not_found_error": Kind.NOT_FOUND,
    "rate_limit_exceeded": Kind.RATE_LIMITED,
    "rate_limit_error": Kind.RATE_LIMITED,
    "overloaded_error": Kind.OVERLOADED,
    "api_error": Kind.SERVER_ERROR,
    "server_error": Kind.SERVER_ERROR,
}
"""Codes and types of error bodies. They are identifiers that providers document, unlike the sentences beside them."""

_STATUSES: Final[dict[int, Kind]] = {
    401: Kind.AUTHENTICATION,
    402: Kind.QUOTA_EXHAUSTED,
    403: Kind.PERMISSION,
    404: Kind.NOT_FOUND,
    408: Kind.TIMEOUT,
    409: Kind.CONFLICT,
    429: Kind.RATE_LIMITED,
    503: Kind.OVERLOADED,
    529: Kind.OVERLOADED,
}

_FAULTS: Final[dict[Fault, Kind]] = {
    "certificate": Kind.CERTIFICATE,
    "connect": Kind.CONNECTION_FAILED,
    "encoded": Kind.BAD_RESPONSE,
    "foreign_host": Kind.HOST_NOT_ALLOWED,
    "lost": Kind.CONNECTION_FAILED,
    "redirect": Kind.REDIRECTED,
    "second_request": Kind.SERVER_ERROR,
    "timeout": Kind.TIMEOUT,
    "too_large": Kind.RESPONSE_TOO_LARGE,
}


@dataclass(frozen=True)
class Call:
    """Whom a message speaks of."""

    target: str  #: `openai/gpt-4o-mini`
    connection: str

    def fail(
        self,
        kind: Kind,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        retryable: bool | None = None,
        detail: str = "",
    ) -> ActionError:
        """Return the error of this kind, in our words; of the provider's there is at most a code."""
        what, remedy = _TEXTS[kind]
        said = [f"HTTP {status}"] if status else []
        said += [f"code {code}"] if code in _CODES else []  # any other could be anything, even the key
        text = what.format(target=self.target, connection=repr(self.connection), detail=detail)
        if retryable is None:
            retryable = kind in {Kind.TIMEOUT, Kind.CONNECTION_FAILED} or kind in _UNCERTAIN
        return ActionError(
            f"{text} ({', '.join(said)})" if said else text,
            kind=kind,
            remedy=remedy,
            retryable=retryable,
            retry_after_s=retry_after_s,
            status=status,
            details={"max_tries": 2} if kind in _UNCERTAIN else {},
        )

    def unsent(self, kind: Kind, message: str, remedy: str) -> ActionError:
        """Return an error of ours, found before anything was sent; no fallback makes up for it."""
        return ActionError(message, kind=kind, remedy=remedy, effect="none", details={"fallback": False})

    def from_exchange(self, exchange: Exchange, told: Mapping[str, Any] | None = None) -> ActionError:
        """Return the error that the facts of a failed exchange amount to.

        Args:
            exchange: What was sent and received.
            told: The error that a stream ended with, if it did.
        """
        if exchange.fault == "foreign_host":
            return self.unsent(
                Kind.HOST_NOT_ALLOWED,
                f"The request to {self.target} would have gone to a host that connection {self.connection!r} does not "
                "name; a variable of the environment may have led it there.",
                "Put the address into the connection's api_base.",
            )
        # When LiteLLM tries again by itself, the answer that it did not like is the one that counts.
        refused = exchange.fault == "second_request" and (exchange.status or 0) >= 400
        if exchange.fault and not refused:
            kind = _FAULTS[exchange.fault]
            return self.fail(
                kind, status=exchange.status, retryable=False if exchange.fault == "second_request" else None
            )
        if exchange.status is None:  # LiteLLM found it wrong and sent nothing
            return self.fail(Kind.INVALID_REQUEST)
        body = dict(told) if told else parsed(bytes(exchange.body))
        codes = list(codes_of(body))
        status = exchange.status if exchange.status >= 400 else status_told(codes)
        if status is None:
            known = next((_CODES[code] for code in codes if code in _CODES), None) if told else None
            return self.fail(
                known or Kind.BAD_RESPONSE,
                status=exchange.status,
                code=first_code(codes),
                retry_after_s=retry_after_s(exchange.headers, body),
                retryable=True if known in _PASSING else None,
            )
        kind, retryable = _judged(status, codes)
        return self.fail(
            kind,
            status=exchange.status,  # the one of HTTP, whatever a body under 200 says
            code=first_code(codes),
            retry_after_s=retry_after_s(exchange.headers, body),
            retryable=retryable,
        )


def _judged(status: int, codes: list[str]) -> tuple[Kind, bool]:
    """Return what a status and the codes beside it mean, and whether the same request may yet succeed."""
    told = (_CODES[code] for code in codes if code in _CODES)
    vague = {Kind.SERVER_ERROR} if status < 500 else set()  # some gateways call all their errors so
    kind = next((kind for kind in told if kind not in vague), None)
    if status == 429 and kind is not Kind.QUOTA_EXHAUSTED:
        kind = Kind.RATE_LIMITED
    if kind is None or (status >= 500 and kind is not Kind.OVERLOADED):
        kind = _STATUSES.get(status, Kind.SERVER_ERROR if status >= 500 else Kind.INVALID_REQUEST)
    spent = {Kind.QUOTA_EXHAUSTED, Kind.CONTENT_FILTER, Kind.CONTEXT_WINDOW, Kind.AUTHENTICATION}
    return kind, status in RETRYABLE and kind not in spent

"""Who has signed a request: four ways to say it, each over the bytes of the body, compared in constant time.

- Standard Webhooks 1.0 (standardwebhooks.com): `webhook-id`, `webhook-timestamp`, `webhook-signature`; `v1`, HMAC-SHA256
- GitHub (docs.github.com, Validating webhook deliveries): `X-Hub-Signature-256` over the body alone
- Slack (docs.slack.dev, Verifying requests from Slack): `X-Slack-Signature`, version v0, `X-Slack-Request-Timestamp`
- Stripe (docs.stripe.com, Resolve webhook signature errors): `Stripe-Signature: t=…,v1=…`

The reference library of Standard Webhooks is not used: it reads the machine's clock itself, and raises what it happens
to raise over a hostile header. The tests compare with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from weft.redaction import Secret
from weft.webhooks.requests import Headers, Refused, Request

Style: TypeAlias = Literal["standard", "github", "slack", "stripe"]

TOLERANCE_S: Final = 300.0
"""By how much the sender's clock may differ, and how long a request may be on its way."""

MOST_SIGNATURES: Final = 10
"""In one header; a sender that changes its secret sends two."""

SHORTEST_KEY: Final = 16
"""Bytes of a key of Standard Webhooks; the specification asks for 24, and some senders make shorter ones."""

_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_ID = re.compile(r"[!-\-/-~]{1,256}")  # visible characters, no full stop: it ends the id in what is signed
_HEX = re.compile(r"[0-9a-f]{64}")


class BadSecret(Exception):
    """A connection's secret has not the form that the style gives it; the text never says what it holds."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature has proved."""

    id: str | None = None  #: of the message, where the style has one in a header
    timestamp: str | None = None  #: as it was signed


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a request says of itself."""

    content: bytes  #: that the signature is over
    signatures: Sequence[bytes]
    signed: Signed
    timed: bool = True


def verify(style: Style, secrets: Sequence[Secret], request: Request) -> Signed:
    """Return what is proved of a request.

    Args:
        style: How the sender signs.
        secrets: Any of them may have been used.
        request: As it came.

    Raises:
        Refused: It has no signature, it does not fit, or it is too old or from the future.
        BadSecret: A secret has not the form that the style asks for.
    """
    keys = [_KEYS[style](secret) for secret in secrets]
    claim = _CLAIMS[style](request.headers, request.body)
    if len(claim.signatures) > MOST_SIGNATURES:
        raise _refused("bad_signature", "There are too many signatures.")
    fits = False
    for key in keys:
        expected = hmac.digest(key, claim.content, "sha256")
        for signature in claim.signatures:
            fits |= hmac.compare_digest(expected, signature)
    if not fits:
        raise _refused("bad_signature", "The signature does not fit.")
    if claim.timed and abs(request.at - int(claim.signed.timestamp or "0")) > TOLERANCE_S:
        raise _refused("stale", f"The request was signed more than {TOLERANCE_S:g} s before or after now.")
    return claim.signed


def sign(style: Style, secret: Secret, body: bytes, *, id_: str, at: float) -> dict[str, str]:
    """Return the headers that a sender of this style would send; `id_` is for styles whose messages carry it there."""
    key, timestamp = _KEYS[style](secret), str(int(at))

    def digest(content: bytes) -> bytes:
        return hmac.digest(key, content, "sha256")

    match style:
        case "standard":
            signature = base64.b64encode(digest(f"{id_}.{timestamp}.".encode() + body)).decode()
            return {"webhook-id": id_, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}
        case "github":
            return {"x-github-delivery": id_, "x-hub-signature-256": f"sha256={digest(body).hex()}"}
        case "slack":
            signature = digest(f"v0:{timestamp}:".encode() + body).hex()
            return {"x-slack-request-timestamp": timestamp, "x-slack-signature": f"v0={signature}"}
        case "stripe":
            return {"stripe-signature": f"t={timestamp},v1={digest(f'{timestamp}.'.encode() + body).hex()}"}


# ---- what a request says of itself
def _standard(headers: Headers, body: bytes) -> _Claim:
    id_, timestamp = _needed(headers, "webhook-id"), _timestamp(_needed(headers, "webhook-timestamp"))
    if not _ID.fullmatch(id_):
        raise _refused("bad_signature", "webhook-id is not an id.")
    given = [part.partition(",") for part in _needed(headers, "webhook-signature").split(" ")]
    signatures = [_of_base64(text) for version, _, text in given if version == "v1"]
    return _Claim(f"{id_}.{timestamp}.".encode() + body, signatures, Signed(id_, timestamp))


def _github(headers: Headers, body: bytes) -> _Claim:
    version, _, text = _needed(headers, "x-hub-signature-256").partition("=")
    delivery = headers.one("x-github-delivery")
    id_ = delivery if delivery and _ID.fullmatch(delivery) else None
    return _Claim(body, [_of_hex(text)] if version == "sha256" else [], Signed(id_), timed=False)


def _slack(headers: Headers, body: bytes) -> _Claim:
    timestamp = _timestamp(_needed(headers, "x-slack-request-timestamp"))
    version, _, text = _needed(headers, "x-slack-signature").partition("=")
    content = f"v0:{timestamp}:".encode() + body
    return _Claim(content, [_of_hex(text)] if version == "v0" else [], Signed(timestamp=timestamp))


def _stripe(headers: Headers, body: bytes) -> _Claim:
    parts = [part.strip(" ").partition("=") for part in _needed(headers, "stripe-signature").split(",")]
    times = [text for name, _, text in parts if name == "t"]
    if len(times) != 1:
        raise _refused("bad_signature", "Stripe-Signature must name one time.")
    timestamp = _timestamp(times[0])
    signatures = [_of_hex(text) for name, _, text in parts if name == "v1"]
    return _Claim(f"{timestamp}.".encode() + body, signatures, Signed(timestamp=timestamp))


def _needed(headers: Headers, name: str) -> str:
    value = headers.one(name)
    if not value:
        raise _refused("unsigned", f"The request is not signed: it has no {name}.")
    return value


def _timestamp(text: str) -> str:
    if not _TIMESTAMP.fullmatch(text):
        raise _refused("bad_signature", "The time of the signature is not a number of seconds.")
    return text


def _of_hex(text: str) -> bytes:
    return bytes.fromhex(text) if _HEX.fullmatch(text) else b""


def _of_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _refused(code: str, message: str) -> Refused:
    return Refused(401, code, message)


# ---- keys
def _decoded(secret: Secret) -> bytes:
    """The key of Standard Webhooks: `whsec_` and base64, with or without its padding."""
    text = secret.reveal().removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < SHORTEST_KEY:
        raise BadSecret(f"is not whsec_ and base64 of at least {SHORTEST_KEY} bytes")
    return key


def _as_it_is(secret: Secret) -> bytes:
    return secret.reveal().encode()


_CLAIMS: Final[dict[Style, Callable[[Headers, bytes], _Claim]]] = {
    "standard": _standard,
    "github": _github,
    "slack": _slack,
    "stripe": _stripe,
}
_KEYS: Final[dict[Style, Callable[[Secret], bytes]]] = {
    "standard": _decoded,
    "github": _as_it_is,
    "slack": _as_it_is,
    "stripe": _as_it_is,
}


def fingerprint(body: bytes) -> str:
    """Return the hash of a body."""
    return hashlib.sha256(body).hexdigest()

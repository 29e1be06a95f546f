"""A mail's DKIM signature (RFC 6376; Ed25519 by RFC 8463), by which readers' servers know whose it is.

The mails are our own: every line ends with CRLF and no header stands twice. So only the signing is here, with both
parts in the form `relaxed`. The arithmetic is OpenSSL's.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from weft.sdk import ActionError, Connection, Secret

WEAKEST_KEY: Final = 1024  #: bits, RFC 8301 §3.2
NOT_SIGNED: Final = frozenset({"return-path", "received", "comments", "keywords", "dkim-signature"})  # RFC 6376 §5.4.1
SEALED: Final = ("from", "to", "cc", "reply-to", "subject", "date", "message-id", "content-type", "mime-version")
"""Signed once more than they stand there: none can be added on the way without breaking the signature (§5.4.2)."""

_FOLD, _END = "\r\n ", "\r\n"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?)*")


@dataclass(frozen=True, slots=True)
class Signer:
    """A connection's key, and the name under which its public half is published."""

    domain: str
    selector: str
    key: Secret

    def sign(self, message: bytes, now: datetime) -> bytes:
        """Return the mail with its signature before it.

        Raises:
            ActionError: The key cannot be used (`invalid_connection`).
        """
        key, algorithm = _key(self.key)
        head, _, body = message.partition(b"\r\n\r\n")
        fields = [_relaxed(line) for line in re.split(rb"\r\n(?![ \t])", head)]
        signed = [(name, line) for name, line in fields if name not in NOT_SIGNED]
        names = [name for name, _ in signed] + list(SEALED)
        stamp = (
            f"DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed; d={self.domain};\r\n s={self.selector};"
            f" t={int(now.timestamp())};\r\n h={_listed(names)};\r\n bh={_digest(body)};\r\n b="
        )
        data = b"".join(line + b"\r\n" for _, line in signed) + _relaxed(stamp.encode())[1]
        # RFC 8463 §3: Ed25519 signs the hash, where RSA's padding has it inside.
        proof = _rsa(key, data) if algorithm == "rsa-sha256" else key.sign(hashlib.sha256(data).digest())
        lines = re.findall(r".{1,70}", base64.b64encode(proof).decode())
        return f"{stamp}{_FOLD.join(lines)}{_END}".encode() + message


def signer(connection: Connection, sender_domain: str) -> Signer | None:
    """Return what signs the connection's mails, or None when it has no key.

    Raises:
        ActionError: The fields do not go together (`invalid_connection`).
    """
    key, selector = connection.secret("dkim_private_key"), connection.get("dkim_selector")
    if key is None and not selector:
        return None
    domain = str(connection.get("dkim_domain") or sender_domain)
    if key is None or not selector or not _NAME.fullmatch(selector) or not _NAME.fullmatch(domain):
        raise _unusable("DKIM needs `dkim_private_key` and `dkim_selector`; selector and domain are names.")
    return Signer(domain.lower(), selector, key)


@lru_cache(maxsize=16)
def _key(secret: Secret) -> tuple[Any, str]:
    """Return the private key and its algorithm; checking a key takes OpenSSL longer than signing with it."""
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa  # noqa: PLC0415 - only signed mail needs it
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(secret.reveal().encode(), password=None)
    except (ValueError, TypeError):  # not PEM, or with a password
        raise _unusable("`dkim_private_key` is not a private key in PEM format without a password.") from None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key, "ed25519-sha256"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= WEAKEST_KEY:
        return key, "rsa-sha256"
    raise _unusable(f"`dkim_private_key` is neither Ed25519 nor RSA with at least {WEAKEST_KEY} bits.")


def _listed(names: list[str]) -> str:
    return f":{_FOLD}".join(":".join(names[at : at + 5]) for at in range(0, len(names), 5))


def _rsa(key: Any, data: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    proof: bytes = key.sign(data, PKCS1v15(), SHA256())
    return proof


def _relaxed(line: bytes) -> tuple[str, bytes]:
    """Return a header's name and its relaxed form (RFC 6376 §3.4.2)."""
    name, _, text = line.partition(b":")
    lowered = name.strip().lower()
    return lowered.decode(), lowered + b":" + re.sub(rb"[ \t]+", b" ", text.replace(b"\r\n", b"")).strip(b" ")


def _digest(body: bytes) -> str:
    """Return the hash of a body in relaxed form (§3.4.4)."""
    lines = re.sub(rb"[ \t]+", b" ", body).replace(b" \r\n", b"\r\n").rstrip(b"\r\n")
    return base64.b64encode(hashlib.sha256(lines + b"\r\n" if lines else b"").digest()).decode()


def _unusable(message: str) -> ActionError:
    return ActionError(
        message, kind="invalid_connection", effect="none", remedy="Correct the DKIM fields of the connection."
    )

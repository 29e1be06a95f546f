"""DKIM signatures, judged by an independent verifier with a name server of its own."""

from __future__ import annotations

import base64
import importlib
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.sdk import ActionContext, ActionError, Connection, Secret
from weft.testing.mail_server import MailServer

send_email = importlib.import_module("weft_core.actions.send_email")
mail_dkim = importlib.import_module("weft_core.actions._mail_dkim")

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def pem(key: Any, form: str = "PKCS8", password: bytes | None = None) -> str:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    encoded: bytes = key.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), hidden)
    return encoded.decode()


def published(key: Any) -> str:
    """The record that the domain's DNS has for a key."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return f"v=DKIM1; k=ed25519; p={base64.b64encode(raw).decode()}"
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"


def verified(message: bytes, key: Any, name: str = "weft1._domainkey.example.com.") -> bool:
    """Whether the verifier finds the signature good, with this key under `name` and nothing else in the DNS."""
    records = {name: published(key).encode()}
    try:
        return dkim.DKIM(message).verify(dnsfunc=lambda asked, timeout=5: records.get(asked.decode())) is True
    except dkim.DKIMException:
        return False


async def sent(arguments: Mapping[str, Any] = {}, **values: Any) -> bytes:
    """The mail as a server got it, from a connection with these DKIM fields."""
    async with MailServer() as server:
        given = {"host": server.host, "port": server.port, "tls": "none", "from": "weft@example.com", **values}
        context = ActionContext(
            run_id="r1",
            path="/mail",
            attempt=1,
            started_at=NOW,
            idempotency_key="r1/mail",
            deadline=time.monotonic() + 10,
            connection=Connection("mail", "smtp", given),
        )
        basic = {"to": "ada@example.com", "subject": "Hello", "body": "Good morning.", **arguments}
        await send_email.send_email(send_email.Arguments.model_validate(basic), context)
    return server.messages[0].content


@pytest.mark.parametrize(
    ("key", "form", "algorithm"),
    [
        (RSA, "PKCS8", "rsa-sha256"),
        (RSA, "TraditionalOpenSSL", "rsa-sha256"),
        (ED25519, "PKCS8", "ed25519-sha256"),
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"body": ""},
        {"body": "a  b \t\n\n.\n..dots\n   \n\n\n"},
        {"subject": "Grüße " * 40, "to": ["Jörg Ö <joerg@example.com>", "b@example.com"], "cc": "c@example.com"},
        {"body": "| a | b |\n|---|---|\n| 1 | 2 |\n", "format": "markdown", "priority": "high"},
        {
            "attachments": [{"filename": "ü.bin", "content_base64": "AAECAw=="}],
            "headers": {"X-Long": "word " * 50, "List-Unsubscribe": "<mailto:out@example.com>", "Comments": "none"},
            "in_reply_to": "<q@example.com>",
            "reply_to": "team@example.com",
        },
        {"to": "jörg@exämple.com"},
    ],
)
async def test_signed_mails_are_found_good(key: Any, form: str, algorithm: str, arguments: Mapping[str, Any]) -> None:
    """Whatever the mail holds, the signature is the sender's domain's, and holds for what the server got."""
    message = await sent(arguments, dkim_private_key=Secret(pem(key, form)), dkim_selector="weft1")

    assert verified(message, key)
    assert f"a={algorithm};".encode() in message
    assert max(map(len, message.partition(b"\r\n\r\n")[0].split(b"\r\n"))) <= 998


@pytest.mark.parametrize("key", [RSA, ED25519])
@pytest.mark.parametrize(
    ("written", "changed"),
    [
        (b"Good morning.", b"Good evening."),
        (b"Subject: Hello", b"Subject: Hullo"),
        (b"From: weft@example.com", b"From: boss@example.com"),
        (b"To: ada@example.com", b"To: eve@example.com"),
        (b"MIME-Version", b"Cc: eve@evil.test\r\nMIME-Version"),
        (b"MIME-Version", b"Subject: another\r\nMIME-Version"),
        (b"MIME-Version", b"From: eve@evil.test\r\nMIME-Version"),
        (b"MIME-Version", b"Reply-To: eve@evil.test\r\nMIME-Version"),
        (b"t=", b"t=1"),
        (b"d=example.com", b"d=example.org"),
    ],
)
async def test_a_changed_mail_is_found_out(key: Any, written: bytes, changed: bytes) -> None:
    """Neither content nor a header can be changed, and none of those that readers see can be added."""
    message = await sent(dkim_private_key=Secret(pem(key)), dkim_selector="weft1")

    assert verified(message, key)
    assert message.count(written) >= 1
    assert not verified(message.replace(written, changed, 1), key)


async def test_spaces_may_change_on_the_way() -> None:
    """Servers that fold headers anew or take blanks from the ends of lines do not break the signature."""
    message = await sent({"body": "a  b  \nc"}, dkim_private_key=Secret(pem(RSA)), dkim_selector="weft1")
    folded = message.replace(b"Subject: Hello", b"subject:   Hello  ").replace(b"To: ada", b"To:\r\n ada")

    assert folded != message
    assert verified(folded, RSA)


async def test_the_domain_can_be_named() -> None:
    """A connection that sends for several domains may sign with one of its own; another key's record does not fit."""
    message = await sent(dkim_private_key=Secret(pem(RSA)), dkim_selector="s2.eu", dkim_domain="Mail.Example.ORG")

    assert verified(message, RSA, "s2.eu._domainkey.mail.example.org.")
    assert not verified(message, rsa.generate_private_key(65537, 2048), "s2.eu._domainkey.mail.example.org.")


async def test_without_a_key_nothing_is_signed() -> None:
    """Most providers sign themselves."""
    assert b"DKIM" not in await sent()


@pytest.mark.parametrize(
    "values",
    [
        {"dkim_private_key": "key"},
        {"dkim_selector": "weft1"},
        {"dkim_private_key": "key", "dkim_selector": "a b"},
        {"dkim_private_key": "key", "dkim_selector": "a;d=evil.test"},
        {"dkim_private_key": "key", "dkim_selector": "weft1", "dkim_domain": "example.com\r\nBcc: eve"},
        {"dkim_private_key": "not a key", "dkim_selector": "weft1"},
        {"dkim_private_key": "hidden", "dkim_selector": "weft1"},
        {"dkim_private_key": "curve", "dkim_selector": "weft1"},
    ],
)
async def test_a_key_that_cannot_sign_stops_the_mail(values: dict[str, str]) -> None:
    """A mail that should be signed is not sent unsigned, and the error does not show the key."""
    keys = {
        "key": pem(RSA),
        "hidden": pem(RSA, password=b"x"),
        "curve": pem(ec.generate_private_key(ec.SECP256R1())),
    }
    secret = values.get("dkim_private_key")
    given: dict[str, Any] = {**values, **({"dkim_private_key": Secret(keys.get(secret, secret))} if secret else {})}
    with pytest.raises(ActionError) as caught:
        await sent(**given)

    assert (caught.value.kind, caught.value.effect) == ("invalid_connection", "none")
    assert "PRIVATE" not in str(caught.value)


LINES = st.text("ab \t\r\n.:=", max_size=60).map(lambda text: re.sub(r"\r\n|\r|\n", "\r\n", text).encode())


@given(LINES, st.text("ab \t", max_size=30))
@settings(max_examples=150, deadline=None)
def test_any_body_and_header_is_signed_as_the_verifier_reads_it(body: bytes, text: str) -> None:
    """The relaxed forms are the same on both sides, whatever blanks and empty lines there are."""
    value = text.strip()
    head = f"From: a@example.com\r\nSubject: x{value}\r\nX-Fold: a\r\n \tb {value}\r\nDate: now\r\n\r\n".encode()
    message = head + body + (b"" if body.endswith(b"\r\n") else b"\r\n")
    signer = mail_dkim.Signer("example.com", "weft1", Secret(pem(ED25519)))

    assert verified(signer.sign(message, NOW), ED25519)

"""Send Email against a real Exim: STARTTLS and AUTH, mail read back from its mailbox, hostile corpora through it."""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import dkim
import pytest
from corpora.mail.inspector import faults
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from servers.exim import Exim

from weft.sdk import ActionContext, ActionError, Connection, JsonObject, Secret

send_email = importlib.import_module("weft_core.actions.send_email")

CORPORA = Path(__file__).parents[1] / "corpora/mail"
INJECTIONS = [json.loads(line) for line in (CORPORA / "header_injection.jsonl").read_text().splitlines()]
HOSTILE = [json.loads(line) for line in (CORPORA / "hostile_html.jsonl").read_text().splitlines()]
BASIC = {"to": "ada@example.com", "subject": "Hello", "body": "Good morning."}
EXIMS_OWN = ["Return-path", "Envelope-to", "Delivery-date", "Received"]


@pytest.fixture
def exim() -> Iterator[Exim]:
    with Exim() as server:
        yield server


def connection(server: Exim, tmp_path: Path, **values: Any) -> Connection:
    server.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    given = {
        "host": server.host,
        "port": server.port,
        "ca_file": str(tmp_path / "ca.pem"),
        "username": "u",
        "password": Secret("p"),
        "from": "Weft <weft@example.com>",
        "allow_from": ["*"],
        **values,
    }
    return Connection("mail", "smtp", given)


async def send(where: Connection, arguments: Mapping[str, Any] = {}, key: str = "r1/mail") -> JsonObject:
    context = ActionContext(
        run_id="r1",
        path="/mail",
        attempt=1,
        started_at=datetime(2026, 11, 22, tzinfo=UTC),
        idempotency_key=key,
        deadline=time.monotonic() + 60,
        connection=where,
    )
    parsed = send_email.Arguments.model_validate({**BASIC, **arguments})
    output: JsonObject = await send_email.send_email(parsed, context)
    return output


def text(mail: EmailMessage, kind: str = "plain") -> str:
    part = mail.get_body((kind,))
    assert part is not None
    content: str = part.get_content()
    return content.replace("\r\n", "\n")


async def test_a_mail_with_everything_is_stored_as_it_was_meant(exim: Exim, tmp_path: Path) -> None:
    """Headers, both bodies, a picture and a file are read back from the mailbox; Bcc is in the envelope alone."""
    arguments = {
        "to": ["Jörg Ö <joerg@exämple.com>", '"Lovelace, Ada" <ada@example.com>'],
        "cc": "grace@example.com",
        "bcc": ["hidden@example.com"],
        "reply_to": "Team <team@example.com>",
        "subject": "Grüße 😀 " + "an alle " * 20,
        "body": "# Bericht\n\n.\n..zwei\n\n![Logo](cid:logo)\n\n| a   | b   |\n|-----|-----|\n| 1   | ü   |\n",
        "format": "markdown",
        "priority": "high",
        "attachments": [
            {"filename": "logo.png", "content_base64": "iVBORw0KGgo=", "content_id": "logo"},
            {"filename": "zählung.csv", "content": "week;größe\n47;1\n"},
        ],
    }
    output = await send(connection(exim, tmp_path), arguments)
    [mail] = await asyncio.to_thread(exim.mails, 1)

    assert (output["state"], len(output["accepted"])) == ("sent", 4)  # type: ignore[arg-type]
    assert [box.display_name for box in mail["To"].addresses] == ["Jörg Ö", "Lovelace, Ada"]
    assert (mail["Cc"], mail["Bcc"]) == ("grace@example.com", None)
    assert mail["Return-path"] == "<weft@example.com>"
    assert sorted(str(mail["Envelope-to"]).split(", ")) == sorted(
        ["joerg@xn--exmple-cua.com", "ada@example.com", "grace@example.com", "hidden@example.com"]
    )
    assert mail["Subject"].rstrip() == arguments["subject"].strip()  # type: ignore[attr-defined]
    assert mail["Message-ID"] == output["message_id"]
    assert text(mail) == arguments["body"]
    assert '<img src="cid:logo" alt="Logo">' in text(mail, "html")
    files = {part.get_filename(): part.get_payload(decode=True) for part in mail.walk() if part.get_filename()}
    assert files == {"logo.png": b"\x89PNG\r\n\x1a\n", "zählung.csv": "week;größe\n47;1\n".encode()}
    assert "P=esmtpsa" in exim.log()  # over TLS, logged in


@pytest.mark.parametrize("mails_per_session", [2, 1000])
async def test_many_mails_in_few_sessions_are_each_stored_once(mails_per_session: int, tmp_path: Path) -> None:
    """Whether or not the server ends sessions meanwhile, each mail is there once."""
    with Exim(mails_per_session=mails_per_session) as server:
        where = connection(server, tmp_path, max_connections=2)
        await asyncio.gather(*(send(where, {"subject": f"mail {n}"}, key=f"r{n}/mail") for n in range(12)))
        mails = await asyncio.to_thread(server.mails, 12)

    assert sorted(str(mail["Subject"]) for mail in mails) == sorted(f"mail {n}" for n in range(12))
    assert len({mail["Message-ID"] for mail in mails}) == 12


async def test_what_a_real_server_refuses_is_told(exim: Exim, tmp_path: Path) -> None:
    """Each refusal has Exim's own code and words, and nothing is stored of it."""
    where = connection(exim, tmp_path)
    mixed = await send(where, {"to": ["ada@example.com", "nobody@example.com", "busy@example.com"]})

    async def failure(arguments: Mapping[str, Any] = {}, **values: Any) -> tuple[str, int | None, bool, str]:
        with pytest.raises(ActionError) as caught:
            await send(connection(exim, tmp_path, **values), arguments)
        error = caught.value
        return error.kind, error.status, error.retryable, error.effect

    assert mixed["accepted"] == ["ada@example.com"]
    assert [(item["address"], item["code"]) for item in mixed["refused"]] == [  # type: ignore[index, union-attr]
        ("nobody@example.com", 550),
        ("busy@example.com", 451),
    ]
    assert await failure({"to": "nobody@example.com"}) == ("recipients_refused", 550, False, "none")
    assert await failure({"to": "busy@example.com"}) == ("recipients_refused", 451, True, "none")
    assert await failure(password=Secret("wrong")) == ("authentication", 535, False, "none")
    assert await failure(username=None) == ("recipients_refused", 550, False, "none")
    assert await failure(tls="none") == ("authentication", None, False, "none")  # Exim offers no AUTH without TLS
    assert await failure({"attachments": [{"filename": "a", "content": "x" * 900_000}]}) == (
        "too_large",
        None,
        False,
        "none",
    )
    assert len(await asyncio.to_thread(exim.mails, 1)) == 1


@pytest.mark.parametrize(
    ("wanted", "options"), [(["delay", "failure"], "NOTIFY=DELAY,FAILURE"), ([], "NOTIFY=NEVER"), (None, None)]
)
async def test_delivery_reports_are_asked_for(
    exim: Exim, tmp_path: Path, wanted: list[str] | None, options: str | None
) -> None:
    """A server that offers DSN takes the options, and the output says so."""
    output = await send(connection(exim, tmp_path), {"delivery_reports": wanted})
    await asyncio.to_thread(exim.mails, 1)

    assert output["delivery_reports"] is (options is not None)


async def test_a_signature_holds_for_what_is_stored(exim: Exim, tmp_path: Path) -> None:
    """The DKIM signature is good for the mail as it lies in the mailbox."""
    key = ed25519.Ed25519PrivateKey.generate()
    encoding = serialization.Encoding
    pem = key.private_bytes(encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    where = connection(exim, tmp_path, dkim_private_key=Secret(pem), dkim_selector="weft1")
    await send(where, {"body": "Hello\n\n.\n\n", "subject": "Grüße", "format": "markdown"})
    [stored] = await asyncio.to_thread(exim.files, 1)

    public = key.public_key().public_bytes(encoding.Raw, serialization.PublicFormat.Raw)
    record = b"v=DKIM1; k=ed25519; p=" + base64.b64encode(public)
    message = stored.replace(b"\n", b"\r\n")  # a mailbox has this system's line ends
    assert dkim.verify(message, dnsfunc=lambda name, timeout=5: record)
    assert not dkim.verify(message.replace(b"Hello", b"Hallo"), dnsfunc=lambda name, timeout=5: record)


# The corpora


def injected(row: Mapping[str, Any]) -> dict[str, Any]:
    """A step whose field holds the row's value."""
    field, value = row["field"], row["value"]
    match field:
        case "header":
            return {**BASIC, "headers": {"X-Note": value}}
        case "header_name":
            return {**BASIC, "headers": {value: "text"}}
        case "filename" | "content_type" | "content_id":
            return {**BASIC, "attachments": [{"filename": "a.txt", "content": "x", field: value}]}
        case "attached":
            return {**BASIC, "attachments": [{"filename": "a.txt", "content": value}]}
    return {**BASIC, field: value}


ALLOWED = {
    *("from", "to", "cc", "reply-to", "subject", "date", "message-id", "in-reply-to", "references", "x-note"),
    *("mime-version", "content-type", "content-transfer-encoding"),
    *(name.lower() for name in EXIMS_OWN),
}


async def test_no_injection_is_in_what_was_stored(exim: Exim, tmp_path: Path) -> None:
    """Of the whole corpus, what was sent at all is stored with the headers that were meant and to one recipient."""
    where = connection(exim, tmp_path)
    sent = 0
    for row in INJECTIONS:
        if row["want"] == "kept":
            await send(where, injected(row), key=f"row {row['id']}")
            sent += 1
        else:
            with pytest.raises(ActionError):
                await send(where, injected(row), key=f"row {row['id']}")
    stored = await asyncio.to_thread(exim.files, sent)

    assert len(stored) == sent >= 30
    for content in stored:
        parsed = BytesParser(policy=policy.compat32).parsebytes(content)
        names = [name.lower() for name in parsed]
        assert set(names) <= ALLOWED
        assert len(names) == len(set(names))
        assert parsed["Envelope-to"] == "ada@example.com"
        assert not re.search(rb"(?im)^bcc:", content.partition(b"\n\n")[0])
        assert len(list(parsed.walk())) in (1, 3)


@pytest.mark.parametrize("form", ["html", "markdown"])
async def test_no_hostile_page_is_in_what_was_stored(exim: Exim, tmp_path: Path, form: str) -> None:
    """Of the whole corpus, no page that lies in the mailbox runs or fetches anything."""
    where = connection(exim, tmp_path)
    rows = ({"body": row["source"], "format": form} for row in HOSTILE)
    await asyncio.gather(*(send(where, row, key=f"row {at}") for at, row in enumerate(rows)))
    mails = await asyncio.to_thread(exim.mails, len(HOSTILE))

    assert len(mails) == len(HOSTILE) >= 190
    assert [found for mail in mails for found in faults(text(mail, "html"))] == []
    assert all(text(mail) for mail in mails)

"""No text, wherever it is put, gives a mail a header or a recipient that the author did not ask for."""

from __future__ import annotations

import importlib
import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email import policy
from email.header import decode_header, make_header
from email.parser import BytesParser
from email.utils import getaddresses, parseaddr
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.sdk import ActionContext, ActionError, Connection
from weft.testing.mail_server import MailServer, Received

send_email = importlib.import_module("weft_core.actions.send_email")
headers = importlib.import_module("weft_core.actions._mail_headers")
address = importlib.import_module("weft_core.actions._mail_address")
message = importlib.import_module("weft_core.actions._mail_message")

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "corpora/mail/header_injection.jsonl").read_text().splitlines()
]
BASIC = {"to": "ada@example.com", "subject": "Hello", "body": "Good morning."}
ALWAYS = ["Date", "From", "To", "Message-ID", "Subject", "Content-Type", "Content-Transfer-Encoding", "MIME-Version"]


def arguments(field: str, value: str) -> dict[str, Any]:
    """A step whose `field` holds `value`, and nothing else that is special."""
    match field:
        case "header":
            return {**BASIC, "headers": {"X-Note": value}}
        case "header_name":
            return {**BASIC, "headers": {value: "text"}}
        case "filename" | "content_type" | "content_id":
            return {**BASIC, "attachments": [{"filename": "a.txt", "content": "x", field: value}]}
        case "attached":
            return {**BASIC, "attachments": [{"filename": "a.txt", "content": value}]}
        case _:
            return {**BASIC, field: value}


async def send(server: MailServer, given: Mapping[str, Any]) -> None:
    values = {"host": server.host, "port": server.port, "tls": "none", "from": "weft@example.com", "allow_from": ["*"]}
    context = ActionContext(
        run_id="r",
        path="/mail",
        attempt=1,
        started_at=datetime.now(UTC),
        idempotency_key="r/mail",
        deadline=time.monotonic() + 20,
        connection=Connection("mail", "smtp", values),
    )
    await send_email.send_email(send_email.Arguments.model_validate(given), context)


def names(field: str) -> list[str]:
    """The headers that a mail has when `field` is given, in any order."""
    more = {"cc": ["Cc"], "reply_to": ["Reply-To"], "in_reply_to": ["In-Reply-To", "References"], "header": ["X-Note"]}
    without = ["Content-Transfer-Encoding"] if field in ("filename", "content_type", "content_id", "attached") else []
    return sorted([*(name for name in ALWAYS if name not in without), *more.get(field, [])])


def arrived(mail: Received, header: str) -> str:
    """A header as a reader shows it: unfolded, then decoded."""
    [raw] = [
        text
        for name, text in BytesParser(policy=policy.compat32).parsebytes(mail.content).raw_items()
        if name == header
    ]
    return str(make_header(decode_header(raw.replace("\r\n ", " "))))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['id']}: {row['about']}")
async def test_known_injections_add_nothing(row: dict[str, Any]) -> None:
    """What would be more than one line or one mailbox is refused; what is only text arrives as that text."""
    field, value = row["field"], row["value"]
    given = arguments(field, value)
    async with MailServer() as server:
        if row["want"] == "refused":
            assert list(send_email.check(given))
            with pytest.raises(ActionError) as caught:
                await send(server, given)
            assert caught.value.effect == "none"
            assert server.commands == []
            return
        assert list(send_email.check(given)) == []
        await send(server, given)

    [mail] = server.messages
    parsed = mail.parsed()
    assert sorted(parsed.keys()) == names(field)
    assert mail.recipients == ("ada@example.com",)
    assert [command.split()[0] for command in server.commands] == ["EHLO", "MAIL", "RCPT", "DATA"]
    assert len(list(parsed.walk())) == (3 if "attachments" in given else 1)
    if field == "subject":
        assert arrived(mail, "Subject") == value.strip(" ") or arrived(mail, "Subject") == value
    if field == "filename":
        assert next(parsed.iter_attachments()).get_filename() == re.sub(r'[/\\:*?"<>|]', "_", value).strip(" .")
    if field == "body":
        assert mail.text().rstrip("\n") == value.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")


def test_the_corpus_is_large_and_has_both_kinds() -> None:
    """The corpus cannot shrink or lose a field unseen."""
    fields = {"subject", "to", "cc", "bcc", "from", "reply_to", "header", "header_name", "message_id", "in_reply_to"}
    assert len(ROWS) >= 160
    assert fields | {"filename", "content_type", "content_id", "body", "attached"} == {row["field"] for row in ROWS}
    assert sum(row["want"] == "kept" for row in ROWS) >= 30


# Guards behind the checks


def letter(**more: Any) -> Any:
    boxes = {"sender": address.mailbox("weft@example.com", "from"), "to": (address.mailbox("ada@example.com", "to"),)}
    body = importlib.import_module("weft_core.actions._mail_body").Body("Good morning.")
    return message.Letter(**{**boxes, "subject": "Hello", "body": body, "message_id": "<a@example.com>", **more})


@pytest.mark.parametrize(
    "parts",
    [
        {"message_id": "<a@example.com>\r\nBcc: eve@evil.test"},
        {"message_id": "<a@example.com>\nBcc: eve@evil.test"},
        {"message_id": "<a@example.com>\rBcc: eve@evil.test"},
        {"message_id": "<a@example.com>\r\n\r\nbody"},
        {"message_id": "<a@example.com>\r\n \r\nBcc: eve@evil.test"},
        {"message_id": "x" * 999},
        {"in_reply_to": "<a>\r\nX: y"},
        {"headers": (("Bcc: eve@evil.test\r\nX", "y"),)},
        {"headers": (("X Y", "z"),)},
        {"headers": (("Subject:", "z"),)},
    ],
)
def test_the_last_look_stops_what_the_checks_let_through(parts: dict[str, Any]) -> None:
    """Were a check ever to fail, the rendered mail is still compared with what was asked for, and not sent."""
    with pytest.raises(ActionError) as caught:
        message.render(letter(**parts), datetime.now(UTC))

    assert (caught.value.kind, caught.value.effect) == ("unsafe_message", "none")


@pytest.mark.parametrize(
    ("written", "slipped"),
    [
        (b"a.txt", b"a.txt\r\nBcc: eve@evil.test"),
        (b"multipart/mixed", b"text/x-mixed"),
        (b"Good", b"Good\n"),
        (b"Good", b"Good\r"),
        (b"MIME-Version: 1.0", b"MIME-Version: 1.0\r\nBcc: eve@evil.test"),
        (b"MIME-Version: 1.0\r\n", b""),
    ],
)
def test_the_last_look_sees_what_the_library_lets_slip(
    monkeypatch: pytest.MonkeyPatch, written: bytes, slipped: bytes
) -> None:
    """A library that writes other headers, parts or line ends than it was told does not get its mail sent."""
    real = message.EmailMessage.as_bytes
    monkeypatch.setattr(
        message.EmailMessage, "as_bytes", lambda self, **options: real(self, **options).replace(written, slipped)
    )
    file = message.Attachment("a.txt", b"x", "text/plain")
    with pytest.raises(ActionError, match="exactly the headers"):
        message.render(letter(attachments=(file,)), datetime.now(UTC))


# Properties

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=300)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(TEXT)
@QUICK
def test_any_one_line_text_is_a_header_that_reads_back(text: str) -> None:
    """A header's text is read back exactly, on lines that mail may have."""
    try:
        headers.check_text(text, "subject")
    except ActionError:  # it holds something that reads as a broken encoded word
        return
    line = headers.unstructured("Subject", text)

    assert all(len(part) <= 78 or part.startswith("Subject: =?") for part in line.split("\r\n"))
    assert all(part.strip() for part in line.split("\r\n"))
    parsed = BytesParser(policy=policy.compat32).parsebytes(f"{line}\r\n\r\n".encode("ascii"))
    raw = str(parsed["Subject"])
    assert parsed.keys() == ["Subject"]
    assert str(make_header(decode_header(raw.replace("\r\n ", " ")))) == text


@given(st.text(max_size=80) | st.text("=?utf-8qbQB_0aAdD/+ \n\r:", max_size=80))
@QUICK
def test_no_text_at_all_makes_two_headers(text: str) -> None:
    """Whatever is given is refused or stays one header, for two readers."""
    try:
        line = headers.unstructured("Subject", headers.check_text(text, "subject"))
    except ActionError:
        return
    for rules in (policy.compat32, policy.default):
        parsed = BytesParser(policy=rules).parsebytes(f"{line}\r\nX-End: 1\r\n\r\n".encode())
        assert parsed.keys() == ["Subject", "X-End"]


ADDRESS = st.text('ab.@<>"\\, ;:()[]=?%é\u3002\uff0e-_\n', max_size=30) | st.emails() | st.text(max_size=30)


@given(ADDRESS)
@QUICK
def test_any_text_is_one_mailbox_or_none(text: str) -> None:
    """What is accepted is one address with one @, and is read back as the same by the standard library."""
    try:
        box = address.mailbox(text, "to")
    except ActionError:
        return
    local, _, domain = box.address.partition("@")
    assert domain == box.domain
    assert domain.isascii()
    assert not set(local + domain) & set(' ,;:<>()[]"\\@\r\n')
    raw = str(box).replace("\r\n ", " ")
    name, spec = parseaddr(raw)
    assert spec == box.address
    assert str(make_header(decode_header(name))) == box.name


@given(st.lists(st.tuples(TEXT.filter(lambda text: "=?" not in text), st.emails()), min_size=1, max_size=5))
@QUICK
def test_named_mailboxes_read_back_in_a_list(pairs: list[tuple[str, str]]) -> None:
    """A header of several mailboxes holds just these, whatever their names contain."""
    boxes = []
    for name, spec in pairs:
        quoted = name.strip(" ").replace("\\", "\\\\").replace('"', '\\"')
        try:
            boxes.append(address.mailbox(f'"{quoted}" <{spec}>', "to"))
        except ActionError:  # a local part that Hypothesis likes and mailboxes do not have
            continue
    if not boxes:
        return
    raw = BytesParser(policy=policy.compat32).parsebytes(message.render(letter(to=tuple(boxes)), datetime.now(UTC)))[
        "To"
    ]
    found = getaddresses([raw.replace("\r\n ", " ")])
    assert [(str(make_header(decode_header(name))), spec) for name, spec in found] == [
        (box.name, box.address) for box in boxes
    ]

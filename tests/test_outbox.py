"""The outbox takes mail only from those who were given its password, and keeps it whole."""

from __future__ import annotations

import asyncio
import logging
import stat
import sys
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from weft.embedded.outbox import Outbox
from weft.errors import NotFound
from weft.redaction import Secret


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    box = Outbox(tmp_path / "mail")
    await box.start()
    yield box
    await box.stop()


def mail(subject: str = "Hello", body: str = "Good morning.\n") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Ada <ada@example.com>", "b@example.com", subject
    message["Date"] = "Sun, 22 Nov 2026 10:00:00 +0000"
    message.set_content(body)
    return message


async def send(box: Outbox, content: EmailMessage | bytes, *recipients: str, password: str | None = None) -> None:
    connection = await box.connection()
    secret = connection.secret("password")
    assert secret is not None
    await aiosmtplib.send(
        content,
        sender="ada@example.com",
        recipients=list(recipients or ("b@example.com",)),
        hostname=connection.get("host"),
        port=connection.get("port"),
        username=connection.get("username"),
        password=password or secret.reveal(),
        timeout=10,
    )


async def test_keeps_a_mail_and_shows_its_parts(outbox: Outbox) -> None:
    """A mail is read back with its headers, its text, its HTML and its files, and with who it was handed over for."""
    message = mail("Grüße 😀")
    message.add_alternative("<p>Good morning.</p>", subtype="html")
    message.add_attachment(b"\x00\x01", maintype="application", subtype="pdf", filename="Bericht für Ada.pdf")

    await send(outbox, message, "b@example.com", "hidden@example.com")

    [kept] = outbox.messages()
    opened = outbox.message(1)
    assert (kept.number, kept.subject, kept.sender) == (1, "Grüße 😀", "Ada <ada@example.com>")
    assert kept.to == ("b@example.com", "hidden@example.com")
    assert kept.date is not None
    assert kept.date.isoformat() == "2026-11-22T10:00:00+00:00"
    assert kept.size > 400
    assert opened == outbox.message(kept.id)
    assert opened.text == "Good morning.\n"
    assert opened.html == "<p>Good morning.</p>\n"
    assert [(item.filename, item.content_type, item.content) for item in opened.attachments] == [
        ("Bericht für Ada.pdf", "application/pdf", b"\x00\x01")
    ]
    assert ("Subject", "Grüße 😀") in opened.headers
    assert not any(name.startswith("X-Envelope") for name, _ in opened.headers)


async def test_lists_the_newest_last(outbox: Outbox) -> None:
    """Mails are numbered in the order in which they came."""
    for number in range(12):
        await send(outbox, mail(f"number {number}"))

    assert [item.subject for item in outbox.messages()] == [f"number {number}" for number in range(12)]
    assert outbox.message("12").kept.subject == "number 11"


async def test_takes_mail_only_with_its_password(outbox: Outbox) -> None:
    """Another user of the machine, who can connect but has no password, leaves nothing behind."""
    with pytest.raises(aiosmtplib.SMTPAuthenticationError, match="535"):
        await send(outbox, mail(), password="guess")
    with pytest.raises(aiosmtplib.SMTPSenderRefused, match="530"):
        await aiosmtplib.send(mail(), hostname=outbox.host, port=outbox.port, timeout=10)

    assert outbox.messages() == []


@pytest.mark.parametrize(
    "line",
    [
        b"AUTH PLAIN",
        b"AUTH PLAIN !!!",
        b"AUTH PLAIN Zm9v",
        b"AUTH PLAIN AAA=",
        b"AUTH LOGIN",
        b"AUTH",
        b"AUTH PLAIN  a  b",
    ],
)
async def test_malformed_credentials_are_refused(outbox: Outbox, line: bytes) -> None:
    """A login that cannot be read is answered with an error, and the conversation goes on."""
    reader, writer = await asyncio.open_connection(outbox.host, outbox.port)
    writer.write(
        b"EHLO x\r\n"
        + line
        + b"\r\n"
        + (b"Zm9v\r\n" if line == b"AUTH PLAIN" else b"")
        + b"MAIL FROM:<a@b>\r\nQUIT\r\n"
    )

    answers = (await asyncio.wait_for(reader.read(), 5)).decode()
    writer.close()

    assert "235" not in answers
    assert "530 5.7.0 Authentication required" in answers


async def test_two_outboxes_have_different_passwords(tmp_path: Path) -> None:
    """The password is made anew each time and cannot be printed."""
    first, second = Outbox(tmp_path / "a"), Outbox(tmp_path / "b")
    one, two = await first.connection(), await second.connection()
    await first.stop()
    await second.stop()

    assert one.secret("password") != two.secret("password")
    assert isinstance(one.values["password"], Secret)
    assert (one.name, one.type, one.get("tls"), one.get("from")) == ("outbox", "smtp", "none", "weft@localhost")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"X-Envelope-To: forged@example.com\r\nSubject: a\r\n\r\nbody\r\n", "a"),
        (b"Subject: a\r\nx-envelope-TO: forged@example.com\r\n more@example.com\r\nX-A: b\r\n\r\nbody\r\n", "a"),
        (b" forged@example.com\r\nSubject: a\r\n\r\nbody\r\n", ""),
        (b"\r\nX-Envelope-To: forged@example.com\r\n\r\nbody\r\n", ""),
        (b"Subject: a\rX-Envelope-To: forged@example.com\r\n\r\nbody\r\n", "a"),
        (b"X-Envelope-To: forged@example.com", ""),
    ],
)
async def test_the_envelope_cannot_be_forged(outbox: Outbox, content: bytes, expected: str) -> None:
    """The recipients shown are those of the SMTP conversation, whatever the mail itself says."""
    await outbox.keep("a@example.com", ["real@example.com"], content)

    [kept] = outbox.messages()
    assert (kept.to, kept.subject) == (("real@example.com",), expected)


async def test_a_dot_and_the_text_arrive_unchanged(outbox: Outbox) -> None:
    """Lines that begin with a dot, and letters of any script, are kept as they were sent."""
    text = ".\n..two\nプレーン текст\n"
    await send(outbox, mail(body=text))

    assert outbox.message(1).text == text


async def test_only_this_user_may_look(outbox: Outbox) -> None:
    """Nobody else on the machine may enter the directory."""
    assert stat.S_IMODE(outbox.directory.stat().st_mode) == 0o700


async def test_reads_without_a_server(outbox: Outbox) -> None:
    """Another object on the same directory sees the mail without starting anything."""
    await send(outbox, mail("seen"))

    reader = Outbox(outbox.directory)
    assert [item.subject for item in reader.messages()] == ["seen"]
    with pytest.raises(RuntimeError, match="not started"):
        _ = reader.port


async def test_two_processes_lose_nothing(outbox: Outbox) -> None:
    """Two processes that keep mail in one directory at the same time keep all of it."""
    code = (
        "import asyncio, sys, pathlib\n"
        "from weft.embedded.outbox import Outbox\n"
        "async def main():\n"
        "    box = Outbox(pathlib.Path(sys.argv[1]))\n"
        "    await asyncio.gather(*(box.keep('a@b', ['c@d'], b'Subject: x\\r\\n\\r\\ny\\r\\n') for _ in range(25)))\n"
        "asyncio.run(main())\n"
    )
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(outbox.directory))
    await asyncio.gather(*(outbox.keep("a@b", ["c@d"], b"Subject: x\r\n\r\ny\r\n") for _ in range(25)))
    assert await other.wait() == 0

    kept = outbox.messages()
    assert len({item.id for item in kept}) == 50
    assert [item.number for item in kept] == list(range(1, 51))


async def test_a_mail_is_on_disk_before_it_is_acknowledged(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file and its directory are synced before the server says 250."""
    synced: list[str] = []
    real = __import__("os").fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").resolve()) if sys.platform == "linux" else "")
        real(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    await send(outbox, mail())

    assert len(synced) == 2
    if sys.platform == "linux":
        assert [Path(name).parent.name for name in synced] == ["tmp", "mail"]


async def test_a_disk_that_fails_is_a_temporary_refusal(outbox: Outbox) -> None:
    """When the mail cannot be stored the client is told to come back, not that all is well."""
    for name in ("tmp", "new", "cur"):
        (outbox.directory / name).rmdir()
    outbox.directory.rmdir()
    outbox.directory.write_text("in the way")

    with pytest.raises(aiosmtplib.SMTPDataError, match="452"):
        await send(outbox, mail())


async def test_an_unknown_mail_is_named(outbox: Outbox) -> None:
    """Asking for a mail that is not there says what there is."""
    with pytest.raises(NotFound, match="It is empty"):
        outbox.message(1)
    await send(outbox, mail())
    with pytest.raises(NotFound, match=r"no mail '7'. It has 1 to 1"):
        outbox.message(7)
    assert Outbox(outbox.directory / "none").messages() == []


async def test_nothing_of_the_server_reaches_the_terminal(
    outbox: Outbox, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither warnings nor log lines of the SMTP server are written where nobody has set up logging."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    await send(outbox, mail())
    reader, writer = await asyncio.open_connection(outbox.host, outbox.port)
    writer.write(b"NONSENSE\r\nQUIT\r\n")
    await reader.read()
    writer.close()

    assert capfd.readouterr() == ("", "")


async def test_who_asks_at_the_same_time_gets_one_server(tmp_path: Path) -> None:
    """Steps beside each other have the same connection, and after a stop nothing listens any more."""
    box = Outbox(tmp_path / "mail")
    ports = {each.get("port") for each in await asyncio.gather(*(box.connection() for _ in range(5)))}
    await box.stop()

    assert len(ports) == 1
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(box.host, ports.pop())


async def test_stopping_closes_what_is_open(tmp_path: Path) -> None:
    """A client that never leaves does not keep the outbox from stopping, and it can be started again."""
    box = Outbox(tmp_path / "mail")
    await box.start()
    reader, writer = await asyncio.open_connection(box.host, box.port)
    await reader.readline()

    await asyncio.wait_for(box.stop(), 5)
    await box.stop()

    assert await reader.read() == b""
    writer.close()
    await box.start()
    await send(box, mail())
    await box.stop()
    assert len(box.messages()) == 1

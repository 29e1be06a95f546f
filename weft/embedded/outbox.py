"""A mail server of one's own: it takes every mail and delivers none, but keeps them in a Maildir to be looked at."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import email
import hmac
import logging
import mailbox
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from email.parser import BytesHeaderParser
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from weft.errors import NotFound, StateUnavailable
from weft.sdk import Connection, Json, Secret

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Envelope, Session

LARGEST = 200_000_000  #: bytes of one mail
IDLE_S = 60

_KEY = re.compile(r"(\d+)\.M(\d+)P\d+Q(\d+)\.")  # how the standard library names a mail: seconds, microseconds, count
_OUR_HEADERS = re.compile(rb"^X-Envelope-[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE)

logging.getLogger("mail.log").addHandler(logging.NullHandler())  # aiosmtpd's; without one it would write to stderr


@dataclass(frozen=True, slots=True)
class Kept:
    """A mail in the outbox, by its header."""

    id: str
    number: int  #: from 1, oldest first
    subject: str
    sender: str  #: as the header `From` says
    to: tuple[str, ...]  #: who it was handed over for, Bcc too
    date: datetime | None
    size: int  #: bytes


@dataclass(frozen=True, slots=True)
class KeptAttachment:
    """A file that came with a mail."""

    filename: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A mail in the outbox, taken apart for people."""

    kept: Kept
    headers: tuple[tuple[str, str], ...]  #: decoded, in order, without ours
    text: str | None
    html: str | None
    attachments: tuple[KeptAttachment, ...]
    raw: bytes  #: as it was received, under headers of ours that say who it was for


class Outbox:
    """A mail server on loopback that keeps what it is given.

    Reading needs no server: `messages()` and `message()` work on the directory, also while another process writes.

    Args:
        directory: The Maildir; made when the first mail needs it, for this user alone.
    """

    host = "127.0.0.1"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._server: asyncio.Server | None = None
        self._sessions: set[SMTP] = set()
        self._starting = asyncio.Lock()  # steps beside each other ask for the connection at the same time
        self._writing = asyncio.Lock()
        self._username = secrets.token_urlsafe(9)
        self._password = Secret(secrets.token_urlsafe(24))

    @property
    def port(self) -> int:
        """The server's port; there is one between `start()` and `stop()`."""
        if self._server is None:
            raise RuntimeError("the outbox is not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Make the directory and listen on a free port; a second call changes nothing."""
        async with self._starting:
            if self._server is None:
                await asyncio.to_thread(self._prepare)
                self._server = await asyncio.get_running_loop().create_server(self._session, self.host, 0)

    async def stop(self) -> None:
        """Stop listening and close what is open; a mail that was answered with 250 is on disk."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        while any(session.transport for session in self._sessions):
            for session in self._sessions:
                if session.transport:
                    session.transport.close()
            await asyncio.sleep(0.01)
        self._sessions.clear()

    async def connection(self) -> Connection:
        """Return the connection `outbox`, by which mail gets here; the server is started if it is not running."""
        await self.start()
        values: dict[str, Json | Secret] = {
            "host": self.host,
            "port": self.port,
            "tls": "none",
            "username": self._username,
            "password": self._password,
            "from": "weft@localhost",
            "allow_from": ["*"],
            "max_message_mb": 100,
        }
        return Connection("outbox", "smtp", values)

    def messages(self) -> list[Kept]:
        """Return the mails that are kept, newest last."""
        found: list[Kept] = []
        for path in self._files():
            with (
                contextlib.suppress(FileNotFoundError),
                path.open("rb") as file,
            ):  # removed by another process meanwhile
                header = BytesHeaderParser(policy=policy.compat32).parse(file)
                found.append(kept_of(_id(path), len(found) + 1, header, path.stat().st_size))
        return found

    def message(self, which: int | str) -> KeptMessage:
        """Return one mail by its number or its id.

        Raises:
            NotFound: There is no such mail.
        """
        kept = self.messages()
        for item in kept:
            if str(which) in (item.id, str(item.number)):
                return opened(item, self._content(item.id))
        numbers = f"It has 1 to {len(kept)}." if kept else "It is empty."
        raise NotFound(f"The outbox has no mail {str(which)!r}. {numbers}", remedy="See `weft outbox` for the list.")

    def _content(self, id_: str) -> bytes:
        path = next((path for path in self._files() if _id(path) == id_), None)
        if path is None:  # removed by another process meanwhile
            raise NotFound(f"The outbox has no mail {id_!r} any more.", remedy="See `weft outbox` for the list.")
        return path.read_bytes()

    def _files(self) -> list[Path]:
        """Every mail's file, oldest first: `new` holds those that no mail program has shown yet."""
        found = [path for name in ("new", "cur") for path in (self.directory / name).glob("[!.]*")]
        return sorted(found, key=lambda path: _age(path.name))

    def _prepare(self) -> None:
        """Make room before the first mail comes, so that a fault is told by then."""
        self._box()

    def _box(self) -> mailbox.Maildir:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.directory.chmod(0o700)
        for name in ("tmp", "new", "cur"):  # an existing empty directory is a Maildir too
            (self.directory / name).mkdir(mode=0o700, exist_ok=True)
        return mailbox.Maildir(self.directory, create=False)

    def _session(self) -> SMTP:
        from aiosmtpd.smtp import SMTP  # noqa: PLC0415 - listing mail must not wait for a server's import

        # `auth_required` would warn about AUTH without TLS; on loopback there is nobody to listen, and handle_MAIL asks
        session = SMTP(
            _Clerk(self),
            data_size_limit=LARGEST,
            enable_SMTPUTF8=True,
            hostname="outbox.localhost",
            ident="Weft outbox",
            auth_require_tls=False,
            auth_exclude_mechanism=["LOGIN"],
            timeout=IDLE_S,
            loop=asyncio.get_running_loop(),
        )
        self._sessions = {known for known in self._sessions if known.transport} | {session}
        return session

    def fits(self, username: bytes, password: bytes) -> bool:
        """Whether these are the name and the password that `connection()` gives out."""
        return hmac.compare_digest(username, self._username.encode()) & hmac.compare_digest(
            password, self._password.reveal().encode()
        )

    async def keep(self, sender: str, recipients: Iterable[str], content: bytes) -> str:
        """Put a mail into the Maildir and return its id; when this returns it would survive a power cut."""
        async with self._writing:
            return await asyncio.to_thread(self._keep, _enveloped(sender, recipients, content))

    def _keep(self, message: bytes) -> str:
        key = self._box().add(message)  # written to tmp/ and synced, then moved to new/
        directory = os.open(self.directory / "new", os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return key


class _Clerk:
    """What aiosmtpd asks at each command; the names of the methods are its own."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def handle_AUTH(self, server: SMTP, session: Session, envelope: Envelope, args: list[str]) -> str:  # noqa: N802
        """Check AUTH PLAIN (RFC 4616). Answering here keeps aiosmtpd from its own deprecated bookkeeping."""
        given = args[1] if len(args) > 1 else ""
        try:
            answer = base64.b64decode(given, validate=True) if given else await server.challenge_auth("")
            _, username, password = bytes(answer).split(b"\0")  # type: ignore[arg-type]
        except (binascii.Error, TypeError, ValueError):
            return "501 5.5.2 Cannot read the credentials"
        if not self._outbox.fits(username, password):
            return "535 5.7.8 Authentication credentials invalid"
        session.authenticated = True
        return "235 2.7.0 Authentication successful"

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        try:
            key = await self._outbox.keep(envelope.mail_from or "", envelope.rcpt_tos, envelope.original_content or b"")
        except (OSError, StateUnavailable):
            return "452 4.3.1 The mail cannot be stored"
        return f"250 2.0.0 OK kept as {key}"


def _enveloped(sender: str, recipients: Iterable[str], content: bytes) -> bytes:
    """The mail as it is stored: who it was for on top, in headers that only we write."""
    head, blank, rest = re.sub(rb"\r\n?", b"\n", content).partition(b"\n\n")
    head = _OUR_HEADERS.sub(b"", head + b"\n").rstrip(b"\n")
    if re.match(rb"\s", head):  # it would read on from our own last line
        head, blank, rest = b"", b"\n", head + blank + rest
    names = [("From", sender), *(("To", recipient) for recipient in recipients)]
    ours = [f"X-Envelope-{name}: {_bare(text)}\n".encode("utf-8", "surrogateescape") for name, text in names]
    return b"".join(ours) + head + blank + rest


def _bare(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", "", text)


def _age(key: str) -> tuple[int, ...]:
    parts = _KEY.match(key)
    return tuple(map(int, parts.groups())) if parts else (0,)


def _id(path: Path) -> str:
    return path.name.partition(":")[0]  # a mail program puts its marks behind the colon


def kept_of(id_: str, number: int, header: Message, size: int) -> Kept:
    return Kept(
        id=id_,
        number=number,
        subject=next(_values(header, "subject"), ""),
        sender=next(_values(header, "from"), ""),
        to=tuple(_values(header, "x-envelope-to")),
        date=_date(header),
        size=size,
    )


def _date(header: Message) -> datetime | None:
    try:
        date = parsedate_to_datetime(str(header["Date"]))
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _values(header: Message, name: str) -> Iterator[str]:
    return (_shown(value) for key, value in header.raw_items() if key.lower() == name)


def _shown(value: str) -> str:
    """A header's value on one line, encoded words decoded where they can be."""
    text = value.encode("ascii", "surrogateescape").decode("utf-8", "replace")
    text = re.sub(r"\r?\n(?=[ \t])", "", text)
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return text


def opened(kept: Kept, content: bytes) -> KeptMessage:
    """Return a mail taken apart."""
    header = BytesHeaderParser(policy=policy.compat32).parsebytes(content)
    message = email.message_from_bytes(content, policy=policy.default)
    attachments = [
        KeptAttachment(part.get_filename() or "", part.get_content_type(), _payload(part))
        for part in message.walk()
        if not part.is_multipart() and (part.get_filename() or part.get_content_disposition() == "attachment")
    ]
    return KeptMessage(
        kept,
        headers=tuple(
            (name, _shown(value)) for name, value in header.raw_items() if not name.startswith("X-Envelope-")
        ),
        text=_part(message, "plain"),
        html=_part(message, "html"),
        attachments=tuple(attachments),
        raw=content,
    )


def _payload(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _part(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body((kind,))
    if part is None:
        return None
    content = _payload(part).replace(b"\r\n", b"\n")  # MIME's line end, which an encoded text keeps
    try:
        return content.decode(part.get_content_charset("utf-8"), "replace")
    except LookupError:  # a charset that nobody knows
        return content.decode("utf-8", "replace")


def outbox_at(directory: Path, database: str | None) -> Outbox:
    """Return the outbox of an installation.

    Args:
        directory: The Maildir, when there is no database.
        database: The address of the database, if there is one.
    """
    if not database:
        return Outbox(directory)
    from weft.embedded.outbox_database import DatabaseOutbox  # noqa: PLC0415  it loads SQLAlchemy

    return DatabaseOutbox(directory, database)

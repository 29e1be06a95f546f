"""SMTP servers on loopback: one that keeps what it is told, and one that fails at a chosen point."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email
import email.policy
import re
import ssl
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

if TYPE_CHECKING:
    import trustme

MODES = (
    "ok",
    "refused",
    "no-banner",
    "banner-421",
    "banner-drop",
    "garbage",
    "starttls-strip",
    "mail-451",
    "mail-550",
    "rcpt-450",
    "rcpt-550",
    "rcpt-mixed",
    "rcpt-drop",
    "data-drop-before",
    "data-452",
    "drop-mid-data",
    "dot-451",
    "dot-550",
    "dot-999",
    "drop-after-dot",
    "hang-after-dot",
    "reset-after-250",
    "quit-hang",
    "size",
)
"""What `FaultServer` can do; each name says the phase and the fault."""


@dataclass(frozen=True)
class Received:
    """One accepted mail: its envelope and its bytes as they came."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    authenticated: bool
    encrypted: bool

    def parsed(self) -> EmailMessage:
        return email.message_from_bytes(self.content, policy=email.policy.default)

    def text(self, kind: str = "plain") -> str:
        """The body's part of this kind, with the line ends that Python has."""
        part = self.parsed().get_body((kind,))
        content: str = part.get_content() if part else ""
        return content.replace("\r\n", "\n")


class MailServer:
    """A real SMTP server on a free port of loopback that records messages and commands.

    Recipients whose address begins with `nobody` are refused for good, with `busy` for now.

    Args:
        tls: `starttls` offers and requires it, `implicit` speaks TLS from the first byte.
        username: With it, AUTH is required before MAIL.
        smtputf8: Whether SMTPUTF8 is offered.
        certified_for: Names in the server's certificate.
        mechanisms: What AUTH offers; XOAUTH2 takes `username` with one of `tokens`.
        mails_per_session: After how many a session ends with 421.
    """

    def __init__(
        self,
        *,
        tls: Literal["none", "starttls", "implicit"] = "none",
        username: str | None = None,
        password: str = "",
        smtputf8: bool = True,
        mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN"),
        certified_for: tuple[str, ...] = ("localhost", "127.0.0.1"),
        size: int | None = 2**25,
        host: str = "127.0.0.1",
        tokens: Collection[str] = (),
        mails_per_session: int | None = None,
    ) -> None:
        self.tokens, self.mails_per_session = set(tokens), mails_per_session
        self.sessions = 0  #: opened
        self.tls, self.username, self.password = tls, username, password
        self.smtputf8, self.mechanisms, self.size = smtputf8, mechanisms, size
        self.messages: list[Received] = []
        self.commands: list[str] = []  #: `MAIL FROM:<a@example.com> SIZE=512`; the word alone for AUTH
        self.host = host
        self.port = 0
        self._certified_for = certified_for

    @cached_property
    def authority(self) -> trustme.CA:
        """Who has signed the server's certificate; needs the package trustme."""
        import trustme  # noqa: PLC0415 - for tests with TLS alone: `pip install weft[testing]`

        return trustme.CA()

    async def __aenter__(self) -> MailServer:
        loop = asyncio.get_running_loop()
        context = None
        if self.tls != "none":
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.authority.issue_cert(*self._certified_for).configure_cert(context)
        self._protocols: list[_Recording] = []
        self._server = await loop.create_server(
            lambda: self._protocol(context if self.tls == "starttls" else None),
            self.host,
            0,
            ssl=context if self.tls == "implicit" else None,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.end_sessions()

    @property
    def open_sessions(self) -> int:
        return sum(protocol.transport is not None for protocol in self._protocols)

    async def end_sessions(self) -> None:
        """Close every connection, without a word."""
        while self.open_sessions:
            for protocol in self._protocols:
                if protocol.transport:
                    protocol.transport.close()
            await asyncio.sleep(0.01)

    def _protocol(self, context: ssl.SSLContext | None) -> _Recording:
        self.sessions += 1
        protocol = _Recording(
            self,
            commands=self.commands,
            hostname="mail.test",
            loop=asyncio.get_running_loop(),
            tls_context=context,
            require_starttls=self.tls == "starttls",
            auth_require_tls=self.tls == "starttls",
            authenticator=self._authenticate,
            auth_exclude_mechanism={"PLAIN", "LOGIN", "XOAUTH2"} - set(self.mechanisms),
            enable_SMTPUTF8=self.smtputf8,
            data_size_limit=self.size,
        )
        self._protocols.append(protocol)
        return protocol

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        expected = ((self.username or "").encode(), self.password.encode())
        fits = isinstance(data, LoginPassword) and (data.login, data.password) == expected
        return AuthResult(success=fits, handled=False)  # handled=True would answer nothing at all

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        """Take `user=…^Aauth=Bearer …^A^A`; on a wrong token send the error first, as Google does, then 535."""
        user, bearer, *_ = base64.b64decode(args[1]).decode().split("\x01")
        token = bearer.removeprefix("auth=Bearer ")
        if user == f"user={self.username}" and token in self.tokens:
            return AuthResult(success=True, auth_data=LoginPassword(user.encode(), b""))
        await server.challenge_auth('{"status":"401"}')
        return AuthResult(success=False, handled=False)

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.username and not session.authenticated:
            return "530 5.7.0 Authentication required"
        if isinstance(server, _Recording) and server.mails == self.mails_per_session:
            return "421 4.7.0 too many mails at once"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody"):
            return "550 5.1.1 no such user"
        if address.startswith("busy"):
            return "451 4.7.1 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if isinstance(server, _Recording):
            server.mails += 1
        self.messages.append(
            Received(
                envelope.mail_from or "",
                tuple(envelope.rcpt_tos),
                envelope.original_content or b"",
                bool(session.authenticated),
                session.ssl is not None or self.tls == "implicit",
            )
        )
        return f"250 2.0.0 OK kept as {len(self.messages)}"


class _Recording(SMTP):
    """aiosmtpd's protocol that writes down each command it is given."""

    mails = 0  #: taken since it began

    def __init__(self, handler: MailServer, *, commands: list[str], **options: Any) -> None:
        super().__init__(handler, **options)
        for word, method in self._smtp_methods.items():
            self._smtp_methods[word] = _recorded(word, method, commands)


def _recorded(word: str, method: Callable[..., Awaitable[None]], commands: list[str]) -> Callable[..., Awaitable[None]]:
    async def recorded(argument: str | None) -> None:
        commands.append(word if word == "AUTH" or not argument else f"{word} {argument}")
        await method(argument)

    # aiosmtpd reads the help texts of its commands from their methods
    recorded.__dict__.update(getattr(method, "__dict__", {}))
    return recorded


class FaultServer:
    """A bare SMTP server that does what `mode` says and counts the mails it has taken on.

    Args:
        mode: One of `MODES`.
        offers: Further lines of the answer to EHLO: `DSN`.
        busy: Recipients that are refused for now, the n-th of these sets at the n-th mail.
    """

    def __init__(self, mode: str, *, offers: Sequence[str] = (), busy: Sequence[Collection[str]] = ()) -> None:
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}")
        self.mode = mode
        self.offers = offers
        self._busy = deque(busy)
        self.copies: Counter[str] = Counter()  #: recipient → mails taken on for it
        self._named: list[str] = []
        self._later: Collection[str] = ()
        self.stored: list[bytes] = []  #: what followed DATA, dots as sent
        self.commands: list[str] = []
        self.connections = 0
        self.host = "127.0.0.1"
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FaultServer:
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        if self.mode == "refused":
            self._server.close()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            await self._converse(_Line(reader, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _converse(self, line: _Line) -> None:
        if not await self._greet(line):
            return
        while command := await line.read():
            self.commands.append(command)
            if not await self._answer(line, command.upper()):
                return

    async def _greet(self, line: _Line) -> bool:
        match self.mode:
            case "no-banner":
                await asyncio.sleep(60)
            case "banner-421":
                await line.say("421 4.3.2 busy")
            case "garbage":
                await line.say("HTTP/1.1 400 Bad Request")
            case "banner-drop":
                pass
            case _:
                await line.say("220 fault.test ESMTP")
                return True
        return False

    async def _answer(self, line: _Line, command: str) -> bool:  # noqa: PLR0912 - one case a fault
        """Answer one command; false ends the conversation."""
        word = re.match(r"[A-Z]*", command)[0]  # type: ignore[index]
        if word == "MAIL":
            self._named, self._later = [], self._busy.popleft() if self._busy else ()
        match word, self.mode:
            case "EHLO", _:
                offers = [*self.offers, *(["SIZE 1000"] if self.mode == "size" else [])]
                await line.say("".join(f"250-{offer}\r\n" for offer in ("fault.test", *offers)) + "250 8BITMIME")
            case "MAIL", "mail-451":
                await line.say("451 4.7.1 greylisted try later")
            case "MAIL", "mail-550":
                await line.say("550 5.7.1 no")
            case "RCPT", _ if _address(command) in self._later:
                await line.say("451 4.7.1 try again later")
            case "RCPT", "rcpt-450":
                await line.say("450 4.2.1 greylisted")
            case "RCPT", "rcpt-550":
                await line.say("550 5.1.1 no such user")
            case "RCPT", "rcpt-mixed" if "BAD" in command:
                await line.say("550 5.1.1 no such user")
            case "RCPT", "rcpt-drop":
                return False
            case "DATA", _:
                return await self._data(line)
            case "QUIT", "quit-hang":
                await asyncio.sleep(60)
            case "QUIT", _:
                await line.say("221 bye")
                return False
            case "RCPT", _:
                self._named.append(_address(command))
                await line.say("250 ok")
            case (("MAIL" | "RSET"), _):
                await line.say("250 ok")
            case _:
                await line.say("502 5.5.2 no")
        return True

    async def _data(self, line: _Line) -> bool:
        if self.mode == "data-drop-before":
            return False
        if self.mode == "data-452":
            await line.say("452 4.3.1 full")
            return True
        await line.say("354 go")
        content = b""
        while (part := await line.reader.readline()) != b".\r\n":
            content += part
            if not part or (self.mode == "drop-mid-data" and len(content) > 50):
                line.abort()
                return False
        return await self._taken(line, content)

    async def _taken(self, line: _Line, content: bytes) -> bool:
        match self.mode:
            case "dot-550":
                await line.say("554 5.6.0 spam")
                return True
            case "dot-451":
                await line.say("451 4.3.0 later")
                return True
        self.stored.append(content)
        self.copies.update(self._named)
        match self.mode:
            case "drop-after-dot":
                line.abort()
                return False
            case "hang-after-dot":
                await asyncio.sleep(60)
            case "dot-999":
                await line.say("999 what")
                return True
        await line.say("250 2.0.0 queued as X1")
        if self.mode == "reset-after-250":
            line.abort()
            return False
        return True


def _address(command: str) -> str:
    return command.partition("<")[2].partition(">")[0].lower()


class _Line:
    """One connection, read and written by lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self._writer = reader, writer

    async def read(self) -> str:
        return (await self.reader.readline()).decode("latin-1").strip()

    async def say(self, text: str) -> None:
        self._writer.write(text.encode() + b"\r\n")
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def abort(self) -> None:
        self._writer.transport.abort()

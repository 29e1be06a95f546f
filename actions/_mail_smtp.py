"""Handing a mail to an SMTP server, phase by phase, so that it is known what a fault leaves behind.

Until the final dot has been written no server delivers anything (RFC 5321 §4.1.1.4): a fault before it leaves nothing
behind. After the dot only a reply tells; a fault there leaves the delivery unknown (RFC 1047).

Kinds of errors: `unreachable`, `timeout`, `tls`, `certificate`, `not_smtp`, `authentication`, `insecure`, `refused`,
`recipients_refused`, `too_large`, `smtputf8` (all: nothing was sent) and `delivery_unknown`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Literal, Never

from aiosmtplib import SMTP, SMTPException, SMTPRecipientRefused, SMTPResponse, SMTPResponseException, SMTPTimeoutError
from aiosmtplib.protocol import SMTPProtocol

from weft.sdk import ActionContext, ActionError, Connection, Secret

QUIT_S = 1.0  #: the mail is accepted: a server that does not take leave is left
CHUNK = 2**16
LONGEST_WORDS = 1000  #: of a server; RFC 5321 §4.5.3.1.5 allows 512 octets a line, and refusals have several
MARGIN_S = 0.25  #: before the deadline, to tell what is known rather than be cancelled

Tls = Literal["starttls", "implicit", "none"]
PORTS = {"starttls": 587, "implicit": 465, "none": 25}  # RFC 8314, RFC 5321


@dataclass(frozen=True, slots=True)
class Server:
    """Where and how mail is handed over: what the connection says."""

    host: str
    port: int
    tls: Tls
    username: str | None
    password: Secret | None
    ca_file: str | None
    reply_s: float  #: the longest wait for one reply


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the server is told, and the mail itself."""

    sender: str
    recipients: tuple[str, ...]
    message: bytes
    utf8: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A recipient that the server did not take, and why."""

    address: str
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the server took on."""

    refused: tuple[Refused, ...]
    reply: str


def server(connection: Connection) -> Server:
    """Return what a connection of type `smtp` says."""
    tls: Tls = connection.get("tls", "starttls")
    return Server(
        host=connection.get("host"),
        port=connection.get("port", PORTS[tls]),
        tls=tls,
        username=connection.get("username"),
        password=connection.secret("password"),
        ca_file=connection.get("ca_file"),
        reply_s=connection.get("timeout_s", 60),
    )


async def deliver(where: Server, envelope: Envelope, context: ActionContext) -> Receipt:
    """Hand the mail over and return what became of each recipient.

    The content is written before `point_of_no_return()` and the dot after it, so that a connection which breaks
    meanwhile is still known to have delivered nothing.

    Raises:
        ActionError: `effect` is `unknown` only when the dot was written and no reply has come.
    """
    smtp = SMTP(hostname=where.host, port=where.port, timeout=where.reply_s, local_hostname="localhost")
    try:
        async with _deadline(context):
            await _open(smtp, where)
            refused = await _announce(smtp, envelope)
            await _write(smtp, envelope.message)
        await context.point_of_no_return()
        reply = await _finish(smtp, context)
        await _leave(smtp, context)
    finally:
        _drop(smtp)
    return Receipt(refused, reply)


@contextlib.asynccontextmanager
async def _deadline(context: ActionContext) -> AsyncIterator[None]:
    """Bound everything before the dot by the attempt's deadline."""
    try:
        async with asyncio.timeout(max(0.0, context.remaining_s() - MARGIN_S)):
            yield
    except TimeoutError:
        raise ActionError(
            "The time for this step ran out before the mail was handed over.",
            kind="timeout",
            effect="none",
            retryable=True,
        ) from None


async def _open(smtp: SMTP, where: Server) -> None:
    """Connect, secure the connection and log in."""
    context = await _tls(where)
    with _phase(f"connecting to {where.host}:{where.port}"):
        await smtp.connect(use_tls=where.tls == "implicit", start_tls=False, tls_context=context)
    await _greet(smtp)
    if where.tls == "starttls":
        if not smtp.supports_extension("starttls"):
            raise ActionError(
                f"The server {where.host} does not offer STARTTLS, which the connection requires.",
                kind="tls",
                effect="none",
                retryable=True,
                remedy="Check host and port; somebody on the way may be taking the offer out.",
            )
        with _phase("starting TLS"):
            await smtp.starttls()
        await _greet(smtp)
    if where.username:
        await _log_in(smtp, where, where.username)


async def _tls(where: Server) -> ssl.SSLContext | None:
    if where.tls == "none":
        return None
    try:
        return await asyncio.to_thread(ssl.create_default_context, cafile=where.ca_file)
    except (OSError, ssl.SSLError):
        raise ActionError(
            "The certificates in the connection's `ca_file` cannot be read.",
            kind="certificate",
            effect="none",
            remedy="Give the path of a file in PEM format.",
        ) from None


async def _greet(smtp: SMTP) -> None:
    """Say EHLO with this end's address (RFC 5321 §4.1.3), which tells nothing of the machine's name."""
    with _phase("saying EHLO"):
        address = smtp.get_transport_info("sockname")[0]
        await smtp.ehlo(hostname=f"[IPv6:{address}]" if ":" in address else f"[{address}]")


async def _log_in(smtp: SMTP, where: Server, username: str) -> None:
    """Log in by one mechanism: a second try with the same password only helps to get an account locked."""
    if where.tls == "none":
        with _phase("looking at the connection"):
            peer = smtp.get_transport_info("peername")[0]
        if not _is_this_machine(peer):
            raise ActionError(
                "The connection has a password and `tls: none`; a password is sent in clear to this machine only.",
                kind="insecure",
                effect="none",
                remedy="Set `tls` to starttls or implicit.",
            )
    password = where.password.reveal() if where.password else ""
    with _phase("logging in", kind="authentication", quote=False):
        if "plain" in smtp.server_auth_methods:
            await smtp.auth_plain(username, password)
        elif "login" in smtp.server_auth_methods:
            await smtp.auth_login(username, password)
        elif "cram-md5" in smtp.server_auth_methods:
            await smtp.auth_crammd5(username, password)
        else:
            raise ActionError(
                "The connection has a username, but the server offers none of AUTH PLAIN, LOGIN and CRAM-MD5.",
                kind="authentication",
                effect="none",
            )


def _is_this_machine(address: str) -> bool:
    """Whether what is sent to this address never leaves the machine."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


async def _announce(smtp: SMTP, envelope: Envelope) -> tuple[Refused, ...]:
    """Name sender and recipients, and begin DATA when at least one is taken."""
    options = _options(smtp, envelope)
    encoding = "utf-8" if envelope.utf8 else "ascii"
    with _phase("naming the sender"):
        await smtp.mail(envelope.sender, options=options, encoding=encoding)
    refused = []
    for address in envelope.recipients:
        with _phase("naming a recipient"):
            try:
                await smtp.rcpt(address, encoding=encoding)
            except SMTPRecipientRefused as error:
                refused.append(Refused(address, error.code, _legible(error.message)))
    if len(refused) == len(envelope.recipients):
        _raise_all_refused(refused)
    with _phase("beginning the mail"):
        response = await smtp.execute_command(b"DATA")
        if response.code != 354:
            raise SMTPResponseException(response.code, response.message)
    return tuple(refused)


def _options(smtp: SMTP, envelope: Envelope) -> list[str]:
    size, options = len(envelope.message), []
    if smtp.supports_extension("size"):
        limit = smtp.esmtp_extensions["size"].strip()
        if limit.isdecimal() and 0 < int(limit) < size:
            raise ActionError(
                f"The mail has {size} bytes; the server takes at most {limit}.",
                kind="too_large",
                effect="none",
                remedy="Send fewer or smaller attachments.",
            )
        options.append(f"SIZE={size}")
    if envelope.utf8:
        if not smtp.supports_extension("smtputf8"):
            raise ActionError(
                "An address has letters beyond ASCII before its @; the server does not take such addresses (SMTPUTF8).",
                kind="smtputf8",
                effect="none",
            )
        options += ["BODY=8BITMIME", "SMTPUTF8"]
    return options


async def _write(smtp: SMTP, message: bytes) -> None:
    """Write the content, dots doubled, all of it into the network before this returns; the dot is not among it."""
    content = re.sub(rb"(?m)^\.", b"..", message)
    with _phase("sending the mail"):
        for start in range(0, len(content), CHUNK):
            protocol, transport = _line(smtp)
            protocol.write(content[start : start + CHUNK])
            while transport.get_write_buffer_size():  # only when the server reads slower than we write
                await asyncio.sleep(0.005)
                _line(smtp)


def _line(smtp: SMTP) -> tuple[SMTPProtocol, asyncio.WriteTransport]:
    if smtp.protocol is None or not isinstance(smtp.transport, asyncio.WriteTransport) or smtp.transport.is_closing():
        raise ConnectionResetError
    return smtp.protocol, smtp.transport


async def _finish(smtp: SMTP, context: ActionContext) -> str:
    """Write the final dot and return the server's reply."""
    with _phase("sending the mail"):
        protocol, _ = _line(smtp)
        patience = context.remaining_s() - MARGIN_S
        if patience <= 0:
            raise TimeoutError
        protocol.write(b".\r\n")
    try:
        response = await protocol.read_response(timeout=patience)
    except (SMTPException, OSError):
        _raise_unknown()
    if 200 <= response.code < 300:
        return f"{response.code} {_legible(response.message)}"
    if not 400 <= response.code < 600:
        _raise_unknown()
    raise _refusal("taking the mail", response, kind="refused", quote=True)


async def _leave(smtp: SMTP, context: ActionContext) -> None:
    """Say QUIT; what comes of it changes nothing, for the mail is accepted."""
    patience = min(QUIT_S, context.remaining_s() - MARGIN_S)
    if patience > 0:
        with contextlib.suppress(SMTPException, OSError):
            await smtp.quit(timeout=patience)


def _drop(smtp: SMTP) -> None:
    """Close without waiting for anybody."""
    if isinstance(smtp.transport, asyncio.WriteTransport):
        smtp.transport.abort()
    smtp.close()


@contextlib.contextmanager
def _phase(doing: str, *, kind: str = "refused", quote: bool = True) -> Iterator[None]:
    """Turn what goes wrong in one phase before the dot into an error that says so.

    Args:
        doing: What we were doing, for the message.
        kind: The error's kind when the server says no.
        quote: Whether the server's words may be shown; after a password was sent they may hold it.
    """
    try:
        yield
    except SMTPResponseException as error:
        raise _refusal(doing, SMTPResponse(error.code, error.message), kind=kind, quote=quote) from None
    except (SMTPTimeoutError, TimeoutError):
        raise _failure("timeout", f"The server did not answer in time while we were {doing}.") from None
    except (SMTPException, OSError) as error:
        cause = error if isinstance(error, ssl.SSLError) else error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise ActionError(
                f"The server's certificate does not hold: {_legible(cause.verify_message)}.",
                kind="certificate",
                effect="none",
                remedy="Check the host's name; for an authority of your own, set the connection's `ca_file`.",
            ) from None
        if isinstance(cause, ssl.SSLError):
            raise _failure("tls", f"TLS failed while we were {doing}.") from None
        raise _failure("unreachable", f"The connection failed or broke while we were {doing}.") from None


def _failure(kind: str, message: str) -> ActionError:
    return ActionError(message, kind=kind, effect="none", retryable=True)


def _refusal(doing: str, response: SMTPResponse, *, kind: str, quote: bool) -> ActionError:
    """The error for a server's no: 4xx means later, 5xx means never (RFC 5321 §4.2.1)."""
    if not 200 <= response.code < 600:
        return _failure("not_smtp", f"The other side does not speak SMTP; we were {doing}.")
    said = f'{response.code} "{_legible(response.message)}"' if quote else str(response.code)
    return ActionError(
        f"The server refused while we were {doing}: {said}.",
        kind=kind,
        effect="none",
        retryable=400 <= response.code < 500,
        status=response.code,
        remedy="Check username and password of the connection." if kind == "authentication" else None,
    )


def _raise_all_refused(refused: list[Refused]) -> Never:
    first = refused[0]
    raise ActionError(
        f'The server took none of the {len(refused)} recipients; {first.address}: {first.code} "{first.message}".',
        kind="recipients_refused",
        effect="none",
        retryable=any(item.code < 500 for item in refused),
        status=first.code,
        details={
            "refused": [{"address": item.address, "code": item.code, "message": item.message} for item in refused]
        },
    )


def _raise_unknown() -> Never:
    raise ActionError(
        "The mail was sent whole, but the server did not say whether it took it on. It may have been delivered.",
        kind="delivery_unknown",
        effect="unknown",
        retryable=True,
        remedy="Ask the recipient before sending it by hand; a retry keeps the Message-ID and is marked.",
    ) from None


def _legible(text: str) -> str:
    """A server's words without control characters, on one line; too many are left out, never cut.

    A server may repeat the password. Who masks it later must see all of it: half of one would be told.
    """
    if len(text) > LONGEST_WORDS:
        return f"({len(text):,} characters)"
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+", " ", text).strip()

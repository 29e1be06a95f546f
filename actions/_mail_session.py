"""A session with an SMTP server: connected, encrypted and logged in as the connection says, ready for mails."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, cast

from aiosmtplib import SMTP, SMTPAuthenticationError, SMTPException

from weft.sdk import ActionError, Connection, Secret

from ._mail_faults import phase
from ._mail_token import Grant, access_token, grant, invalid

QUIT_S = 1.0  #: a server that does not take leave is left

Tls = Literal["starttls", "implicit", "none"]
PORTS = {"starttls": 587, "implicit": 465, "none": 25}  # RFC 8314, RFC 5321


@dataclass(frozen=True, slots=True)
class Server:
    """Where and how mail is handed over: what the connection says. Sessions are kept under it."""

    name: str  #: of the connection
    host: str
    port: int
    tls: Tls
    username: str | None
    password: Secret | None
    grant: Grant | None  #: how tokens are got, where the login is by token
    ca_file: str | None
    reply_s: float  #: the longest wait for one reply
    keep_s: float  #: how long a session waits for its next mail
    most_mails: int  #: in one session
    most_sessions: int  #: at the same time


def server(connection: Connection) -> Server:
    """Return what a connection of type `smtp` says.

    Raises:
        ActionError: Its fields do not go together (`invalid_connection`).
    """
    tls: Tls = connection.get("tls", "starttls")
    by_token = connection.get("auth", "password") == "xoauth2"
    if by_token and not connection.get("username"):
        raise invalid(connection, "username")
    return Server(
        name=connection.name,
        host=connection.get("host"),
        port=connection.get("port", PORTS[tls]),
        tls=tls,
        username=connection.get("username"),
        password=connection.secret("password"),
        grant=grant(connection) if by_token else None,
        ca_file=connection.get("ca_file"),
        reply_s=connection.get("timeout_s", 60),
        keep_s=connection.get("keep_open_s", 60),
        most_mails=connection.get("max_messages_per_connection", 100),
        most_sessions=connection.get("max_connections", 4),
    )


def client(where: Server) -> SMTP:
    """Return a client for the server, not yet connected."""
    return SMTP(hostname=where.host, port=where.port, timeout=where.reply_s, local_hostname="localhost")


async def log_on(smtp: SMTP, where: Server) -> None:
    """Connect, secure the connection and log in.

    Raises:
        ActionError: It did not come to that; nothing was sent.
    """
    context = await _tls(where)
    with phase(f"connecting to {where.host}:{where.port}"):
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
        with phase("starting TLS"):
            await smtp.starttls()
        await _greet(smtp)
    if where.username:
        _check_privacy(smtp, where)
        await _log_in(smtp, where, where.username)


async def _tls(where: Server) -> ssl.SSLContext | None:
    if where.tls == "none":
        return None
    try:
        return await asyncio.to_thread(_trusted, where.ca_file)
    except (OSError, ssl.SSLError):
        raise ActionError(
            "The certificates in the connection's `ca_file` cannot be read.",
            kind="certificate",
            effect="none",
            remedy="Give the path of a file in PEM format.",
        ) from None


def _trusted(ca_file: str | None) -> ssl.SSLContext:
    return _trust(ca_file, Path(ca_file).stat().st_mtime_ns if ca_file else 0)


@lru_cache(maxsize=16)
def _trust(ca_file: str | None, changed: int) -> ssl.SSLContext:
    """Return the authorities to trust; reading those of the machine costs more CPU than a mail."""
    return ssl.create_default_context(cafile=ca_file)


async def _greet(smtp: SMTP) -> None:
    """Say EHLO with this end's address (RFC 5321 §4.1.3), which tells nothing of the machine's name."""
    with phase("saying EHLO"):
        address = smtp.get_transport_info("sockname")[0]
        await smtp.ehlo(hostname=f"[IPv6:{address}]" if ":" in address else f"[{address}]")


def _check_privacy(smtp: SMTP, where: Server) -> None:
    """Refuse to log in where everybody on the way could read it."""
    if where.tls != "none":
        return
    with phase("looking at the connection"):
        peer = smtp.get_transport_info("peername")[0]
    if not _is_this_machine(peer):
        raise ActionError(
            "The connection has an account and `tls: none`; credentials are sent in clear to this machine only.",
            kind="insecure",
            effect="none",
            remedy="Set `tls` to starttls or implicit.",
        )


def _is_this_machine(address: str) -> bool:
    """Whether what is sent to this address never leaves the machine."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


async def _log_in(smtp: SMTP, where: Server, username: str) -> None:
    """Log in by one mechanism: a second try with the same password only helps to get an account locked."""
    offered = smtp.server_auth_methods
    if where.grant is not None:
        _check_offer("xoauth2" in offered, "XOAUTH2")
        await _log_in_by_token(smtp, where.grant, username)
        return
    _check_offer("plain" in offered or "login" in offered, "PLAIN and LOGIN")
    password = where.password.reveal() if where.password else ""
    with phase("logging in", kind="authentication", quote=False):
        await (smtp.auth_plain if "plain" in offered else smtp.auth_login)(username, password)


def _check_offer(found: bool, wanted: str) -> None:
    if not found:
        raise ActionError(
            f"The connection has a username, but the server offers none of AUTH {wanted}.",
            kind="authentication",
            effect="none",
            remedy="Correct `auth` of the connection, or leave `username` out.",
        )


async def _log_in_by_token(smtp: SMTP, how: Grant, username: str) -> None:
    """Log in with an access token; one that was kept and is not taken any more is replaced once."""
    token, kept = await access_token(how)
    with phase("logging in", kind="authentication", quote=False):
        try:
            await smtp.auth_xoauth2(username, token.reveal())
        except SMTPAuthenticationError as error:
            if not kept or error.code < 500:
                raise
        else:
            return
    token, _ = await access_token(how, instead_of=token)
    with phase("logging in", kind="authentication", quote=False):
        await smtp.auth_xoauth2(username, token.reveal())


async def leave(smtp: SMTP, patience_s: float = QUIT_S) -> None:
    """Say QUIT; what comes of it changes nothing."""
    with contextlib.suppress(SMTPException, OSError):
        await smtp.quit(timeout=patience_s)


def drop(smtp: SMTP) -> None:
    """Close without waiting for anybody."""
    if smtp.transport is not None:
        cast(asyncio.WriteTransport, smtp.transport).abort()  # uvloop's is none by its class
    smtp.close()

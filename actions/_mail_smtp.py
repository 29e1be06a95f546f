"""Handing a mail to an SMTP server, phase by phase, so that it is known what a fault leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, cast

from aiosmtplib import SMTP, SMTPException, SMTPRecipientRefused, SMTPResponseException
from aiosmtplib.protocol import SMTPProtocol

from weft.sdk import ActionContext, ActionError

from ._mail_faults import legible, phase, raise_unknown, refusal
from ._mail_pool import Lease, has_ended
from ._mail_session import QUIT_S, Server

CHUNK = 2**16
SETTLE_S = 0.001  #: before the dot: a server that has just gone is seen to have gone, and the mail known to be unsent
MARGIN_S = 0.25  #: before the deadline, to tell what is known rather than be cancelled

Report = Literal["success", "delay", "failure"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the server is told, and the mail itself."""

    sender: str
    recipients: tuple[str, ...]
    message: bytes
    utf8: bool = False
    reports: tuple[Report, ...] | None = None  #: which the sender wants by mail; None: as the servers like it
    id: str = ""  #: by which the sender knows a report again


@dataclass(frozen=True, slots=True)
class Refused:
    """A recipient that the server did not take, and why."""

    address: str
    code: int
    message: str

    @property
    def for_good(self) -> bool:
        return self.code >= 500


class Handover:
    """One try to hand a mail over; what it has learnt stays known when it fails."""

    def __init__(self, where: Server, envelope: Envelope, context: ActionContext) -> None:
        self.refused: list[Refused] = []
        self.reports = False  #: the server was asked for reports
        self._lease = Lease(where)
        self._envelope = envelope
        self._context = context

    async def run(self) -> str | None:
        """Hand the mail over and return the server's reply; None when it has refused all recipients.

        The content is written before `point_of_no_return()` and the dot after it, so that a connection which breaks
        meanwhile is still known to have delivered nothing.

        Raises:
            ActionError: `effect` is `unknown` only when the dot was written and no reply has come.
        """
        carried = False
        try:
            async with self._deadline():
                begun = await self._begin()
                if begun:
                    await _write(self._lease.smtp, self._envelope.message)
            if not begun:
                return None
            await self._context.point_of_no_return()
            reply = await self._finish()
            carried = True
            return reply
        finally:
            patience_s = min(QUIT_S, self._context.remaining_s() - MARGIN_S)
            await self._lease.end(carried=carried, patience_s=patience_s)

    @contextlib.asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """Bound everything before the dot by the attempt's deadline."""
        try:
            async with asyncio.timeout(max(0.0, self._context.remaining_s() - MARGIN_S)):
                yield
        except TimeoutError:
            raise ActionError(
                "The time for this step ran out before the mail was handed over.",
                kind="timeout",
                effect="none",
                retryable=True,
            ) from None

    async def _begin(self) -> bool:
        """Come to where the content is asked for; false when no recipient is taken."""
        await self._lease.begin()
        try:
            return await self._announce(self._lease.smtp)
        except ActionError as error:
            if not (self._lease.waited and has_ended(error)):
                raise
        await self._lease.renew()
        return await self._announce(self._lease.smtp)

    async def _announce(self, smtp: SMTP) -> bool:
        """Name sender and recipients, and begin DATA when at least one is taken."""
        envelope = self._envelope
        self.refused.clear()
        self.reports = envelope.reports is not None and smtp.supports_extension("dsn")
        encoding = "utf-8" if envelope.utf8 else "ascii"
        with phase("naming the sender"):
            await smtp.mail(envelope.sender, options=self._options(smtp), encoding=encoding)
        notify = [f"NOTIFY={','.join(envelope.reports or ()).upper() or 'NEVER'}"] if self.reports else None
        for address in envelope.recipients:
            with phase("naming a recipient"):
                try:
                    await smtp.rcpt(address, options=notify, encoding=encoding)
                except SMTPRecipientRefused as error:
                    if error.code == 421 or not 400 <= error.code < 600:  # said of the session, or nonsense
                        raise
                    self.refused.append(Refused(address, error.code, legible(error.message)))
        if len(self.refused) == len(envelope.recipients):
            return False
        with phase("beginning the mail"):
            response = await smtp.execute_command(b"DATA")
            if response.code != 354:
                raise SMTPResponseException(response.code, response.message)
        return True

    def _options(self, smtp: SMTP) -> list[str]:
        envelope = self._envelope
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
        if self.reports:  # RFC 3461 §4.3, §4.4: of a mail that failed the headers say enough
            options += ["RET=HDRS", f"ENVID={_xtext(envelope.id)}"]
        if envelope.utf8:
            if not smtp.supports_extension("smtputf8"):
                raise ActionError(
                    "An address has letters beyond ASCII before its @; the server does not take such addresses"
                    " (SMTPUTF8).",
                    kind="smtputf8",
                    effect="none",
                )
            options += ["BODY=8BITMIME", "SMTPUTF8"]
        return options

    async def _finish(self) -> str:
        """Write the final dot and return the server's reply."""
        await asyncio.sleep(SETTLE_S)
        with phase("sending the mail"):
            protocol, _ = _line(self._lease.smtp)
            patience = self._context.remaining_s() - MARGIN_S
            if patience <= 0:
                raise TimeoutError
            protocol.write(b".\r\n")
            _line(self._lease.smtp)  # closed by now: this machine's own network has refused the dot
        try:
            response = await protocol.read_response(timeout=patience)
        except (SMTPException, OSError):
            raise_unknown()
        if 200 <= response.code < 300:
            return f"{response.code} {legible(response.message)}"
        if not 400 <= response.code < 600:
            raise_unknown()
        raise refusal("taking the mail", response)


async def _write(smtp: SMTP, message: bytes) -> None:
    """Write the content, dots doubled, all of it into the network before this returns; the dot is not among it."""
    content = re.sub(rb"(?m)^\.", b"..", message)
    with phase("sending the mail"):
        for start in range(0, len(content), CHUNK):
            protocol, transport = _line(smtp)
            protocol.write(content[start : start + CHUNK])
            while transport.get_write_buffer_size():  # only when the server reads slower than we write
                await asyncio.sleep(0.005)
                _line(smtp)


def _line(smtp: SMTP) -> tuple[SMTPProtocol, asyncio.WriteTransport]:
    if smtp.protocol is None or smtp.transport is None or smtp.transport.is_closing():
        raise ConnectionResetError
    return smtp.protocol, cast(asyncio.WriteTransport, smtp.transport)  # uvloop's is none by its class


def _xtext(text: str) -> str:
    """Return `text` as a parameter of SMTP may be written (RFC 3461 §4)."""
    return re.sub(r"[^!-*,-<>-~]", lambda found: f"+{ord(found[0]):02X}", text)[:100]

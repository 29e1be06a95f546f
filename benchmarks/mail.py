"""How many mails a second Send Email hands over, with and without kept sessions, beside bare aiosmtplib.

    python benchmarks/mail.py [MAILS]

The server is aiosmtpd in a process of its own: without TLS, and with STARTTLS and a login. Every line gives mails per
second of time and CPU milliseconds of this process per mail; the last lines give the ratios.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib

from weft.sdk import ActionContext, Connection, Secret

ROOT = Path(__file__).parents[1]
AT_ONCE = 8
TEXT = "Good morning,\n\nhere are this week's figures.\n" * 20

Send = Callable[[int], Coroutine[Any, Any, None]]


async def serve(tls: str, authority: Path) -> None:
    """Be the server: say the port, then take mails until the end."""
    sys.path.insert(0, str(ROOT / "tests"))
    from weft.testing.mail_server import MailServer

    async with MailServer(tls="starttls" if tls == "starttls" else "none", username="u", password="p") as server:
        server.authority.cert_pem.write_to_path(str(authority))
        print(server.port, flush=True)
        await asyncio.sleep(3600)


class Bench:
    """The ways of sending to one server."""

    def __init__(self, port: int, tls: str, authority: Path) -> None:
        self._send_email = importlib.import_module("weft_core.actions.send_email")
        self._port, self._tls, self._authority = port, tls, authority

    def ours(self, **values: Any) -> Send:
        given = {
            "host": "127.0.0.1",
            "port": self._port,
            "tls": self._tls,
            "ca_file": str(self._authority),
            "username": "u",
            "password": Secret("p"),
            "from": "weft@example.com",
            **values,
        }
        connection = Connection("mail", "smtp", given)

        async def send(number: int) -> None:
            context = ActionContext(
                run_id="r",
                path="/mail",
                attempt=1,
                started_at=datetime.now(UTC),
                idempotency_key=f"{number}/mail",
                deadline=time.monotonic() + 60,
                connection=connection,
            )
            arguments = self._send_email.Arguments(to="ada@example.com", subject=f"mail {number}", body=TEXT)
            await self._send_email.send_email(arguments, context)

        return send

    def _options(self) -> dict[str, Any]:
        trust = ssl.create_default_context(cafile=str(self._authority)) if self._tls != "none" else None
        tls = {"start_tls": True, "tls_context": trust} if trust else {"start_tls": False}
        return {"hostname": "127.0.0.1", "port": self._port, "username": "u", "password": "p", **tls}

    def bare(self) -> Send:
        options = self._options()

        async def send(number: int) -> None:
            await aiosmtplib.send(_message(number), **options)

        return send

    async def bare_kept(self, mails: int, at_once: int) -> None:
        async def work(numbers: range) -> None:
            async with aiosmtplib.SMTP(**self._options()) as smtp:
                for number in numbers:
                    await smtp.send_message(_message(number))

        await asyncio.gather(*(work(range(at, mails, at_once)) for at in range(at_once)))


def _message(number: int) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "weft@example.com", "ada@example.com", f"mail {number}"
    message.set_content(TEXT)
    return message


async def many(send: Send, mails: int, at_once: int) -> None:
    """Send `mails` mails, so many at once."""

    async def work(numbers: range) -> None:
        for number in numbers:
            await send(number)

    await asyncio.gather(*(work(range(at, mails, at_once)) for at in range(at_once)))


def measure(what: str, mails: int, work: Send) -> tuple[float, float]:
    asyncio.run(work(AT_ONCE))  # imports, keys, caches
    cpu, clock = time.process_time(), time.perf_counter()
    asyncio.run(work(mails))
    per_second = mails / (time.perf_counter() - clock)
    per_mail_ms = (time.process_time() - cpu) * 1000 / mails
    print(f"  {what:46} {per_second:7.0f} mails/s {per_mail_ms:7.2f} CPU ms a mail", flush=True)
    return per_second, per_mail_ms


def compare(mails: int, tls: str) -> None:
    authority = Path(tempfile.mkdtemp()) / "ca.pem"
    command = [sys.executable, __file__, "--serve", tls, str(authority)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        bench = Bench(int(server.stdout.readline()), tls, authority)
        print("STARTTLS and a login" if tls == "starttls" else "without TLS, with a login")
        alone, kept = bench.ours(keep_open_s=0), bench.ours()
        side = bench.ours(max_connections=AT_ONCE)
        each = measure("Send Email, a connection each", mails, lambda n: many(alone, n, 1))
        one = measure("Send Email, kept, one after the other", mails, lambda n: many(kept, n, 1))
        eight = measure(f"Send Email, kept, {AT_ONCE} at once", mails, lambda n: many(side, n, AT_ONCE))
        bare_each = measure("aiosmtplib.send, a connection each", mails, lambda n: many(bench.bare(), n, 1))
        measure("aiosmtplib, one connection kept", mails, lambda n: bench.bare_kept(n, 1))
        bare = measure(f"aiosmtplib, {AT_ONCE} connections kept", mails, lambda n: bench.bare_kept(n, AT_ONCE))
        server.terminate()
    print(
        f"  kept sessions: x {one[0] / each[0]:.1f} one after the other, x {eight[0] / each[0]:.1f} {AT_ONCE} at once;"
        f" CPU a mail beside bare aiosmtplib: {eight[1] - bare[1]:+.2f} ms kept, {each[1] - bare_each[1]:+.2f} ms each\n"
    )


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve(sys.argv[2], Path(sys.argv[3])))
        return
    mails = int(sys.argv[1]) if sys.argv[1:] else 400
    for tls in ("none", "starttls"):
        compare(mails, tls)


if __name__ == "__main__":
    main()

"""The outbox in a database: the process that sends takes the mail, and any other shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING

import aiosmtplib
import pytest
from click.testing import CliRunner

from weft.cli import outbox as cli
from weft.cli.state import State
from weft.embedded.outbox import Outbox, outbox_at
from weft.errors import NotFound, StateUnavailable

if TYPE_CHECKING:
    from servers.postgres import Postgres


@pytest.fixture
def address(postgres_server: Postgres) -> str:
    return postgres_server.database()


@pytest.fixture
async def outbox(address: str, tmp_path: Path) -> AsyncIterator[Outbox]:
    box = outbox_at(tmp_path / "mail", address)
    await box.start()
    yield box
    await box.stop()


async def send(box: Outbox, subject: str, body: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ada@example.com", "b@example.com", subject
    message.set_content(body)
    connection = await box.connection()
    secret = connection.secret("password")
    assert secret is not None
    await aiosmtplib.send(
        message,
        recipients=["b@example.com", "hidden@example.com"],
        hostname=connection.get("host"),
        port=connection.get("port"),
        username=connection.get("username"),
        password=secret.reveal(),
        timeout=30,
    )


async def test_mails_are_read_by_every_process(outbox: Outbox, address: str, tmp_path: Path) -> None:
    """In the order in which they came, with who they were for; nothing is written into the home."""
    await send(outbox, "Grüße 😀", "first\n")
    await send(outbox, "large", "x" * 70 + "\n" + "line of text\n" * 300_000)
    other = outbox_at(tmp_path / "elsewhere", address)
    first, second = other.messages()

    assert (first.number, first.subject, second.subject) == (1, "Grüße 😀", "large")
    assert first.to == ("b@example.com", "hidden@example.com")
    assert other.message(1).text == "first\n"
    assert other.message(first.id).raw == outbox.message(1).raw
    assert second.size == len(other.message(2).raw) > 3_900_000
    assert not (tmp_path / "mail").exists()
    with pytest.raises(NotFound):
        other.message(3)


async def test_a_mail_is_taken_only_when_it_is_kept(outbox: Outbox) -> None:
    """While the database is away the answer is 452, so that the sender tries again."""
    outbox._database._address = "postgresql://127.0.0.1:1/x?connect_timeout=1"  # type: ignore[attr-defined]
    with pytest.raises(aiosmtplib.SMTPDataError) as refused:
        await send(outbox, "lost?", "text\n")

    assert refused.value.code == 452


async def test_a_place_that_cannot_be_used_is_told_before_the_first_mail(tmp_path: Path) -> None:
    """Starting looks at the database."""
    with pytest.raises(StateUnavailable):
        await outbox_at(tmp_path, "postgresql://127.0.0.1:1/x?connect_timeout=1").start()


async def test_the_command_reads_the_database(
    outbox: Outbox, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`weft outbox` lists and shows what any process has kept."""
    await send(outbox, "Report", "all is well\n")
    monkeypatch.setenv("WEFT_DATABASE_URL", address)

    def call(*words: str) -> str:
        return CliRunner().invoke(cli.command, words, obj=State(home=tmp_path / "home")).output

    assert "Report" in call("list")
    assert "all is well" in call("show", "1")
    assert "Subject: Report" in call("show", "--raw")

"""Send Email, against real SMTP servers on loopback."""

from __future__ import annotations

import asyncio
import base64
import importlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from weft.embedded.outbox import Outbox
from weft.sdk import ActionContext, ActionError, Attempt, Connection, JsonObject, Secret, Variant
from weft.testing.mail_server import MODES, FaultServer, MailServer

send_email = importlib.import_module("weft_core.actions.send_email")
session = importlib.import_module("weft_core.actions._mail_session")
faults = importlib.import_module("weft_core.actions._mail_faults")

MANIFESTS = Path(__file__).parents[2] / "manifests"
BASIC = {"to": "ada@example.com", "subject": "Hello", "body": "Good morning."}


class Kept:
    """Artifacts of a run that holds one file."""

    async def save(self, content: bytes, *, name: str, content_type: str) -> JsonObject:
        raise NotImplementedError

    async def read(self, artifact: str) -> bytes:
        return {"sha256:1": b"%PDF-1.7 figures"}[artifact]


def connection(server: MailServer | FaultServer, **values: Any) -> Connection:
    given = {"host": server.host, "port": server.port, "tls": "none", "from": "Weft <weft@example.com>", **values}
    return Connection("mail", "smtp", given)


def context(where: Connection | None, *, seconds: float = 20, **more: Any) -> ActionContext:
    facts = {
        "run_id": "r1",
        "path": "/mail",
        "attempt": 1,
        "started_at": datetime(2026, 11, 22, tzinfo=UTC),
        "idempotency_key": "r1/mail",
        "deadline": time.monotonic() + seconds,
        "connection": where,
        "artifacts": Kept(),
        **more,
    }
    return ActionContext(**facts)


async def send(
    server: MailServer | FaultServer | Connection, arguments: Mapping[str, Any] = {}, **more: Any
) -> JsonObject:
    where = server if isinstance(server, Connection) else connection(server)
    parsed = send_email.Arguments.model_validate({**BASIC, **arguments})
    output: JsonObject = await send_email.send_email(parsed, context(where, **more))
    return output


async def test_sends_a_text_to_everybody() -> None:
    """To and Cc stand in the mail, Bcc only in the envelope, and each recipient gets it once."""
    async with MailServer() as server:
        output = await send(
            server,
            {
                "to": ["Ada <ada@example.com>", "grace@example.com"],
                "cc": "ADA@example.com",
                "bcc": ["hidden@example.com", "grace@EXAMPLE.com"],
                "reply_to": "team@example.com",
            },
        )

    [mail] = server.messages
    message = mail.parsed()
    assert mail.sender == "weft@example.com"
    assert mail.recipients == ("ada@example.com", "grace@example.com", "hidden@example.com")
    assert b"hidden" not in mail.content
    assert message["From"] == "Weft <weft@example.com>"
    assert message["To"] == "Ada <ada@example.com>, grace@example.com"
    assert message["Cc"] is None
    assert message["Reply-To"] == "team@example.com"
    assert message.get_content_type() == "text/plain"
    assert mail.text() == "Good morning.\n"
    assert abs(parsedate_to_datetime(message["Date"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert output["accepted"] == list(mail.recipients)
    assert output == {
        **output,
        "state": "sent",
        "refused": [],
        "message_id": message["Message-ID"],
        "server_reply": "250 2.0.0 OK kept as 1",
        "size_bytes": len(mail.content),
        "possible_repeat": False,
    }


async def test_output_is_what_the_manifest_declares() -> None:
    """What the action returns satisfies the schema that later steps are checked against."""
    import jsonschema

    schema = yaml.safe_load((MANIFESTS / "send_email.yaml").read_text())["output"]
    async with MailServer() as server:
        output = await send(server, {"to": ["ada@example.com", "nobody@example.com"]})

    jsonschema.Draft202012Validator(schema["schema"]).validate(output)
    jsonschema.Draft202012Validator(schema["schema"]).validate(schema["example"])
    assert set(output) == set(schema["example"])


async def test_headers_of_a_mail_that_uses_all_of_them() -> None:
    """Priority, ids and the author's own headers stand in the mail as given."""
    async with MailServer() as server:
        await send(
            server,
            {
                "headers": {"X-Campaign": "weekly", "List-Unsubscribe": "<mailto:out@example.com>", "X-Note": "Grüße"},
                "priority": "high",
                "message_id": "report-47@example.com",
                "in_reply_to": "<question-12@example.com>",
            },
        )

    message = server.messages[0].parsed()
    assert message["X-Campaign"] == "weekly"
    assert message["List-Unsubscribe"] == "<mailto:out@example.com>"
    assert message["X-Note"] == "Grüße"
    assert (message["Importance"], message["X-Priority"]) == ("high", "1")
    assert message["Message-ID"] == "<report-47@example.com>"
    assert message["In-Reply-To"] == message["References"] == "<question-12@example.com>"


async def test_every_attempt_has_the_same_message_id() -> None:
    """An attempt after one that may have arrived keeps the Message-ID and is marked as a possible repeat."""
    async with MailServer() as server:
        first = await send(server)
        second = await send(server, attempt=3, repeated=True)
        other = await send(server, idempotency_key="r2/mail")

    assert first["message_id"] == second["message_id"] != other["message_id"]
    assert str(first["message_id"]).endswith("@example.com>")
    assert [mail.parsed()["Weft-Possible-Repeat"] for mail in server.messages] == [None, "3", None]
    assert (first["possible_repeat"], second["possible_repeat"]) == (False, True)


async def test_markdown_is_sent_as_text_and_as_html() -> None:
    """The source is the text, its tables aligned; the HTML has tables and inline styles."""
    source = "# Report\n\n| a   |     b |\n|-----|------:|\n| 1   | ~~2~~ |\n"
    async with MailServer() as server:
        await send(server, {"body": source, "format": "markdown"})

    message = server.messages[0].parsed()
    html = server.messages[0].text("html")
    assert message.get_content_type() == "multipart/alternative"
    assert server.messages[0].text("plain") == source
    assert '<td style="border: 1px solid #d0d7de; padding: 6px 10px; text-align: right"><s>2</s></td>' in html
    assert "<style" not in html


async def test_html_is_sent_with_a_text_made_from_it() -> None:
    """A reader without HTML gets paragraphs, items and the addresses behind links."""
    source = (
        '<h1>Report</h1><p>See <a href="https://example.com/a">it</a>.</p><ul><li>one<li><p>two</ul><script>x</script>'
    )
    async with MailServer() as server:
        await send(server, {"body": source, "format": "html"})

    assert server.messages[0].text("plain") == "Report\n\nSee it <https://example.com/a>.\n\n- one\n- two\n"
    assert "script" not in server.messages[0].text("html")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".\n..\n.dot",
        "x" * 5000,
        "プレーン " * 200,
        "From here\nFrom there",
        "a\x00b\x0cc\x1b[31m",
        "tab\there ",
        "--===\n--",
    ],
)
async def test_any_text_arrives(text: str) -> None:
    """Dots, long lines, other scripts and control characters come out as they went in, in lines that SMTP may carry."""
    async with MailServer(smtputf8=False) as server:
        await send(server, {"body": text})

    [mail] = server.messages
    assert mail.content.isascii()
    assert max(map(len, mail.content.split(b"\r\n"))) <= 998
    assert mail.text().rstrip("\n") == text.rstrip("\n")


async def test_attachments_come_from_text_base64_and_the_run() -> None:
    """Each source arrives byte by byte under its name and type."""
    files = [
        {"filename": "figures.csv", "content": "week,größe\n47,112\n"},
        {"filename": "über/../etc\\passwd?.bin", "content_base64": base64.b64encode(bytes(range(256))).decode()},
        {"filename": "report.pdf", "artifact": "sha256:1"},
        {"filename": "note", "content": "plain", "content_type": "text/x-note"},
    ]
    async with MailServer() as server:
        await send(server, {"attachments": files})

    message = server.messages[0].parsed()
    parts = [
        (part.get_filename(), part.get_content_type(), part.get_payload(decode=True))
        for part in message.iter_attachments()
    ]
    assert server.messages[0].text("plain") == "Good morning.\n"
    assert parts == [
        ("figures.csv", "text/csv", "week,größe\n47,112\n".encode()),
        ("über_.._etc_passwd_.bin", "application/octet-stream", bytes(range(256))),
        ("report.pdf", "application/pdf", b"%PDF-1.7 figures"),
        ("note", "text/x-note", b"plain"),
    ]
    assert next(message.iter_attachments()).get_content_charset() == "utf-8"


async def test_a_file_of_a_run_that_keeps_none_is_an_error() -> None:
    """Without artifacts an attachment from one is refused, and nothing is sent."""
    async with MailServer() as server:
        error = await failure(server, {"attachments": [{"filename": "a.pdf", "artifact": "sha256:1"}]}, artifacts=None)

    assert (error.kind, error.problem.where.field) == ("invalid_attachment", "attachments[0].artifact")
    assert server.commands == []


async def test_a_picture_is_shown_from_the_mail_itself() -> None:
    """An attachment with a content id belongs to the HTML that shows it."""
    picture = {"filename": "logo.png", "content_base64": "aGk=", "content_id": "logo"}
    async with MailServer() as server:
        await send(server, {"body": "![our logo](cid:logo)", "format": "markdown", "attachments": [picture]})

    message = server.messages[0].parsed()
    kinds = [part.get_content_type() for part in message.walk()]
    assert kinds == ["multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png"]
    assert list(message.walk())[-1]["Content-ID"] == "<logo>"
    assert '<img src="cid:logo" alt="our logo">' in server.messages[0].text("html")


async def test_works_with_the_outbox(tmp_path: Path) -> None:
    """The outbox's connection needs nothing beside itself."""
    outbox = Outbox(tmp_path)
    await send(await outbox.connection(), {"from": "anybody@example.org"})
    await outbox.stop()

    opened = outbox.message(1)
    assert opened.text == "Good morning.\n"
    assert (opened.kept.sender, opened.kept.to) == ("anybody@example.org", ("ada@example.com",))


# Connections


@pytest.mark.parametrize("mechanisms", [("PLAIN", "LOGIN"), ("PLAIN",), ("LOGIN",)])
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_encrypts_and_logs_in(tls: Any, mechanisms: tuple[str, ...], tmp_path: Path) -> None:
    """With STARTTLS and with TLS from the first byte the certificate is checked and the account used."""
    async with MailServer(tls=tls, username="u", password="p", mechanisms=mechanisms) as server:
        server.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        where = connection(server, tls=tls, ca_file=str(tmp_path / "ca.pem"), username="u", password=Secret("p"))
        await send(where)

    [mail] = server.messages
    assert mail.encrypted
    assert mail.authenticated
    clear = server.commands[: server.commands.index("STARTTLS")] if tls == "starttls" else []
    assert not [command for command in clear if not command.startswith("EHLO")]


async def failure(
    server: MailServer | FaultServer | Connection, arguments: Mapping[str, Any] = {}, **more: Any
) -> ActionError:
    with pytest.raises(ActionError) as caught:
        await send(server, arguments, **more)
    return caught.value


async def test_a_certificate_that_does_not_hold_is_never_retried(tmp_path: Path) -> None:
    """Neither a stranger's certificate nor one for another name is accepted, with STARTTLS or without."""
    async with MailServer(tls="starttls") as one, MailServer(tls="implicit", certified_for=("other.test",)) as two:
        two.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        strange = await failure(connection(one, tls="starttls"))
        wrong = await failure(connection(two, tls="implicit", ca_file=str(tmp_path / "ca.pem")))

    for error in (strange, wrong):
        assert (error.kind, error.effect, error.retryable) == ("certificate", "none", False)
    assert one.messages == two.messages == []


async def test_tls_is_not_given_up_when_the_offer_is_missing() -> None:
    """A server, or somebody on the way, that takes STARTTLS out of the offer gets no mail."""
    async with FaultServer("starttls-strip") as server:
        error = await failure(connection(server, tls="starttls"))

    assert (error.kind, error.effect, error.retryable) == ("tls", "none", True)
    assert not any(command.startswith("MAIL") for command in server.commands)


async def test_what_is_no_tls_is_told_as_that() -> None:
    """A port without TLS, asked for it from the first byte, is named as such."""
    async with FaultServer("ok") as server:
        error = await failure(connection(server, tls="implicit"))

    assert (error.kind, error.effect, error.retryable) == ("tls", "none", True)


@pytest.mark.parametrize(
    ("answer", "kind", "status"), [("421 4.3.0 bye", "refused", 421), ("999 what", "not_smtp", None)]
)
async def test_an_end_at_a_recipient_is_not_about_the_recipient(answer: str, kind: str, status: int | None) -> None:
    """A server that takes leave or talks nonsense when it hears a name has not refused that name."""

    class Ending(FaultServer):
        async def _answer(self, line: Any, command: str) -> bool:
            if command.startswith("RCPT TO:<GRACE"):
                await line.say(answer)
                return False
            return await super()._answer(line, command)

    async with Ending("ok") as server:
        error = await failure(server, {"to": ["ada@example.com", "grace@example.com"]})

    assert (error.kind, error.status, error.effect, error.retryable) == (kind, status, "none", True)
    assert "recipients" not in error.details
    assert server.stored == []


async def test_a_wrong_password_is_an_error_that_does_not_show_it() -> None:
    """One login is tried, by one mechanism, and the error has neither the password nor the server's words."""
    async with MailServer(username="u", password="right") as server:
        error = await failure(connection(server, username="u", password=Secret("wrong-password")))

    assert (error.kind, error.effect, error.retryable, error.status) == ("authentication", "none", False, 535)
    assert "wrong-password" not in str(error)
    assert "credentials invalid" not in str(error)
    assert server.commands.count("AUTH") == 1


async def test_a_username_is_never_left_unused() -> None:
    """A server that offers no login gets no mail from a connection that has a username."""
    async with FaultServer("ok") as server:
        error = await failure(connection(server, username="u", password=Secret("p")))

    assert (error.kind, error.effect) == ("authentication", "none")


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("192.168.1.9", False),
        ("203.0.113.7", False),
        ("fe80::1%eth0", False),
        ("2001:db8::1", False),
    ],
)
def test_addresses_of_this_machine(address: str, here: bool) -> None:
    """Only loopback's addresses count as this machine; those of its own network do not."""
    assert session._is_this_machine(address) is here


async def test_a_password_goes_in_clear_to_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS no login is tried with a server elsewhere, told by the address that was connected to."""
    asked: list[str] = []

    def elsewhere(address: str) -> bool:  # the one rule replaced: many a machine has no address but loopback's
        asked.append(address)
        return False

    monkeypatch.setattr(session, "_is_this_machine", elsewhere)
    async with MailServer(username="u", password="p") as server:
        error = await failure(connection(server, host="localhost", username="u", password=Secret("p")))

    assert asked == ["127.0.0.1"]
    assert (error.kind, error.effect, error.retryable) == ("insecure", "none", False)
    assert "AUTH" not in server.commands


async def test_needs_a_connection() -> None:
    """Without a connection the step fails before anything else."""
    with pytest.raises(ActionError, match="needs a connection"):
        await send_email.send_email(send_email.Arguments(**BASIC), context(None))


async def test_a_ca_file_that_cannot_be_read_is_named() -> None:
    """A wrong path is told apart from a wrong certificate's chain."""
    async with MailServer(tls="implicit") as server:
        error = await failure(connection(server, tls="implicit", ca_file="/nonexistent.pem"))

    assert error.kind == "certificate"
    assert "ca_file" in str(error)


# Who may send to whom


@pytest.mark.parametrize(
    ("sender", "allowed"),
    [
        ("weft@EXAMPLE.com", True),
        ("Sales <weft@example.com>", True),
        ("sales@example.com", True),
        ("anyone@news.example.org", True),
        ("anyone@deep.sub.example.net", True),
        ("anyone@example.net", False),
        ("anyone@evilnews.example.org", False),
        ("boss@example.com", False),
        ("weft@example.com.evil.test", False),
        ("anyone@xn--exmple-cua.org", True),
        ("anyone@EXÄMPLE.org", True),
        ("Boss@Example.NET", True),
    ],
)
async def test_a_step_sends_only_as_the_connection_allows(sender: str, allowed: bool) -> None:
    """The connection's own address, and those that its `allow_from` covers, may be the sender."""
    async with MailServer() as server:
        where = connection(
            server,
            allow_from=[
                "sales@example.com",
                "news.example.org",
                "*.example.net",
                "Exämple.org",
                "boss@example.NET",
                "-",
            ],
        )
        if allowed:
            await send(where, {"from": sender})
        else:
            error = await failure(where, {"from": sender})
            assert (error.kind, error.effect) == ("sender_not_allowed", "none")

    assert len(server.messages) == allowed


async def test_without_a_sender_nothing_is_sent() -> None:
    """A connection without `from` needs a step with one."""
    async with MailServer() as server:
        error = await failure(connection(server, **{"from": None}))

    assert error.problem.where.field == "from"


async def test_mail_goes_only_to_allowed_domains() -> None:
    """One recipient outside the connection's list, wherever he stands, stops the mail."""
    async with MailServer() as server:
        where = connection(server, allowed_recipient_domains=["example.com", "*.example.com"])
        await send(where, {"to": ["ada@example.com", "grace@eu.example.com"]})
        errors = [await failure(where, {name: "eve@evil.test"}) for name in ("to", "cc", "bcc")]

    assert {(error.kind, error.effect) for error in errors} == {("recipient_not_allowed", "none")}
    assert len(server.messages) == 1


# Faults, phase by phase


async def test_recipients_that_are_refused_are_named() -> None:
    """The others get the mail, and the output says who did not, and why."""
    async with MailServer() as server:
        output = await send(server, {"to": ["ada@example.com", "nobody@example.com"], "cc": "busy@example.com"})

    assert server.messages[0].recipients == ("ada@example.com",)
    assert output["state"] == "partly_refused"
    assert output["accepted"] == ["ada@example.com"]
    assert output["refused"] == [
        {"address": "nobody@example.com", "code": 550, "message": "5.1.1 no such user"},
        {"address": "busy@example.com", "code": 451, "message": "4.7.1 try again later"},
    ]


NONE = ("none", True)
EXPECTED: dict[str, tuple[str, str, bool, int] | None] = {
    # mode: kind, effect, retryable, mails that the server took on; or None where the mail is sent
    "ok": None,
    "refused": ("unreachable", *NONE, 0),
    "no-banner": ("timeout", *NONE, 0),
    "banner-421": ("refused", *NONE, 0),
    "banner-drop": ("unreachable", *NONE, 0),
    "garbage": ("not_smtp", *NONE, 0),
    "starttls-strip": None,
    "mail-451": ("refused", *NONE, 0),
    "mail-550": ("refused", "none", False, 0),
    "rcpt-450": ("recipients_refused", *NONE, 0),
    "rcpt-550": ("recipients_refused", "none", False, 0),
    "rcpt-mixed": None,
    "rcpt-drop": ("unreachable", *NONE, 0),
    "data-drop-before": ("unreachable", *NONE, 0),
    "data-452": ("refused", *NONE, 0),
    "drop-mid-data": ("unreachable", *NONE, 0),
    "dot-451": ("refused", *NONE, 0),
    "dot-550": ("refused", "none", False, 0),
    "dot-999": ("delivery_unknown", "unknown", True, 1),
    "drop-after-dot": ("delivery_unknown", "unknown", True, 1),
    "hang-after-dot": ("delivery_unknown", "unknown", True, 1),
    "reset-after-250": None,
    "quit-hang": None,
    "size": ("too_large", "none", False, 0),
}


@pytest.mark.parametrize("mode", MODES)
async def test_every_fault_is_told_apart(mode: str) -> None:
    """Each point of failure says truly whether the mail may have been delivered and whether to try again."""
    recipients = ["ada@example.com", "bad@example.com"] if mode == "rcpt-mixed" else "ada@example.com"
    arguments = {"to": recipients, "body": "word " * 500}
    passed: list[str] = []

    async def barrier() -> None:
        await asyncio.sleep(0.05)  # a journal commits here, and a connection that broke is seen to be broken
        passed.append(mode)

    start = time.monotonic()
    async with FaultServer(mode) as server:
        where = connection(server, timeout_s=0.6)
        seconds = 1.0 if mode == "hang-after-dot" else 10
        if (expected := EXPECTED[mode]) is None:
            output = await send(where, arguments, barrier=barrier, seconds=seconds)
            assert output["state"] == ("partly_refused" if mode == "rcpt-mixed" else "sent")
            assert len(server.stored) == 1
        else:
            error = await failure(where, arguments, barrier=barrier, seconds=seconds)
            assert (error.kind, error.effect, error.retryable, len(server.stored)) == expected
            assert error.problem.message.isprintable()

    assert time.monotonic() - start < 3
    dotted = mode.startswith(("dot-", "drop-", "hang-", "reset-")) or EXPECTED[mode] is None
    assert bool(passed) is dotted


async def test_what_lies_behind_the_point_of_no_return_is_only_the_dot() -> None:
    """When the barrier stops the attempt, the server has the content and no dot, and so delivers nothing."""

    async def refused() -> None:
        raise asyncio.CancelledError

    async with FaultServer("ok") as server:
        with pytest.raises(asyncio.CancelledError):
            await send(server, barrier=refused)
        await asyncio.sleep(0.05)

    assert server.commands[-1] == "DATA"
    assert server.stored == []


async def test_the_deadline_covers_everything() -> None:
    """A server that never greets costs the step's time and no more."""
    start = time.monotonic()
    async with FaultServer("no-banner") as server:
        error = await failure(connection(server), seconds=0.8)

    assert time.monotonic() - start < 1.0
    assert (error.kind, error.effect, error.retryable) == ("timeout", "none", True)


async def test_no_dot_is_sent_when_there_is_no_time_for_its_reply() -> None:
    """A barrier that used up the time leaves a mail that is known not to be sent."""

    async def slow() -> None:
        await asyncio.sleep(0.8)

    async with FaultServer("ok") as server:
        error = await failure(connection(server), barrier=slow, seconds=1.0)
        await asyncio.sleep(0.05)

    assert (error.kind, error.effect) == ("timeout", "none")
    assert server.stored == []


async def test_a_server_that_reads_slowly_gets_all_of_it() -> None:
    """A mail larger than what the network buffers is written as fast as it is read, dots doubled."""
    body = "." + "x" * 70 + "\n"
    async with FaultServer("ok") as server:
        output = await send(server, {"body": body * 13800})

    assert len(server.stored[0]) > output["size_bytes"] > 900_000  # type: ignore[operator]
    assert server.stored[0].count(b"\r\n..x") == 13800


async def test_the_dot_waits_until_the_content_is_written() -> None:
    """A connection that breaks while a large mail is still leaving has delivered nothing, and the error says so."""
    big = {"attachments": [{"filename": "a.bin", "content": "x" * 12_000_000}]}
    async with FaultServer("drop-mid-data") as server:
        error = await failure(server, big)

    assert (error.kind, error.effect, error.retryable) == ("unreachable", "none", True)


def test_a_servers_words_are_harmless_and_never_cut() -> None:
    """Escape codes and endless text of a server do not get into messages, nor half a password that could not be masked."""
    assert faults.legible("no\x1b[31m\r\nX: \u2028" + "y" * 300 + "p  w") == "no [31m X:  " + "y" * 300 + "p  w"
    assert faults.legible("y" * 1200) == "(1,200 characters)"


async def test_what_an_earlier_attempt_may_have_done_is_not_forgotten() -> None:
    """An attempt that sends nothing, after one that may have arrived, leaves the step as doubtful as it was."""
    async with FaultServer("mail-550") as server:
        first = await failure(server)
        later = await failure(server, repeated=True)

    assert (first.effect, later.effect) == ("none", "unknown")
    assert (later.kind, later.status) == (first.kind, 550)
    assert "earlier attempt" not in str(first)
    assert "An earlier attempt may have been delivered." in str(later)


@pytest.mark.parametrize(
    ("wanted", "notify"),
    [(["failure", "delay", "failure"], "FAILURE,DELAY"), (["success"], "SUCCESS"), ([], "NEVER"), (None, None)],
)
async def test_delivery_reports_are_asked_for_as_the_standard_says(
    wanted: list[str] | None, notify: str | None
) -> None:
    """Where DSN is offered each recipient has NOTIFY, and the mail RET and an id in which nothing is hidden."""
    given = {"delivery_reports": wanted, "message_id": "<a+b=c@example.com>"}
    async with FaultServer("ok", offers=("DSN",)) as server:
        output = await send(server, given)
    async with FaultServer("ok") as plain:
        other = await send(plain, given)

    [mail] = [command for command in server.commands if command.startswith("MAIL")]
    [rcpt] = [command for command in server.commands if command.startswith("RCPT")]
    if notify is None:
        assert "ENVID" not in mail
        assert rcpt == "RCPT TO:<ada@example.com>"
    else:
        assert mail.endswith("RET=HDRS ENVID=<a+2Bb+3Dc@example.com>")
        assert rcpt == f"RCPT TO:<ada@example.com> NOTIFY={notify}"
    assert (output["delivery_reports"], other["delivery_reports"]) == (notify is not None, False)
    assert not any("NOTIFY" in command or "RET=" in command for command in plain.commands)


def test_tries_and_their_waits() -> None:
    """A mail is tried five times unless the step says otherwise, with minutes between; nothing of that is guessed."""
    [usual], [twice], [unknown] = (send_email.attempts(given) for given in ({}, {"retries": 1}, {"retries": None}))

    assert (usual.tries, usual.waits_s) == (5, (60.0, 300.0, 900.0, 3600.0))
    assert (twice.tries, unknown.tries) == (2, 5)


async def test_recipients_that_are_put_off_are_tried_again() -> None:
    """While there are tries left, the error names who has the mail and who is still to get it, and holds the output."""
    arguments = {"to": ["ada@example.com", "nobody@example.com", "busy@example.com"]}
    variant = Variant("default", tries=2)
    async with MailServer() as server:
        error = await failure(server, arguments, variant=variant)
        told = error.details
        earlier = Attempt("default", 1, error.kind, error.status, 1, 60.0, told)
        output = await send(server, arguments, variant=variant, attempt=2, previous=(earlier,))

    assert (error.kind, error.effect, error.retryable, error.status) == ("recipients_deferred", "none", True, 451)
    assert "1 of 3 recipients" in str(error)
    assert [item["state"] for item in told["recipients"]] == ["accepted", "refused", "deferred"]
    assert told["output"]["accepted"] == output["accepted"] == ["ada@example.com"]
    assert told["output"]["refused"] == output["refused"]
    assert (output["state"], output["server_reply"]) == ("partly_refused", "250 2.0.0 OK kept as 1")
    assert [command.split("<")[1] for command in server.commands if command.startswith("RCPT")] == [
        "ada@example.com>",
        "nobody@example.com>",
        "busy@example.com>",
        "busy@example.com>",
    ]


@pytest.mark.parametrize("offered", [True, False])
async def test_addresses_beyond_ascii(offered: bool) -> None:
    """A domain is always encoded; a name before the @ needs a server that takes it, else the error says so."""
    arguments = {"to": ["Jörg <jörg@straße.example>"], "cc": "ada@exämple.com"}
    async with MailServer(smtputf8=offered) as server:
        if offered:
            await send(server, arguments)
            [mail] = server.messages
            assert mail.recipients == ("jörg@xn--strae-oqa.example", "ada@xn--exmple-cua.com")
            assert "<jörg@xn--strae-oqa.example>".encode() in mail.content
        else:
            error = await failure(server, arguments)
            assert (error.kind, error.effect, error.retryable) == ("smtputf8", "none", False)
            await send(server, {"to": "ada@exämple.com"})


# Arguments


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"to": "ada@example.com, eve@example.com"}, "to"),
        ({"to": "ada@example.com; eve@example.com"}, "to"),
        ({"to": ["ada@example.com", "eve@example.com,x@example.com"]}, "to[1]"),
        ({"cc": "ada"}, "cc"),
        ({"bcc": ["@example.com"]}, "bcc[0]"),
        ({"reply_to": "a b@example.com"}, "reply_to"),
        ({"from": "weft@example..com"}, "from"),
        ({"subject": "two\nlines"}, "subject"),
        ({"headers": {"Bcc": "eve@example.com"}}, "headers"),
        ({"headers": {"X A": "1"}}, "headers"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "headers.x-a"),
        ({"headers": {"X-A": "a\rb"}}, "headers.X-A"),
        ({"message_id": "<a b@c>"}, "message_id"),
        ({"in_reply_to": "nonsense"}, "in_reply_to"),
        ({"attachments": [{"filename": "a"}]}, "attachments[0]"),
        ({"attachments": [{"filename": "a", "content": "x", "artifact": "y"}]}, "attachments[0]"),
        ({"attachments": [{"filename": "a\nb", "content": "x"}]}, "attachments[0].filename"),
        ({"attachments": [{"filename": "..", "content": "x"}]}, "attachments[0].filename"),
        (
            {"attachments": [{"filename": "a", "content": "x", "content_type": "multipart/mixed"}]},
            "attachments[0].content_type",
        ),
        ({"attachments": [{"filename": "a", "content": "x", "content_id": "a b"}]}, "attachments[0].content_id"),
        ({"attachments": [{"filename": "a", "content_base64": "!"}]}, "attachments[0].content_base64"),
        ({"attachments": [{"filename": name, "content": "x", "content_id": "c"} for name in "ab"]}, "attachments"),
        ({"to": [f"a{number}@example.com" for number in range(101)]}, "to"),
    ],
)
async def test_wrong_arguments_are_found_before_and_during_a_run(arguments: JsonObject, field: str) -> None:
    """The check before a run and the action itself refuse the same, and name the same field."""
    [problem] = send_email.check({**BASIC, **arguments})
    async with MailServer() as server:
        error = await failure(server, arguments)

    assert problem.where.field == error.problem.where.field == field
    assert (problem.code, error.effect, error.retryable) == (error.kind, "none", False)
    assert server.commands == []


def test_the_check_copes_with_what_is_not_known() -> None:
    """Absent arguments and values of other types are left to those who know them."""
    assert list(send_email.check({})) == []
    assert list(send_email.check({"to": 3, "headers": "x", "attachments": "x", "subject": None})) == []


def test_braces_are_text() -> None:
    """What looks like an expression when the step runs is a value like any other, and is judged."""
    wrong = {"to": ["{{ a }}"], "headers": {"Bcc": "{{ a }}"}, "subject": "{{\n}}", "message_id": "{{ a }}"}
    assert [item.where.field for item in send_email.check(wrong)] == ["to[0]", "subject", "message_id", "headers"]


async def test_a_mail_beyond_the_connections_limit_is_not_sent() -> None:
    """The limit counts the mail as sent, with its files encoded."""
    big = {"attachments": [{"filename": "a.bin", "content": "x" * 90_000}]}
    async with MailServer() as server:
        error = await failure(connection(server, max_message_mb=0.1), big)
        await send(connection(server, max_message_mb=0.2), big)

    assert (error.kind, error.effect) == ("too_large", "none")
    assert len(server.messages) == 1


def test_half_a_character_is_refused() -> None:
    """A lone surrogate, which no encoding can carry, is an error and not a question mark."""
    wrong = {"body": "a\ud800", "attachments": [{"filename": "a", "content": "a\udc00"}], "subject": "\udfff"}

    problems = list(send_email.check({**BASIC, **wrong}))
    assert [item.where.field for item in problems] == ["subject", "body", "attachments[0].content"]
    assert [item.code for item in problems] == ["invalid_header", "invalid_body", "invalid_attachment"]


def test_examples_of_the_manifest_are_accepted() -> None:
    """What the form shows as an example can be sent, and every parameter is one of the callable's."""
    manifest = yaml.safe_load((MANIFESTS / "send_email.yaml").read_text())
    parameters = [*manifest["parameters"]["basic"], *manifest["parameters"]["advanced"]]
    examples = {item["name"]: item["example"] for item in parameters}

    send_email.Arguments.model_validate(examples)
    assert list(send_email.check(examples)) == []
    assert list(examples) == list(send_email.Arguments.model_json_schema(by_alias=True)["properties"])

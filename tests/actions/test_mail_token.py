"""Accounts that log in by OAuth 2.0: tokens are fetched, kept, replaced, and shown to nobody."""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from weft.sdk import ActionContext, ActionError, Connection, JsonObject, Secret
from weft.testing.http_server import Flood, HttpServer, Reply, hang
from weft.testing.mail_server import MailServer

send_email = importlib.import_module("weft_core.actions.send_email")
session = importlib.import_module("weft_core.actions._mail_session")
token = importlib.import_module("weft_core.actions._mail_token")


@pytest.fixture
async def provider() -> AsyncIterator[HttpServer]:
    async with HttpServer() as server:
        server.script([Reply(json={"access_token": "token-1", "expires_in": 3600})])
        yield server


def connection(mail: MailServer, provider: HttpServer, **values: Any) -> Connection:
    given = {
        "host": mail.host,
        "port": mail.port,
        "tls": "none",
        "from": "weft@example.com",
        "auth": "xoauth2",
        "username": "weft@example.com",
        "token_url": provider.url("/token"),
        "client_id": "weft",
        "client_secret": Secret("client-secret"),
        "refresh_token": Secret("refresh-1"),
        "keep_open_s": 0,
        **values,
    }
    return Connection("mail", "smtp", {name: value for name, value in given.items() if value is not None})


def mail_server(*tokens: str, **more: Any) -> MailServer:
    return MailServer(username="weft@example.com", mechanisms=("XOAUTH2",), tokens=tokens, **more)


async def send(where: Connection) -> JsonObject:
    context = ActionContext(
        run_id="r1",
        path="/mail",
        attempt=1,
        started_at=datetime(2026, 11, 22, tzinfo=UTC),
        idempotency_key="r1/mail",
        deadline=time.monotonic() + 10,
        connection=where,
    )
    arguments = send_email.Arguments(to="ada@example.com", subject="Hello", body="Good morning.")
    output: JsonObject = await send_email.send_email(arguments, context)
    return output


async def failure(where: Connection) -> ActionError:
    with pytest.raises(ActionError) as caught:
        await send(where)
    return caught.value


def forms(provider: HttpServer) -> list[dict[str, list[str]]]:
    return [parse_qs(request.body.decode()) for request in provider.requests]


async def test_a_token_is_fetched_once_and_used_until_it_expires(provider: HttpServer) -> None:
    """Two sessions need one token, got with the refresh token as RFC 6749 §6 says."""
    async with mail_server("token-1") as mail:
        where = connection(mail, provider, scope="https://mail.google.com/")
        await send(where)
        await send(where)

    assert [item.authenticated for item in mail.messages] == [True, True]
    assert forms(provider) == [
        {
            "grant_type": ["refresh_token"],
            "refresh_token": ["refresh-1"],
            "client_id": ["weft"],
            "client_secret": ["client-secret"],
            "scope": ["https://mail.google.com/"],
        }
    ]


async def test_a_token_that_has_expired_is_fetched_again(provider: HttpServer) -> None:
    """A token without much life left is not kept, and the newest refresh token is the one that is used."""
    first = {"access_token": "token-1", "expires_in": 0, "refresh_token": "refresh-2"}
    provider.script([Reply(json=first), Reply(json={"access_token": "token-2", "expires_in": 3600})])
    async with mail_server("token-1", "token-2") as mail:
        for _ in range(3):
            await send(connection(mail, provider))

    assert [form["refresh_token"] for form in forms(provider)] == [["refresh-1"], ["refresh-2"]]


async def test_sessions_side_by_side_fetch_one_token(provider: HttpServer) -> None:
    """Mails that are sent at once wait for the same token."""
    async with mail_server("token-1") as mail:
        await asyncio.gather(*(send(connection(mail, provider)) for _ in range(6)))

    assert len(mail.messages) == 6
    assert len(provider.requests) == 1


async def test_a_token_that_was_taken_back_is_replaced(provider: HttpServer) -> None:
    """The server's no to a token that was kept leads to a new one, once."""
    answers = [Reply(json={"access_token": f"token-{n}", "expires_in": 3600}) for n in (1, 2)]
    provider.script(answers)
    async with mail_server("token-1") as mail:
        await send(connection(mail, provider))
        mail.tokens = {"token-2"}
        await send(connection(mail, provider))

    assert len(mail.messages) == len(provider.requests) == 2


async def test_a_new_token_that_is_refused_is_an_error_without_the_token(provider: HttpServer) -> None:
    """A fresh token is tried once; neither it nor the server's words stand in the error."""
    async with mail_server("another") as mail:
        error = await failure(connection(mail, provider))

    assert (error.kind, error.effect, error.retryable, error.status) == ("authentication", "none", False, 535)
    assert "token-1" not in str(error)
    assert mail.commands.count("AUTH") == len(provider.requests) == 1


async def test_a_program_may_send_without_a_person(provider: HttpServer) -> None:
    """Without a refresh token the program's own credentials are used (RFC 6749 §4.4)."""
    async with mail_server("token-1") as mail:
        await send(connection(mail, provider, refresh_token=None))

    assert forms(provider) == [
        {"grant_type": ["client_credentials"], "client_id": ["weft"], "client_secret": ["client-secret"]}
    ]


@pytest.mark.parametrize(
    ("answer", "kind", "retryable"),
    [
        (Reply(400, json={"error": "invalid_grant", "refresh_token": "refresh-1"}), "token_refused", False),
        (Reply(401, json={}), "token_refused", False),
        (Reply(503, json={}), "server_error", True),
        (Reply(200, json={"token": "x"}), "token_refused", False),
        (Reply(200, body=b"<html>"), "token_refused", False),
        (Reply(200, json={"access_token": "a\r\nMAIL FROM:<x>"}), "token_refused", False),
        (Reply(302, headers={"Location": "http://127.0.0.1:1/"}), None, False),
        (Flood(10_000_000), "too_large", False),
    ],
)
async def test_without_a_token_nothing_is_sent(
    provider: HttpServer, answer: Any, kind: str | None, retryable: bool
) -> None:
    """Whatever the token's server answers instead of a token is told, and no secret of it."""
    provider.script([answer])
    async with mail_server("token-1") as mail:
        error = await failure(connection(mail, provider))

    assert error.effect == "none"
    assert error.retryable is retryable
    if kind is not None and kind != "server_error":
        assert error.kind == kind
    assert "refresh-1" not in str(error)
    assert "client-secret" not in str(error)
    assert not any(command.startswith("MAIL") for command in mail.commands)


async def test_fetching_a_token_counts_in_the_deadline(provider: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token's server that never answers costs its own limit of time and no more."""
    monkeypatch.setattr(token, "FETCH_S", 0.6)
    provider.script([hang])
    start = time.monotonic()
    async with mail_server("token-1") as mail:
        error = await failure(connection(mail, provider))

    assert time.monotonic() - start < 3
    assert (error.kind, error.effect, error.retryable) == ("timeout", "none", True)


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://login.example.com/token", True),
        ("https://10.0.0.5/token", True),
        ("http://127.0.0.1:8080/token", True),
        ("http://[::1]/token", True),
        ("http://localhost/token", True),
        ("http://login.example.com/token", False),
        ("http://localhost.example.com/token", False),
        ("http://127.0.0.1.example.com/token", False),
        ("http://10.0.0.5/token", False),
        ("ftp://127.0.0.1/token", False),
        ("login.example.com/token", False),
        ("https:///token", False),
        ("http://[oops/token", False),
    ],
)
def test_secrets_for_a_token_go_over_tls(url: str, taken: bool) -> None:
    """An address without TLS is one of this machine, or it is refused before anything is asked."""
    values = {
        "host": "mail.example.com",
        "username": "weft",
        "auth": "xoauth2",
        "token_url": url,
        "client_id": "weft",
        "refresh_token": Secret("refresh-1"),
    }
    if taken:
        assert session.server(Connection("mail", "smtp", values)).grant.token_url == url
    else:
        with pytest.raises(ActionError, match="not an https address"):
            session.server(Connection("mail", "smtp", values))


async def test_a_name_that_only_looks_like_this_machine_is_not_trusted(
    provider: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `localhost` leads elsewhere the secrets are not sent: the address that is found decides."""
    monkeypatch.setattr(token, "HERE", token.networks(["127.0.0.2"]))  # this machine, as if it were another
    async with mail_server("token-1") as mail:
        error = await failure(
            connection(mail, provider, token_url=provider.url("/t").replace("127.0.0.1", "localhost"))
        )

    assert (error.kind, error.effect) == ("address_refused", "none")
    assert provider.requests == []


@pytest.mark.parametrize("missing", ["username", "token_url", "client_id"])
async def test_a_connection_by_token_needs_all_of_it(provider: HttpServer, missing: str) -> None:
    """A field that is missing is named before anything is connected to."""
    async with mail_server("token-1") as mail:
        error = await failure(connection(mail, provider, **{missing: None}))

    assert (error.kind, error.effect) == ("invalid_connection", "none")
    assert f"`{missing}`" in str(error)
    assert mail.commands == []


async def test_a_connection_by_token_needs_something_secret(provider: HttpServer) -> None:
    """Neither a refresh token nor a client secret proves nothing."""
    async with mail_server("token-1") as mail:
        error = await failure(connection(mail, provider, refresh_token=None, client_secret=None))

    assert "`refresh_token`" in str(error)


async def test_a_token_never_goes_in_clear(provider: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS, and with a server elsewhere, no token is even fetched."""
    monkeypatch.setattr(session, "_is_this_machine", lambda address: False)
    async with mail_server("token-1") as mail:
        error = await failure(connection(mail, provider))

    assert error.kind == "insecure"
    assert "AUTH" not in mail.commands
    assert provider.requests == []


async def test_a_token_goes_behind_tls(provider: HttpServer, tmp_path: Path) -> None:
    """With STARTTLS the login comes after the handshake."""
    async with mail_server("token-1", tls="starttls") as mail:
        mail.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        await send(connection(mail, provider, tls="starttls", ca_file=str(tmp_path / "ca.pem")))

    assert mail.commands.index("STARTTLS") < mail.commands.index("AUTH")
    assert (mail.messages[0].encrypted, mail.messages[0].authenticated) == (True, True)


async def test_another_mechanism_is_not_taken_instead(provider: HttpServer) -> None:
    """A server without XOAUTH2 gets no token, and a password is never sent by CRAM-MD5."""
    async with MailServer(username="weft@example.com", password="p") as mail:
        error = await failure(connection(mail, provider))
        assert "XOAUTH2" in str(error)

    class OnlyCram(MailServer):
        async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
            self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
        ) -> list[str]:
            session.host_name = hostname
            return ["250-mail.test", "250-AUTH CRAM-MD5", "250 HELP"]

    async with OnlyCram(username="weft@example.com", password="p") as mail:
        error = await failure(connection(mail, provider, auth="password", password=Secret("p")))

    assert (error.kind, error.effect) == ("authentication", "none")
    assert "AUTH" not in mail.commands
    assert provider.requests == []
    json.dumps(error.details)

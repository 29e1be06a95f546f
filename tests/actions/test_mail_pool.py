"""Sessions with a mail server are used again, and a session that has gone never costs or doubles a mail."""

from __future__ import annotations

import asyncio
import gc
import importlib
import time
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from weft.embedded.outbox import Outbox
from weft.sdk import ActionContext, ActionError, Connection, JsonObject, Secret
from weft.testing.mail_server import FaultServer, MailServer

send_email = importlib.import_module("weft_core.actions.send_email")
pool = importlib.import_module("weft_core.actions._mail_pool")

BASIC = {"to": "ada@example.com", "subject": "Hello", "body": "Good morning."}


def connection(server: MailServer | FaultServer, **values: Any) -> Connection:
    given = {"host": server.host, "port": server.port, "tls": "none", "from": "weft@example.com", **values}
    return Connection("mail", "smtp", given)


async def send(where: Connection, arguments: Mapping[str, Any] = {}, **more: Any) -> JsonObject:
    facts = {
        "run_id": "r1",
        "path": "/mail",
        "attempt": 1,
        "started_at": datetime(2026, 11, 22, tzinfo=UTC),
        "idempotency_key": "r1/mail",
        "deadline": time.monotonic() + 10,
        "connection": where,
        **more,
    }
    parsed = send_email.Arguments.model_validate({**BASIC, **arguments})
    output: JsonObject = await send_email.send_email(parsed, ActionContext(**facts))
    return output


def words(server: MailServer | FaultServer) -> list[str]:
    return [command.split()[0] for command in server.commands]


async def test_mails_follow_each_other_in_one_session() -> None:
    """The second mail needs no connection and no login, and is told after a sign of life."""
    async with MailServer(username="u", password="p") as server:
        where = connection(server, username="u", password=Secret("p"))
        for _ in range(3):
            await send(where)

    mail = ["MAIL", "RCPT", "DATA"]
    assert words(server) == ["EHLO", "AUTH", *mail, "RSET", *mail, "RSET", *mail]
    assert server.sessions == 1
    assert len(server.messages) == 3


async def test_other_settings_have_other_sessions() -> None:
    """A session is never used for another connection or another account on the same server."""
    async with MailServer() as server:
        await send(connection(server))
        await send(connection(server, timeout_s=7))
        await send(Connection("other", "smtp", connection(server).values))

    assert server.sessions == 3


async def test_a_session_the_server_has_closed_is_replaced() -> None:
    """When it went while it waited, the next mail takes a new one, and nothing of it is doubtful."""
    async with MailServer() as server:
        where = connection(server)
        await send(where)
        await server.end_sessions()
        output = await send(where)

    assert server.sessions == 2
    assert len(server.messages) == 2
    assert (output["state"], output["possible_repeat"]) == ("sent", False)


@pytest.mark.parametrize("goes", ["with 421", "without a word"])
async def test_a_session_that_dies_unseen_is_replaced(goes: str) -> None:
    """A server that goes at the very moment leaves the mail in another session, once."""

    class Leaving(FaultServer):
        async def _answer(self, line: Any, command: str) -> bool:
            if command == "RSET" and self.connections == 1:
                if goes == "with 421":
                    await line.say("421 4.3.0 bye")
                line.abort()
                return False
            return await super()._answer(line, command)

    async with Leaving("ok") as server:
        await send(connection(server))
        await send(connection(server))

    assert server.connections == 2
    assert server.copies == {"ada@example.com": 2}


async def test_a_session_with_enough_mails_for_the_server_is_replaced_at_once() -> None:
    """A server that ends a session at its next mail gets that mail in another, without a wait of minutes."""
    async with MailServer(mails_per_session=2) as server:
        for _ in range(5):
            await send(connection(server))

    assert len(server.messages) == 5
    assert server.sessions == 3


async def test_a_first_session_that_is_ended_is_not_tried_again_at_once() -> None:
    """A server that says 421 to a new session is busy: that is for the step's own waits."""
    async with MailServer(mails_per_session=0) as server:
        with pytest.raises(ActionError) as caught:
            await send(connection(server))

    assert (caught.value.status, caught.value.retryable, caught.value.effect) == (421, True, "none")
    assert server.sessions == 1


async def test_a_session_is_left_after_its_mails() -> None:
    """The connection's own limit of mails ends a session politely."""
    async with MailServer() as server:
        for _ in range(4):
            await send(connection(server, max_messages_per_connection=2))

    assert server.sessions == 2
    assert words(server).count("QUIT") == 2


async def test_sessions_can_be_kept_from_waiting() -> None:
    """With `keep_open_s: 0` each mail takes leave."""
    async with MailServer() as server:
        await send(connection(server, keep_open_s=0))
        assert words(server)[-1] == "QUIT"
        assert server.open_sessions == 0


async def test_a_session_that_waits_too_long_takes_leave() -> None:
    """It is gone from the server, with QUIT, when its time is over, and the next mail opens another."""
    async with MailServer() as server:
        where = connection(server, keep_open_s=0.1)
        await send(where)
        assert server.open_sessions == 1
        await asyncio.sleep(0.3)
        assert words(server)[-1] == "QUIT"
        assert server.open_sessions == 0
        await send(where)

    assert server.sessions == 2


async def test_a_fault_ends_its_session() -> None:
    """What stands in a session after a refusal or a fault is nobody's guess: it is not used again."""
    async with FaultServer("dot-451") as server:
        for _ in range(2):
            with pytest.raises(ActionError):
                await send(connection(server))

    assert server.connections == 2


async def test_a_cancelled_mail_leaves_nothing_to_the_next() -> None:
    """A session in which a mail was broken off is closed, and its place is free."""

    async def never() -> None:
        await asyncio.sleep(60)

    async with MailServer() as server:
        where = connection(server, max_connections=1)
        task = asyncio.create_task(send(where, barrier=never))
        while words(server)[-1:] != ["DATA"]:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await send(where)

    assert len(server.messages) == 1
    assert server.sessions == 2


async def test_there_are_never_more_sessions_than_allowed() -> None:
    """Mails that are sent at once wait for their turn."""
    async with MailServer() as server:
        where = connection(server, max_connections=3)
        await asyncio.gather(*(send(where, {"subject": str(number)}) for number in range(20)))
        assert server.sessions == server.open_sessions == 3

    assert sorted(int(mail.parsed()["Subject"]) for mail in server.messages) == list(range(20))


async def test_waiting_for_a_turn_counts_in_the_deadline() -> None:
    """A mail that finds all sessions busy until its time is over was not sent, and says so."""
    reached, released = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await released.wait()

    async with MailServer() as server:
        where = connection(server, max_connections=1)
        first = asyncio.create_task(send(where, barrier=hold))
        await reached.wait()
        with pytest.raises(ActionError) as caught:
            await send(where, deadline=time.monotonic() + 0.5)
        released.set()
        await first

    assert (caught.value.kind, caught.value.effect, caught.value.retryable) == ("timeout", "none", True)
    assert len(server.messages) == 1


def test_sessions_end_with_their_loop() -> None:
    """Each run of a loop has sessions of its own, which take leave when it ends; nothing is left open."""
    commands = []

    async def run() -> None:
        async with MailServer() as server:
            await send(connection(server))
            await pool._pools[asyncio.get_running_loop()][1].aclose()
            commands.extend(words(server))

    asyncio.run(run())
    asyncio.run(run())

    assert commands == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"] * 2
    assert pool._pools == {}


def test_a_loop_closes_its_sessions_by_itself() -> None:
    """What `asyncio.run` closes at its end are the sessions too, though nobody asked."""

    async def run() -> None:
        async with MailServer() as server:
            await send(connection(server))

    asyncio.run(run())

    assert pool._pools == {}


def test_no_socket_is_left_to_the_garbage_collector(tmp_path: Path) -> None:
    """After several sessions at once, all is closed when the loop ends, though the server has gone before them."""

    async def run() -> None:
        box = Outbox(tmp_path / "outbox")

        async def mail() -> None:
            await send(await box.connection())

        await asyncio.gather(*(mail() for _ in range(4)))
        await box.stop()

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(run())
        gc.collect()

    assert [str(each.message) for each in told if each.category is ResourceWarning] == []

"""Send Notification: Apprise in a process that may use the network and nothing else."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from servers.webhooks import LOOPBACK, HookServer, Reply, attempt

from weft.redaction import forms
from weft.sdk import ActionError, Connection, JsonObject, Secret
from weft.testing.mail_server import MailServer

action = importlib.import_module("weft_core.actions.send_notification")
apprise = importlib.import_module("weft_core.actions._apprise")
child = importlib.import_module("weft_core.actions._apprise_child")
build = importlib.import_module("weft_core.actions._apprise_build")

ROOT = Path(__file__).parents[2]
SCHEMA = yaml.safe_load((ROOT / "manifests" / "send_notification.yaml").read_text())["output"]["schema"]
CANARY = "canaryAccount9876"


def url(server: HookServer, schema: str = "json") -> dict[str, Any]:
    return {"url": Secret(f"{schema}://{CANARY}:{CANARY}@127.0.0.1:{server.port}/{CANARY}")}


async def send(values: Mapping[str, Any], arguments: Mapping[str, Any] = {}, /, **more: Any) -> JsonObject:
    parsed = action.Arguments.model_validate({"message": "Good morning.", **arguments})
    where = Connection("tell", "apprise", {"private_networks": LOOPBACK, **values})
    output: JsonObject = await action.send_notification(parsed, attempt(where, **more))
    jsonschema.validate(output, SCHEMA)
    return output


async def failure(values: Mapping[str, Any], arguments: Mapping[str, Any] = {}, /, **more: Any) -> ActionError:
    with pytest.raises(ActionError) as caught:
        await send(values, arguments, **more)
    return caught.value


# -- what is shipped about the services


MAKE = """
import importlib, json, pathlib, sys
from apprise import Apprise
child = importlib.import_module("weft_core.actions._apprise_child")
build = importlib.import_module("weft_core.actions._apprise_build")
build.SERVICES, build.CONNECTION = (pathlib.Path(sys.argv[1]) / name for name in ("services.json", "type.yaml"))
build.main()
entries = Apprise().details(show_disabled=True)["schemas"]
print(json.dumps([[name for key in ("protocols", "secure_protocols") for name in entry[key] or ()] for entry in entries]))
print(json.dumps(build.services()))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str], dict[str, Any]]:
    """What the generator makes now, every schema that Apprise knows, and the services; all of them are imported for it."""
    directory = tmp_path_factory.mktemp("made")
    done = subprocess.run([sys.executable, "-c", MAKE, str(directory)], check=True, capture_output=True, text=True)
    schemas, services = map(json.loads, done.stdout.splitlines())
    return directory, {name for names in schemas for name in names}, services


@pytest.fixture(scope="module")
def known(made: tuple[Path, set[str], dict[str, Any]]) -> dict[str, Any]:
    """The services with all that is told of them."""
    return made[2]


def test_what_is_shipped_is_what_apprise_tells(made: tuple[Path, set[str], dict[str, Any]]) -> None:
    """The data and the connection type are those that the generator makes with the Apprise that is installed."""
    assert (made[0] / "services.json").read_bytes() == build.SERVICES.read_bytes()
    assert (made[0] / "type.yaml").read_bytes() == build.CONNECTION.read_bytes()


def test_no_service_touches_this_machine(made: tuple[Path, set[str], dict[str, Any]]) -> None:
    """What speaks to the desktop, the log or a device of this machine, or reads a file of it, is not offered."""
    every, used = made[1], {schema for service in made[2].values() for schema in service["schemas"]}
    local = {"syslog", "dbus", "qt", "kde", "gnome", "glib", "gio", "macosx", "windows", "blink1", "growl"}
    files = {"fcm", "vapid"}
    wanting = {"amqp", "amqps", "mqtt", "mqtts", "smpp", "smpps", "xmpp", "xmpps", "session", "sessions", "sogs"}

    assert {"pover", "tgram", "slack", "ntfys", "jsons", "mailtos"} <= used
    assert every - used == local | files | wanting


def test_a_service_has_a_form(known: dict[str, Any]) -> None:
    """Every field that a service asks for is one of the connection type, shown for it, and secret where Apprise says so."""
    fields = {field["name"]: field for field in yaml.safe_load(build.CONNECTION.read_text())["fields"]}

    for name, service in known.items():
        assert name in fields["service"]["enum"]
        for field, token in service["fields"].items():
            assert name in fields[field]["visible_when"]["values"]
            assert fields[field].get("secret", False) or not token["secret"]
    assert fields["url"]["secret"] is True
    assert {fields[name]["secret"] for name in ("token", "apikey", "password", "user_key")} == {True}


# -- what goes out


async def test_a_notification_by_address() -> None:
    """The service of the address gets title, message and type; the output has the status of its answer."""
    async with HookServer() as server:
        server.script(Reply(200))
        output = await send(url(server), {"title": "Weekly", "type": "success"})

    [request] = server.requests
    assert request.path == f"/{CANARY}"
    assert {key: request.json[key] for key in ("title", "message", "type")} == {
        "title": "Weekly",
        "message": "Good morning.",
        "type": "success",
    }
    assert output == {"state": "sent", "service": "json", "statuses": [200], "possible_repeat": False}


async def test_a_notification_by_fields() -> None:
    """The fields of a form do what an address does, and a secret among them reaches the service."""
    async with HookServer() as server:
        server.script(Reply(200, {"id": 1}))
        values = {"service": "gotify", "host": "127.0.0.1", "port": server.port, "token": Secret(CANARY), "tls": False}
        output = await send(values, repeated=True)

    [request] = server.requests
    assert (request.path, request.headers["x-gotify-key"]) == ("/message", CANARY)
    assert (output["service"], output["possible_repeat"]) == ("gotify", True)


async def test_over_tls_certificates_are_checked(tmp_path: Path) -> None:
    """TLS is the rule for services that offer it, also where the address asks not to look at the certificate."""
    async with HookServer(tls=tmp_path) as server:
        fields = {"service": "json", "host": "127.0.0.1", "port": server.port}
        unknown = await failure(fields)
        careless = await failure({"url": Secret(f"jsons://127.0.0.1:{server.port}/?verify=no")})
        assert server.requests == []
        await send({**fields, "ca_file": server.ca_file})

    assert [request.method for request in server.requests] == ["POST"]
    for error in (unknown, careless):
        assert (error.kind, error.effect) == ("certificate", "none")


async def test_a_service_that_is_no_http() -> None:
    """Mail goes through Apprise too, with words in HTML that were made safe."""
    async with MailServer() as server:
        where = f"mailto://127.0.0.1:{server.port}?from=weft@example.com&to=ada@example.com&mode=insecure"
        output = await send({"url": Secret(where)}, {"message": "**Hi** ![x](https://x.example)", "format": "markdown"})

    [mail] = server.messages
    assert "<strong>Hi</strong>" in mail.text("html")
    assert "x.example" not in mail.text("html")
    assert output["statuses"] == []


async def test_nobody_is_called_by_what_is_said() -> None:
    """Marks that services read as calls have an invisible space, addresses of the web still work, mail too."""
    text = "@everyone @here <!channel> <@U123> a@b.com https://medium.com/@ada"
    async with HookServer() as server:
        await send(url(server), {"message": text, "title": "@all"})

    [request] = server.requests
    assert request.json["title"] == "@\u200ball"
    assert request.json["message"] == (
        "@\u200beveryone @\u200bhere <\u200b!channel> <\u200b@\u200bU123> a@b.com https://medium.com/%40ada"
    )


async def test_recipients_of_a_step_need_leave() -> None:
    """A step may name those whom the connection names or allows, and they replace the connection's own."""
    async with HookServer() as server:
        server.script(Reply(200, {"event": "message"}))
        fields = {"service": "ntfy", "host": "127.0.0.1", "port": server.port, "tls": False}
        allowed = {**fields, "targets": ["alarms"], "allowed_targets": ["reports"]}
        await send(allowed)
        await send(allowed, {"targets": ["reports"]})
        await send({**fields, "allowed_targets": ["*"]}, {"targets": ["anything"]})
        other = await failure(allowed, {"targets": ["reports", "others"]})

    assert [request.json["topic"] for request in server.requests] == ["alarms", "reports", "anything"]
    assert (other.kind, other.effect) == ("recipient_not_allowed", "none")
    assert other.problem.where.field == "targets[1]"


async def test_the_run_is_told_before_anything_is_sent() -> None:
    """The point of no return is awaited when the service is ready and no connection was made."""
    seen: list[int] = []

    async with HookServer() as server:

        async def barrier() -> None:
            seen.append(len(server.requests))

        await send(url(server), barrier=barrier)

    assert seen == [0]


# -- what goes wrong


@pytest.mark.parametrize(
    "told",
    [
        (400, "refused", "none", False),
        (401, "authentication", "none", False),
        (403, "authentication", "none", False),
        (404, "refused", "none", False),
        (429, "rate_limited", "none", True),
        (302, "refused", "none", False),
        (500, "server_error", "unknown", False),
    ],
    ids=lambda told: str(told[0]),
)
async def test_a_status_is_told(told: tuple[int, str, str, bool]) -> None:
    """Apprise says no; the status of the answer says more. No redirect is followed, and nothing is tried twice."""
    async with HookServer() as server:
        server.script(Reply(told[0], headers={"Location": f"{server.url}/elsewhere"}))
        values = {"url": Secret(f"json://127.0.0.1:{server.port}/{CANARY}?redirect=yes&retry=3&optional=yes")}
        error = await failure(values)

    assert (error.status, error.kind, error.effect, error.retryable) == told
    assert len(server.requests) == 1


async def test_a_part_that_was_taken_leaves_a_doubt() -> None:
    """When one of several recipients was served, nobody says that nothing was sent."""
    async with HookServer() as server:
        server.script(Reply(200, {"event": "message"}), Reply(403, {"code": 40301}))
        fields = {"service": "ntfy", "host": "127.0.0.1", "port": server.port, "tls": False}
        error = await failure({**fields, "targets": ["one", "two"]})

    assert (error.kind, error.effect, error.retryable) == ("not_sent", "unknown", False)


async def test_a_lost_answer_leaves_a_doubt() -> None:
    """A connection that breaks, never answers or never ends: nobody knows; nobody there: nothing was sent."""
    async with HookServer() as server:
        server.script(Reply(drop=True))
        lost = await failure(url(server))
        server.script(Reply(size=-1))
        endless = await failure(url(server))
        server.script(Reply(pause_s=20))
        begun = time.monotonic()
        late = await failure({**url(server), "request_timeout_s": 1.5})
        took = time.monotonic() - begun
    gone = await failure(url(server))

    assert [(error.kind, error.effect, error.retryable) for error in (lost, endless, late, gone)] == [
        ("not_sent", "unknown", False),
        ("not_sent", "unknown", False),
        ("timeout", "unknown", False),
        ("unreachable", "none", True),
    ]
    assert took < 3


async def test_a_cancel_ends_the_process() -> None:
    """A step that is stopped leaves no process behind that would go on sending."""
    async with HookServer() as server:
        server.script(Reply(pause_s=20))
        task = asyncio.create_task(send(url(server)))
        while not server.requests:
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        while not server.abandoned:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("start", "kind"),
    [("raise SystemExit", "crashed"), ("import sys; sys.modules['apprise'] = None;", "not_installed")],
)
async def test_a_process_that_cannot_send_is_told(start: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Apprise, or when its process dies, the error says so, and that nothing was sent."""
    monkeypatch.setattr(apprise, "START", f"{start}; {apprise.START}".replace(";;", ";"))
    error = await failure({"url": Secret("json://127.0.0.1:1/")})

    assert (error.kind, error.effect) == (kind, "none")


async def test_a_yes_without_a_connection_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that says it has a notification, though nobody was connected to, is not believed."""
    says = 'import sys; sys.stdin.readline(); print(\'{"state": "ready"}\', flush=True); sys.stdin.readline()'
    monkeypatch.setattr(apprise, "START", f'{says}; print(\'{{"state": "sent"}}\', flush=True)')
    error = await failure({"url": Secret("json://127.0.0.1:1/")})

    assert (error.kind, error.effect) == ("unreachable", "none")


async def test_a_form_without_recipients_is_complete() -> None:
    """Services that need no recipients take a form without any, also those whose code asks for the list."""
    for service, fields in {
        "opsgenie": {"apikey": Secret("a" * 36)},
        "pushover": {"user_key": Secret("u" * 30), "token": Secret("t" * 30)},
    }.items():
        where = Connection("tell", "apprise", {"service": service, **fields})
        work = apprise.job(where, apprise.service_of(where), {}, None)
        told = await apprise.notify(work, where, attempt(where), send=False)
        assert told.state == "ready"


async def test_private_addresses_need_leave() -> None:
    """A service of one's own inside a network is reached only when the connection names the network."""
    async with HookServer() as server:
        error = await failure({**url(server), "private_networks": []})

    assert (error.kind, error.effect) == ("address_refused", "none")
    assert server.requests == []


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("syslog://", "invalid_connection"),
        ("dbus://", "invalid_connection"),
        ("windows://", "invalid_connection"),
        ("file:///etc/passwd", "invalid_connection"),
        ("nothing", "invalid_connection"),
        ("pover://short@", "invalid_connection"),
        ("pover://", "invalid_connection"),
    ],
)
async def test_what_is_no_service_of_the_network_is_refused(address: str, kind: str) -> None:
    """Schemas that touch this machine, unknown ones and malformed accounts send nothing."""
    error = await failure({"url": Secret(address)})

    assert (error.kind, error.effect) == (kind, "none")


async def test_files_of_this_machine_stay_here(tmp_path: Path) -> None:
    """An option that names a file, such as a template, is not read and not sent."""
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"text": CANARY}))
    slack = f"slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?template={secret}"
    error = await failure({"url": Secret(slack)})

    assert (error.kind, error.effect) == ("host_refused", "none")


@pytest.mark.parametrize(
    ("event", "args", "kind"),
    [
        ("socket.connect", (None, ("10.0.0.1", 443)), "address"),
        ("socket.connect", (None, ("169.254.169.254", 443)), "address"),
        ("socket.connect", (None, ("::ffff:192.168.0.1", 443, 0, 0)), "address"),
        ("socket.connect", (None, ("93.184.216.34", 80)), "insecure"),
        ("socket.connect", (None, "/var/run/docker.sock"), "host"),
        ("socket.connect", (None, ("internal.example", 443)), "host"),
        ("socket.sendto", (None, ("10.0.0.1", 514)), "address"),
        ("open", ("/etc/passwd", "r", os.O_RDONLY), "file"),
        ("open", (b"/etc/passwd", "rb", os.O_RDONLY), "file"),
        ("open", (str(Path(sys.prefix) / "lib" / ".." / ".." / ".." / "etc" / "passwd"), "r", os.O_RDONLY), "file"),
        ("open", (str(Path(sys.prefix) / "new.py"), "w", os.O_WRONLY | os.O_CREAT), "file"),
        ("subprocess.Popen", ("sh", ["sh"], None, None), "host"),
        ("os.system", (b"true",), "host"),
        ("os.posix_spawn", ("sh", ["sh"], {}), "host"),
        ("os.remove", ("/tmp/x", -1), "host"),
    ],
)
def test_the_process_may_do_nothing_else(event: str, args: tuple[Any, ...], kind: str) -> None:
    """Other addresses, files and programs are refused before anything happens, and told."""
    told: list[Mapping[str, Any]] = []
    guard = child.Guard(["127.0.0.0/8"], told.append)
    guard.plain = True
    for harmless in (
        ("socket.connect", (None, ("127.0.0.1", 80))),
        ("open", (yaml.__file__, "r", os.O_RDONLY)),
        ("open", (os.devnull, "w", os.O_WRONLY)),
        ("open", (3, "r", os.O_RDONLY)),
        ("import", ("os", None)),
    ):
        guard(*harmless)
    assert told == []

    with pytest.raises(PermissionError):
        guard(event, args)
    assert [fact["refused"] for fact in told] == [kind]


async def test_without_a_connection_nothing_is_sent() -> None:
    """A missing connection, or one without a service, is told."""
    with pytest.raises(ActionError) as missing:
        await action.send_notification(action.Arguments(message="hello"), attempt(None))
    assert (missing.value.kind, (await failure({})).kind) == ("connection_missing", "invalid_connection")


def test_a_message_is_checked_before_a_run() -> None:
    """What is known of the texts is judged; what is not known is no problem."""
    assert list(action.check({})) == []
    assert [problem.where.field for problem in action.check({"message": " ", "title": "\x00"})] == ["message", "title"]


# -- secrets


async def test_accounts_stay_inside(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """No part of an account stands in an output, an error, a log or on the terminal; nor in the process's arguments."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []

    async with HookServer() as server:
        server.script(Reply(200, CANARY))
        said.append(repr(await send(url(server), write=lambda *facts: said.append(repr(facts)))))
        for reply in (*(Reply(status, CANARY) for status in (302, 401, 500)), Reply(drop=True)):
            server.script(reply)
            error = await failure(url(server))
            said += [repr(error), repr(error.problems), repr(error.details), repr(error.__cause__)]
        said.append(repr(await failure({"url": Secret(f"pover://{CANARY}")})))
        said.append(repr(await failure({**url(server), "private_networks": []})))

    assert any(CANARY in request.path for request in server.requests)
    text = "\n".join([*said, caplog.text, *capfd.readouterr()])
    assert [form for form in forms(CANARY) if form in text] == []
    assert CANARY not in apprise.START

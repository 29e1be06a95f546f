"""The tests of the core pack's types of connections, against real servers: each says what was proved, no more."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime

import pytest
from aiohttp import web

from weft.connections import BuiltIn, Connections, probe
from weft.errors import ActionError
from weft.manifest import ConnectionType
from weft.plan import ConnectionFacts
from weft.redaction import Redactor, Secret
from weft.registry import Pack, Registry
from weft.sdk import ActionContext, Connection
from weft.testing.mail_server import FaultServer, MailServer

KEY = "key-canary-0421"


def context(seconds=20.0):
    return ActionContext(
        run_id="t",
        path="/t",
        attempt=1,
        started_at=datetime.now(UTC),
        idempotency_key="t",
        deadline=time.monotonic() + seconds,
    )


@pytest.fixture
def tried(core_registry):
    """Return what the test of a type says to a connection with these values, or the error that it raises."""

    async def call(type_, seconds=20.0, /, **values):
        test = core_registry.connection_test(type_)
        try:
            return await test(Connection("c", type_, values), context(seconds))
        except ActionError as error:
            told = error
        assert KEY not in str(told)
        assert told.effect == "none"
        return told

    return call


def test_every_type_of_the_core_pack_has_a_test(core_registry):
    """No connection of ours is told as not tested because nobody wrote the test."""
    missing = [kind.id for kind in core_registry.connection_types() if core_registry.connection_test(kind.id) is None]

    assert missing == []


# -- smtp


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_mail_server_is_logged_in_to_and_no_mail_sent(tried, tls, tmp_path):
    """TLS, login, NOOP and QUIT; the server was never told a sender."""
    async with MailServer(tls=tls, username="robot", password=KEY) as server:
        server.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        fields = {"host": "localhost", "port": server.port, "tls": tls, "ca_file": str(tmp_path / "ca.pem")}
        told = await tried("smtp", username="robot", password=Secret(KEY), **fields)
        wrong = await tried("smtp", username="robot", password=Secret("wrong"), **fields)
        commands = [command.split()[0].upper() for command in server.commands]

    assert "Logged in as robot" in told
    assert wrong.kind == "authentication"
    assert {"NOOP", "QUIT"} <= set(commands)
    assert {"MAIL", "DATA"}.isdisjoint(commands)


async def test_a_mail_server_without_login_proves_less(tried, mail_server):
    """Whether it takes mail from here is not claimed."""
    told = await tried("smtp", host="127.0.0.1", port=mail_server.port, tls="none")

    assert "whether it takes any from here is not known" in told


@pytest.mark.parametrize("mode", ["refused", "no-banner", "banner-421", "garbage", "starttls-strip"])
async def test_a_mail_server_that_fails_is_told(tried, mode):
    """Each fault before a mail is one of the test."""
    async with FaultServer(mode) as server:
        tls = "starttls" if mode == "starttls-strip" else "none"
        told = await tried("smtp", 1.0, host="127.0.0.1", port=server.port, tls=tls)

    assert isinstance(told, ActionError)


# -- models


class Provider:
    """A server that lists models; it asks for a key, shows the list to everybody, or does something else."""

    def __init__(self, answer=None, *, open_to_all=False, path="/v1/models", header="Authorization"):
        self.answer = {"data": [{"id": "m1"}, {"id": "m2"}]} if answer is None else answer
        self.open_to_all, self.path, self.header = open_to_all, path, header
        self.asked = []

    async def __aenter__(self):
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self.serve)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *gone):
        await self._runner.cleanup()

    async def serve(self, request):
        self.asked.append((request.method, request.path, request.headers.get(self.header)))
        if isinstance(self.answer, int):
            return web.Response(status=self.answer, headers={"Location": "/elsewhere"}, text=KEY)
        if isinstance(self.answer, str):
            return web.Response(text=self.answer)
        if request.path != self.path:
            return web.Response(status=404)
        if not self.open_to_all and request.headers.get(self.header) not in (KEY, f"Bearer {KEY}"):
            return web.Response(status=401, text=f"bad key {KEY}")
        return web.json_response(self.answer)


async def test_a_key_is_proved_by_asking_without_it_too(tried):
    """The list is shown with the key, and refused without: the key was looked at."""
    async with Provider() as server:
        told = await tried("model_provider", provider="openai", api_base=f"{server.base}/v1", api_key=Secret(KEY))

    assert "lists 2 models and takes the key" in told
    assert [(method, key) for method, _, key in server.asked] == [("GET", f"Bearer {KEY}"), ("GET", None)]


async def test_a_key_that_nobody_looked_at_is_not_proved(tried):
    """A list that is open to everybody says nothing of the key."""
    async with Provider(open_to_all=True) as server:
        base = f"{server.base}/v1"
        told = await tried("model_provider", provider="openai", api_base=base, api_key=Secret("wrong"))
        without = await tried("model_provider", provider="openai", api_base=base)

    assert told.kind == "untestable"
    assert "the key was not looked at" in str(told)
    assert "wants no key" in without


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (401, "authentication"),
        (403, "authentication"),
        (404, "untestable"),
        (429, "untestable"),
        (500, "refused"),
        (302, "refused"),
        ("<html>hello</html>", "not_a_list"),
        ("[[", "not_a_list"),
    ],
)
async def test_an_answer_is_told_as_what_it_is(tried, answer, kind):
    """Refused, unknown, broken; no redirect is followed, and nothing of the answer is repeated."""
    async with Provider(answer) as server:
        base = f"{server.base}/v1"
        told = await tried("model_provider", provider="openai", api_base=base, api_key=Secret(KEY))

    assert told.kind == kind
    assert {path for _, path, _ in server.asked} == {"/v1/models"}


@pytest.mark.parametrize(
    ("provider", "base", "expected", "answer"),
    [
        ("anthropic", "", "/v1/models x-api-key", {"data": []}),
        ("anthropic", "/v1", "/v1/models x-api-key", {"data": []}),
        ("gemini", "/v1beta", "/v1beta/models x-goog-api-key", {"models": [1]}),
        ("azure", "", "/openai/models api-key", {"data": []}),
        ("ollama", "", "/api/tags Authorization", {"models": []}),
        ("openrouter", "/api/v1", "/api/v1/key Authorization", {"data": {"label": "x"}}),
        ("cohere", "/v1", "/v1/models Authorization", {"models": []}),
    ],
)
async def test_each_provider_is_asked_in_its_own_way(tried, provider, base, expected, answer):
    """Path and header are those of its interface."""
    path, header = expected.split()
    async with Provider(answer, path=path, header=header) as server:
        told = await tried("model_provider", provider=provider, api_base=server.base + base, api_key=Secret(KEY))

    assert "takes the key" in told, told


async def test_a_provider_without_a_list_is_not_tested(tried):
    """What only a call would prove is not claimed."""
    told = await tried("model_provider", provider="bedrock")

    assert told.kind == "untestable"
    assert "nothing was sent" in str(told)


async def test_a_server_of_models_that_is_not_there_is_told(tried):
    """Nobody listens."""
    told = await tried("model_provider", provider="openai", api_base="http://127.0.0.1:9/v1", api_key=Secret(KEY))

    assert told.kind == "unreachable"


# -- how any test is run


def registry_with(function):
    kind = ConnectionType.model_validate({"id": "k", "title": "K", "purpose": "K", "icon": "k", "fields": []})
    module = type(json)("module")
    module.test, module.__file__ = function, "test.py"
    return Registry([Pack("p", None, connection_types=(kind,), connection_tests={"k": lambda: module})])


async def run(function, deadline_s=5.0):
    async def opened():
        return Connection("c", "k", {"secret": Secret(KEY)})

    redactor = Redactor()
    connections = Connections([BuiltIn({"c": (ConnectionFacts("c", "k", "built in"), opened)})], redactor)
    return await probe(
        "c",
        "k",
        connections=connections,
        registry=registry_with(function),
        redactor=redactor,
        catalogue=context().catalogue,
        deadline_s=deadline_s,
    )


async def test_whatever_a_test_says_holds_no_secret():
    """Sentences, errors and remedies are masked."""

    async def says(connection, context):
        return f"Logged in with {connection.secret('secret').reveal()}."

    async def fails(connection, context):
        secret = connection.secret("secret").reveal()
        raise ActionError(f"No {secret}.", kind="refused", remedy=f"Change {secret}.")

    good, bad = await run(says), await run(fails)
    assert (good.state, bad.state, bad.code) == ("works", "failed", "refused")
    assert KEY not in repr(good) + repr(bad)


async def test_a_test_that_takes_too_long_or_crashes_is_a_failure(caplog):
    """It is stopped at its deadline; what it raises goes to the log alone, masked."""

    async def hangs(connection, context):
        await asyncio.sleep(60)

    async def crashes(connection, context):
        raise KeyError(connection.secret("secret").reveal())

    slow, broken = await run(hangs, 0.05), await run(crashes)
    assert (slow.state, slow.code) == ("failed", "timeout")
    assert (broken.state, broken.code, broken.message) == ("failed", "crashed", "The test raised KeyError.")
    assert "KeyError" in caplog.text
    assert KEY not in caplog.text


async def test_what_is_no_test_is_a_failure_of_the_pack():
    """A plain function, or one with other parameters, is refused."""
    for wrong in (lambda connection, context: "ok", None):
        told = await run(wrong)
        assert (told.state, told.code) == ("failed", "no_test")

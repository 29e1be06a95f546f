from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from premises import Served, serve

from weft.testing.mail_server import MailServer

CANARY = "canary/9f2c'7d\"41+b8"
MAIL = {"host": "127.0.0.1", "port": 25, "tls": "none", "from": "a@example.com", "username": "ada"}
USES = """\
name: uses
on:
  webhook:
    - {connection: signed}
steps:
  - id: mail
    uses: send_email
    connection: post
    with: {to: a@example.com, subject: s, body: b}
  - id: group
    steps:
      - id: ask
        uses: generate_chat_completion
        connections: {openai: brain}
        with: {provider: openai, model: gpt-4o-mini, messages: [{role: user, content: hi}]}
"""


@pytest.fixture
async def client(served: Served) -> httpx.AsyncClient:
    return await served.client("view", "connections")


async def add(client: httpx.AsyncClient, name: str = "post", **fields: Any) -> httpx.Response:
    return await client.post(
        "/api/v1/connections", json={"name": name, "type": "smtp", "fields": {**MAIL, "password": CANARY, **fields}}
    )


async def kept(served: Served, name: str = "post") -> str | None:
    """Return the password that the store has."""
    _, secrets = served.house.runtime.store.opened(name)
    return secrets["password"].reveal() if "password" in secrets else None


async def test_add(served: Served, client: httpx.AsyncClient) -> None:
    """A connection is kept with its secret encrypted, and answered without it."""
    added = await add(client)
    twice = await add(client)
    named = await add(client, "Post Office")

    body = added.json()
    assert (added.status_code, added.headers["Location"]) == (201, "/api/v1/connections/post")
    assert (body["settings"]["host"], body["secrets"], body["writable"]) == ("127.0.0.1", ["password"], True)
    assert await kept(served) == CANARY
    assert [(each.status_code, each.json()["code"]) for each in (twice, named)] == [(422, "exists"), (422, "name")]
    entry = (await served.house.audit.list(limit=1))[0]
    assert (entry.action, entry.target) == ("connection.added", "post")


async def test_faults(client: httpx.AsyncClient) -> None:
    """Fields at fault are told by name, and no message shows a secret."""
    answer = await add(client, port="many", passwort="x")
    open_ = await add(client, username="sk-proj-abcdefghijklmnopqrstuvwxyz")

    assert answer.status_code == 422
    assert {each["where"]["field"] for each in answer.json()["problems"]} >= {"port", "passwort"}
    assert open_.json()["code"] == "open_secret"
    assert "abcdefghij" not in open_.text


async def test_change(served: Served, client: httpx.AsyncClient) -> None:
    """What is left out of a change stays, null takes it away, and a secret that is left out is kept."""
    await add(client)

    renamed = await client.patch("/api/v1/connections/post", json={"fields": {"from": "b@example.com"}})
    secret = await kept(served)
    gone = await client.patch("/api/v1/connections/post", json={"fields": {"username": None, "password": None}})
    unknown = await client.patch("/api/v1/connections/outbox", json={"fields": {}})

    assert (renamed.raise_for_status().json()["settings"]["from"], secret) == ("b@example.com", CANARY)
    assert (gone.raise_for_status().json()["secrets"], "username" in gone.json()["settings"]) == ([], False)
    assert (unknown.status_code, "built in" in unknown.text) == (404, True)


async def test_a_secret_goes_nowhere_else(served: Served, client: httpx.AsyncClient) -> None:
    """A kept secret is not sent to another address than the one that it was given for, but by who knows it."""
    await add(client)

    for change in ({"host": "localhost"}, {"port": 26}, {"tls": "starttls"}):
        moved = await client.patch("/api/v1/connections/post", json={"fields": change})
        tried = await client.post("/api/v1/connections/test", json={"type": "smtp", "name": "post", "fields": change})

        assert [(each.status_code, each.json()["code"]) for each in (moved, tried)] == [(422, "secret_again")] * 2
    cloud = {"provider": "vertex_ai", "vertex_project": "p", "vertex_location": "eu", "vertex_credentials": CANARY}
    asked = {"name": "brain", "type": "model_provider", "fields": cloud}
    (await client.post("/api/v1/connections", json=asked)).raise_for_status()
    told = await client.patch("/api/v1/connections/brain", json={"fields": {"vertex_location": "evil.example/"}})
    assert (told.status_code, told.json()["code"]) == (422, "secret_again")  # it is a part of the address
    again = await client.patch("/api/v1/connections/post", json={"fields": {"host": "localhost", "password": "other"}})
    assert again.raise_for_status().json()["settings"]["host"] == "localhost"
    assert await kept(served) == "other"


async def test_where_used(served: Served, client: httpx.AsyncClient) -> None:
    """It is told which steps and webhooks use a connection, and one that is used is not removed by accident."""
    await add(client)
    served.write("uses", USES)

    listed = {each["name"]: each for each in (await client.get("/api/v1/connections")).raise_for_status().json()}
    refused = await client.delete("/api/v1/connections/post")
    removed = await client.delete("/api/v1/connections/post", params={"force": True})
    again = await client.delete("/api/v1/connections/post")

    assert listed["post"]["used_by"] == [{"workflow": "uses", "step": "mail", "path": ["steps", 0]}]
    assert listed["outbox"]["writable"] is False
    assert (refused.status_code, refused.json()["code"]) == (409, "connection_used")
    assert (removed.status_code, again.status_code) == (204, 404)


async def test_sources(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection from variables is told as such, hides one that is kept, and cannot be changed here."""
    for name, value in {"POST_HOST": "mail.example.com", "POST_PASSWORD": CANARY, "POST_USERNAME": "a"}.items():
        monkeypatch.setenv(name, value)
    async with serve(place, works=False) as served:
        served.write("uses", USES)
        client = await served.client("view", "connections")
        added = await add(client)
        listed = [each for each in (await client.get("/api/v1/connections")).json() if each["name"] == "post"]
        shown = await client.get("/api/v1/connections/post")

    assert (added.json()["source"], added.json()["shadowed_by"]) == ("store", "environment")
    assert [(each["source"], each["shadowed_by"], each["writable"]) for each in listed] == [
        ("environment", None, False),
        ("store", "environment", True),
    ]
    assert (shown.json()["settings"]["host"], shown.json()["shadows"]) == ("mail.example.com", ["store"])


async def test_probe(client: httpx.AsyncClient, mail_server: MailServer) -> None:
    """A test tells the truth about the other side, before a connection is kept and after."""
    here = {**MAIL, "port": mail_server.port}
    del here["username"]

    untried = await client.post("/api/v1/connections/test", json={"type": "smtp", "fields": here})
    wrong = await client.post("/api/v1/connections/test", json={"type": "smtp", "fields": {**here, "port": 1}})
    await client.post("/api/v1/connections", json={"name": "post", "type": "smtp", "fields": here})
    kept_ = await client.post("/api/v1/connections/post/test")
    faulty = await client.post("/api/v1/connections/test", json={"type": "smtp", "fields": {"host": 7}})

    assert [each.raise_for_status().json()["state"] for each in (untried, kept_)] == ["works", "works"]
    assert (wrong.json()["state"], bool(wrong.json()["code"])) == ("failed", True)
    assert (faulty.json()["state"], faulty.json()["code"]) == ("failed", "wrong_type")
    assert mail_server.messages == []


async def test_scopes(served: Served) -> None:
    """Who may only look sees names and uses, but neither settings nor a way to change them."""
    viewer = await served.client("view", "run", "edit")

    assert (await viewer.get("/api/v1/connections")).status_code == 200
    answers = [
        await viewer.get("/api/v1/connections/outbox"),
        await add(viewer),
        await viewer.patch("/api/v1/connections/post", json={"fields": {}}),
        await viewer.delete("/api/v1/connections/post"),
        await viewer.post("/api/v1/connections/outbox/test"),
        await viewer.post("/api/v1/connections/test", json={"type": "smtp", "fields": {}}),
    ]
    assert [each.status_code for each in answers] == [403] * len(answers)


async def test_no_answer_shows_a_secret(
    served: Served, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """No answer, no error, no line of a log and no entry of the audit log of any of these routes shows a secret."""
    caplog.set_level(logging.DEBUG)
    served.write("uses", USES)
    wrong = {"name": "x", "type": "smtp", "fields": {"password": [CANARY], "host": {CANARY: CANARY}, "port": CANARY}}
    answers = [
        await add(client),
        await add(client),
        await add(client, "again", port=0),
        await client.post("/api/v1/connections", json=wrong),
        await client.post("/api/v1/connections", json={**wrong, "pasword": CANARY}),
        await client.get("/api/v1/connections"),
        await client.get("/api/v1/connections/post"),
        await client.patch("/api/v1/connections/post", json={"fields": {"password": CANARY, "port": CANARY}}),
        await client.patch("/api/v1/connections/post", json={"fields": {"from": f"{CANARY}@example.com"}}),
        await client.post("/api/v1/connections/post/test"),
        await client.post("/api/v1/connections/test", json={"type": "smtp", "fields": {**MAIL, "password": CANARY}}),
        await client.get("/api/v1/workflows/uses"),
        await client.get("/api/v1/providers/openai"),
        await client.delete("/api/v1/connections/post"),
    ]
    entries = await served.house.audit.list()

    core = "9f2c'7d"
    shown = [each.text for each in answers] + [caplog.text, str(entries)]
    assert [core in text or CANARY in text for text in shown] == [False] * len(shown)

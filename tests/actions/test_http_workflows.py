"""The shipped workflows of the steps between, run from end to end against real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from weft import plan, source, structure
from weft.engine.report import RunReport
from weft.runtime import Runtime
from weft.testing.http_server import HttpServer, Received, Reply, drop
from weft.testing.mail_server import MailServer
from weft.testing.model_server import ModelServer, Ok

WORKFLOWS = Path(__file__).parents[2] / "workflows"
KEY = "canary-7f3d9b51e0"


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    async with HttpServer() as server:
        yield server


async def run(name: str, home: Path, connections: dict[str, Any], inputs: dict[str, Any] | None = None) -> RunReport:
    """Run a shipped workflow as `weft run` does, with connections of this test."""
    file = home / "connections.yaml"
    file.write_text(json.dumps(connections))  # JSON is YAML
    file.chmod(0o600)
    document = source.read_file(WORKFLOWS / f"{name}.yaml")
    async with Runtime.open(home=home, connections=file) as runtime:
        planned = plan.compile(structure.load(document), document, runtime.registry)
        return await runtime.run(planned, runtime.inputs(planned, inputs or {}))


def service(server: HttpServer, **more: Any) -> dict[str, Any]:
    return {"type": "http", "base_url": server.origin, "private_networks": ["127.0.0.1"], **more}


def mail(server: MailServer) -> dict[str, Any]:
    return {"type": "smtp", "host": server.host, "port": server.port, "tls": "none", "from": "weft@example.com"}


def model(server: ModelServer) -> dict[str, Any]:
    return {"type": "model_provider", "provider": "openai", "api_key": "k", "api_base": server.base_url}


async def test_fetch_and_summarise(server: HttpServer, tmp_path: Path) -> None:
    """The page is fetched again after a fault, summed up and mailed."""
    server.script([drop, Reply(503), Reply(200, {"Content-Type": "text/plain"}, b"A long page. " * 1000)])
    async with MailServer() as post, ModelServer() as llm:
        llm.script([Ok("It is long.")])
        web = {"type": "http", "private_networks": ["127.0.0.1"]}
        connections = {"web": web, "local-model": model(llm), "outbox": mail(post)}
        report = await run("fetch-and-summarise", tmp_path, connections, {"url": server.url("/page")})

    assert report.state == "succeeded", report.problem
    assert len(llm.requests[0].json["messages"][1]["content"]) <= 3005
    assert "It is long." in post.messages[0].text()


async def test_a_secret_that_a_refusal_cuts_in_two_is_on_no_record(server: HttpServer, tmp_path: Path) -> None:
    """What is kept of a refusal's body was masked before it was cut."""
    server.script([Reply(400, body=b"-" * 1_990 + KEY.encode())])
    web = service(server, auth="bearer", token=KEY)
    report = await run("fetch-and-summarise", tmp_path, {"web": web}, {"url": server.url("/page")})

    assert report.state == "failed"
    [attempt] = report.steps[0].attempts
    assert str(attempt.details["body"]).startswith("-" * 1_990)
    assert KEY[:6] not in report.model_dump_json()


@pytest.mark.parametrize(
    ("answer", "state", "mails"),
    [
        ('Sure!\n```json\n{"mood": "bad", "score": 1}\n```', "succeeded", 1),
        ('{"mood": "good", "score": 9}', "succeeded", 0),
        ('{"mood": "so so", "score": 5}', "failed", 0),
        ("I cannot say.", "failed", 0),
    ],
)
async def test_sort_feedback(tmp_path: Path, answer: str, state: str, mails: int) -> None:
    """A model's answer counts only when it is what was asked for."""
    async with MailServer() as post, ModelServer() as llm:
        llm.script([Ok(answer)])
        report = await run("sort-feedback", tmp_path, {"local-model": model(llm), "outbox": mail(post)})

    assert report.state == state, report.problem
    assert len(post.messages) == mails
    assert llm.requests[0].json["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("export", "subject", "kind"),
    [
        ("customer;amount\nAda;12.50\n\"Grace; Ltd\";30\n", "2 orders, 42.5 in all", None),
        ("customer;amount\n", None, "empty_export"),
        ("customer;amount\nAda;much\n", None, "wrong_type"),
    ],
)  # fmt: skip
async def test_report_from_csv(
    server: HttpServer, tmp_path: Path, export: str, subject: str | None, kind: str | None
) -> None:
    """The export becomes a mail, or an error that says what is wrong with it."""
    server.script([Reply(200, {"Content-Type": "text/csv"}, export.encode())])
    async with MailServer() as post:
        shop = service(server, auth="bearer", token=KEY)
        report = await run("report-from-csv", tmp_path, {"shop": shop, "outbox": mail(post)})

    assert (report.problem.code if report.problem else None) == kind
    assert [message.parsed()["Subject"] for message in post.messages] == ([subject] if subject else [])
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in report.model_dump_json()


async def test_copy_open_orders(server: HttpServer, tmp_path: Path) -> None:
    """Every item of every page arrives once in effect, though its first answer is lost each time."""
    shop = [
        Reply(json={"data": [{"id": 1, "lines": [{"item": "Tea"}]}, {"id": 2, "lines": []}], "next": "c2"}),
        Reply(json={"data": [{"id": 3, "lines": []}], "next": None}),
    ]
    server.script(shop)
    done: dict[str, Any] = {}

    async def take(request: Received, stream: asyncio.StreamWriter) -> None:
        key = request.headers["idempotency-key"]
        if key not in done:
            done[key] = request.json
            stream.close()
        else:
            await Reply(201, json={"job": key[:8]})(request, stream)

    async with HttpServer() as warehouse:
        warehouse.script([take])
        connections = {"shop": service(server), "warehouse": service(warehouse)}
        report = await run("copy-open-orders", tmp_path, connections)

    assert report.state == "succeeded", report.problem
    assert report.outputs == {"copied": 3}
    assert sorted(item["order"] for item in done.values()) == [1, 2, 3]
    assert [item["lines"] for item in done.values() if item["order"] == 1] == [[{"item": "Tea"}]]
    assert len(warehouse.requests) == 6


async def test_a_lost_post_is_not_repeated(server: HttpServer, tmp_path: Path) -> None:
    """Without a key a POST that may have arrived ends the step, whatever `retry` says."""
    server.script([drop])
    text = """
        name: w
        steps:
          - {id: a, uses: http_request, connection: shop, retry: {attempts: 3}, with: {method: POST, url: /, json: {a: 1}}}
    """
    file = tmp_path / "connections.yaml"
    file.write_text(json.dumps({"shop": service(server)}))
    document = source.read(text, "w.yaml")
    async with Runtime.open(home=tmp_path, connections=file) as runtime:
        planned = plan.compile(structure.load(document), document, runtime.registry)
        report = await runtime.run(planned, {})

    assert report.state == "failed"
    assert len(server.requests) == 1

"""The shipped workflows that tell somebody, run from end to end: a model that is up to no good, real servers, every record."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from servers.webhooks import LOOPBACK, HookServer, Reply

from weft import plan, source, structure
from weft.engine.report import RunReport
from weft.redaction import forms
from weft.runtime import Runtime
from weft.testing.model_server import ModelServer, Ok

WORKFLOWS = Path(__file__).parents[2] / "workflows"
CANARY = "canary9876account"
SECRET = "whsec_" + base64.b64encode(b"canary signing secret 98").decode()
ANSWER = "# Hello\n**All** of @everyone <!channel> <@112233445566778899>: [bank.com](https://evil.example) 42"


def connections(server: HookServer, llm: ModelServer) -> dict[str, Any]:
    there = {"private_networks": LOOPBACK}
    return {
        "local-model": {"type": "model_provider", "provider": "openai", "api_key": "k", "api_base": llm.base_url},
        "team-slack": {"type": "slack", "webhook_url": f"{server.url}/services/{CANARY}", **there},
        "team-teams": {"type": "teams", "webhook_url": f"{server.url}/workflows/{CANARY}", **there},
        "team-discord": {"type": "discord", "webhook_url": f"{server.url}/webhooks/1/{CANARY}", **there},
        "receiver": {"type": "webhook", "url": f"{server.url}/{CANARY}", "signing_secret": SECRET, **there},
        "phone": {"type": "apprise", "url": f"json://127.0.0.1:{server.port}/{CANARY}", **there},
    }


async def run(name: str, home: Path, *replies: Reply) -> tuple[RunReport, HookServer, str]:
    """Run a shipped workflow; what the server got comes with the report and everything that the run told."""
    told: list[str] = []
    document = source.read_file(WORKFLOWS / f"{name}.yaml")
    async with HookServer() as server, ModelServer() as llm:
        server.script(*replies)
        llm.script([Ok(ANSWER)])
        file = home / "connections.yaml"
        file.write_text(json.dumps(connections(server, llm)))  # JSON is YAML
        file.chmod(0o600)
        async with Runtime.open(home=home, connections=file) as runtime:
            planned = plan.compile(structure.load(document), document, runtime.registry)
            given = runtime.inputs(planned, {})
            report = await runtime.run(planned, given, lambda event: told.append(repr(event)))
    return report, server, "\n".join([*told, repr(report), report.model_dump_json()])


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("notify-slack", {"ts": None}),
        ("notify-teams", {"state": "accepted"}),
        ("notify-discord", {"message_id": "1330000000000000000"}),
        ("notify-webhook", {}),
        ("notify-service", {"service": "json"}),
    ],
)
async def test_a_shipped_workflow_runs(name: str, output: dict[str, Any], tmp_path: Path) -> None:
    """The model's answer is told once, calls nobody, hides no address, and no record holds the account."""
    report, server, told = await run(name, tmp_path, *([Reply(200)] if name == "notify-service" else []))

    assert report.state == "succeeded", report.problem
    assert report.outputs is not None
    assert report.outputs["answer"] == ANSWER
    assert output.items() <= report.outputs.items()
    [request] = server.requests
    assert CANARY in request.path
    assert [form for secret in (CANARY, SECRET) for form in forms(secret) if form in told] == []
    CHECKS[name](request.json)
    if name == "notify-webhook":
        standardwebhooks.Webhook(SECRET).verify(request.body, request.headers)


def check_slack(sent: Any) -> None:
    assert [block["type"] for block in sent["blocks"]] == ["header", "header", "rich_text"]
    elements = sent["blocks"][2]["elements"][0]["elements"]
    assert {element["type"] for element in elements} == {"text", "link"}
    assert [element["text"] for element in elements if element["type"] == "link"] == ["https://evil.example"]


def check_teams(sent: Any) -> None:
    text = json.dumps(sent)
    assert "Question of " in text
    assert '"text": "https://evil.example"' in text
    assert '"TextBlock"' not in text


def check_discord(sent: Any) -> None:
    assert sent["allowed_mentions"] == {"parse": [], "users": []}
    [embed] = sent["embeds"]
    assert re.match(r"Fact of \d\d \w+", embed["title"])
    assert embed["description"].startswith("# Hello\n\n**All** of @\u200beveryone \\<!channel> \\<@112233445566778899>")


def check_webhook(sent: Any) -> None:
    assert sent["type"] == "answer.finished"
    assert sent["data"]["answer"] == ANSWER
    assert sent["data"]["tokens"] == 33


def check_service(sent: Any) -> None:
    assert sent["message"].startswith("# Hello\n**All** of @\u200beveryone <\u200b!channel> <\u200b@")


CHECKS = {
    "notify-slack": check_slack,
    "notify-teams": check_teams,
    "notify-discord": check_discord,
    "notify-webhook": check_webhook,
    "notify-service": check_service,
}


@pytest.mark.parametrize("name", CHECKS)
async def test_a_failure_is_a_record_without_the_account(name: str, tmp_path: Path) -> None:
    """When the messenger refuses, and repeats its own address, the run fails, says why, and keeps the account to itself."""
    report, server, told = await run(name, tmp_path, Reply(403, f"/{CANARY} {CANARY}"))

    assert report.state == "failed"
    assert report.problem is not None
    assert report.problem.code in ("forbidden", "authentication")
    assert len(server.requests) == 1
    assert [form for secret in (CANARY, SECRET) for form in forms(secret) if form in told] == []

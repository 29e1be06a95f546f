"""Canaries in connections, actions that let them out in every way, and every answer of the server searched.

All GET routes are asked, found in the route table, so that one that comes later is asked, too; with real ids, with ids that
there are not, and with canaries in the place of ids. The same search finds what is planted.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from premises import Served, serve
from routetable import doors
from streaming import hearing

from weft.redaction import SHORTEST_SEARCHED, Redactor, Secret, forms

TESTS = Path(__file__).parents[1]
CANARIES = [
    value
    for line in (TESTS / "corpora/secrets/canaries.jsonl").read_text("utf-8").splitlines()
    if len(value := str(json.loads(line)["value"])) >= SHORTEST_SEARCHED
]
CANARIES.sort(key=lambda value: not value.startswith("p@ss"))  # the first one has a shape that no pattern knows
SIGNING = "whsec_" + base64.b64encode(b"sing like a canary in a mine").decode()
WAYS = ("output", "key", "error", "details", "crash", "refused", "log", "emit")
SPELLINGS = ("raw", "json", "base64-1")
ASKS = """\
name: asks
steps:
  - {id: leak, uses: spill, connection: door0, with: {way: output, form: raw}}
  - {id: ok, approval: {message: "May {{ steps.leak.output.said[0] }} go out?", who: [ada@example.org]}}
"""
SCHEDULED = "\nenabled: true\non:\n  schedule:\n    - {cron: '0 0 1 1 *', timezone: UTC}\n  webhook:\n    - {connection: signer}\n"
DEEP = {  # what a route needs besides its path, to tell all that it knows
    "/api/v1/runs/{run_id}/steps": {"path": "s0"},
    "/api/v1/runs/{run_id}/comparison": {"other": "RUN"},
    "/api/v1/workflows/{name}/diff": {"before": "1"},
    "/api/v1/schedules/history": {"schedule": "spilt"},
    "/api/v1/schedules/next": {"schedule": "spilt"},
    "/api/v1/schedules/occurrences": {"schedule": "spilt/1"},
    "/api/v1/events/poll": {"topics": "runs,run:RUN,documents,approvals,schedules"},
}
UNANSWERED = {  # and why they have no good answer here
    "/api/v1/runs/{run_id}/artifacts/{artifact}": "no step keeps a file",
    "/api/v1/outbox/{mail}/attachments/{number}": "the mail has none",
    "/api/v1/actions/{action}/options/{parameter}": "the action has no such parameter",
    "/login/start": "there is no identity provider",
    "/login/return": "there is none",
    "/mcp": "a client begins with a POST",
}


def spilling() -> str:
    """A step for each canary, way and spelling, then a mail and outputs that hold all that is known of them."""
    kinds = [(way, spelling) for way in WAYS for spelling in SPELLINGS]
    steps = [
        (f"s{number}", number % len(CANARIES), *kinds[number % len(kinds)])
        for number in range(max(len(kinds), len(CANARIES)) * 2)
    ]
    lines = [
        f"  - {{id: {id_}, uses: spill, connection: door{door}, needs: [], on_error: continue,"
        f" with: {{way: {way}, form: {spelling}}}}}"
        for id_, door, way, spelling in steps
    ]
    known = [f"        {{{{ steps.{id_} }}}}" for id_, *_ in steps]
    needs = ", ".join(id_ for id_, *_ in steps)
    mail = f"  - id: mail\n    uses: send_email\n    connection: outbox\n    needs: [{needs}]\n    with:\n      to: a@example.com\n"
    body = "      subject: 's {{ steps.s0.state }}'\n      body: |\n        Hello\n"
    outputs = [f"  {id_}: '{{{{ steps.{id_} }}}}'" for id_, *_ in steps]
    return (
        "\n".join(["name: spilt", "steps:", *lines, mail + body + "\n".join(known), "outputs:", *outputs]) + SCHEDULED
    )


@pytest.fixture
async def spilt(place: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """A server with a run that has let out every canary, and one that asks a question with one in it."""
    monkeypatch.setenv("WEFT_KEY", base64.b64encode(bytes(range(32))).decode())
    async with serve(place, packs=(TESTS / "spill",)) as served:
        for number, canary in enumerate(CANARIES):
            served.house.runtime.store.write(f"door{number}", "spilt", {}, {"token": Secret(canary)})
        served.house.runtime.store.write("signer", "webhook", {}, {"signing_secret": Secret(SIGNING)})
        served.write("spilt", spilling())
        served.write("asks", ASKS)
        yield served


async def _run(served: Served, admin: httpx.AsyncClient, name: str, until: str) -> str:
    begun = await admin.post("/api/v1/runs", json={"workflow": name})
    assert begun.status_code == 201, begun.text
    run = str(begun.json()["run_id"])
    async with asyncio.timeout(30):
        while (await admin.get(f"/api/v1/runs/{run}/summary")).json()["state"] not in until.split():
            await asyncio.sleep(0.05)
    return run


def _fill(template: str, known: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: known.get(f"{template}:{found[1]}", known.get(found[1], "1")), template)


async def _answers(
    served: Served, admin: httpx.AsyncClient, *, wrong: bool = True
) -> tuple[dict[str, str], dict[str, int]]:
    """Ask every GET route, with a canary for an id too where that is wanted; return what was said, and the good statuses."""
    (await admin.post("/api/v1/schedules/sync", json={})).raise_for_status()
    async with hearing(admin, "runs,approvals,documents") as ear:
        run = await _run(served, admin, "spilt", "succeeded failed")
        asks = await _run(served, admin, "asks", "waiting running")
        async with asyncio.timeout(20):
            while not (open_ := (await admin.get("/api/v1/approvals")).json()["items"]):
                await asyncio.sleep(0.05)
        while (event := await ear.next(5)) is not None and event.data.get("run_id") != asks:
            pass
        heard = str(ear.events)
    async with hearing(admin, f"run:{run},run:{asks}") as ear:
        await ear.until(lambda each: each.name == "snapshot")
        heard += str(ear.events)
    known = {
        "run_id": run,
        "name": "spilt",
        "workflow": "spilt",
        "mail": "1",
        "provider": "openai",
        "action": "spill",
        "type_": "spilt",
        "kind": "workflow",
        "artifact": "0" * 64,
        "token": await _question(served, open_[0]),
        "/api/v1/connections/{name}:name": "door0",
        "/assets/{name}:name": "weft.css",
        "parameter": "nothing",
    }
    said, statuses = {"events": heard}, {}
    for door in doors(served.app):
        if door.method != "GET" or door.template == "/api/v1/events":
            continue
        query = {name: value.replace("RUN", run) for name, value in DEEP.get(door.template, {}).items()}
        good = await admin.get(_fill(door.template, known), params=query, headers={"Accept": "*/*"})
        statuses[door.template] = good.status_code
        said[door.template] = good.text
        if not wrong or not ("{" in door.template or query):
            continue
        path = re.sub(r"\{\w+\}", quote(CANARIES[0], safe=""), door.template)
        for accept in ("*/*", "text/html"):
            bad = await admin.get(path, params=dict.fromkeys(query, CANARIES[0]), headers={"Accept": accept})
            said[f"{door.template} {accept}"] = bad.text
    return said, statuses


async def _question(served: Served, asked: dict[str, Any]) -> str:
    from weft.engine.approving import Question

    return served.house.runtime.signer.token(
        Question(asked["run_id"], asked["path"], 1, asked["who"][0], asked["message"], None)
    )


async def _written(admin: httpx.AsyncClient) -> dict[str, str]:
    """Send what is refused or evaluated, with canaries in it or in what it is about."""
    run = (await admin.get("/api/v1/runs", params={"workflow": "spilt"})).json()["items"][0]["run_id"]
    field: dict[str, Any] = {"workflow": "asks", "at": ["steps", 1, "approval", "message"]}
    template = "{{ steps.leak.output }} {{ steps.leak.output }}"
    canary = CANARIES[0]
    asked: list[tuple[str, str, Any]] = [
        ("POST", "/api/v1/expressions/preview", {**field, "template": template}),
        ("POST", "/api/v1/expressions/complete", {**field, "template": "{{ steps.leak. }}", "cursor": 14}),
        ("POST", "/api/v1/expressions/preview", {**field, "template": "{{ " + canary + " }}"}),
        ("POST", "/api/v1/runs/dry-run", {"workflow": "spilt"}),
        ("POST", f"/api/v1/runs/{run}/replay/plan", {"steps": ["s0"]}),
        ("POST", "/api/v1/runs", {"workflow": canary}),
        ("POST", "/api/v1/runs", {"workflow": "spilt", "inputs": {canary: canary}}),
        ("POST", f"/api/v1/runs/{run}/answers", {"step": canary, "answer": "approve"}),
        ("POST", "/api/v1/connections/door0/test", {}),
        ("POST", "/api/v1/connections", {"name": "door0", "type": "spilt", "fields": {"token": canary}}),
        ("PATCH", "/api/v1/connections/door0", {"fields": {"token": [canary]}}),
        ("POST", "/api/v1/connections/test", {"name": "door0", "type": "spilt", "fields": {}}),
        ("PUT", "/api/v1/workflows/asks/pins/leak", {"output": {canary: [canary]}}),
        ("POST", "/api/v1/validate", {"documents": [{"file": "x.yaml", "text": f"name: '{canary}"}]}),
        ("POST", "/api/v1/steps/check", {"workflow": "asks", "path": ["steps", 0], "step": {"uses": canary}}),
        ("POST", "/api/v1/tokens", {"name": "x", "scopes": [canary]}),
        ("POST", "/login", {"token": canary}),
        ("POST", "/hooks/nothing", {"token": canary}),
    ]
    return {
        f"{method} {path} {number}": (await admin.request(method, path, json=body)).text
        for number, (method, path, body) in enumerate(asked)
    }


def _leaks(said: dict[str, str]) -> set[str]:
    spelled = [form for canary in (*CANARIES, SIGNING) for form in forms(canary)]
    every = "\n".join(said.values())
    found = [form for form in spelled if form in every]
    return {where for where, text in said.items() if any(form in text for form in found)}


async def test_no_answer_holds_a_canary(spilt: Served, caplog: pytest.LogCaptureFixture) -> None:
    """No route answers with a secret in any spelling, and no event, metric, log line and entry of the audit log has one."""
    caplog.set_level(logging.DEBUG, "weft")
    admin = await spilt.client("admin")
    said, statuses = await _answers(spilt, admin)
    said |= await _written(admin)
    said |= {"audit": str(await spilt.house.audit.list(limit=500)), "told": str(spilt.said)}

    assert {path for path, status in statuses.items() if status >= 400} == set(UNANSWERED)
    assert _leaks(said) == set()
    assert not [text for text in said.values() if '"code":"fault"' in text]


async def test_a_planted_leak_is_found(spilt: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without masking the same search finds canaries wherever runs are told of."""
    monkeypatch.setattr(Redactor, "text", lambda self, text: text)
    admin = await spilt.client("admin")

    found = _leaks((await _answers(spilt, admin, wrong=False))[0])

    assert found >= {
        "events",
        "/api/v1/runs/{run_id}",
        "/api/v1/runs/{run_id}/steps",
        "/api/v1/runs/{run_id}/comparison",
        "/api/v1/approvals",
        "/api/v1/outbox/{mail}",
        "/api/v1/outbox/{mail}/raw",
        "/approve/{token}",
    }

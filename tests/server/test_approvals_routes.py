"""Questions over HTTP, and the page behind a link in a mail."""

from __future__ import annotations

import asyncio
import re

import pytest
from premises import Served

from weft.engine.approving import Question
from weft.journal.base import Kept
from weft.outcome import decode

ASKS = """
name: asks
steps:
  - id: ok
    approval: {message: "Send it to <b>everybody</b>?", who: [ada@example.org]}
"""
ANYBODY = """
name: anybody
steps:
  - id: ok
    approval: {message: "Go on?", deadline: DEADLINE}
    on_error: continue
"""


async def asked(served: Served, workflow: str, text: str) -> tuple[Kept, str]:
    """Start a run that asks, and return it and the token of its question."""
    served.write(workflow, text)
    client = await served.client("run")
    run = (await client.post("/api/v1/runs", json={"workflow": workflow})).raise_for_status().json()["run_id"]
    async with asyncio.timeout(10):
        while True:
            found = await served.house.runtime.journal.load(run)
            if any(record.kind == "waits" for record in found.records):
                break
            await asyncio.sleep(0.02)
    (record,) = (record for record in found.records if record.kind == "waits")
    facts = decode(record.payload)
    who = (facts.get("who") or [None])[0]
    question = Question(run, record.path, record.n, who, facts["message"], facts["deadline"])
    return found, served.house.runtime.signer.token(question)


async def test_a_get_answers_nothing(served: Served) -> None:
    """B1: a link in a mail that scanners open only shows the question; the answer is a POST, once."""
    found, token = await asked(served, "asks", ASKS)
    nobody = await served.client()
    for _ in range(3):
        page = await nobody.get(f"/approve/{token}", params={"answer": "approve"})
        assert page.status_code == 200
    assert "&lt;b&gt;everybody&lt;/b&gt;" in page.text
    assert "ada@example.org" in page.text
    assert not re.search(r"<script|style=|onclick", page.text)
    assert (await served.house.runtime.journal.load(found.row.id)).records == found.records
    done = await nobody.post(f"/approve/{token}", data={"answer": "approve", "comment": "Fine."})
    assert (done.status_code, "Approved" in done.text) == (200, True)
    async with asyncio.timeout(10):
        while (report := await served.house.runtime.report(found.row.id)).state != "succeeded":
            await asyncio.sleep(0.02)
    assert report.steps[0].output["by"] == "ada@example.org"  # type: ignore[index, call-overload]
    assert report.steps[0].output["comment"] == "Fine."  # type: ignore[index, call-overload]
    again = await nobody.post(f"/approve/{token}", data={"answer": "reject"})
    assert (again.status_code, "answered already" in again.text) == (409, True)
    assert "was approved" in (await nobody.get(f"/approve/{token}")).text


@pytest.mark.parametrize(
    "change", [lambda t: t[:-2] + "AA", lambda t: "x" + t, lambda t: t.split(".")[0], lambda t: "%00"]
)
async def test_a_token_that_was_not_made_here(served: Served, change: object) -> None:
    """A token that is changed, cut or invented shows no question and answers none."""
    found, token = await asked(served, "asks", ASKS)
    wrong = change(token)  # type: ignore[operator]
    nobody = await served.client()
    for response in (
        await nobody.get(f"/approve/{wrong}"),
        await nobody.post(f"/approve/{wrong}", data={"answer": "approve"}),
    ):
        assert response.status_code == 404
        assert "everybody" not in response.text
    assert (await served.house.runtime.journal.load(found.row.id)).records == found.records


async def test_a_time_that_is_over(served: Served) -> None:
    """A question whose time is over is told so, and takes no answer."""
    _, token = await asked(served, "anybody", ANYBODY.replace("DEADLINE", "1s"))
    await asyncio.sleep(1.2)
    nobody = await served.client()
    page = await nobody.get(f"/approve/{token}")
    assert (page.status_code, "time for this answer is over" in page.text) == (410, True)
    answer = await nobody.post(f"/approve/{token}", data={"answer": "approve"})
    assert (answer.status_code, "time for this answer is over" in answer.text) == (409, True)


async def test_neither_answer(served: Served) -> None:
    """A form without an answer is shown again; a foreign site cannot send one."""
    found, token = await asked(served, "asks", ASKS)
    nobody = await served.client()
    assert (await nobody.post(f"/approve/{token}", data={"answer": "maybe"})).status_code == 422
    foreign = await nobody.post(
        f"/approve/{token}", data={"answer": "approve"}, headers={"Origin": "https://evil.example"}
    )
    assert foreign.status_code == 403
    assert (await served.house.runtime.journal.load(found.row.id)).records == found.records


async def test_open_questions_and_their_answer(served: Served) -> None:
    """Open questions are listed; who may answer does so in the own name, an administrator in that of one who may."""
    found, _ = await asked(served, "asks", ASKS)
    viewer, runner, admin = await served.client("view"), await served.client("run"), await served.client("admin")
    (question,) = (await viewer.get("/api/v1/approvals")).raise_for_status().json()["items"]
    assert (question["run_id"], question["path"], question["who"]) == (found.row.id, "/ok", ["ada@example.org"])
    path = f"/api/v1/runs/{found.row.id}/answers"
    body = {"step": "ok", "answer": "approve"}
    assert (await viewer.post(path, json=body)).status_code == 403
    assert (await runner.post(path, json=body)).json()["code"] == "not_allowed"
    assert (await runner.post(path, json={**body, "by": "ada@example.org"})).status_code == 403
    wrong = await admin.post(path, json={**body, "step": "other"})
    assert (wrong.status_code, wrong.json()["code"]) == (404, "not_waiting")
    done = await admin.post(path, json={**body, "by": "ada@example.org"})
    assert done.status_code == 200, done.text
    assert (await admin.post(path, json={**body, "by": "ada@example.org", "answer": "reject"})).status_code in (
        403,
        409,
    )
    assert (await viewer.get("/api/v1/approvals")).json()["items"] == []
    assert (await served.house.audit.list())[0].action == "approval.answered"

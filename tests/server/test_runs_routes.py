"""Runs over HTTP: started once, shown, stopped, repeated, removed."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from premises import Served

from weft.journal.base import RunQuery
from weft.server.deps import cursor
from weft.server.routes.run_pages import runs_behind

SENDS = """
name: sends
inputs:
  to: {type: string, default: a@example.org}
steps:
  - {id: text, uses: set_values, with: {values: {body: "Hello"}}}
  - id: mail
    uses: send_email
    connection: outbox
    with: {to: ["{{ inputs.to }}"], subject: Hello, body: "{{ steps.text.output.body }}"}
"""
WAITS = """
name: waits
steps:
  - {id: rest, wait: {for: 1h}}
"""


async def ended(client: httpx.AsyncClient, run_id: str, state: str = "succeeded") -> dict[str, Any]:
    """Return the report of a run that has ended."""
    async with asyncio.timeout(15):
        while True:
            report: dict[str, Any] = (await client.get(f"/api/v1/runs/{run_id}")).raise_for_status().json()
            if report["state"] in ("succeeded", "failed", "cancelled", "parked"):
                assert report["state"] == state, report
                return report
            await asyncio.sleep(0.03)


async def start(client: httpx.AsyncClient, workflow: str, **more: Any) -> str:
    """Start a run and return its id."""
    response = await client.post("/api/v1/runs", json={"workflow": workflow, **more})
    assert response.status_code == 201, response.text
    run_id: str = response.json()["run_id"]
    assert response.headers["Location"] == f"/api/v1/runs/{run_id}"
    return run_id


async def test_a_key_starts_one_run(served: Served) -> None:
    """A11: the same key with the same body answers with the same run, also when sent at the same time; another body is refused."""
    client = await served.client("view", "run")
    body = {"workflow": "hello", "inputs": {"name": "Ada"}}
    keyed = {"Idempotency-Key": "one"}
    answers = await asyncio.gather(*(client.post("/api/v1/runs", json=body, headers=keyed) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["run_id"] for answer in answers}) == 1
    other = await client.post("/api/v1/runs", json={**body, "inputs": {"name": "Bob"}}, headers=keyed)
    assert (other.status_code, other.json()["code"]) == (409, "other_request")
    served.write("hello", "name: hello\nsteps: [{id: x, uses: fail, with: {message: changed}}]\n")
    again = await client.post("/api/v1/runs", json=body, headers=keyed)
    assert (again.status_code, again.json()["run_id"]) == (200, answers[0].json()["run_id"])
    entries = await served.house.audit.list()
    assert [entry.action for entry in entries].count("run.started") == 1


async def test_a_run_and_its_parts(served: Served) -> None:
    """A run is shown whole, by step, as a timeline and in lists; none of it needs more than the scope `view`."""
    client, viewer = await served.client("run"), await served.client("view")
    run = await start(client, "hello", inputs={"name": "Ada"})
    report = await ended(viewer, run)
    assert report["outputs"] == {"said": "Hello Ada"}
    (step,) = (await viewer.get(f"/api/v1/runs/{run}/steps", params={"path": "say"})).json()
    assert step == report["steps"][0]
    assert step["attempts"][0]["arguments"] == {"values": {"text": "Hello Ada"}}
    timeline = (await viewer.get(f"/api/v1/runs/{run}/timeline")).json()
    assert [(bar["kind"], bar["path"]) for bar in timeline["bars"]] == [("step", "/say"), ("attempt", "/say")]
    missing = await viewer.get(f"/api/v1/runs/{run}/steps", params={"path": "sy"})
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_step")
    for run_id in ("nobody", "a%00b"):
        assert (await viewer.get(f"/api/v1/runs/{run_id}")).status_code == 404
    assert (await viewer.post("/api/v1/runs", json={"workflow": "hello"})).status_code == 403


async def test_pages_of_runs(served: Served) -> None:
    """Lists are read page by page, each run once, the youngest first, by state, workflow and text."""
    client = await served.client("view", "run")
    runs = [await start(client, "hello", inputs={"name": f"n{i}"}) for i in range(5)]
    await asyncio.gather(*(ended(client, run) for run in runs))
    found, cursor = [], None
    while True:
        asked = {"limit": 2, "workflow": "hello", **({"cursor": cursor} if cursor else {})}
        page = (await client.get("/api/v1/runs", params=asked)).raise_for_status().json()
        found += [run["run_id"] for run in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert found == runs[::-1]
    one = (await client.get("/api/v1/runs", params={"text": "n3", "state": ["succeeded", "failed"]})).json()
    assert [run["run_id"] for run in one["items"]] == [runs[3]]
    assert (await client.get("/api/v1/runs", params={"cursor": "nonsense"})).status_code == 422


async def test_a_dry_run_keeps_nothing(served: Served) -> None:
    """A dry run tells what each step would be given; no run is kept and no mail is sent."""
    served.write("sends", SENDS)
    client = await served.client("view", "run")
    told = (await client.post("/api/v1/runs/dry-run", json={"workflow": "sends"})).raise_for_status().json()
    assert [step["path"] for step in told["steps"]] == ["/text", "/mail"]
    assert told["steps"][1]["calls"][0]["how"] == "stand_in"
    assert (await client.get("/api/v1/runs")).json()["items"] == []
    assert served.house.runtime.outbox.messages() == []


async def test_parts_and_pins(served: Served) -> None:
    """A part of a workflow runs to a step, or one step alone with pins: those that are given, else those that are kept."""
    served.write("sends", SENDS)
    client = await served.client("view", "run")
    report = await ended(client, await start(client, "sends", until="text"))
    assert [step["path"] for step in report["steps"]] == ["/text"]
    without = await client.post("/api/v1/runs", json={"workflow": "sends", "only": "mail"})
    assert (without.status_code, without.json()["code"]) == (422, "missing_pin")
    report = await ended(client, await start(client, "sends", only="mail", pins={"text": {"body": "given"}}))
    assert report["steps"][0]["attempts"][0]["arguments"]["body"] == "given"
    await served.house.runtime.documents.save_pins("sends", {"text": {"body": "kept"}, "gone": 1})
    report = await ended(client, await start(client, "sends", only="mail"))
    assert report["steps"][0]["attempts"][0]["arguments"]["body"] == "kept"
    whole = await client.post("/api/v1/runs", json={"workflow": "sends", "pins": {"text": {}}})
    assert (whole.status_code, whole.json()["code"]) == (422, "pins_of_whole")
    both = await client.post("/api/v1/runs", json={"workflow": "sends", "until": "text", "only": "text"})
    assert both.status_code == 422


async def test_cancel_and_its_refusal(served: Served) -> None:
    """A run that waits is cancelled and ends; one that has ended cannot be cancelled, nor resumed."""
    served.write("waits", WAITS)
    client = await served.client("view", "run")
    run = await start(client, "waits")
    cancelled = await client.post(f"/api/v1/runs/{run}/cancel", json={"now": True})
    assert cancelled.status_code == 200, cancelled.text
    await ended(client, run, "cancelled")
    for what in ("cancel", "resume"):
        refused = await client.post(f"/api/v1/runs/{run}/{what}")
        assert (refused.status_code, refused.json()["code"]) == (409, "has_ended")


async def test_repeating(served: Served) -> None:
    """A22: a rerun takes edited inputs; a replay tells what it would send again, and sends it only when that is said."""
    served.write("sends", SENDS)
    client = await served.client("view", "run")
    run = await start(client, "sends")
    await ended(client, run)
    again = (await client.post(f"/api/v1/runs/{run}/rerun", json={"inputs": {"to": "b@example.org"}})).json()
    report = await ended(client, again["run_id"])
    assert (report["origin"], report["inputs"]) == (run, {"to": "b@example.org"})
    plan = (await client.post(f"/api/v1/runs/{run}/replay/plan", json={"steps": ["mail"]})).raise_for_status().json()
    assert plan["sends_again"]
    assert plan["sends"][0]["again"] == ["/mail"]
    refused = await client.post(f"/api/v1/runs/{run}/replay", json={"steps": ["mail"]})
    assert (refused.status_code, refused.json()["code"]) == (409, "would_send_again")
    before = len(served.house.runtime.outbox.messages())
    done = await client.post(f"/api/v1/runs/{run}/replay", json={"steps": ["mail"], "send_again": True})
    assert done.status_code == 201
    report = await ended(client, done.json()["run_id"])
    assert report["steps"][0]["attempts"][0]["inherited"]
    assert len(served.house.runtime.outbox.messages()) == before + 1
    told = (await client.get(f"/api/v1/runs/{run}/comparison", params={"other": again["run_id"]})).json()
    assert told["same_document"]
    assert [(each["name"], each["equal"]) for each in told["inputs"]] == [("to", False)]
    assert {each["path"]: each["same_arguments"] for each in told["steps"]} == {"/text": True, "/mail": False}


async def test_what_triggered_a_run(served: Served) -> None:
    """A person in a browser is told as one on the command line; a program is named, with the trace that it is part of."""
    browser, client = await served.browser("view", "run"), await served.client("view", "run")
    by_hand = await browser.post("/api/v1/runs", json={"workflow": "hello"})
    assert by_hand.json()["trigger"] is None
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    response = await client.post("/api/v1/runs", json={"workflow": "hello"}, headers={"traceparent": trace})
    row = (await served.house.runtime.journal.status(response.json()["run_id"])).row
    assert trace in row.trigger
    assert response.json()["trigger"] == "request"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"workflow": "nobody"}, "unknown_workflow"),
        ({"workflow": "hello", "inputs": {"nme": "x"}}, "unknown_input"),
        ({"workflow": "../hello"}, "unknown_workflow"),
        ({"workflow": "/etc/passwd"}, "unknown_workflow"),
        ({"workflow": "hello", "more": 1}, "bad_request"),
    ],
)
async def test_refused_starts(served: Served, body: dict[str, Any], code: str) -> None:
    """A start that cannot be is refused with the code that the command line tells; no path is a workflow's name."""
    client = await served.client("run", "view")
    response = await client.post("/api/v1/runs", json=body)
    assert response.status_code in (404, 422)
    if code != "bad_request":
        assert response.json()["code"] == code
    assert (await client.get("/api/v1/runs")).json()["items"] == []


async def test_a_file_is_downloaded_and_never_shown(served: Served) -> None:
    """A file of a run comes as an attachment under a harmless name, with its kind, and no browser may guess another."""
    runtime = served.house.runtime
    client = await served.client("view", "run")
    run = await start(client, "hello")
    await ended(client, run)
    content = b"<script>alert(1)</script>"
    kept = await runtime.journal.save_artifact(run, content, name='e"vil\r\n.html', content_type="text/html")
    response = await client.get(f"/api/v1/runs/{run}/artifacts/{kept['artifact']}")
    assert response.content == content
    assert response.headers["Content-Disposition"].startswith("attachment; ")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    other = await start(client, "hello")
    assert (await client.get(f"/api/v1/runs/{other}/artifacts/{kept['artifact']}")).status_code == 404


async def test_purging_is_for_administrators(served: Served) -> None:
    """Old runs are removed by an administrator alone; it is on record. Their keys start nothing again, their pages go on."""
    client, admin = await served.client("view", "run"), await served.client("admin")
    keyed = {"Idempotency-Key": "one"}
    runs = [
        (await client.post("/api/v1/runs", json={"workflow": "hello"}, headers=keyed)).json()["run_id"],
        await start(client, "hello"),
    ]
    await asyncio.gather(*(ended(client, run) for run in runs))
    await asyncio.sleep(1.1)
    young = [await start(client, "hello") for _ in range(2)]
    await asyncio.gather(*(ended(client, run) for run in young))
    page = (await client.get("/api/v1/runs", params={"limit": 3})).json()
    assert (await client.post("/api/v1/runs/purge", json={"older_than": "1s"})).status_code == 403
    purged = await admin.post("/api/v1/runs/purge", json={"older_than": "1s"})
    assert purged.json()["runs"] == 2
    assert (await served.house.audit.list())[0].action == "runs.purged"
    again = await client.post("/api/v1/runs", json={"workflow": "hello"}, headers=keyed)
    assert (again.status_code, again.json()["code"]) == (409, "run_removed")
    behind = await client.get("/api/v1/runs", params={"limit": 3, "cursor": page["next"]})
    assert (behind.status_code, behind.json()) == (200, {"items": [], "next": None})


async def test_a_page_goes_on_behind_a_run_that_was_removed(served: Served) -> None:
    """A cursor stands for a place: when its run is gone, what is older follows, none twice and none left out."""
    journal = await served.house.runtime.opened()
    client = await served.client("view", "run")
    runs = [await start(client, "hello") for _ in range(3)]
    await asyncio.gather(*(ended(client, run) for run in runs))
    found = await journal.runs(RunQuery(limit=10))
    gone = cursor("gone", repr(found[1].row.started_at))  # as if it had stood between the second and the third
    rest = await runs_behind(journal, RunQuery(limit=10), gone)
    assert [each.row.id for each in rest] == [each.row.id for each in found[1 if found[1].row.id < "gone" else 2 :]]
    assert await runs_behind(journal, RunQuery(limit=1), gone) == rest[:1]
    assert await runs_behind(journal, RunQuery(limit=10), cursor("gone", "nonsense")) == []

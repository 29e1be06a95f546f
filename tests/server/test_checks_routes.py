from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from premises import Served

FAULTY = """\
name: faulty
inputs:
  who: {type: string}
steps:
  - id: ask
    uses: set_values
    with: {values: {a: "{{ inputs.hwo }}"}}
  - id: tell
    uses: log
    with: {mesage: "x"}
"""


async def test_validate(served: Served) -> None:
    """What is wrong with a document is told exactly as the command line tells it."""
    file = served.write("faulty", FAULTY)
    client = await served.client("view")
    told = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "weft", "validate", "--json", str(file)],
        capture_output=True,
        check=False,
    )

    sent = await client.post("/api/v1/validate", json={"documents": [{"file": str(file), "text": FAULTY}]})
    every = (await client.post("/api/v1/validate", json={})).raise_for_status().json()["documents"]

    assert sent.raise_for_status().json() == json.loads(told.stdout)
    assert len(sent.json()["documents"][0]["problems"]) == 3
    assert {Path(each["file"]).name: each["valid"] for each in every} == {"faulty.yaml": False, "hello.yaml": True}


async def test_validate_others(served: Served) -> None:
    """Manifests and types of connections are checked as well."""
    client = await served.client("view")
    documents = [{"file": "a.yaml", "text": "id: a\n", "kind": "manifest"}]
    documents.append({"file": "b.yaml", "text": "id: [", "kind": "connection-type"})

    found = (await client.post("/api/v1/validate", json={"documents": documents})).raise_for_status().json()

    assert [each["valid"] for each in found["documents"]] == [False, False]


async def test_no_file_is_read(served: Served, tmp_path: Path) -> None:
    """The name of a document that is sent opens no directory: children are those of the workspace."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.yaml").write_text("name: secret\nsteps: [{id: a, uses: gone}]\n")
    text = "name: x\nsteps:\n  - id: a\n    uses: workflow:secret\n"
    client = await served.client("view")

    sent = await client.post(
        "/api/v1/validate", json={"documents": [{"file": str(tmp_path / "elsewhere" / "x.yaml"), "text": text}]}
    )

    problems = sent.raise_for_status().json()["documents"][0]["problems"]
    assert [each["code"] for each in problems] == ["unknown_workflow"]


async def check(served: Served, step: dict[str, Any], **more: Any) -> list[tuple[str, str | None, int | None]]:
    client = await served.client("view")
    asked = {"workflow": "faulty", "path": ["steps", 1], "step": step, **more}
    answer = (await client.post("/api/v1/steps/check", json=asked)).raise_for_status().json()
    assert answer["valid"] == all(each["severity"] != "error" for each in answer["problems"])
    return [(each["code"], each["where"]["field"], each["where"]["column"]) for each in answer["problems"]]


async def test_step(served: Served) -> None:
    """A step is judged in its place, with the field and the column inside of its text, and the rest is left alone."""
    served.write("faulty", FAULTY)

    good = await check(served, {"id": "tell", "uses": "log", "with": {"message": "{{ steps.ask.output }}"}})
    wrong = await check(served, {"id": "tell", "uses": "log", "with": {"message": "Hi {{ steps.aks.output }}"}})
    later = await check(
        served, {"id": "first", "uses": "log", "with": {"message": "{{ steps.tell.output }}"}}, path=["steps", 0]
    )
    nameless = await check(served, {"uses": "log", "with": {"message": "x"}})
    appended = await check(served, {"id": "tell", "uses": "log", "with": {"message": "x"}}, path=["steps", 2])

    assert good == []
    assert wrong == [("unknown_step", "with.message", 7)]
    assert later == [("later_step", "with.message", 4)]
    assert nameless == [("missing_key", "id", None)]
    assert [code for code, _, _ in appended] == ["duplicate_id"]


async def test_step_nowhere(served: Served) -> None:
    """A path that leads to no list of steps is told as such."""
    client = await served.client("view")
    for path in (["steps", 9], ["inputs", 0], ["steps", 0, "with", 0], ["on", "steps", 0]):
        answer = await client.post("/api/v1/steps/check", json={"workflow": "hello", "path": path, "step": {"id": "a"}})

        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_step")


async def test_step_is_quick(served: Served) -> None:
    """Among two hundred steps one is checked in less time than all of them: the document is not studied anew."""
    steps = "".join(
        f"  - id: s{i}\n    uses: log\n    with: {{message: 'step {i} {{{{ inputs.x }}}}'}}\n" for i in range(200)
    )
    served.write("large", f"name: large\ninputs:\n  x: {{}}\nsteps:\n{steps}")
    client = await served.client("view")
    whole = []
    for turn in range(3):
        served.write("large", f"name: large\ninputs:\n  x: {{}}\nsteps:\n{steps}# {turn}\n")
        whole.append(await _seconds(client, "/api/v1/validate", {}))
    took = []
    for turn in range(6):
        asked = {"id": "s100", "uses": "log", "with": {"message": f"{{{{ steps.s99.state }}}} {turn}"}}
        began = time.perf_counter()
        answer = await client.post(
            "/api/v1/steps/check", json={"workflow": "large", "path": ["steps", 100], "step": asked}
        )
        took.append(time.perf_counter() - began)
        assert answer.raise_for_status().json()["problems"] == []

    assert min(took[1:]) < min(whole)


async def _seconds(client: httpx.AsyncClient, path: str, asked: dict[str, object]) -> float:
    began = time.perf_counter()
    (await client.post(path, json=asked)).raise_for_status()
    return time.perf_counter() - began


SCHEDULES = [
    ("0 8 * * 1-5", "Every weekday at 08:00, by the clock of Europe/Zurich."),
    ("*/15 8-17 * * *", "Every 15 minutes from 08:00 to 17:45, by the clock of Europe/Zurich."),
    ("0 9 L * *", "On the last day of every month at 09:00, by the clock of Europe/Zurich."),
]


@pytest.mark.parametrize(("cron", "sentence"), SCHEDULES)
async def test_explain(served: Served, cron: str, sentence: str) -> None:
    """A schedule is put in words, with its next instants in two zones."""
    client = await served.client("view")
    asked = {
        "schedule": {"cron": cron, "timezone": "Europe/Zurich"},
        "zone": "America/New_York",
        "after": "2027-01-01",
        "count": 2,
    }

    body = (await client.post("/api/v1/schedules/explain", json=asked)).raise_for_status().json()

    assert (body["valid"], body["sentence"], len(body["instants"])) == (True, sentence, 2)
    assert all(each["local"].endswith("+01:00") and each["here"].endswith("-05:00") for each in body["instants"])


async def test_clock_changes(served: Served) -> None:
    """What happens on the days when the clock is set is told: a time that is missing, and one that comes twice."""
    client = await served.client("view")
    asked = {"schedule": {"cron": "30 2 * * *", "timezone": "Europe/Zurich"}, "after": "2027-01-01"}

    notes = (await client.post("/api/v1/schedules/explain", json=asked)).raise_for_status().json()["notes"]

    assert [(each["kind"], each["on"], each["local"], each["starts"]) for each in notes] == [
        ("gap", "2027-03-28", "02:30", "03:00"),
        ("twice", "2027-10-31", "02:30", None),
    ]
    assert notes[0]["message"] == "28 March 2027: 02:30 does not exist; it starts at 03:00."


async def test_faulty_schedule(served: Served) -> None:
    """A schedule at fault is told with the field and the column inside of it."""
    client = await served.client("view")

    async def ask(schedule: dict[str, Any], **more: Any) -> Any:
        return (await client.post("/api/v1/schedules/explain", json={"schedule": schedule, **more})).json()

    wrong = await ask({"cron": "0 25 * * *", "timezone": "Europe/Zurich"})
    misspelt = await ask({"cron": "0 5 * * *", "timezone": "Europe/Zürich", "evry": "1h"})
    far = await ask({"cron": "0 5 * * *", "timezone": "UTC"}, after="9999-12-30")
    no_zone = await ask({"cron": "0 5 * * *", "timezone": "UTC"}, zone="Mars/Olympus")

    assert [(each["code"], each["where"]["field"], each["where"]["column"]) for each in wrong["problems"]] == [
        ("cron", "cron", 3)
    ]
    assert "unknown_key" in {each["code"] for each in misspelt["problems"]}
    assert (far["code"], no_zone["code"]) == ("not_an_instant", "timezone")


async def test_schemas(served: Served) -> None:
    """The schemas for editors are those that `weft schema` prints."""
    client = await served.client("view")
    told = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "weft", "schema", "workflow"], capture_output=True, check=True
    )

    kinds = (await client.get("/api/v1/schemas")).raise_for_status().json()["kinds"]

    assert (await client.get("/api/v1/schemas/workflow")).json() == json.loads(told.stdout)
    for kind in kinds:
        assert (await client.get(f"/api/v1/schemas/{kind}")).raise_for_status().json()["$schema"]
    assert (await client.get("/api/v1/schemas/workflo")).status_code == 404

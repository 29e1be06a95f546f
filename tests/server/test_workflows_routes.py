from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
from premises import Served

DIGEST = """\
# Keep this line.
name: digest
title: Daily digest
enabled: false
inputs:
  topic: {type: string, default: news}
on:
  schedule:
    - cron: "0 8 * * 1-5"   # every working day
      timezone: Europe/Zurich
steps:
  - id: ask
    uses: set_values
    with:
      values: {answer: "All about {{ inputs.topic }}"}
  # The second step.
  - id: tell
    uses: log
    with:
      message: "{{ steps.ask.output.answer }}"
"""


async def show(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    return dict((await client.get(f"/api/v1/workflows/{name}")).raise_for_status().json())


async def test_show(served: Served) -> None:
    """A workflow is shown with its text, its model, its steps with needs, references and places, and its ETag."""
    served.write("digest", DIGEST)
    client = await served.client("view")

    answer = await client.get("/api/v1/workflows/digest")
    body = answer.raise_for_status().json()

    assert answer.headers["ETag"] == f'"{hashlib.sha256(DIGEST.encode()).hexdigest()}"'
    assert (body["text"], body["model"]["title"], body["enabled"]) == (DIGEST, "Daily digest", False)
    assert [(s["id"], s["path"], s["needs"], s["line"]) for s in body["steps"]] == [
        ("ask", ["steps", 0], [], 12),
        ("tell", ["steps", 1], ["ask"], 17),
    ]
    assert body["steps"][1]["references"] == [
        {"step": "ask", "field": "with.message", "path": "steps.ask.output.answer"}
    ]
    assert body["problems"] == []
    again = await client.get("/api/v1/workflows/digest", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_list(served: Served) -> None:
    """The list tells what starts each workflow, how many faults it has, and pages through all."""
    served.write("digest", DIGEST.replace("enabled: false", "enabled: true"))
    served.write("broken", "name: broken\nsteps: [{id: a, uses: nothing}]\n")
    served.write("torn", "name: [\n")
    client = await served.client("view", "run")

    first = (await client.get("/api/v1/workflows", params={"limit": 3})).raise_for_status().json()
    rest = (await client.get("/api/v1/workflows", params={"limit": 3, "cursor": first["next"]})).json()
    found = {each["name"]: each for each in first["items"] + rest["items"]}

    assert list(found) == ["broken", "digest", "hello", "torn"]
    assert found["digest"]["triggers"] == [{"kind": "schedule", "told": "0 8 * * 1-5 in Europe/Zurich"}]
    assert (found["broken"]["errors"], found["broken"]["readable"]) == (1, True)
    assert (found["torn"]["errors"], found["torn"]["readable"]) == (1, False)
    assert rest["next"] is None
    searched = (await client.get("/api/v1/workflows", params={"find": "daily"})).json()
    assert [each["name"] for each in searched["items"]] == ["digest"]


async def test_operations(served: Served) -> None:
    """An operation changes its line alone, is told as a diff, is on record, and its inverse brings every byte back."""
    served.write("digest", DIGEST)
    client = await served.client("view", "edit")
    before = await show(client, "digest")

    answer = await client.post(
        "/api/v1/workflows/digest/operations",
        json={"operations": [{"op": "set", "path": ["steps", 1, "with", "message"], "value": "Done"}]},
        headers={"If-Match": before["etag"]},
    )
    body = answer.raise_for_status().json()
    back = await client.post(
        "/api/v1/workflows/digest/operations",
        json={"operations": body["inverse"]},
        headers={"If-Match": answer.headers["ETag"]},
    )

    assert body["model"]["steps"][1]["with"] == {"message": "Done"}
    assert [line for line in body["diff"].splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")] == [
        '-      message: "{{ steps.ask.output.answer }}"',
        '+      message: "Done"',
    ]
    assert body["etag"] == answer.headers["ETag"].strip('"') != before["etag"]
    assert back.raise_for_status().json()["text"] == DIGEST == (served.workspace / "digest.yaml").read_text()
    entries = await served.house.audit.list(limit=2)
    assert [(each.action, each.target) for each in entries] == [("workflow.changed", "digest")] * 2


async def test_rename_step(served: Served) -> None:
    """A step that gets another id is spoken of by it everywhere, and it is told how often."""
    served.write("digest", DIGEST)
    client = await served.client("view", "edit")
    etag = (await show(client, "digest"))["etag"]

    answer = await client.post(
        "/api/v1/workflows/digest/operations",
        json={"operations": [{"op": "rename_step", "path": ["steps", 0], "id": "asked"}]},
        headers={"If-Match": etag},
    )

    assert answer.raise_for_status().json()["references"] == 1
    assert "{{ steps.asked.output.answer }}" in answer.json()["text"]


async def test_unconditional(served: Served) -> None:
    """A change that does not say what it was made in is refused, and changes nothing."""
    client = await served.client("view", "edit")
    before = await show(client, "hello")

    answers = [
        await client.post("/api/v1/workflows/hello/operations", json={"operations": [{"op": "remove", "path": ["x"]}]}),
        await client.put("/api/v1/workflows/hello", json={"text": "name: hello\n"}),
        await client.put("/api/v1/workflows/hello/enabled", json={"enabled": True}),
        await client.post("/api/v1/workflows/hello/rename", json={"to": "bye"}),
        await client.delete("/api/v1/workflows/hello"),
    ]

    assert [(each.status_code, each.json()["code"]) for each in answers] == [(428, "precondition_required")] * 5
    assert await show(client, "hello") == before


async def test_conflict(served: Served) -> None:
    """Who changes what was changed meanwhile is shown both sides and what they were made from."""
    served.write("digest", DIGEST)
    client = await served.client("view", "edit")
    etag = (await show(client, "digest"))["etag"]
    theirs = DIGEST.replace("Daily digest", "Theirs")
    served.write("digest", theirs)
    operations = [{"op": "set", "path": ["title"], "value": "Mine"}]

    refused = await client.post(
        "/api/v1/workflows/digest/operations", json={"operations": operations}, headers={"If-Match": etag}
    )
    text = await client.put("/api/v1/workflows/digest", json={"text": "name: digest\n"}, headers={"If-Match": etag})

    assert (refused.status_code, refused.json()["code"]) == (412, "conflict")
    sides = refused.json()
    assert (sides["base"], sides["theirs"]) == (DIGEST, theirs)
    assert sides["yours"] == DIGEST.replace("Daily digest", "Mine")
    assert (text.status_code, text.json()["theirs"], text.json()["yours"]) == (412, theirs, "name: digest\n")
    assert (served.workspace / "digest.yaml").read_text() == theirs


async def test_merge(served: Served) -> None:
    """A change of another part is made in what others have made of the document, when that is asked for."""
    served.write("digest", DIGEST)
    client = await served.client("view", "edit")
    etag = (await show(client, "digest"))["etag"]
    served.write("digest", DIGEST.replace("Daily digest", "Theirs"))

    merged = await client.post(
        "/api/v1/workflows/digest/operations",
        json={"operations": [{"op": "set", "path": ["steps", 1, "with", "message"], "value": "Mine"}], "merge": True},
        headers={"If-Match": etag},
    )
    same = await client.post(
        "/api/v1/workflows/digest/operations",
        json={"operations": [{"op": "set", "path": ["title"], "value": "Mine"}], "merge": True},
        headers={"If-Match": etag},
    )

    body = merged.raise_for_status().json()
    assert (body["merged"], body["model"]["title"]) == (True, "Theirs")
    assert body["model"]["steps"][1]["with"] == {"message": "Mine"}
    assert (same.status_code, same.json()["base"]) == (412, DIGEST)


async def test_create(served: Served) -> None:
    """A workflow is made empty, from a text, or like an example, and never in the place of another."""
    client = await served.client("view", "edit")

    blank = await client.post("/api/v1/workflows", json={"name": "blank"})
    text = await client.post("/api/v1/workflows", json={"name": "own", "text": DIGEST})
    example = await client.post("/api/v1/workflows", json={"name": "mine", "example": "daily-digest"})
    taken = await client.post("/api/v1/workflows", json={"name": "hello"})
    unknown = await client.post("/api/v1/workflows", json={"name": "x", "example": "nothing-like-it"})
    wrong = await client.post("/api/v1/workflows", json={"name": "../x"})

    assert (blank.status_code, blank.json()["problems"]) == (201, [])
    assert blank.headers["Location"] == "/api/v1/workflows/blank"
    assert (text.status_code, text.json()["text"]) == (201, DIGEST)
    assert (example.status_code, example.json()["model"]["name"]) == (201, "mine")
    assert [each.status_code for each in (taken, unknown, wrong)] == [412, 404, 422]
    assert taken.json()["code"] == "exists"
    listed = (await client.get("/api/v1/examples")).raise_for_status().json()
    assert "daily-digest" in {each["name"] for each in listed}


async def test_replace(served: Served) -> None:
    """A text with faults is kept, too, and what is wrong with it is told."""
    client = await served.client("view", "edit")
    etag = (await show(client, "hello"))["etag"]

    answer = await client.put("/api/v1/workflows/hello", json={"text": "name: [\n"}, headers={"If-Match": etag})

    body = answer.raise_for_status().json()
    assert (body["model"], body["steps"], body["problems"][0]["where"]["line"]) == (None, [], 2)
    assert (served.workspace / "hello.yaml").read_text() == "name: [\n"


async def test_rename(served: Served) -> None:
    """A workflow gets another name in its file and as its file, and keeps its pins."""
    served.write("digest", DIGEST)
    client = await served.client("view", "edit")
    etag = (await show(client, "digest"))["etag"]
    await client.put("/api/v1/workflows/digest/pins/ask", json={"output": {"answer": "pinned"}})

    answer = await client.post("/api/v1/workflows/digest/rename", json={"to": "news"}, headers={"If-Match": etag})

    body = answer.raise_for_status().json()
    assert (body["name"], body["model"]["name"], body["pins"]) == ("news", "news", ["ask"])
    assert not (served.workspace / "digest.yaml").exists()
    assert (served.workspace / "news.yaml").read_text() == DIGEST.replace("name: digest", "name: news")


async def test_enable(served: Served) -> None:
    """A workflow is enabled by one changed line."""
    served.write("digest", DIGEST)
    client = await served.client("view", "edit")
    etag = (await show(client, "digest"))["etag"]

    answer = await client.put("/api/v1/workflows/digest/enabled", json={"enabled": True}, headers={"If-Match": etag})

    assert (answer.raise_for_status().json()["enabled"], answer.json()["lines"]) == (True, [{"first": 4, "last": 4}])


async def test_history(served: Served) -> None:
    """Versions are listed with who made them, shown, compared and restored; one that was removed comes back."""
    client = await served.client("view", "edit")
    etag = (await show(client, "hello"))["etag"]
    old = (served.workspace / "hello.yaml").read_text()
    saved = await client.put("/api/v1/workflows/hello", json={"text": DIGEST, "why": "new"}, headers={"If-Match": etag})
    versions = (await client.get("/api/v1/workflows/hello/versions")).raise_for_status().json()["items"]

    diff = await client.get("/api/v1/workflows/hello/diff", params={"before": versions[1]["number"]})
    text = await client.get(f"/api/v1/workflows/hello/versions/{versions[1]['number']}")
    restored = await client.post(
        f"/api/v1/workflows/hello/versions/{versions[1]['number']}/restore", headers={"If-Match": saved.headers["ETag"]}
    )
    removed = await client.delete("/api/v1/workflows/hello", headers={"If-Match": restored.headers["ETag"]})
    gone = await client.get("/api/v1/workflows/hello")
    again = await client.post(f"/api/v1/workflows/hello/versions/{versions[0]['number']}/restore")

    assert [(each["by"], each["why"]) for each in versions][:1] == [("test", "new")]
    assert versions[1]["by"] == "outside"
    assert "+name: digest" in diff.json()["diff"]
    assert text.json()["text"] == old == restored.json()["text"]
    assert (removed.status_code, gone.status_code) == (204, 404)
    assert again.raise_for_status().json()["text"] == DIGEST


async def test_layout(served: Served) -> None:
    """Where things stand is kept beside the document, which stays as it is."""
    client = await served.client("view", "edit")
    before = (await show(client, "hello"))["etag"]
    layout = {"steps": {"say": {"x": 10, "y": 20}}}

    saved = await client.put("/api/v1/workflows/hello/layout", json={"layout": layout})

    assert saved.raise_for_status().json()["layout"] == layout
    body = await show(client, "hello")
    assert (body["layout"], body["etag"]) == (layout, before)
    assert (await client.get("/api/v1/workflows/nothing/layout")).status_code == 404


async def test_pins(served: Served) -> None:
    """Outputs are pinned outside of the document, for steps that it has."""
    served.write("digest", DIGEST)
    client = await served.client("view", "edit")

    pinned = await client.put("/api/v1/workflows/digest/pins/ask", json={"output": {"answer": 7}})
    unknown = await client.put("/api/v1/workflows/digest/pins/nobody", json={"output": 1})
    removed = await client.delete("/api/v1/workflows/digest/pins/ask")
    twice = await client.delete("/api/v1/workflows/digest/pins/ask")

    assert pinned.raise_for_status().json() == {"pins": {"ask": {"answer": 7}}}
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_step")
    assert (removed.json(), twice.status_code) == ({"pins": {}}, 404)
    assert (served.workspace / "digest.yaml").read_text() == DIGEST


async def test_deep(served: Served) -> None:
    """A value that is nested deeper than any document is refused, and nobody falls over it."""
    client = await served.client("view", "edit")
    etag = (await show(client, "hello"))["etag"]
    deep: Any = 1
    for _ in range(60):
        deep = [deep]

    answer = await client.post(
        "/api/v1/workflows/hello/operations",
        json={"operations": [{"op": "set", "path": ["variables"], "value": deep}]},
        headers={"If-Match": etag},
    )
    pin = await client.put("/api/v1/workflows/hello/pins/say", json={"output": deep})

    assert (answer.status_code, pin.status_code) == (422, 422)


async def test_a_document_that_cannot_be_shown_hides_no_other(served: Served) -> None:
    """One that is too large is listed and checked with its fault, among the others."""
    served.write("digest", DIGEST)
    served.write("large", "#" * 1_000_001)
    client = await served.client("view")

    listed = (await client.get("/api/v1/workflows")).raise_for_status().json()["items"]
    checked = (await client.post("/api/v1/validate", json={})).raise_for_status().json()["documents"]
    found = (await client.get("/api/v1/workflows?find=daily")).raise_for_status().json()["items"]

    assert [(each["name"], each["readable"], each["errors"]) for each in listed] == [
        ("digest", True, 0),
        ("hello", True, 0),
        ("large", False, 1),
    ]
    assert [[problem["code"] for problem in each["problems"]] for each in checked] == [[], [], ["too_large"]]
    assert [each["name"] for each in found] == ["digest"]


async def test_operations_of_many_are_merged(served: Served) -> None:
    """Who changes other places of a document at the same moment, and says `merge`, is not refused."""
    served.write("digest", DIGEST)
    client = await served.client("edit", "view")
    etag = (await client.get("/api/v1/workflows/digest")).headers["ETag"]

    async def change(path: list[str | int]) -> int:
        operations = [{"op": "set", "path": path, "value": "changed"}]
        answer = await client.post(
            "/api/v1/workflows/digest/operations",
            json={"operations": operations, "merge": True},
            headers={"If-Match": etag},
        )
        return answer.status_code

    paths: list[list[str | int]] = [["title"], ["inputs", "topic", "default"], ["steps", 1, "with", "message"]]
    assert await asyncio.gather(*map(change, paths)) == [200, 200, 200]
    assert (await show(client, "digest"))["text"].count("changed") == 3

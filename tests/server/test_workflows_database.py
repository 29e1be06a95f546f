from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from premises import serve

if TYPE_CHECKING:
    from servers.postgres import Postgres

PARENT = "name: parent\nsteps:\n  - id: start\n    uses: workflow:child\n    with: {who: Ada}\n"
CHILD = "name: child\ninputs: {who: {}}\nsteps:\n  - id: say\n    uses: log\n    with: {message: '{{ inputs.who }}'}\n"


async def test_in_the_database(place: Path, postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the workspace is a database two servers see one truth: workflows, children, conflicts and connections."""
    monkeypatch.setenv("WEFT_DATABASE_URL", postgres_server.database())
    monkeypatch.setenv("WEFT_KEY", base64.b64encode(os.urandom(32)).decode())
    async with serve(place, works=False) as one, serve(place, works=False) as two:
        here = await one.client("view", "edit", "connections")
        there = await two.client("view", "edit", "connections")
        parent = await here.post("/api/v1/workflows", json={"name": "parent", "text": PARENT})
        child = await there.post("/api/v1/workflows", json={"name": "child", "text": CHILD})
        shown = await here.get("/api/v1/workflows/parent")
        step = {"id": "start", "uses": "workflow:child", "with": {"whom": "Ada"}}
        checked = await here.post(
            "/api/v1/steps/check", json={"workflow": "parent", "path": ["steps", 0], "step": step}
        )
        edited = await there.post(
            "/api/v1/workflows/parent/operations",
            json={"operations": [{"op": "set", "path": ["title"], "value": "Mother"}]},
            headers={"If-Match": parent.headers["ETag"]},
        )
        late = await here.put(
            "/api/v1/workflows/parent", json={"text": CHILD}, headers={"If-Match": parent.headers["ETag"]}
        )
        mail = {"host": "127.0.0.1", "tls": "none", "from": "a@example.com", "username": "a", "password": "canary-1234"}
        added = await here.post("/api/v1/connections", json={"name": "post", "type": "smtp", "fields": mail})
        known = await there.get("/api/v1/connections/post")
        listed = await there.get("/api/v1/workflows")

    assert [each["code"] for each in parent.json()["problems"]] == ["unknown_workflow"]
    assert (child.status_code, shown.raise_for_status().json()["problems"]) == (201, [])
    assert [each["code"] for each in checked.raise_for_status().json()["problems"]] == ["unknown_input"]
    assert edited.raise_for_status().json()["title"] == "Mother"
    assert (late.status_code, late.json()["base"], "title: Mother" in late.json()["theirs"]) == (412, PARENT, True)
    assert added.status_code == 201
    assert (known.raise_for_status().json()["secrets"], "canary-1234" in known.text) == (["password"], False)
    assert [each["name"] for each in listed.json()["items"]] == ["child", "parent"]

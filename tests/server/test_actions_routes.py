from __future__ import annotations

from pathlib import Path

import pytest
from premises import Served, serve

from weft import manifest, packs, source
from weft.errors import Problem
from weft.registry import Registry


async def test_actions(served: Served) -> None:
    """Actions are listed and searched, and each is shown with all that a form needs."""
    client = await served.client("view")

    listed = (await client.get("/api/v1/actions")).raise_for_status().json()
    found = (await client.get("/api/v1/actions", params={"find": "EMAIL send"})).json()
    mail = (await client.get("/api/v1/actions/send_email")).raise_for_status().json()

    assert [each["id"] for each in listed] == [each.id for each in served.house.runtime.registry.actions()]
    assert "send_email" in {each["id"] for each in found}
    assert len(found) < len(listed)
    assert (mail["effects"], mail["connection"], mail["problems"]) == ("send", "smtp", [])
    body = next(each for each in mail["manifest"]["parameters"]["basic"] if each["name"] == "body")
    assert (body["widget"], body["required"]) == ("multiline", True)
    assert mail["manifest"]["output"]["schema"]["type"] == "object"
    assert mail["arguments_schema"]["required"] == ["to", "subject", "body"]
    assert source.read(mail["example"], "example.yaml").value == [mail["step"]]


async def test_manifest_is_whole(served: Served) -> None:
    """What is answered of a manifest is all of it: it reads back as the same declaration."""
    client = await served.client("view")
    for action in served.house.runtime.registry.actions():
        answered = (await client.get(f"/api/v1/actions/{action.id}")).raise_for_status().json()["manifest"]

        assert manifest.Manifest.model_validate(answered) == action.manifest


async def test_unknown(served: Served) -> None:
    """An action that there is not is told with the nearest name."""
    client = await served.client("view")

    answer = await client.get("/api/v1/actions/send_emial")

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_action")
    assert "send_email" in answer.json()["problems"][0]["remedy"]


async def test_connection_types(served: Served) -> None:
    """Types of connections tell their fields, those of a provider among them, and whether they can be tried out."""
    client = await served.client("view")

    listed = (await client.get("/api/v1/connection-types")).raise_for_status().json()
    azure = await client.get("/api/v1/connection-types/model_provider", params={"by": "azure"})

    found = {each["declared"]["id"]: each for each in listed}
    assert found["smtp"]["testable"] is True
    assert "send_email" in found["smtp"]["actions"]
    own = {field["name"] for field in found["model_provider"]["fields"]}
    assert "tenant_id" in {field["name"] for field in azure.raise_for_status().json()["fields"]} - own
    assert "concurrency" in own


async def test_packs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs are listed with what they bring; a broken one with what is wrong with it, and nothing else fails."""
    discover = packs.discover

    def with_broken(extra: tuple[Path, ...] = ()) -> Registry:
        registry = discover(extra)
        problem = Problem("import", "No module named 'gone'.", "Install it.")
        registry.add_broken("torn", [problem], ["lost_action"])
        return registry

    monkeypatch.setattr("weft.runtime.discover", with_broken)
    async with serve(place, works=False) as served:
        client = await served.client("view")
        found = (await client.get("/api/v1/packs")).raise_for_status().json()
        lost = await client.get("/api/v1/actions/lost_action")

    assert [(each["name"], each["broken"]) for each in found] == [("core", False), ("torn", True)]
    assert "send_email" in found[0]["actions"]
    assert found[1]["problems"][0]["message"] == "No module named 'gone'."
    assert (lost.status_code, "torn" in lost.json()["detail"]) == (404, True)

from __future__ import annotations

from premises import TESTER, Served


async def test_list(served: Served) -> None:
    """The log is read page by page, the newest entry first."""
    for number in range(3):
        await served.house.audit.record(TESTER, "test.done", f"thing {number}", {"count": number})
    admin = await served.client("admin")

    first = (await admin.get("/api/v1/audit", params={"limit": 2})).raise_for_status().json()
    second = (await admin.get("/api/v1/audit", params={"limit": 2, "cursor": first["next"]})).raise_for_status().json()

    assert [entry["target"] for entry in first["items"] + second["items"]][:3] == ["thing 2", "thing 1", "thing 0"]
    assert (await admin.get("/api/v1/audit/verification")).json()["faults"] == []


async def test_refused(served: Served) -> None:
    """Only administrators read it."""
    nobody, editor = await served.client(), await served.client("view", "run", "edit", "connections")

    assert (await nobody.get("/api/v1/audit")).status_code == 401
    assert (await editor.get("/api/v1/audit")).status_code == 403

"""Schedules over HTTP."""

from __future__ import annotations

import asyncio

from premises import Served

from weft.server import deps

DIGEST = """
name: digest
enabled: true
on:
  schedule:
    - {cron: "0 8 * * *", timezone: Europe/Zurich}
steps:
  - {id: say, uses: log, with: {message: Hello}}
"""


async def armed(served: Served) -> None:
    """Write a workflow with a schedule, and wait until the worker has armed it."""
    served.write("digest", DIGEST)
    async with asyncio.timeout(15):
        while not await (await served.house.runtime.opened()).schedules():
            await asyncio.sleep(0.05)


async def test_what_comes_and_what_was(served: Served) -> None:
    """A schedule is listed with its next instant in both zones, and every instant that was made up for stands in its log."""
    await armed(served)
    client = await served.client("view", "run")
    (row,) = (await client.get("/api/v1/schedules")).raise_for_status().json()["items"]
    assert (row["workflow"], row["state"], row["timezone"]) == ("digest", "armed", "Europe/Zurich")
    coming = (await client.get("/api/v1/schedules/next", params={"schedule": "digest", "count": 3})).json()
    assert len(coming) == 3
    assert coming[0]["utc"] == row["next"]["utc"]
    assert "T08:00" in coming[0]["local"].replace(" ", "T")
    span = {"schedule": row["id"], "from": "2026-11-01", "to": "2026-11-03"}
    planned = (
        (await client.post("/api/v1/schedules/backfill", json={**span, "dry_run": True})).raise_for_status().json()
    )
    assert [each["outcome"] for each in planned] == ["planned"] * 3
    started = (await client.post("/api/v1/schedules/backfill", json=span)).json()
    assert [each["outcome"] for each in started] == ["started"] * 3
    again = (await client.post("/api/v1/schedules/backfill", json=span)).json()
    assert [each["outcome"] for each in again] == ["known"] * 3
    found, cursor = [], None
    while True:
        asked = {"schedule": row["id"], "limit": 2, **({"cursor": cursor} if cursor else {})}
        page = (await client.get("/api/v1/schedules/occurrences", params=asked)).raise_for_status().json()
        found += [each["utc"] for each in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert found == sorted(set(found), reverse=True)
    foreign = {"schedule": row["id"], "cursor": deps.cursor("nonsense")}
    refused = await client.get("/api/v1/schedules/occurrences", params=foreign)
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_cursor")
    history = (await client.get("/api/v1/schedules/history", params={"schedule": "digest"})).json()
    assert history[0]["schedule"]["id"] == row["id"]
    wrong = await client.post("/api/v1/schedules/backfill", json={**span, "from": "2026-11-05"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "empty_range")


async def test_pause_and_resume(served: Served) -> None:
    """Who may run pauses and resumes; it is on record, and whoever only looks cannot."""
    await armed(served)
    client, viewer = await served.client("view", "run"), await served.client("view")
    for what, state in (("pause", "paused"), ("resume", "armed")):
        assert (await viewer.post(f"/api/v1/schedules/{what}", json={"schedule": "digest"})).status_code == 403
        (row,) = (await client.post(f"/api/v1/schedules/{what}", json={"schedule": "digest"})).raise_for_status().json()
        assert row["state"] == state
    assert [each.action for each in await served.house.audit.list(limit=2)] == ["schedule.resumed", "schedule.paused"]
    missing = await client.post("/api/v1/schedules/pause", json={"schedule": "nobody"})
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_schedule")

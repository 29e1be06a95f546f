"""Budgets over HTTP."""

from __future__ import annotations

from premises import Served

CAPPED = """
name: capped
budget: {cost: 0.50, tokens: 1000, day: {cost: 1.00, steps: 20}}
steps:
  - {id: say, uses: log, with: {message: Hello}}
"""


async def test_where_caps_stand(served: Served) -> None:
    """Caps are told with what is used, reserved and left, of today and of the last runs; a broken workflow is named."""
    served.write("capped", CAPPED)
    served.write("broken", "name: broken\nsteps: 5\n")
    client = await served.client("view", "run")
    run = (await client.post("/api/v1/runs", json={"workflow": "capped"})).raise_for_status().json()["run_id"]
    listed = (await client.get("/api/v1/budgets")).raise_for_status().json()
    (workflow,) = listed["workflows"]
    assert workflow["run"] == {"cost": 0.5, "tokens": 1000, "steps": None, "time_s": None}
    assert workflow["day"]["cost"] == {"cap": 1.0, "used": 0.0, "reserved": 0.0, "left": 1.0}
    assert [each["workflow"] for each in listed["left_out"]] == ["broken"]
    shown = (await client.get("/api/v1/budgets/capped")).raise_for_status().json()
    assert shown["runs"][0]["run_id"] == run
    assert shown["runs"][0]["tokens"]["cap"] == 1000
    assert (await client.get("/api/v1/budgets/nobody")).status_code == 404

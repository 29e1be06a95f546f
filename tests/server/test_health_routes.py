"""`/health`, `/ready` and `/metrics` tell the truth: what they stand on is taken away, and they say so."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from premises import Served, serve
from prometheus_client.parser import text_string_to_metric_families
from servers.postgres import QUICK, Postgres

from weft.upkeep import readiness

GREET = "name: greet\nsteps: [{id: say, uses: set_values, with: {values: {text: hello}}}]\n"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask anew each time."""
    monkeypatch.setattr(readiness, "FRESH_S", 0.0)
    monkeypatch.setattr(readiness, "HELD_S", 0.2)


async def ready(served: Served, *scopes: Any) -> tuple[int, dict[str, Any]]:
    answer = await (await served.client(*scopes)).get("/ready")
    return answer.status_code, answer.json()


def parts(told: dict[str, Any]) -> dict[str, str]:
    return {part["name"]: part["status"] for part in told["parts"]}


async def test_health_tells_everybody_that_the_process_lives(served: Served) -> None:
    """And the version only to who may view."""
    assert (await (await served.client()).get("/health")).json() == {"status": "ok"}
    assert "version" in (await (await served.client("view")).get("/health")).json()


async def test_who_may_not_view_learns_one_word(served: Served) -> None:
    """Details are for the scope `view`; with a worker in the process all is well."""
    assert await ready(served) == (200, {"status": "ok"})
    status, told = await ready(served, "view")
    assert (status, told["status"]) == (200, "ok")
    names = ("journal", "state", "workers", "queue", "schedules", "disk")
    assert parts(told) == dict.fromkeys(names, "ok")


async def test_without_a_worker_it_is_degraded(place: Path) -> None:
    """Runs are accepted, and nobody goes on with them: that is said, and is no reason to send requests elsewhere."""
    async with serve(place, works=False) as served:
        status, told = await ready(served, "view")
    assert (status, told["status"], parts(told)["workers"]) == (200, "degraded", "degraded")


async def test_while_the_journal_is_held_it_is_down(served: Served) -> None:
    """Another program that holds the file keeps runs from being accepted; afterwards all is well again."""
    client = await served.client("view")
    with contextlib.closing(sqlite3.connect(served.home / "journal.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = await client.get("/ready")
        assert (answer.status_code, answer.json()["status"]) == (503, "down")
        assert answer.headers["Retry-After"] == "5"
        assert answer.json()["parts"][0] == {
            "name": "journal",
            "status": "down",
            "message": "Another program holds the journal.",
            "facts": {"code": "journal_held"},
        }
        other.execute("ROLLBACK")
    assert (await client.get("/ready")).status_code == 200


async def test_while_the_state_is_held_it_is_down(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the tables beside the journal nothing can be edited or logged."""
    monkeypatch.setattr(readiness, "ANSWER_S", 0.4)
    client = await served.client("view")
    with contextlib.closing(sqlite3.connect(served.home / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        found = await readiness.look(served.house.runtime)
        other.execute("ROLLBACK")
    assert {part.name: part.grade for part in found.parts}["state"] == "down"
    assert (await client.get("/ready")).status_code == 200


async def test_on_a_full_disk_it_is_down(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below 16 MiB nothing is accepted any more, below 256 MiB somebody should look.

    The limits are moved, and not the disk: to make one that small takes rights that not everybody has.
    """
    free = shutil.disk_usage(served.home).free
    monkeypatch.setattr(readiness, "LITTLE", 2 * free)
    assert parts((await ready(served, "view"))[1])["disk"] == "degraded"
    monkeypatch.setattr(readiness, "NONE", 2 * free)
    status, told = await ready(served, "view")
    assert (status, parts(told)["disk"]) == (503, "down")


async def test_what_nobody_takes_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is ready for long, with nobody who goes on with it."""
    monkeypatch.setattr(readiness, "LATE_S", 0.0)
    async with serve(place, works=False) as served:
        runtime = served.house.runtime
        served.write("greet", GREET)
        await runtime.submit(await runtime.plan_of("greet"), {})
        _, told = await ready(served, "view")
    assert parts(told)["queue"] == "degraded"


async def test_without_its_database_it_is_down(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL is stopped under it and started again."""
    monkeypatch.setattr(readiness, "ANSWER_S", 2.0)
    with Postgres(QUICK) as server:
        monkeypatch.setenv("WEFT_DATABASE_URL", server.database())
        async with serve(place, works=False) as served:
            client = await served.client("view")
            probe = served.app.state.probe
            found = await probe.readiness()
            assert {part.name: part.grade for part in found.parts}["journal"] == "ok", found
            assert found.grade == "degraded"  # no worker is there
            anonymous = await served.client()
            server.stop()
            answer = await anonymous.get("/ready")
            assert (answer.status_code, answer.json()) == (503, {"status": "down"})
            server.start()
            for _ in range(20):
                if (await probe.readiness()).grade != "down":
                    break
            assert (await client.get("/ready")).json()["status"] == "degraded"
        async with serve(place) as served:
            for _ in range(50):
                told = (await ready(served, "view"))[1]
                if parts(told)["workers"] == "ok":
                    break
                await asyncio.sleep(0.1)
            assert parts(told)["workers"] == "ok", "a worker gives signs of life there"


async def test_metrics_are_what_prometheus_reads(served: Served) -> None:
    """Its own parser reads them, in both forms; names and units follow its rules; runs and requests are counted."""
    client = await served.client("view", "run")
    runtime = served.house.runtime
    served.write("greet", GREET)
    run_id = await runtime.submit(await runtime.plan_of("greet"), {})
    await runtime.follow(run_id)
    await client.get("/ready")
    await client.get("/no-such-place")
    await client.post("/hooks/not-a-real-path-at-all", json={})
    answer = await client.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(answer.text))
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for each in families
        for sample in each.samples
    }
    assert found["weft_runs_ended_total", (("state", "succeeded"), ("workflow", "greet"))] == 1
    assert found["weft_attempts_total", (("action", "set_values"), ("kind", ""), ("outcome", "succeeded"))] == 1
    assert found["weft_journal_up", ()] == 1
    assert found["weft_runs", (("state", "ready"),)] == 0
    assert found["weft_http_requests_total", (("method", "GET"), ("route", "/ready"), ("status", "200"))] == 1
    assert found["weft_http_requests_total", (("method", "GET"), ("route", "none"), ("status", "404"))] == 1
    assert faults(families) == []
    assert len(re.findall(r"^# TYPE ", answer.text, re.MULTILINE)) == len({each.name for each in families})
    assert (await (await served.client()).get("/metrics")).status_code == 401


def faults(families: list[Any]) -> list[str]:
    """Return what promtool would complain of, in what is ours (prometheus.io/docs/practices/naming)."""
    found = []
    for each in families:
        if not each.name.startswith("weft_"):
            continue
        if not re.fullmatch(r"[a-z][a-z0-9_]*", each.name) or not each.documentation.endswith("."):
            found.append(f"{each.name}: name or help")
        if re.search(r"_(milliseconds|ms|minutes|hours|kilobytes|percent|gauge|counter|histogram)\b", each.name):
            found.append(f"{each.name}: no base unit")
        if each.type == "gauge" and each.name.endswith(("_total", "_count", "_sum", "_bucket")):
            found.append(f"{each.name}: a gauge that looks like a counter")
        if each.type == "histogram" and not each.name.endswith("_seconds"):
            found.append(f"{each.name}: no unit")
        for sample in each.samples:
            if each.type == "counter" and not sample.name.endswith(("_total", "_created")):
                found.append(f"{sample.name}: no _total")
            if any(label in {"le", "quantile"} for label in sample.labels) and each.type != "histogram":
                found.append(f"{sample.name}: a reserved label")
    return found


async def test_openmetrics_is_told_to_who_asks_for_it(served: Served) -> None:
    """With one end mark, at the end."""
    client = await served.client("view")
    answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.count("# EOF") == 1
    assert answer.text.endswith("# EOF\n")

"""A model's bill has a brake: workflows of completions against a server that speaks OpenAI's protocol."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from weft import packs
from weft.budgets.keys import Kept, day_of
from weft.engine.report import RunReport
from weft.runtime import Runtime
from weft.testing.model_server import ModelServer, Ok, Status

PRICES = """
models:
  openai:
    dear: {prices: {currency: USD, input: 0, output: 1000}}
"""
"""Fifty tokens of an answer cost 0.05."""

FIFTY = {"prompt_tokens": 7, "completion_tokens": 50, "total_tokens": 57}


class Desk:
    """A runtime with a connection that leads to the server."""

    def __init__(self, directory: Path, server: ModelServer) -> None:
        self.directory = directory
        home = directory / "home"
        home.mkdir()
        (home / "models.yaml").write_text(PRICES)
        file = directory / "connections.yaml"
        file.write_text(yaml.safe_dump({"openai": server.connection("openai", "sk-lab")}))
        file.chmod(0o600)
        self.runtime = Runtime(home, packs.discover(), connections_file=file)

    def workflow(self, budget: Mapping[str, Any] | None, **given: Any) -> Path:
        asked = {
            "provider": "openai",
            "model": "dear",
            "max_tokens": 50,
            "messages": [{"role": "user", "content": "Hi"}],
        }
        step = {"id": "ask", "uses": "generate_chat_completion", "connection": "openai", "with": {**asked, **given}}
        document = {"name": "bill", "steps": [step], **({"budget": budget} if budget else {})}
        file = self.directory / "bill.yaml"
        file.write_text(yaml.safe_dump(document, sort_keys=False))
        return file

    async def run(self, budget: Mapping[str, Any] | None, **given: Any) -> RunReport:
        return await self.runtime.run(self.runtime.compile(self.workflow(budget, **given)), {})

    async def used(self, kept: Callable[[str], Kept]) -> dict[str, int]:
        journal = self.runtime.journal
        key = kept(day_of(journal.now())).key
        return {"all": (await journal.used([key]))[key], "reserved": (await journal.used([key], reserved=True))[key]}


@pytest.fixture(params=["sqlite", "postgres"])
async def desk(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_server: ModelServer
) -> AsyncIterator[Desk]:
    monkeypatch.chdir(tmp_path)
    if request.param == "postgres":
        monkeypatch.setenv("WEFT_DATABASE_URL", request.getfixturevalue("postgres_server").database())
    model_server.script(Ok(usage=FIFTY))
    made = Desk(tmp_path, model_server)
    async with made.runtime as runtime:
        await runtime.opened()
        yield made


on_one = pytest.mark.parametrize("desk", ["sqlite"], indirect=True)


def code_of(report: RunReport) -> str | None:
    return report.problem.code if report.problem else None


async def test_a_cap_of_one_ends_a_hundred_runs_of_a_twentieth(desk: Desk, model_server: ModelServer) -> None:
    """Twenty requests reach the server, which bills exactly the cap; eighty runs end before theirs."""
    plan = desk.runtime.compile(desk.workflow({"day": {"cost": 1.0}}))
    reports = await asyncio.gather(*(desk.runtime.run(plan, {}) for _ in range(100)))

    assert len(model_server.requests) == 20
    assert Counter(map(code_of, reports)) == {None: 20, "budget_exceeded": 80}
    day = await desk.used(lambda day: Kept("cost", "workflow", "bill", day, "USD"))
    assert day == {"all": 1_000_000_000, "reserved": 0}


@on_one
async def test_the_bound_is_an_upper_one(desk: Desk, model_server: ModelServer) -> None:
    """A short answer costs less than was reserved; what is left over is there again."""
    model_server.script(Ok(usage={"prompt_tokens": 7, "completion_tokens": 10, "total_tokens": 17}))
    for _ in range(6):
        assert (await desk.run({"day": {"cost": 0.105}})).state == "succeeded"
    assert code_of(await desk.run({"day": {"cost": 0.105}})) == "budget_exceeded"
    assert (await desk.used(lambda day: Kept("cost", "workflow", "bill", day, "USD")))["all"] == 60_000_000


@on_one
async def test_tokens_have_a_brake_too(desk: Desk, model_server: ModelServer) -> None:
    """What the prompt may have at most counts as well, so that the call is not made."""
    report = await desk.run({"tokens": 300})
    assert code_of(report) == "budget_exceeded"
    assert model_server.requests == []
    assert (await desk.run({"tokens": 3000})).state == "succeeded"
    assert (await desk.used(lambda day: Kept("tokens", "run", report.run_id)))["all"] == 0


@on_one
async def test_an_unknown_price_is_loud(desk: Desk, model_server: ModelServer) -> None:
    """Nothing is sent, what to do is told, and whoever allows it is let through."""
    report = await desk.run({"cost": 1.0}, model="new", fallbacks=["dear"])
    assert code_of(report) == "unknown_price"
    assert report.problem is not None
    assert "openai/new on a server of your own has no price" in report.problem.message
    assert model_server.requests == []
    assert (await desk.run({"cost": 1.0, "unknown_price": "allow"}, model="new")).state == "succeeded"


@on_one
async def test_a_refusal_costs_nothing_and_a_broken_answer_what_was_reserved(
    desk: Desk, model_server: ModelServer
) -> None:
    """A provider that turns a request away has done no work; what became of one that broke nobody tells."""

    def of_run(report: RunReport) -> Callable[[str], Kept]:
        return lambda day: Kept("cost", "run", report.run_id, "", "USD")

    model_server.script([Status(429), Ok(usage=FIFTY)])
    report = await desk.run({"cost": 1.0}, num_retries=1)
    assert (await desk.used(of_run(report)))["all"] == 50_000_000
    model_server.script([Status(500), Ok(usage=FIFTY)])
    report = await desk.run({"cost": 1.0}, num_retries=1)
    assert await desk.used(of_run(report)) == {"all": 100_000_000, "reserved": 0}

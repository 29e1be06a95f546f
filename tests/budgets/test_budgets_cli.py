"""`weft budgets`: what there is to use up, and how much of it is used."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from trade import Market, Shop, write_pack

from weft.cli.budgets import command
from weft.cli.state import State
from weft.errors import NotFound

BUDGET = {"cost": 0.5, "steps": 9, "time": "5m", "day": {"cost": 1.0, "tokens": 90}}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with a budget for each day, one workflow that has bought three times, and one without a budget."""
    write_pack(tmp_path)
    monkeypatch.chdir(tmp_path)

    async def buy() -> None:
        async with Shop() as shop:
            market = Market("sqlite", tmp_path, tmp_path / "weft-home", shop)
            market.connection()
            file = market.workflow(BUDGET, {"budget": {"tokens": 30}}, price=0.25, most=0.5, tokens=20)
            (tmp_path / "workspace.yaml").write_text("budget: {unknown_price: allow, day: {cost: 9, steps: 100}}\n")
            async with market.runtime() as runtime:
                plan = runtime.compile(file)
                for _ in range(3):
                    await runtime.run(plan, {})

    asyncio.run(buy())
    return tmp_path


def weft(*words: str) -> Result:
    return CliRunner().invoke(command, list(words), obj=State(packs=(Path("pack"),)), standalone_mode=False)


def told(*words: str) -> Any:
    result = weft(*words, "--json")
    assert result.exception is None, result.exception
    return json.loads(result.stdout)


def test_the_list_is_one_for_programs(place: Path) -> None:
    """The workspace and each workflow with a budget: caps, and what is used, reserved and left of each."""
    found = told()
    assert len(found["day"]) == len("2026-03-01")
    assert found["workspace"] == {
        "currency": "USD",
        "unknown_price": "allow",
        "day": {
            "cost": {"cap": 9.0, "used": 0.75, "reserved": 0.0, "left": 8.25},
            "tokens": None,
            "steps": {"cap": 100, "used": 3, "reserved": 0, "left": 97},
        },
    }
    (trade,) = found["workflows"]
    assert trade == {
        "workflow": "trade",
        "currency": "USD",
        "unknown_price": "block",
        "run": {"cost": 0.5, "tokens": None, "steps": 9, "time_s": 300.0},
        "day": {
            "cost": {"cap": 1.0, "used": 0.75, "reserved": 0.0, "left": 0.25},
            "tokens": {"cap": 90, "used": 60, "reserved": 0, "left": 30},
            "steps": None,
        },
        "steps": {"buy": {"cost": None, "tokens": 30}},
    }


def test_one_workflow_is_shown_with_its_last_runs(place: Path) -> None:
    """Each run with what it has taken of its own caps."""
    found = told("show", "trade")
    assert found["workflow"] == "trade"
    assert found["day"]["cost"]["left"] == 0.25
    assert [run["cost"]["used"] for run in found["runs"]] == [0.25] * 3
    assert {run["state"] for run in found["runs"]} == {"succeeded"}
    assert all(run["tokens"] is None for run in found["runs"])


def test_lines_are_made_for_pipes(place: Path) -> None:
    """Whose, of what, used, reserved, left, allowed; separated by tabs."""
    lines = [line.split("\t") for line in weft().output.splitlines()]
    assert ["trade", "cost", "0.75 USD", "0.00 USD", "0.25 USD", "1.00 USD"] in lines
    assert ["trade", "tokens", "60", "0", "30", "90"] in lines
    assert lines[0][0] == "workspace"


def test_on_a_terminal_there_are_bars(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three quarters used are three quarters of the bar, and the caps of each run stand below."""
    monkeypatch.setattr("weft.cli.budgets.is_live", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "120")
    listed = weft().output
    assert "███████████████·····" in listed
    assert "trade each run: 0.50 USD, 9 steps, 5m" in listed
    assert "trade step buy of each run: 30 tokens" in listed
    assert "██████████·········" in weft("show", "trade").output  # half of each run's own cap


@pytest.mark.parametrize("columns", [120, 80, 60, 40, 20])
def test_no_amount_is_cut(place: Path, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """However narrow the terminal and however long the name, all of each amount is there, under its header."""
    monkeypatch.setattr("weft.cli.budgets.is_live", lambda stream: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    text = (place / "workflows" / "trade.yaml").read_text()
    text = text.replace("name: trade", f"name: {'a-long-name-' * 5}end").replace("cost: 1.0", "cost: 1234567.125")
    (place / "workflows" / "long.yaml").write_text(text)
    printed = weft().output
    table = printed[: printed.index("each run:")]
    for told in ("0.75 USD", "0.25 USD", "1.00 USD", "1,234,567.125 USD", "used", "reserved", "left", "of"):
        assert told in table
    assert columns < 80 or max(map(len, table.splitlines()[:-1])) <= columns


def test_without_a_budget_it_is_said_how_to_give_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a list of nothing nor a fault."""
    monkeypatch.chdir(tmp_path)
    assert "No workflow here has a budget" in CliRunner().invoke(command, [], obj=State()).output
    assert told_empty() == {"workspace": None, "workflows": []}


def told_empty() -> dict[str, Any]:
    found = json.loads(CliRunner().invoke(command, ["--json"], obj=State()).stdout)
    del found["day"]
    return dict(found)


def test_a_workflow_with_faults_is_named_and_left_out(place: Path) -> None:
    """The others are listed all the same."""
    (place / "workflows" / "broken.yaml").write_text("name: broken\nsteps: 3\n")
    result = weft("--json")
    assert [each["workflow"] for each in json.loads(result.stdout)["workflows"]] == ["trade"]
    assert "broken.yaml" in result.stderr


def test_what_is_not_there_is_said_so(place: Path) -> None:
    """A name that nothing answers to is told as everywhere."""
    assert isinstance(weft("show", "tarde").exception, NotFound)

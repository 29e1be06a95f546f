"""`weft webhooks` beside a server that runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hooking import SECRETS, hook
from premises import Served, serve

from weft.cli.exits import exit_code
from weft.cli.state import State
from weft.cli.webhooks import command
from weft.errors import WeftError


@pytest.fixture
async def served(place: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    for style, secret in SECRETS.items():
        monkeypatch.setenv(f"{style.upper()}_SIGNING_SECRET", secret)
    async with serve(place) as served:
        monkeypatch.setenv("WEFT_URL", served.url)
        yield served


async def call(*words: str) -> tuple[int, str]:
    """Return the exit code of a command and what it prints, errors with their code."""

    def run() -> tuple[int, str]:
        found = CliRunner().invoke(command, words, obj=State(), standalone_mode=False)
        if isinstance(found.exception, WeftError):
            return int(exit_code(found.exception)), f"{found.exception.problem.code} {found.exception}"
        if found.exception is not None:
            raise found.exception
        return int(found.return_value or 0), found.stdout

    return await asyncio.to_thread(run)


async def told(*words: str) -> Any:
    code, text = await call(*words, "--json")
    return json.loads(text) | {"exit": code} if text.startswith("{") else json.loads(text)


async def test_webhooks_are_listed_with_their_addresses(served: Served) -> None:
    """All of them, with what they take now; the address is the one that the server takes posts at."""
    orders, github = await hook(served), await hook(served, "github")
    served.write(
        "off",
        (served.workspace / "github.yaml")
        .read_text()
        .replace("name: github", "name: off")
        .replace("enabled: true", "enabled: false"),
    )
    served.write("broken", "name: [")
    found = {each["workflow"]: each for each in await told("list")}

    assert {name: (each["style"], each["state"]) for name, each in found.items()} == {
        "standard": ("standard", "ready"),
        "github": ("github", "ready"),
        "off": ("github", "disabled"),
    }
    assert [found["standard"]["url"], found["github"]["url"]] == [orders.path, github.path]
    assert orders.path in (await call())[1]
    assert "signed by connection standard" in (await call("show", "standard"))[1]


@pytest.mark.parametrize("style", SECRETS)
async def test_a_message_is_tried_without_its_sender(served: Served, style: Any) -> None:
    """Signed with the connection's secret as the style says, it starts a run; with the same id it is the same message."""
    events = await hook(served, style)
    first = await told("send", style)
    assert (first["exit"], first["status"]) == (0, 202)
    assert await events.runs() == [first["run_id"]]
    if style in ("standard", "github"):
        again = await told("send", style, "--id", first["message_id"])
        assert (again["status"], again["run_id"]) == (200, first["run_id"])


async def test_what_is_answered_is_told(served: Served, tmp_path: Path) -> None:
    """A body from the command line or a file; a message that is not taken is exit code 1."""
    await hook(served, more="synchronous: true")
    body = tmp_path / "body.json"
    body.write_text('{"n": 4}')

    assert json.loads((await call("send", "standard", "--file", str(body)))[1])["doubled"] == 8
    assert (await call("send", "standard", "--data", "{"))[0] == 1
    assert (await call("send", "standard", "--to", "http://127.0.0.1:1"))[1].startswith("unreachable")
    assert (await call("send", "standard", "--data", "1", "--file", str(body)))[1].startswith("two_bodies")


async def test_an_address_is_turned_over(served: Served) -> None:
    """The new address is taken at once, the old one is gone."""
    orders = await hook(served)
    turned = await told("rotate", "standard")

    assert turned["url"] != orders.path
    assert (await orders.post({"n": 1})).status_code == 410
    orders.path = turned["url"]
    assert (await orders.post({"n": 1})).status_code == 202


async def test_what_is_not_there_is_told(served: Served) -> None:
    """Unknown workflows and webhooks, several where one is meant, and what is no duration."""
    await hook(served)
    assert (await call("show", "nothing"))[1].startswith("unknown_workflow")
    assert (await call("show", "hello"))[1].startswith("unknown_webhook")
    assert (await call("show", "standard", "standart"))[1].startswith("unknown_webhook")
    assert (await call("rotate", "standard", "--overlap", "soon"))[0] == 2

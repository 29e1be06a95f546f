from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

from premises import Served

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def commands() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


async def test_the_tour(served: Served, place: Path) -> None:
    """Every command of the tour works as it stands on the page, one after the other."""
    bin_ = place / "bin"
    bin_.mkdir()
    (bin_ / "weft").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m weft "$@"\n')
    (bin_ / "weft").chmod(0o755)
    script = "set -eu\n" + "\necho '---'\n".join(commands()).replace("http://127.0.0.1:8321", served.url)
    environ = {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}", "PYTHONPATH": str(PAGE.parents[1])}

    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, cwd=place, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()

    assert process.returncode == 0, error
    _, created, edited, shown, started, listed = [json.loads(each or "null") for each in out.decode().split("---\n")]
    assert (created["name"], created["problems"]) == ("tour", [])
    assert edited["text"] == created["text"].replace("Hello {{", "Good morning {{")
    assert "# Says hello." in edited["text"]
    assert shown["value"] == "Hi WORLD"
    assert started["workflow"] == "tour"
    assert [each["run_id"] for each in listed["items"]] == [started["run_id"]]


async def test_operations_are_there(served: Served) -> None:
    """Every path that the page names is one of the API."""
    client = await served.client("view")
    document = (await client.get("/api/openapi.json")).raise_for_status().json()
    known = {re.sub(r"\{[^}]*\}", "{}", path.removeprefix("/api/v1")) for path in document["paths"]}
    text = PAGE.read_text(encoding="utf-8")
    named = re.findall(r"`(?:GET|POST|PUT|PATCH|DELETE) (/[^`\s]*)`", text)

    assert len(named) > 12
    assert {re.sub(r"\{[^}]*\}", "{}", path) for path in named} <= known

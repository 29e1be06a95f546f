"""A server on loopback, and clients of it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))  # where servers for tests are made
sys.path.insert(0, str(Path(__file__).parent))

from offered import ASKS, CLOCK, FAILS, GREET, SLOW
from premises import Served, serve


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    """A server with a worker, over some workflows; the environment names it."""
    workflows = tmp_path / "workflows"
    workflows.mkdir()
    texts = {"greet": GREET, "slow": SLOW, "asks": ASKS, "clock": CLOCK, "fails": FAILS}
    for name, text in texts.items():
        (workflows / f"{name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    async with serve(tmp_path) as served:
        monkeypatch.setenv("WEFT_SERVER", served.url)
        monkeypatch.setenv("WEFT_TOKEN", await served.token("admin"))
        yield served

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from weft.registry import Registry
from weft.server import warming


class _Action:
    """An action whose code cannot be loaded."""

    id = "broken"

    def load(self) -> None:
        raise RuntimeError("its library is missing")


class _Warm:
    """One that says what is slow."""

    id = "slow"

    def __init__(self) -> None:
        self.threads: list[str] = []

    def load(self) -> _Warm:
        return self

    def warm(self) -> None:
        self.threads.append(threading.current_thread().name)


async def test_warming(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What is slow is loaded beside the loop, one after the other, and an action that is broken keeps no other from it."""
    monkeypatch.setattr(warming, "PAUSE_S", 0.0)
    slow, registry, usual = _Warm(), Registry(), sys.getswitchinterval()
    monkeypatch.setattr(registry, "actions", lambda: [_Action(), slow])

    async with warming.warming(registry):
        for _ in range(500):
            if slow.threads:
                break
            await asyncio.sleep(0.02)

    assert slow.threads
    assert slow.threads[0] != threading.main_thread().name
    assert "weft.mcp.serving" in sys.modules
    assert "warming_failed broken" in caplog.text
    assert sys.getswitchinterval() == usual

"""A server on loopback for each test, with a home and a workspace of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from premises import HELLO, Served, ServeProcess, serve


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that the server stands in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "hello.yaml").write_text(HELLO, encoding="utf-8")
    return tmp_path


@pytest.fixture
async def served(place: Path) -> AsyncIterator[Served]:
    """A server in this process, with a worker and the workflow `hello` in its workspace."""
    async with serve(place) as served:
        yield served


@pytest.fixture
def weft_serve(place: Path) -> Iterator[Callable[..., ServeProcess]]:
    """Starts `weft serve` in the place; none is left."""
    started: list[ServeProcess] = []

    def start(*words: str, environ: dict[str, str] | None = None) -> ServeProcess:
        started.append(ServeProcess(place, *words, environ=environ))
        return started[-1]

    yield start
    for process in started:
        process.end()

"""What the tests of documents stand on: a store, who listens to it, two texts."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from weft.cli.app import main
from weft.documents import Change
from weft.documents.database import DatabaseDocuments
from weft.documents.directory import DirectoryDocuments

HELLO = "name: hello\n# kept\nsteps: []\n"
OTHER = HELLO + "# more\n"


def etag(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


ONE = "name: one\nsteps:\n  - id: a\n    uses: workflow:two\noutputs: {got: '{{ steps.a.output.out }}'}\n"
TWO = "name: two\nsteps:\n  - id: v\n    uses: set_values\n    with: {values: {n: 41}}\noutputs: {out: 1}\n"


@dataclass(slots=True)
class Store:
    """A store under test, and how another process would open the same."""

    documents: DirectoryDocuments | DatabaseDocuments
    another: Callable[[], Awaitable[DirectoryDocuments | DatabaseDocuments]]


class Ear:
    """Collects what a store announces."""

    def __init__(self, changes: AsyncIterator[Change]) -> None:
        self.heard: list[Change] = []
        self._task = asyncio.create_task(self._listen(changes))

    async def _listen(self, changes: AsyncIterator[Change]) -> None:
        async for change in changes:
            self.heard.append(change)

    async def until(self, count: int, seconds: float = 3) -> list[Change]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(self.heard) < count:
                    await asyncio.sleep(0.01)
        return self.heard

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


class Shell:
    """A person at a terminal, in a directory, with a database."""

    def __init__(self, place: Path, url: str) -> None:
        self.place = place
        self.env = {**os.environ, "WEFT_DATABASE_URL": url, "WEFT_HOME": str(place / "home"), "COLUMNS": "120"}

    def __call__(self, *words: str, code: int = 0, **env: str) -> str:
        """Run a command in a process of its own, and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "weft", *words],
            cwd=self.place,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def workspace(self, *words: str, code: int = 0, **env: str) -> str:
        """Run `weft workspace` here, as `here` does."""
        return self.here("workspace", *words, code=code, **env)

    def here(self, *words: str, code: int = 0, **env: str) -> str:
        """Run a command in this process, and return what it prints: another would cost two seconds each time."""
        told = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            patch.chdir(self.place)
            for name, value in {**self.env, **env}.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main([*words])
        assert ended.value.code == code, (words, told.getvalue())
        return told.getvalue()

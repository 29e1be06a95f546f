"""Workflows of one completion step, run as a user runs them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from weft.engine.report import StepReport
from weft.registry import Registry
from weft.runtime import Runtime

SETTINGS = re.compile(r"(WEFT|AWS|AZURE|OPENAI|ANTHROPIC|LITELLM)_.*|.*_(API_KEY|API_BASE|BASE_URL)")
"""Variables that would change what a step sends."""


def plain_environment() -> dict[str, str]:
    """Return the environment without keys and settings, and with loopback off any proxy."""
    kept = {name: value for name, value in os.environ.items() if not SETTINGS.fullmatch(name)}
    return {**kept, "NO_PROXY": "127.0.0.1,localhost,::1"}


@contextlib.contextmanager
def in_plain_environment() -> Iterator[None]:
    """Run what fixtures of a whole module do as if nothing were set on this machine."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(plain_environment())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class Steps:
    """Runs workflows of one completion step in one runtime; an asynchronous context."""

    def __init__(
        self,
        directory: Path,
        registry: Registry,
        connections: Mapping[str, Mapping[str, Any]],
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._directory = directory
        self._written = 0
        file = self._write("connections", {name: dict(entry) for name, entry in connections.items()})
        file.chmod(0o600)
        self.runtime = Runtime(directory / "home", registry, connections_file=file, environ=environ or {})

    async def __aenter__(self) -> Self:
        await self.runtime.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.runtime.__aexit__(kind, error, trace)

    async def run(
        self, given: Mapping[str, Any], connection: str | None = None, *, watched: bool = False, **step: Any
    ) -> StepReport:
        """Run one step with these arguments.

        Args:
            given: The step's arguments; messages are added.
            connection: The step's connection; left out, the one of its provider's name, or those in `connections`.
            watched: Whether somebody looks, so that the answer is asked for as a stream.
            step: Further keys of the step, such as `timeout` and `connections`.
        """
        arguments = {"messages": [{"role": "user", "content": "Hello"}], **given}
        if "connections" not in step:
            step["connection"] = connection or arguments["provider"]
        whole = {"id": "answer", "uses": "generate_chat_completion", "with": arguments, **step}
        self._written += 1
        document = self._write(f"workflow-{self._written}", {"name": "completion", "steps": [whole]})
        report = await self.runtime.run(self.runtime.compile(document), {}, watched=watched)
        return report.steps[0]

    def _write(self, name: str, content: Mapping[str, Any]) -> Path:
        self._directory.mkdir(parents=True, exist_ok=True)
        file = self._directory / f"{name}.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return file

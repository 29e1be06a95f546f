"""A server on loopback with a home and a workspace of its own: in this process, or as `weft serve`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from weft.access import Identity, Scope
from weft.access.oidc import read_provider
from weft.runtime import Runtime
from weft.server.app import create_app
from weft.server.house import House, open_house
from weft.server.serving import Service, Serving, listen
from weft.server.settings import read_settings
from weft.worker import Worker

ROOT = Path(__file__).parents[2]
HELLO = """
name: hello
inputs:
  name: {type: string, default: world}
outputs: {said: "Hello {{ inputs.name }}"}
steps:
  - id: say
    uses: set_values
    with: {values: {text: "Hello {{ inputs.name }}"}}
"""
TESTER = Identity("tester", "local", frozenset({"admin"}))


@dataclass
class Served:
    """A server that answers, and what it stands on."""

    url: str
    house: House
    app: FastAPI
    home: Path
    workspace: Path  #: the directory of workflows
    said: list[tuple[str, dict[str, Any]]]  #: what its worker has told
    clients: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def token(self, *scopes: Scope, expires_s: float | None = None) -> str:
        """Return a new API token."""
        made, _ = await self.house.access.create_token("test", scopes, by="tests", expires_s=expires_s)
        return made

    async def client(self, *scopes: Scope) -> httpx.AsyncClient:
        """Return a client with a token of these scopes; of nobody when there are none."""
        headers = {"Authorization": f"Bearer {await self.token(*scopes)}"} if scopes else {}
        made = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=20, trust_env=False)
        return await self.clients.enter_async_context(made)

    async def browser(self, *scopes: Scope) -> httpx.AsyncClient:
        """Return a client that is logged in as a browser is, and sends what browsers send."""
        session = await self.house.access.begin_session("somebody", "session", scopes)
        made = await self.client()
        made.cookies.set(self.house.settings.cookie, session)
        made.headers["Origin"] = self.url
        return made

    def write(self, name: str, text: str) -> Path:
        """Put a workflow into the workspace, as an editor would."""
        file = self.workspace / f"{name}.yaml"
        file.write_text(text, encoding="utf-8")
        return file


@contextlib.asynccontextmanager
async def serve(
    place: Path, *, works: bool = True, environ: dict[str, str] | None = None, packs: tuple[Path, ...] = ()
) -> AsyncIterator[Served]:
    """Serve from a directory, in this loop, as `weft serve` does."""
    home, workspace = place / "weft-home", place / "workflows"
    workspace.mkdir(exist_ok=True)
    listening = listen("127.0.0.1", 0)
    settings = read_settings(environ or {}, port=listening.getsockname()[1])
    said: list[tuple[str, dict[str, Any]]] = []
    async with Runtime.open(home=home, packs=packs) as runtime:
        house = await open_house(runtime, settings, read_provider(environ or {}))
        app = create_app(house)

        def say(event: str, **facts: Any) -> None:
            said.append((event, facts))

        worker = Worker(runtime, say, command=[sys.executable, "-m", "weft", "worker"], grace_s=2) if works else None
        service = Service(house, Serving(app, listening, headers_s=settings.headers_s), worker)
        await service.start()
        running = asyncio.create_task(service.run())
        served = Served(settings.address, house, app, home, workspace, said)
        try:
            async with served.clients:
                yield served
        finally:
            service.stop()
            await running


class ServeProcess:
    """`weft serve` as a process of its own."""

    def __init__(self, place: Path, *words: str, environ: dict[str, str] | None = None) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "weft", "serve", "--json", "--no-browser", "--port", "0", *words],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert self.popen.stdout is not None
        self.lines: list[dict[str, Any]] = []
        for line in self.popen.stdout:
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == "ready":
                break
        else:
            pytest.fail(f"it is not ready: {self.popen.communicate()}")
        self.ready = self.lines[-1]
        self.url: str = self.ready["url"]

    @contextlib.contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        """Yield a client that has used the link."""
        with httpx.Client(base_url=self.url, timeout=20, trust_env=False) as client:
            client.get(self.ready["login"]).raise_for_status()
            client.headers["Origin"] = self.url
            yield client

    def end(self, timeout_s: float = 40, *, by: signal.Signals = signal.SIGTERM) -> int:
        """Stop it as an operator does, and return its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(by)
        try:
            out, _ = self.popen.communicate(timeout=timeout_s)
        finally:
            self.popen.kill()
        self.lines += [json.loads(line) for line in out.splitlines()]
        return self.popen.returncode

"""A place with a pack, a journal and real processes of `weft`, for the tests of the worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weft.journal.base import Listed, RunQuery
from weft.runtime import Runtime

ROOT = Path(__file__).parents[2]
EFFECTS = "LAB_EFFECTS"
"""Names the file in which the actions leave a line for each thing they do."""

ACTIONS = '''
from __future__ import annotations

import asyncio
import os
import signal
import time

from weft.sdk import ActionContext, Json


def _note(what: str, context: ActionContext, name: str) -> None:
    handle = os.open(os.environ["LAB_EFFECTS"], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.write(handle, f"{time.time():.3f} {os.getpid()} {what} {context.run_id} {name}\\n".encode())
    os.close(handle)


async def mark(context: ActionContext, name: str, seconds: float = 0.0) -> Json:
    """Take time, and leave a line before and after."""
    _note("begin", context, name)
    await asyncio.sleep(seconds)
    _note("end", context, name)
    return {"name": name}
'''
BOMB = '''
from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from weft.sdk import ActionContext, Json

from .mark import _note


async def bomb(context: ActionContext, how: str) -> Json:
    """End the process that this is in, or stand in its way."""
    _note("bomb", context, how)
    match how:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "leave":
            print("{not one of your lines", end="", flush=True)
            os._exit(3)
        case "eat":
            eaten = []
            while True:
                eaten.append(bytearray(b"x") * 8_000_000)
                await asyncio.sleep(0)
        case "block":
            time.sleep(60)
    return {}
'''


def _manifest(id_: str, parameters: str) -> str:
    return f"""
id: {id_}
title: {id_.title()}
purpose: {id_.title()} for tests.
category: Tests
icon: flask
version: 1
effects: none
retry: safe
parameters:
  basic:
{parameters}
output: {{schema: {{type: object}}, example: {{}}}}
"""


FILES = {
    "pack/actions/__init__.py": "",
    "pack/actions/mark.py": ACTIONS,
    "pack/actions/bomb.py": BOMB,
    "pack/manifests/mark.yaml": _manifest(
        "mark",
        "    - {name: name, title: Name, description: Whose., type: string, required: true, widget: text, example: a}\n"
        "    - {name: seconds, title: Time, description: Taken., type: number, default: 0.0, widget: number, example: 1}",
    ),
    "pack/manifests/bomb.yaml": _manifest(
        "bomb",
        "    - {name: how, title: How, description: How., type: string, required: true, widget: text, example: kill}",
    ),
    "workflows/marks.yaml": """
name: marks
inputs:
  seconds: {type: number, default: 0.0}
steps:
  - id: first
    uses: mark
    with: {name: first, seconds: "{{ inputs.seconds }}"}
  - id: second
    uses: mark
    with: {name: second, seconds: "{{ inputs.seconds }}"}
  - id: third
    uses: mark
    with: {name: third, seconds: "{{ inputs.seconds }}"}
""",
    "workflows/bomb.yaml": """
name: bomb
inputs:
  how: {type: string, default: kill}
  fuse: {type: number, default: 0.0}
steps:
  - id: fuse
    uses: mark
    with: {name: fuse, seconds: "{{ inputs.fuse }}"}
  - id: explode
    uses: bomb
    with: {how: "{{ inputs.how }}"}
""",
    "workflows/asks.yaml": """
name: asks
steps:
  - id: ok
    approval: {message: "Well?", who: [ada]}
""",
    "workflows/sleeps.yaml": """
name: sleeps
steps:
  - id: rest
    wait: {for: 1h}
  - id: after
    uses: mark
    with: {name: after}
""",
}


def write_files(directory: Path) -> None:
    for name, text in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")


class Process:
    """A process of `weft` whose lines are read as they come."""

    def __init__(self, *words: str, wrapper: tuple[str, ...] = (), pack: bool = True) -> None:
        self.lines: list[str] = []
        self.errors: list[str] = []
        self.began = time.monotonic()
        given = (*words, "--pack", "pack") if pack else words
        self.popen = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "weft", *given],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, into), daemon=True)
            for stream, into in ((self.popen.stdout, self.lines), (self.popen.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, into: list[str]) -> None:
        into.extend(line.rstrip("\n") for line in stream)

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the events of a kind, of a worker with `--json`."""
        told = [json.loads(line) for line in list(self.lines)]
        return [each for each in told if each["event"] == event]

    def until(self, is_true: Callable[[], Any], timeout_s: float = 20.0) -> None:
        """Wait for something that comes while this process lives."""
        until(lambda: is_true() or self.popen.poll() is not None, timeout_s, self.told)
        assert is_true(), self.told()

    def signal(self, number: signal.Signals) -> float:
        """Send a signal and return the instant."""
        self.popen.send_signal(number)
        return time.monotonic()

    def end(self, timeout_s: float = 30.0) -> int:
        """Wait for its end and return the exit code."""
        code = self.popen.wait(timeout_s)
        for reader in self._readers:
            reader.join(5)
        return code

    def told(self) -> str:
        return "\n".join([*self.lines, *self.errors])


@dataclass
class Workplace:
    """One journal, the processes that use it, and what their actions have done."""

    kind: str
    home: Path
    effects: Path
    processes: list[Process] = field(default_factory=list)

    def weft(self, *words: str, wrapper: tuple[str, ...] = (), pack: bool = True) -> Process:
        process = Process(*words, wrapper=wrapper, pack=pack)
        self.processes.append(process)
        return process

    def worker(self, *words: str, wrapper: tuple[str, ...] = (), pack: bool = True) -> Process:
        return self.weft("worker", "--json", *words, wrapper=wrapper, pack=pack)

    def started(self, *words: str) -> Process:
        """Return a worker that is at work."""
        worker = self.worker(*words)
        worker.until(lambda: worker.events("started"))
        return worker

    def end_all(self) -> None:
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.kill()
            process.end()
            for stream in (process.popen.stdout, process.popen.stderr):
                assert stream is not None
                stream.close()

    @asynccontextmanager
    async def runtime(self) -> AsyncIterator[Runtime]:
        """The same journal, in this process."""
        async with Runtime.open(home=self.home, packs=[Path("pack")]) as runtime:
            await runtime.opened()
            yield runtime

    async def submit(self, workflow: str, count: int = 1, **inputs: Any) -> list[str]:
        """Have runs accepted for any worker."""
        async with self.runtime() as runtime:
            plan = runtime.compile(Path(f"workflows/{workflow}.yaml"))
            given = runtime.inputs(plan, inputs)
            return [await runtime.submit(plan, given) for _ in range(count)]

    async def runs(self) -> dict[str, Listed]:
        """Return all runs by id."""
        async with self.runtime() as runtime:
            return {run.row.id: run for run in await runtime.journal.runs(RunQuery(limit=10_000))}

    async def states(self) -> Counter[str]:
        return Counter(run.status.state for run in (await self.runs()).values())

    def seen(self, what: str, run_id: str | None = None) -> list[tuple[str, str]]:
        """Return run and name of each line of a kind that the actions have left."""
        lines = self.effects.read_text().splitlines() if self.effects.exists() else []
        parts = [line.split() for line in lines]
        return [(run, name) for _, _, kind, run, name in parts if kind == what and run_id in (None, run)]

    def repeated(self) -> list[tuple[str, str]]:
        """Return the steps that have ended more than once."""
        return [each for each, count in Counter(self.seen("end")).items() if count > 1]


def until(is_true: Callable[[], Any], timeout_s: float = 20.0, told: Callable[[], str] = str) -> None:
    """Wait for something that others bring about."""
    end = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < end, f"it has not happened in time: {told()}"
        time.sleep(0.02)


def many(name: str, few: int) -> int:
    """Return how often something random is tried: few times, unless a variable of this name asks for more."""
    return int(os.environ.get(name, few))

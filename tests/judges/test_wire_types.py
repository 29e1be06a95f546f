"""OpenAI's own types judge what a completion step sends: the `openai` package's are made from OpenAI's API description.

The body is checked strictly and at every depth: no other member, no value of another type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from judges.steps import CASES, FACTS, KEY, MESSAGES, MODEL, TOGETHER, WEATHER, Case, output_of, run_step
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)
from pydantic import TypeAdapter, ValidationError

from weft import manifest, source
from weft.engine.report import RunReport
from weft.registry import Registry
from weft.testing.model_server import ModelServer, Ok, Request, Status
from weft.types import Json

ROOT = Path(__file__).parent.parent.parent
WHOLE: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)
STREAM: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsStreaming)
LAZY = ("messages", "tools")
"""Members whose items are checked only when they are taken."""

HEADERS = {"accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host", "user-agent"}  # fmt: skip
"""What a request may carry besides the facts about the client that the `openai` package adds as `x-stainless-…`."""


def judge(body: Any, types: TypeAdapter[Any] = WHOLE) -> None:
    """Raise `ValidationError` for a body that is not OpenAI's."""
    checked = types.validate_python(body, strict=True, extra="forbid")
    for name in LAZY:
        list(checked.get(name, ()))


async def answered(
    server: ModelServer, tmp_path: Path, registry: Registry, said: Mapping[str, Json], *, watched: bool = False
) -> RunReport:
    """Run one step against `server`."""
    environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.base_url}
    arguments = {"provider": "openai", "model": MODEL, "messages": MESSAGES, **said}
    return await run_step(tmp_path, registry, "openai", arguments, environ, watched=watched)


def check_head(request: Request) -> None:
    """Check all of the request but its body."""
    assert (request.method, request.path, request.query) == ("POST", "/v1/chat/completions", {})
    others = {name for name in request.headers if not name.startswith("x-stainless-")} - HEADERS
    assert others == set()
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert "meta-" not in json.dumps(request.headers)


def test_every_parameter_has_a_case() -> None:
    """The cases are the 27 parameters of the manifest."""
    document = manifest.load(source.read_file(ROOT / "manifests/generate_chat_completion.yaml"))
    assert list(CASES) == [parameter.name for parameter in document.all_parameters]
    assert len(CASES) == 27


@pytest.mark.parametrize("name", CASES)
async def test_one_parameter(model_server: ModelServer, tmp_path: Path, core_registry: Registry, name: str) -> None:
    """Each parameter alone makes one request that OpenAI's types accept and that holds what the step said, no more."""
    said = {**CASES[name].said, **({"api_base": model_server.base_url} if name == "api_base" else {})}
    output_of(await answered(model_server, tmp_path, core_registry, said))

    [request] = model_server.requests
    check_head(request)
    judge(request.json)
    assert request.json == {"model": MODEL, "messages": MESSAGES, **CASES[name].heard}


@pytest.mark.parametrize("case", [TOGETHER, Case({"max_tokens": 9, "n": 1}, {"max_tokens": 9, "n": 1})])
async def test_all_at_once(model_server: ModelServer, tmp_path: Path, core_registry: Registry, case: Case) -> None:
    """No parameter changes what becomes of another."""
    said = {**case.said, "api_base": model_server.base_url}
    output_of(await answered(model_server, tmp_path, core_registry, said))

    [request] = model_server.requests
    check_head(request)
    judge(request.json)
    assert request.json == {"model": MODEL, "messages": MESSAGES, **case.heard}


async def test_a_run_that_is_watched(model_server: ModelServer, tmp_path: Path, core_registry: Registry) -> None:
    """Who looks on gets a stream of the same request, and nothing else of it is different."""
    said = {name: value for name, value in TOGETHER.said.items() if name != "n"}
    output_of(await answered(model_server, tmp_path, core_registry, said, watched=True))

    [request] = model_server.requests
    check_head(request)
    judge(request.json, STREAM)
    heard = {name: value for name, value in TOGETHER.heard.items() if name != "n"}
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    assert request.json == {"model": MODEL, "messages": MESSAGES, **heard, **stream}


async def test_retries_and_fallbacks_are_further_requests(
    model_server: ModelServer, tmp_path: Path, core_registry: Registry
) -> None:
    """Every request of a chain is right by the types: the same body again, then the same for the other model."""
    busy = Status(503, headers={"retry-after": "0"})
    model_server.script([busy, busy, busy, Ok()])
    output = output_of(await answered(model_server, tmp_path, core_registry, TOGETHER.said))

    for request in model_server.requests:
        check_head(request)
        judge(request.json)
    rest = {"messages": MESSAGES, **TOGETHER.heard}
    assert [request.json for request in model_server.requests] == [
        {"model": model, **rest} for model in (MODEL, MODEL, MODEL, "gpt-4o")
    ]
    assert [attempt["try"] for attempt in output["weft"]["attempts"]] == [1, 2, 3, 1]


async def test_metadata_stays_here(model_server: ModelServer, tmp_path: Path, core_registry: Registry) -> None:
    """Not one value of Metadata is anywhere in the request."""
    output_of(await answered(model_server, tmp_path, core_registry, {"metadata": FACTS}))

    [request] = model_server.requests
    assert b"meta-" not in request.body + json.dumps([request.headers, request.query, request.path]).encode()


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": "0.2"},
        {"n": 1.5},
        {"logprobs": 1},
        {"stop": [1]},
        {"logit_bias": {"1": "5"}},
        {"response_format": {"type": "json"}},
        {"tool_choice": "any"},
        {"custom_llm_provider": "openai"},
        {"num_retries": 2},
        {"metadata": {"debug": False}},
        {"tools": [{"type": "function", "function": {"name": "f", "schema": {}}}]},
        {"tools": [{"name": "f"}]},
        {"messages": [{"role": "bogus", "content": "Hello"}]},
        {"messages": [{"role": "user", "content": "Hello", "cache_control": {}}]},
        {"messages": [{"role": "tool", "content": "5"}]},
    ],
    ids=json.dumps,
)
def test_the_judge_is_strict(wrong: dict[str, Any]) -> None:
    """A wrong type, a wrong value and a member that OpenAI does not have are seen, at every depth."""
    right = {"model": MODEL, "messages": MESSAGES, "tools": [WEATHER]}
    judge(right)
    with pytest.raises(ValidationError):
        judge({**right, **wrong})

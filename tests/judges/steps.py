"""The 27 parameters of Generate Chat Completion: how a step says each, and what OpenAI's API must hear of it.

What must be heard is written by hand from OpenAI's reference of the request, never computed by code of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from weft.engine.report import RunReport
from weft.registry import Registry
from weft.runtime import Runtime
from weft.types import Json

MODEL = "gpt-4o-mini"
KEY = "sk-judge-CANARY-0123456789"
MESSAGES: list[Json] = [
    {"role": "system", "content": "You answer in JSON."},
    {"role": "user", "content": "How warm is it in Paris? Grüße, 東京 🌤"},
]
WEATHER: Json = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
NAMED: Json = {"type": "function", "function": {"name": "get_weather"}}
FACTS: Json = {
    "request_id": "meta-r-1042",
    "tenant_id": "meta-acme",
    "workflow": "meta-support",
    "feature": "meta-triage",
    "trace_id": "meta-4bf92f35",
    "user_id": "meta-u-77",
    "debug": False,
}


@dataclass(frozen=True)
class Case:
    """A step's arguments besides provider, model and messages, and the members of the body that they must become."""

    said: Mapping[str, Json] = field(default_factory=dict)
    heard: Mapping[str, Json] = field(default_factory=dict)


def same(**members: Json) -> Case:
    """A case whose arguments stand in the body as the step says them."""
    return Case(members, members)


CASES: dict[str, Case] = {
    "n": same(n=2),
    "frequency_penalty": same(frequency_penalty=0.5),
    "logprobs": same(logprobs=True),
    "top_logprobs": same(logprobs=True, top_logprobs=2),
    "logit_bias": same(logit_bias={"2683": -100, "7211": 5}),
    "max_completion_tokens": same(max_completion_tokens=64),
    "max_tokens": same(max_tokens=64),
    "messages": Case(),
    "model": Case(),
    "parallel_tool_calls": same(parallel_tool_calls=False, tools=[WEATHER]),
    "presence_penalty": same(presence_penalty=-0.5),
    "provider": Case(),
    "response_format": same(response_format={"type": "json_object"}),
    "safety_identifier": same(safety_identifier="u-7f3a91"),
    "seed": same(seed=42),
    "stop": Case({"stop": r"\n, END, ---, \,"}, {"stop": ["\n", "END", "---", ","]}),
    "temperature": same(temperature=0.2),
    "tool_choice": same(tools=[WEATHER], tool_choice=NAMED),
    "tools": same(tools=[WEATHER]),
    "top_p": same(top_p=0.9),
    "user": same(user="u-5c1d20"),
    "api_base": Case(),  # where the request goes; each judge adds its own address
    "api_version": Case({"api_version": "2025-02-01-preview"}),  # Azure's alone
    "additional_parameters": Case(
        {"temperature": 0.1, "additional_parameters": {"temperature": 0.9, "verbosity": "low"}},
        {"temperature": 0.9, "verbosity": "low"},
    ),
    "fallbacks": Case({"fallbacks": [{"openai/*": ["gpt-4o"]}]}),
    "metadata": Case({"metadata": FACTS}),
    "num_retries": Case({"num_retries": 2}),
}


def _together() -> Case:
    """Every parameter in one step; of the two that exclude each other the newer one."""
    said: dict[str, Json] = {}
    heard: dict[str, Json] = {}
    for name, case in CASES.items():
        if name != "max_tokens":
            said |= case.said
            heard |= case.heard
    return Case(said, heard)


TOGETHER = _together()


async def run_step(
    home: Path,
    registry: Registry,
    connection: str,
    arguments: Mapping[str, Json],
    environ: Mapping[str, str],
    *,
    watched: bool = False,
) -> RunReport:
    """Run one completion step in a runtime of its own, whose connections are those of `environ`."""
    async with Runtime(home / "home", registry, environ=environ) as runtime:
        return await run_in(runtime, home, connection, arguments, watched=watched)


async def run_in(
    runtime: Runtime, directory: Path, connection: str, arguments: Mapping[str, Json], *, watched: bool = False
) -> RunReport:
    """Write a workflow of one completion step, compile and run it as `weft run` does, and return its report."""
    step: Json = {"id": "answer", "uses": "generate_chat_completion", "connection": connection, "with": dict(arguments)}
    document = _written(directory, {"name": "judged", "steps": [step]})
    return await runtime.run(runtime.compile(document), {}, watched=watched)


def _written(directory: Path, workflow: Json) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    document = directory / "judged.yaml"
    document.write_text(yaml.safe_dump(workflow, sort_keys=False), encoding="utf-8")
    return document


def output_of(report: RunReport) -> Any:
    """Return the output of the one step, which must have succeeded."""
    [step] = report.steps
    assert step.problem is None, step.problem
    assert report.state == "succeeded"
    return step.output

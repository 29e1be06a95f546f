"""What an attempt at a model's answer says of itself, in the words of OpenTelemetry's conventions for generative AI.

Source: OpenTelemetry semantic conventions for GenAI client spans. The names are written out here: the package that holds
them marks them as moved, and they are needed where no package of OpenTelemetry is installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from weft.engine.events import AttemptEnded
from weft.types import Json

Value = str | int | float | bool | Sequence[str]
"""What an attribute of a span may be."""

PROVIDERS: Final = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""Providers that the conventions call otherwise than we do."""

_ASKED: Final = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}
"""Arguments of a completion that the conventions have a name for, and which are numbers."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What an attempt used up, as far as anybody counted."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None
    currency: str = ""


def model_of(ended: AttemptEnded) -> tuple[str, str]:
    """Return provider and model that an attempt was made with; a variant names both."""
    provider, _, model = ended.variant.partition("/")
    return provider, model


def spent(ended: AttemptEnded) -> Spent:
    """Return what one attempt used up: of its answer, or of its failure, which may have cost something too."""
    if ended.problem is None:
        answer = _object(ended.output)
        usage = _object(answer.get("usage"))
        attempts = _object(answer.get("weft")).get("attempts")
        last = _object(attempts[-1]) if isinstance(attempts, list) and attempts else {}
        cost = _object(last.get("cost"))
    else:
        usage, cost = _object(ended.details.get("usage")), _object(ended.details.get("cost"))
    return Spent(
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        _count(_object(usage.get("prompt_tokens_details")).get("cached_tokens")),
        _count(_object(usage.get("completion_tokens_details")).get("reasoning_tokens")),
        _amount(cost.get("amount")),
        str(cost.get("currency", "")) if cost else "",
    )


def attributes(ended: AttemptEnded) -> Iterator[tuple[str, Value]]:
    """Yield what the conventions want to know of an attempt, without what was asked and answered."""
    provider, model = model_of(ended)
    yield "gen_ai.operation.name", "chat"
    yield "gen_ai.provider.name", PROVIDERS.get(provider, provider)
    yield "gen_ai.request.model", model
    for name, attribute in _ASKED.items():
        value = ended.arguments.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield attribute, value
    stop = ended.arguments.get("stop")
    if stop:
        yield "gen_ai.request.stop_sequences", [str(each) for each in (stop if isinstance(stop, list) else [stop])]
    answer = _object(ended.output) if ended.problem is None else {}
    for name, attribute in (("model", "gen_ai.response.model"), ("id", "gen_ai.response.id")):
        if isinstance(text := answer.get(name), str):
            yield attribute, text
    reasons = [str(each.get("finish_reason")) for each in _choices(answer) if each.get("finish_reason")]
    if reasons:
        yield "gen_ai.response.finish_reasons", reasons
    used = spent(ended)
    for attribute, count in (
        ("gen_ai.usage.input_tokens", used.input_tokens),
        ("gen_ai.usage.output_tokens", used.output_tokens),
        ("gen_ai.usage.cache_read.input_tokens", used.cached_tokens or None),
        ("gen_ai.usage.reasoning.output_tokens", used.reasoning_tokens or None),
    ):
        if count is not None:
            yield attribute, count
    if used.cost is not None:
        yield "weft.cost.amount", used.cost
        yield "weft.cost.currency", used.currency


def content(ended: AttemptEnded) -> Iterator[tuple[str, Value]]:
    """Yield what was asked and answered, in the conventions' form: for those who have asked for it."""
    messages = ended.arguments.get("messages")
    if isinstance(messages, list):
        yield "gen_ai.input.messages", json.dumps([_message(_object(each)) for each in messages])
    choices = _choices(_object(ended.output)) if ended.problem is None else []
    if choices:
        told = [
            _message(_object(each.get("message"))) | {"finish_reason": str(each.get("finish_reason") or "")}
            for each in choices
        ]
        yield "gen_ai.output.messages", json.dumps(told)


def _message(message: Mapping[str, Json]) -> dict[str, Json]:
    body = message.get("content")
    parts: list[Json] = [{"type": "text", "content": body}] if isinstance(body, str) else []
    if isinstance(body, list):
        parts += [_part(_object(each)) for each in body]
    calls = message.get("tool_calls")
    for each in calls if isinstance(calls, list) else []:
        call = _object(each)
        function = _object(call.get("function"))
        parts.append(
            {
                "type": "tool_call",
                "id": call.get("id"),
                "name": function.get("name"),
                "arguments": function.get("arguments"),
            }
        )
    return {"role": str(message.get("role", "")), "parts": parts}


def _part(part: Mapping[str, Json]) -> Json:
    """Return a part of a message: its text; of a picture or a file no more than that there is one."""
    if isinstance(text := part.get("text"), str):
        return {"type": "text", "content": text}
    return {"type": str(part.get("type", "other"))}


def _choices(answer: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    found = answer.get("choices")
    return [_object(each) for each in found] if isinstance(found, list) else []


def _object(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _count(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _amount(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

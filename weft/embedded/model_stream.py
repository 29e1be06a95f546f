"""Between the two forms of a chat completion: server-sent chunks and one object.

Source of both forms: OpenAI's API reference, "chat.completion" and "chat.completion.chunk".
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any, cast

from weft.types import Json, JsonObject

DONE = b"data: [DONE]\n\n"
LARGEST_ANSWER_BYTES = 64 << 20


class StreamBroken(Exception):
    """The stream ended early or grew too large; `error` holds what the server said about it, if it said something."""

    def __init__(self, message: str, error: Json = None) -> None:
        super().__init__(message)
        self.error = error


def event(value: Json) -> bytes:
    """Return `value` as one server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def chunks(lines: AsyncIterable[bytes]) -> AsyncIterator[JsonObject]:
    """Yield the chunks of an event stream.

    Raises:
        StreamBroken: An error stands in the stream, it has no end, or it is larger than any answer can be.
    """
    size = 0
    async for line in lines:
        size += len(line)
        if size > LARGEST_ANSWER_BYTES:
            raise StreamBroken(f"The answer is larger than {LARGEST_ANSWER_BYTES} bytes.")
        name, _, data = line.partition(b":")
        if name != b"data":  # an empty line or a comment that keeps the connection alive
            continue
        if data.strip() == b"[DONE]":
            return
        value = json.loads(data)
        if "error" in value:
            raise StreamBroken("The model failed while it was answering.", value["error"])
        yield value
    raise StreamBroken("The answer broke off.")


async def fold(stream: AsyncIterable[JsonObject]) -> JsonObject:
    """Return the completion that a stream of chunks amounts to."""
    completion: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    async for chunk in stream:
        completion |= {name: value for name, value in chunk.items() if name != "choices" and value is not None}
        for part in cast(list[dict[str, Any]], chunk["choices"]):
            _add(choices.setdefault(part["index"], _empty(part["index"])), part)
    completion |= {"object": "chat.completion", "choices": [choices[index] for index in sorted(choices)]}
    return completion


def _empty(index: int) -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", "content": ""}, "finish_reason": None}


def _add(choice: dict[str, Any], part: dict[str, Any]) -> None:
    message = choice["message"]
    for name, piece in part["delta"].items():
        if name != "role" and isinstance(piece, str):  # content, and the reasoning of models that show it
            message[name] = message.get(name, "") + piece
    if logprobs := part.get("logprobs"):
        choice.setdefault("logprobs", {"content": []})["content"] += logprobs["content"]
    choice["finish_reason"] = part["finish_reason"] or choice["finish_reason"]


def unfold(completion: JsonObject, *, usage: bool) -> Iterator[JsonObject]:
    """Yield the chunks of a completion that was not streamed, the last one with its usage where that is wanted."""
    chunk: dict[str, Any] = {name: value for name, value in completion.items() if name not in {"choices", "usage"}}
    chunk["object"] = "chat.completion.chunk"
    for choice in cast(list[dict[str, Any]], completion["choices"]):
        for delta in _deltas(choice["message"]):
            yield {**chunk, "choices": [{"index": choice["index"], "delta": delta, "finish_reason": None}]}
        end = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        if choice.get("logprobs"):
            end["logprobs"] = choice["logprobs"]
        yield {**chunk, "choices": [end]}
    if usage:
        yield {**chunk, "choices": [], "usage": completion["usage"]}


def _deltas(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": message["content"]}
    for index, call in enumerate(message.get("tool_calls", ())):
        yield {"tool_calls": [{"index": index, **call}]}

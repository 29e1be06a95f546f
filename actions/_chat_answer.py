"""From LiteLLM's response to the output that is on record."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from weft.sdk import JsonObject

from . import _litellm
from ._chat_errors import Call, Kind
from ._chat_record import COUNTS

Outcome = Literal["complete", "truncated", "tool_calls", "filtered", "refused"]

_CONTENT: Final = ("content", "tool_calls", "function_call", "audio", "images")
"""Members of a message that answer something."""

_TYPES: Final = {"id": str, "created": int, "model": str, "system_fingerprint": str, "service_tier": str}
"""Types of a completion's own members, which LiteLLM passes on as they come."""

_NOTHING: Final[dict[Outcome, Kind]] = {
    "filtered": Kind.CONTENT_FILTER,
    "refused": Kind.REFUSED,
    "truncated": Kind.TRUNCATED,
}
"""What an answer without content is called, by how it ended."""


def response_of(answer: JsonObject) -> Any:
    """Return LiteLLM's response for a completion in OpenAI's shape, made as LiteLLM makes it without streaming."""
    litellm = _litellm.load()
    return litellm.utils.convert_to_model_response_object(
        response_object=answer, model_response_object=litellm.ModelResponse()
    )


def sum_of(chunks: list[Any], messages: Any) -> Any:
    """Return LiteLLM's sum of a stream in another shape than OpenAI's."""
    return _litellm.load().stream_chunk_builder(chunks, messages=messages)


def translated(response: Any) -> Any:
    """Return LiteLLM's translation of another shape than OpenAI's, without what it adds only sometimes."""
    usage: Any = getattr(response, "usage", None)
    if getattr(usage, "cost", None) is not None:  # its own estimate; what we say of cost stands in `weft`
        del usage.cost
    details = getattr(usage, "completion_tokens_details", None)
    if details and not details.reasoning_tokens:
        details.reasoning_tokens = None
    return response


def whole(exchange: _litellm.Exchange) -> JsonObject | None:
    """Return the completion of a server that was asked for a stream and sent everything at once."""
    try:
        answer = json.loads(bytes(exchange.body))
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) and isinstance(answer.get("choices"), list) else None


def usage_of(response: Any) -> JsonObject | None:
    """Return the tokens that the provider counted, whatever else is wrong with the answer."""
    usage = getattr(response, "usage", None)
    if usage is None or not any(getattr(usage, name, None) for name in COUNTS):
        return None
    return _possible(usage.model_dump(exclude_none=True, warnings=False)) or None


def _possible(usage: JsonObject) -> JsonObject:
    """Return the counts of an answer without those that cannot be: no number of tokens is negative or a fraction."""
    kept: JsonObject = {}
    for name, value in usage.items():
        whole_number = isinstance(value, int) or name not in COUNTS
        negative = isinstance(value, int | float) and value < 0
        if whole_number and not negative:
            kept[name] = _possible(value) if isinstance(value, dict) else value
    return kept


def output_of(response: Any, call: Call) -> tuple[JsonObject, Outcome]:
    """Return the completion as documented, and how its first choice ended.

    Raises:
        ActionError: There is no choice, or nothing in any of them, or a member is of another type than documented.
    """
    output: JsonObject = response.model_dump(exclude_none=True, warnings=False)
    choices = output.get("choices")
    if not isinstance(choices, list) or not choices:
        raise call.fail(Kind.BAD_RESPONSE, status=200)
    if any(name in output and not isinstance(output[name], wanted) for name, wanted in _TYPES.items()):
        raise call.fail(Kind.BAD_RESPONSE, status=200)
    _tidy(output)
    output.pop("usage", None)
    if (usage := usage_of(response)) is not None:  # else zeros of LiteLLM's: nobody has counted
        output["usage"] = usage
    outcomes = [_tidied(choice) for choice in choices]
    if not any(has_content for _, has_content in outcomes):
        raise call.fail(_NOTHING.get(outcomes[0][0], Kind.EMPTY_RESPONSE), status=200)
    return output, outcomes[0][0]


def _tidied(choice: Any) -> tuple[Outcome, bool]:
    """Put a choice into the documented shape; return how it ended, and whether it has any content."""
    message = choice.setdefault("message", {})
    outcome = _outcome(choice, message)
    has_content = any(message.get(name) for name in _CONTENT)
    for made in message.get("tool_calls") or ():
        made.pop("index", None)  # of a stream's events, not of calls
    (choice.get("provider_specific_fields") or {}).pop("native_finish_reason", None)  # a stream has none
    for part in (choice, message):
        _tidy(part)
    message.setdefault("content", None)
    return outcome, has_content


def _outcome(choice: dict[str, Any], message: dict[str, Any]) -> Outcome:
    finish = choice.get("finish_reason")
    further = message.get("provider_specific_fields") or {}
    if finish == "content_filter":
        return "filtered"
    if not message.get("content") and (message.get("refusal") or further.get("refusal")):
        return "refused"
    if message.get("tool_calls") or message.get("function_call"):
        return "tool_calls"
    return "truncated" if finish == "length" else "complete"


def _tidy(part: dict[str, Any]) -> None:
    """Remove what LiteLLM adds without content, such as `annotations: []` and `provider_specific_fields: {}`."""
    for name, value in list(part.items()):
        vendor = isinstance(value, dict) and name == "provider_specific_fields"
        kept = {key: item for key, item in value.items() if item is not None} if vendor else value
        if kept in ([], {}):
            del part[name]
        else:
            part[name] = kept

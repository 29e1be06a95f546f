"""From the step's arguments to the members of the request's body."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Final

from weft.sdk import Json, JsonObject

BODY: Final = (
    "n",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "max_completion_tokens",
    "max_tokens",
    "parallel_tool_calls",
    "presence_penalty",
    "response_format",
    "safety_identifier",
    "seed",
    "stop",
    "temperature",
    "tool_choice",
    "tools",
    "top_p",
    "user",
)
"""The parameters that are members of the request's body under the same name, besides model and messages."""

RESERVED: Final = re.compile(
    r"model|messages|stream|stream_options|functions?|function_call|extra_(body|headers|query)|(default_)?headers"
    r"|api_.*|base_url|organization|timeout|.*_?retries|fallbacks|mock_.*|custom_llm_provider|provider|metadata|client"
    r"|model_list|shared_session|http_client|ssl_.*|aws_.*|vertex_.*|azure_.*|drop_params|.*_(drop|openai)_params|deployment_id"
)
"""What Additional Parameters may not hold: it would change where the request goes, with which key, or that it goes."""

_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "s": " ", ",": ",", "\\": "\\"}


def stops(text: str) -> list[str]:
    r"""Return the texts of a comma separated list; `\,` `\n` `\t` `\r` `\s` and `\\` stand for one character each.

    Spaces around a text are not part of it, unless written as `\s`.

    Raises:
        ValueError: A text is empty, or there is an escape of another kind; the message says which.
    """
    parts = [""]
    for piece in re.findall(r"\\.?|[^\\,]+|,", text, re.DOTALL):
        if piece == ",":
            parts.append("")
        else:
            parts[-1] += piece
    return [_stop(part.strip(" ")) for part in parts]


def _stop(text: str) -> str:
    if not text:
        raise ValueError("there is nothing between two commas, or before the first or after the last")

    def decode(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise ValueError(f"{match[0]!r} is no escape")
        return _ESCAPES[match[1]]

    return re.sub(r"\\(.?)", decode, text, flags=re.DOTALL)


def body(arguments: Mapping[str, Json]) -> tuple[JsonObject, JsonObject]:
    """Return the members of the body that LiteLLM maps for the provider, and those that it passes on as they are.

    What Additional Parameters says of a member of the first kind replaces the step's own; null removes it.
    """
    given: JsonObject = {name: arguments[name] for name in BODY if arguments.get(name) is not None}
    if isinstance(given.get("stop"), str):
        given["stop"] = list(stops(str(given["stop"])))
    additional = arguments.get("additional_parameters")
    extra = copy.deepcopy(additional) if isinstance(additional, dict) else {}
    for name in BODY:
        if name in extra and (value := extra.pop(name)) is None:
            given.pop(name, None)
        elif isinstance(additional, dict) and name in additional:
            given[name] = [value] if name == "stop" and isinstance(value, str) else value
    return given, extra

"""The arguments of a completion, and the rules that its manifest cannot state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, WrapValidator

from weft.sdk import Json, JsonObject, Known, Problem, Where

from ._chat_models import check_models
from ._chat_request import BODY, RESERVED, body
from ._chat_route import address
from ._litellm_words import WORDS


def _as_written(value: float, check: Callable[[float], float]) -> float:
    """Check a number and keep it as it is: pydantic makes 1.0 of 1, and so it would be sent."""
    check(value)
    return value


Penalty = Annotated[float, Field(ge=-2, le=2), WrapValidator(_as_written)]
Bias = Annotated[float, Field(ge=-100, le=100), WrapValidator(_as_written)]
Temperature = Annotated[float, Field(ge=0, le=2), WrapValidator(_as_written)]
Share = Annotated[float, Field(ge=0, le=1), WrapValidator(_as_written)]
Text = Annotated[str, Field(min_length=1)]


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    n: int | None = Field(None, ge=1)
    frequency_penalty: Penalty | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=5)
    logit_bias: dict[str, Bias] | None = None
    max_completion_tokens: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    messages: list[dict[str, JsonValue]] = Field(min_length=1)
    model: str = Field(min_length=1, max_length=256)
    parallel_tool_calls: bool | None = None
    presence_penalty: Penalty | None = None
    provider: str = Field(min_length=1, max_length=64)
    response_format: dict[str, JsonValue] | None = None
    safety_identifier: Text | None = None
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    stop: Text | None = None
    temperature: Temperature | None = None
    tool_choice: str | dict[str, JsonValue] | None = None
    tools: list[dict[str, JsonValue]] | None = Field(None, min_length=1, max_length=128)
    top_p: Share | None = None
    user: Text | None = None
    api_base: Text | None = None
    api_version: Text | None = None
    additional_parameters: dict[str, JsonValue] | None = None
    fallbacks: list[Text | dict[str, list[str]]] | None = None
    metadata: dict[str, JsonValue] | None = None
    num_retries: int | None = Field(None, ge=0, le=100)


def check(arguments: Mapping[str, Json], known: Known) -> Iterator[Problem]:
    """Yield what is wrong with the arguments that are known and cannot be said in the manifest."""
    yield from rules(arguments)
    yield from check_models(arguments, known)


def rules(arguments: Mapping[str, Json]) -> Iterator[Problem]:
    """Yield what is wrong whichever the model is."""
    yield from _check_address(arguments.get("api_base"))
    yield from _check_additional(arguments)
    yield from _check_fallbacks(arguments.get("fallbacks"))
    try:
        given, _ = body(arguments)
    except ValueError as error:
        yield _problem("stop", f"Stop Tokens cannot be read: {error}.", r"Write `\,` for a comma, `\s` for a space.")
        return
    yield from _check_overriding(arguments, given)
    yield from _check_tool_choice(given)
    yield from _check_schema(given.get("response_format"))
    yield from _check_json_mode(given, arguments.get("messages"))


def _problem(field: str, message: str, remedy: str, severity: Literal["error", "warning"] = "error") -> Problem:
    return Problem(f"bad_{field.partition('.')[0]}", message, remedy, Where(field=field), severity)


def _check_address(base: Json) -> Iterator[Problem]:
    if isinstance(base, str) and address(base) is None:
        yield _problem(
            "api_base",
            "API Base is not an http(s) address, or it holds a user name or a password.",
            "Write it like https://models.example.com/v1; the key belongs to the connection.",
        )


def _check_additional(arguments: Mapping[str, Json]) -> Iterator[Problem]:
    additional = arguments.get("additional_parameters")
    for name in additional if isinstance(additional, dict) else ():
        if RESERVED.fullmatch(name):
            remedy = "Use the parameter of that purpose, or the connection."
        elif name in WORDS:
            remedy = "It steers LiteLLM and is no member of the request's body."
        else:
            continue
        yield _problem(f"additional_parameters.{name}", f"{name!r} cannot be set in Additional Parameters.", remedy)


def _check_overriding(arguments: Mapping[str, Json], given: JsonObject) -> Iterator[Problem]:
    """Yield what is wrong with parameters that Additional Parameters replaces; the manifest's rules hold for them too."""
    additional = arguments.get("additional_parameters")
    replaced = [name for name in BODY if isinstance(additional, dict) and name in additional]
    if not replaced:
        return
    stop = given.get("stop")
    if "stop" in replaced and stop is not None and not (isinstance(stop, list) and stop and all(map(_is_text, stop))):
        yield _problem("additional_parameters.stop", "'stop' is a text or a list of texts.", "Correct it.")
    rest = {name: value for name, value in given.items() if name != "stop"}
    try:
        Arguments.model_validate({"provider": "-", "model": "-", "messages": [{}], **rest})
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False, include_context=False):
            if (name := str(fault["loc"][0])) in replaced:
                yield _problem(f"additional_parameters.{name}", f"{name!r}: {fault['msg']}.", "Correct it.")
    if "max_tokens" in given and "max_completion_tokens" in given:
        yield _clash("only one of 'max_tokens' and 'max_completion_tokens' can be given.")


def _is_text(value: Json) -> bool:
    return isinstance(value, str) and bool(value)


def _clash(complaint: str) -> Problem:
    return _problem(
        "additional_parameters", f"Together with the step's parameters: {complaint}", "Correct one of them."
    )


def check_complete(given: JsonObject) -> Iterator[Problem]:
    """Yield the manifest's rules that Additional Parameters breaks by what is missing, when nothing is unknown any more."""
    if "top_logprobs" in given and given.get("logprobs") is not True:
        yield _clash("'top_logprobs' needs 'logprobs' to be on.")
    for name in ("parallel_tool_calls", "tool_choice"):
        if name in given and "tools" not in given:
            yield _clash(f"{name!r} needs 'tools'.")


def _check_fallbacks(fallbacks: Json) -> Iterator[Problem]:
    for place, target in _targets(fallbacks):
        provider, slash, model = target.partition("/")
        if not target.strip() or (slash and (not provider or not model)):
            yield _problem(place, f"{target!r} is no model.", "Write a model, or provider/model.")


def _targets(fallbacks: Json) -> Iterator[tuple[str, str]]:
    for index, item in enumerate(fallbacks if isinstance(fallbacks, list) else ()):
        if isinstance(item, str):
            yield f"fallbacks[{index}]", item
        elif isinstance(item, dict):
            for pattern, targets in item.items():
                for number, target in enumerate(targets if isinstance(targets, list) else ()):
                    yield f"fallbacks[{index}].{pattern}[{number}]", str(target)


def _check_tool_choice(given: JsonObject) -> Iterator[Problem]:
    choice, tools = given.get("tool_choice"), given.get("tools")
    if isinstance(choice, str) and choice not in {"auto", "required", "none"}:
        yield _problem("tool_choice", f"{choice!r} is no tool choice.", "Use auto, required, none, or an object.")
    if not isinstance(choice, dict):
        return
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if choice.get("type") != "function" or not isinstance(name, str):
        shape = '{"type": "function", "function": {"name": "get_weather"}}'
        yield _problem("tool_choice", "Tool Choice does not name a function.", f"Write it like {shape}.")
    elif isinstance(tools, list) and name not in (known := list(map(_tool_name, tools))):
        yield _problem("tool_choice", f"There is no tool named {name!r}.", f"Tools are: {', '.join(map(str, known))}.")


def _tool_name(tool: Json) -> Json:
    function = tool.get("function") if isinstance(tool, dict) else None
    return function.get("name") if isinstance(function, dict) else None


def _check_schema(wanted: Json) -> Iterator[Problem]:
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return
    declared = wanted.get("json_schema", {})
    if isinstance(declared, dict) and "schema" not in declared:
        shape = '{"type": "json_schema", "json_schema": {"name": "answer", "schema": {…}}}'
        yield _problem("response_format", "Response Format names no schema.", f"Write it like {shape}.")


def _check_json_mode(given: JsonObject, messages: Json) -> Iterator[Problem]:
    wanted = given.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_object" or not messages:
        return
    if "json" not in str(messages).lower():
        yield _problem(
            "response_format",
            "JSON mode is on, but no message asks for JSON: the model may write white space up to the token limit.",
            "Ask for JSON in a message.",
            "warning",
        )

"""Tools for a model whose template knows none: questions that its grammar can hold it to, and their answers as calls.

A forced call is an answer under a JSON Schema. With `tool_choice: auto` the model is first asked, in one token,
whether a function is needed; then it either has to call or answers as if there were no tools.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from weft.types import JsonObject

MOST_CALLS = 4
"""In one answer, and only where `parallel_tool_calls` asks for several: a small model that may go on invents more."""

FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Body: TypeAlias = dict[str, Any]


class RequestRefused(Exception):
    """The request cannot be served as it stands; `param` names the part of it."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Function(_Part):
    name: FunctionName
    description: str | None = None
    parameters: JsonObject | None = None


class Tool(_Part):
    type: Literal["function"]
    function: Function


class _Named(_Part):
    name: FunctionName


class NamedChoice(_Part):
    type: Literal["function"]
    function: _Named


class _CalledFunction(_Part):
    name: str
    arguments: str


class Call(_Part):
    id: str
    function: _CalledFunction


class Message(_Part):
    role: str
    content: str | list[JsonObject] | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None


class ChatRequest(_Part):
    """The parts of a request that are not simply handed on; the rest is judged by the model's own server."""

    messages: list[Message]
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    stream: bool | None = None

    @property
    def functions(self) -> list[Function]:
        """The functions that may be called in this answer."""
        if self.tool_choice == "none":
            return []
        offered = [tool.function for tool in self.tools or ()]
        if isinstance(self.tool_choice, NamedChoice):
            return [function for function in offered if function.name == self.tool_choice.function.name]
        return offered

    @property
    def is_forced(self) -> bool:
        return self.tool_choice not in {None, "auto", "none"}


def read(body: Body) -> ChatRequest:
    """Return what a request's body says about tools.

    Raises:
        RequestRefused: It has another shape than OpenAI's, or asks for what cannot be done here.
    """
    try:
        request = ChatRequest.model_validate(body)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise RequestRefused(fault["msg"], ".".join(map(str, fault["loc"])) or None) from None
    for old, new in (("functions", "tools"), ("function_call", "tool_choice")):
        if old in body:
            raise RequestRefused(f"{old!r} is not known here: use {new!r}.", old)
    _check_tools(request)
    return request


def _check_tools(request: ChatRequest) -> None:
    names = [tool.function.name for tool in request.tools or ()]
    if not names and request.is_forced:
        raise RequestRefused("'tool_choice' asks for a call, but 'tools' offers no function.", "tool_choice")
    if not names and request.parallel_tool_calls is not None:
        raise RequestRefused("'parallel_tool_calls' needs 'tools'.", "parallel_tool_calls")
    if len(set(names)) < len(names):
        raise RequestRefused("Two functions in 'tools' have the same name.", "tools")
    if names and request.tool_choice != "none" and not request.functions:
        raise RequestRefused("'tool_choice' names a function that is not in 'tools'.", "tool_choice")
    if request.is_forced and request.logprobs:
        raise RequestRefused("A forced call has no text, so there are no log probabilities of it.", "logprobs")


def plain(body: Body, request: ChatRequest) -> Body:
    """Return the request without tools, its history in words that every chat template takes."""
    rest = {name: value for name, value in body.items() if name not in {"tools", "tool_choice", "parallel_tool_calls"}}
    return rest | {"messages": _told(body["messages"], request.messages)}


def question(body: Body, request: ChatRequest) -> Body:
    """Return the request that decides whether the model calls: the most likely of two words."""
    offered = "\n".join(f"- {function.name}: {function.description or ''}" for function in request.functions)
    asked = f"Is one of these functions needed to answer? Answer yes or no.\n{offered}"
    return {
        "messages": _instructed(_told(body["messages"], request.messages), asked),
        "grammar": 'root ::= "yes" | "no"',
        "max_tokens": 4,
        "temperature": 0,
    }


def is_yes(completion: JsonObject) -> bool:
    """Return what the model decided."""
    answer: str = _choices(completion)[0]["message"]["content"]
    return answer == "yes"


def calling(body: Body, request: ChatRequest) -> Body:
    """Return the request whose answer can only be calls, as JSON."""
    most = MOST_CALLS if request.parallel_tool_calls else 1
    described = json.dumps([function.model_dump(exclude_none=True) for function in request.functions])
    told = (
        f"You can call these functions: {described}\n"
        'To call functions, answer {"calls": [{"name": ..., "arguments": {...}}]}.'
    )
    base = plain(body, request)
    for name in ("stop", "logprobs", "top_logprobs"):  # they speak of text, and there will be none
        base.pop(name, None)
    schema = {"name": "calls", "schema": _calls_schema(request.functions, most)}
    return base | {
        "messages": _instructed(base["messages"], told),
        "response_format": {"type": "json_schema", "json_schema": schema},
    }


def _calls_schema(functions: Sequence[Function], most: int) -> JsonObject:
    definitions: dict[str, Any] = {}
    calls: list[Any] = []
    for function in functions:
        pointer = f"#/$defs/{function.name}"
        no_arguments: JsonObject = {"properties": {}, "additionalProperties": False}
        parameters = no_arguments if function.parameters is None else function.parameters
        definitions[function.name] = _rebased({"type": "object", **parameters}, pointer)
        calls.append(_object(name={"const": function.name}, arguments={"$ref": pointer}))
    listed = {"type": "array", "minItems": 1, "maxItems": most, "items": {"anyOf": calls}}
    return _object(calls=listed) | {"$defs": definitions}


def _object(**properties: Any) -> dict[str, Any]:
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _rebased(schema: Any, root: str) -> Any:
    """Return a schema whose references to its own root hold when it stands at `root` of a larger one."""
    if isinstance(schema, dict):
        return {
            name: root + value[1:]
            if name == "$ref" and isinstance(value, str) and value.startswith("#")
            else _rebased(value, root)
            for name, value in schema.items()
        }
    return [_rebased(item, root) for item in schema] if isinstance(schema, list) else schema


def called(completion: JsonObject) -> JsonObject:
    """Return a completion of JSON calls in the shape of tool calls.

    A call that was cut short is no call: the choice then has none, and its finish reason stays `length`.
    """
    return completion | {"choices": [_called(choice) for choice in _choices(completion)]}


def _called(choice: dict[str, Any]) -> Any:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if choice["finish_reason"] == "length":
        return choice | {"message": message}
    message["tool_calls"] = [
        {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in _distinct(json.loads(choice["message"]["content"])["calls"])
    ]
    return choice | {"message": message, "finish_reason": "tool_calls"}


def _distinct(calls: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield each call once: a small model that may call again likes to repeat itself."""
    found = [(call["name"], json.dumps(call["arguments"], ensure_ascii=False)) for call in calls]
    yield from dict.fromkeys(found)


def _choices(completion: JsonObject) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], completion["choices"])


def _told(bodies: Sequence[Body], messages: Sequence[Message]) -> list[Body]:
    """Return the conversation with calls and their results told in words; other messages stay as they are."""
    names: dict[str, str] = {}
    told: list[Body] = []
    results: list[str] = []  # several in a row become one message: many templates want the roles to alternate
    for body, message in zip(bodies, messages, strict=True):
        if message.role == "tool":
            if message.tool_call_id not in names:
                raise RequestRefused("A message of role 'tool' answers no earlier call.", "messages")
            results.append(f"Result of {names[message.tool_call_id]}: {_text(message)}")
            continue
        told += _results(results)
        results = []
        if message.tool_calls:
            names |= {call.id: call.function.name for call in message.tool_calls}
            told.append({"role": message.role, "content": _call_text(message)})
        else:
            told.append(body)
    return told + _results(results)


def _results(results: list[str]) -> list[Body]:
    return [{"role": "user", "content": "\n".join(results)}] if results else []


def _call_text(message: Message) -> str:
    calls = [f"I call {call.function.name} with {call.function.arguments}." for call in message.tool_calls or ()]
    return "\n".join(filter(None, [_text(message), *calls]))


def _text(message: Message) -> str:
    if isinstance(message.content, list):
        return "\n".join(str(part.get("text", "")) for part in message.content)
    return message.content or ""


def _instructed(messages: Sequence[Body], instruction: str) -> list[Body]:
    """Return the messages with an instruction at the end of the system message, which is added if there is none."""
    if not messages or messages[0]["role"] not in {"system", "developer"}:
        return [{"role": "system", "content": instruction}, *messages]
    first = messages[0]
    text = _text(Message.model_validate(first))
    return [first | {"content": f"{text}\n\n{instruction}"}, *messages[1:]]

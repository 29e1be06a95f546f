"""A real model shows what each parameter does: whole steps, from the document to the output, with the local model.

A parameter that is lost, changed or mixed up on the way has no effect here, whatever the request looked like. Without
chance (temperature 0) the model's text is the same every time; this is what the effects are compared with.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import platformdirs
import pytest
import pytest_asyncio
from judges.steps import FACTS, NAMED, WEATHER, output_of, run_in

from weft.engine.report import RunReport
from weft.registry import Registry
from weft.runtime import LOCAL_MODEL, Runtime
from weft.types import Json

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOME = Path(os.environ.get("WEFT_TEST_MODELS") or platformdirs.user_cache_path("weft-tests"))
COLOURS: list[Json] = [{"role": "user", "content": "Name three colours."}]
PARIS: list[Json] = [{"role": "user", "content": "What is the weather in Paris?"}]
BOTH: list[Json] = [{"role": "user", "content": "What is the weather in Paris and in Rome?"}]
MAIL: Json = {
    "type": "function",
    "function": {
        "name": "send_mail",
        "description": "Send an e-mail",
        "parameters": {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]},
    },
}
Ask = Callable[..., Awaitable[Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtime(core_registry: Registry) -> AsyncIterator[Runtime]:
    async with Runtime(HOME, core_registry, environ={}) as runtime:
        yield runtime


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def report(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Awaitable[RunReport]]:
    """Runs a step with the local model; where nothing else is said, it writes eight tokens without chance."""
    directory = tmp_path_factory.mktemp("effects")

    async def report(messages: list[Json] = COLOURS, **said: Json) -> RunReport:
        usual: dict[str, Json] = {"temperature": 0, "max_tokens": 8}
        arguments = {"provider": "openai", "model": "smollm2", "messages": messages, **usual, **said}
        given = {name: value for name, value in arguments.items() if value is not None}
        return await run_in(runtime, directory, LOCAL_MODEL, given)

    return report


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ask(report: Callable[..., Awaitable[RunReport]]) -> Ask:
    """Returns the output of such a step."""

    async def ask(messages: list[Json] = COLOURS, **said: Json) -> Any:
        return output_of(await report(messages, **said))

    return ask


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def greedy(ask: Ask) -> str:
    """What the model writes without chance."""
    return text(await ask())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def first_token(runtime: Runtime, ask: Ask) -> str:
    """The id of the token with which that text begins."""
    beginning = text(await ask(max_tokens=1))
    connection = await runtime.connections.open(
        LOCAL_MODEL, "model_provider", provider="openai", others={}, note=lambda doing: None
    )
    key = connection.secret("api_key")
    assert key is not None
    headers = {"authorization": f"Bearer {key.reveal()}"}
    async with (
        aiohttp.ClientSession(connection.get("api_base") + "/", headers=headers) as http,
        http.post("/tokenize", json={"content": beginning}) as response,
    ):
        [token] = (await response.json())["tokens"]
    return str(token)


def text(output: Any, choice: int = 0) -> str:
    found: str = output["choices"][choice]["message"]["content"]
    return found


def calls(output: Any) -> list[tuple[str, Any]]:
    found = output["choices"][0]["message"].get("tool_calls", [])
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in found]


# ---- the end


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_bounds_of_tokens(ask: Ask, name: str) -> None:
    """The answer has exactly as many tokens as allowed, and its outcome says that it was cut."""
    output = await ask(**{"max_tokens": None, name: 4})

    assert output["usage"]["completion_tokens"] == 4
    assert (output["choices"][0]["finish_reason"], output["weft"]["outcome"]) == ("length", "truncated")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def longer(ask: Ask) -> str:
    return text(await ask(max_tokens=16))


@pytest.mark.parametrize(("stop", "meant"), [(r"END, \,", ","), (r"\s, ---", " "), ("---, colour", "colour")])
async def test_stop_tokens(ask: Ask, longer: str, stop: str, meant: str) -> None:
    """The answer ends before the first of the texts, of which one may be a comma or a space."""
    assert meant in longer
    output = await ask(max_tokens=16, stop=stop)

    assert text(output) == longer[: longer.index(meant)]
    assert (output["choices"][0]["finish_reason"], output["weft"]["outcome"]) == ("stop", "complete")


# ---- chance


async def test_temperature(ask: Ask, greedy: str) -> None:
    """Temperature 0 repeats itself without a seed; with temperature 1 the texts go apart."""
    assert text(await ask()) == greedy
    assert len({text(await ask(temperature=1.5)) for _ in range(3)}) > 1


async def test_seed(ask: Ask) -> None:
    """With temperature 1 a seed gives its text again, and another seed another one."""
    first = text(await ask(temperature=1, seed=1))

    assert text(await ask(temperature=1, seed=1)) == first
    assert text(await ask(temperature=1, seed=2)) != first


async def test_top_p(ask: Ask, greedy: str) -> None:
    """A tiny Top P leaves only the likeliest token, however high the temperature is."""
    assert text(await ask(temperature=1.5, seed=3)) != greedy
    assert text(await ask(temperature=1.5, seed=3, top_p=0.01)) == greedy


async def test_several_completions(ask: Ask) -> None:
    """So many choices come, in order, and are not one text."""
    output = await ask(n=3, temperature=1, seed=5)

    assert [choice["index"] for choice in output["choices"]] == [0, 1, 2]
    assert len({text(output, choice) for choice in range(3)}) == 3


# ---- which tokens


async def test_logit_bias(ask: Ask, greedy: str, first_token: str) -> None:
    """A forbidden token is not written, and a forced one is all that is written."""
    beginning = text(await ask(max_tokens=1))
    forbidden = text(await ask(logit_bias={first_token: -100}))
    forced = text(await ask(logit_bias={first_token: 100}, max_tokens=4))

    assert greedy.startswith(beginning)
    assert not forbidden.startswith(beginning)
    assert forced == beginning * 4


async def test_penalties(ask: Ask) -> None:
    """Of what the model writes, less is repeated when repetition costs, and more when it pays."""

    async def different(**said: Json) -> float:
        """The share of tokens that differ from all others."""
        repeat: list[Json] = [{"role": "user", "content": "Repeat: tea tea tea tea"}]
        output = await ask(repeat, max_tokens=24, logprobs=True, top_logprobs=1, **said)
        tokens = [token["token"] for token in output["choices"][0]["logprobs"]["content"]]
        return len(set(tokens)) / len(tokens)

    usual = await different()
    assert await different(frequency_penalty=2) > usual + 0.1
    assert await different(presence_penalty=2) > usual + 0.1
    assert await different(frequency_penalty=-2) < usual - 0.1


@pytest.mark.parametrize("top", [1, 5])
async def test_log_probabilities(ask: Ask, greedy: str, top: int) -> None:
    """Every token has its probability, and as many likely tokens as asked for, the one written first."""
    output = await ask(logprobs=True, top_logprobs=top)
    tokens = output["choices"][0]["logprobs"]["content"]

    assert "".join(token["token"] for token in tokens) == text(output) == greedy
    assert len(tokens) == output["usage"]["completion_tokens"]
    for token in tokens:
        likely = token["top_logprobs"]
        assert len(likely) == top
        assert sum(math.exp(each["logprob"]) for each in likely) <= 1 + 1e-6
        assert (likely[0]["token"], likely[0]["logprob"]) == (token["token"], token["logprob"])


async def test_no_log_probabilities(ask: Ask) -> None:
    """They come only when they are asked for."""
    for said in ({}, {"logprobs": False}):
        assert "logprobs" not in (await ask(**said))["choices"][0]


# ---- the form of the answer


async def test_json_schema(ask: Ask) -> None:
    """The answer is JSON of the schema, here one that the model would never have written by itself."""
    schema: dict[str, Json] = {
        "type": "object",
        "properties": {"shade": {"enum": ["mauve", "taupe"]}, "share": {"type": "integer", "minimum": 3, "maximum": 4}},
        "required": ["shade", "share"],
        "additionalProperties": False,
    }
    shape: Json = {"type": "json_schema", "json_schema": {"name": "colour", "schema": schema, "strict": True}}
    asked: list[Json] = [{"role": "user", "content": "Give a colour and its share as JSON."}]
    output = await ask(asked, response_format=shape, max_tokens=60)

    jsonschema.validate(json.loads(text(output)), schema)
    assert output["weft"]["outcome"] == "complete"


async def test_json_mode(ask: Ask, greedy: str) -> None:
    """In JSON mode the answer is an object, also to a question that gets prose otherwise."""
    copy: list[Json] = [{"role": "user", "content": 'JSON: {"a": 1}. Write it as JSON.'}]
    mode: Json = {"type": "json_object"}

    assert json.loads(text(await ask(copy, response_format=mode, max_tokens=30))) == {"a": 1}
    assert "{" not in greedy
    assert text(await ask(response_format=mode)).lstrip().startswith("{")


# ---- tools


async def test_a_tool_must_be_called(ask: Ask) -> None:
    """With `required` a tool is called; what it is called with is of its schema."""
    output = await ask(PARIS, tools=[WEATHER, MAIL], tool_choice="required", max_tokens=60)

    assert calls(output) == [("get_weather", {"city": "Paris"})]
    assert output["choices"][0]["message"]["content"] is None
    assert output["weft"]["outcome"] == "tool_calls"


async def test_the_named_tool_is_called(ask: Ask) -> None:
    """An object as Tool Choice leaves the model no other tool, even one that fits better."""
    mail: Json = {"type": "function", "function": {"name": "send_mail"}}
    output = await ask(PARIS, tools=[WEATHER, MAIL], tool_choice=mail, max_tokens=60)

    assert [name for name, _ in calls(output)] == ["send_mail"]


async def test_no_tool_is_called(ask: Ask) -> None:
    """With `none` the answer is the one without tools."""
    assert text(await ask(PARIS, tools=[WEATHER], tool_choice="none")) == text(await ask(PARIS))


async def test_parallel_calls(ask: Ask) -> None:
    """Several calls come in one answer where that is on, and one where it is off."""
    asked: dict[str, Json] = {"tools": [WEATHER], "tool_choice": NAMED, "max_tokens": 100}

    assert len(calls(await ask(BOTH, parallel_tool_calls=True, **asked))) == 2
    assert len(calls(await ask(BOTH, parallel_tool_calls=False, **asked))) == 1


# ---- the conversation, and what is passed on


async def test_messages(ask: Ask, greedy: str) -> None:
    """System message, history and question are all read."""
    system: Json = {"role": "system", "content": "You only talk about bicycles."}
    history: list[Json] = [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Welcome to the bicycle shop."},
    ]
    told = await ask([system, *COLOURS])
    all_of_it = await ask([system, *history, *COLOURS])

    assert len({greedy, text(told), text(all_of_it)}) == 3
    assert all_of_it["usage"]["prompt_tokens"] > told["usage"]["prompt_tokens"] + 10


async def test_additional_parameters(ask: Ask, greedy: str) -> None:
    """A parameter that only this server has works, and one that the step has as well takes its place."""
    assert text(await ask(temperature=1.5, seed=3, additional_parameters={"top_k": 1})) == greedy
    assert text(await ask(temperature=1.5, seed=3, additional_parameters={"temperature": 0})) == greedy
    assert text(await ask(additional_parameters={"grammar": 'root ::= "mauve"'})) == "mauve"


async def test_what_has_no_effect(ask: Ask, greedy: str) -> None:
    """Names for users, facts for the log and what is Azure's leave the text as it is."""
    output = await ask(user="u-1", safety_identifier="s-1", metadata=FACTS, api_version="2025-02-01-preview")

    assert text(output) == greedy
    assert output["weft"]["dropped_parameters"] == []


async def test_a_value_that_the_model_refuses(report: Callable[..., Awaitable[RunReport]]) -> None:
    """More completions than it can write at once is an error after one request, although retries are allowed."""
    [step] = (await report(n=9, num_retries=2)).steps

    assert step.problem is not None
    assert (step.problem.code, len(step.attempts)) == ("invalid_request", 1)

"""The local model with its real weights, asked over HTTP as any provider is.

The weights are fetched once per machine, into WEFT_TEST_MODELS or the user's cache directory.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import openai
import platformdirs
import pytest
import pytest_asyncio
from openai.types.chat import ChatCompletion

from weft.embedded import weights
from weft.embedded.local_model import NEEDED_FEATURES, LocalModel, missing_features
from weft.errors import ConnectionUnusable, NotFound
from weft.redaction import Secret

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOME = Path(os.environ.get("WEFT_TEST_MODELS") or platformdirs.user_cache_path("weft-tests"))
COLOURS = [{"role": "user", "content": "Name three colours."}]
WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]
ENDLESS = {"logit_bias": {"2": -100, "0": -100}, "max_tokens": 1900}  # the tokens that end an answer never come


def tool(name: str, description: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


GET_WEATHER = tool("get_weather", "Weather of a city", city={"type": "string"})
SEND_MAIL = tool("send_mail", "Send an e-mail", to={"type": "string"})
TOOLS = [GET_WEATHER, SEND_MAIL]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model() -> AsyncIterator[LocalModel]:
    model = LocalModel(HOME)
    await asyncio.gather(*(model.start() for _ in range(3)))
    yield model
    await model.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(model: LocalModel) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {model.api_key.reveal()}"}
    async with aiohttp.ClientSession(model.api_base + "/", headers=headers) as session:
        yield session


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(model: LocalModel) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=model.api_base, api_key=model.api_key.reveal(), max_retries=0) as client:
        yield client


async def ask(client: openai.AsyncOpenAI, messages: Any = COLOURS, **arguments: Any) -> ChatCompletion:
    answer = await client.chat.completions.create(
        model="smollm2", messages=messages, **{"temperature": 0, "max_tokens": 10, **arguments}
    )
    assert isinstance(answer, ChatCompletion)
    return answer


async def text(client: openai.AsyncOpenAI, messages: Any = COLOURS, **arguments: Any) -> str:
    return (await ask(client, messages, **arguments)).choices[0].message.content or ""


def calls(answer: ChatCompletion, choice: int = 0) -> list[tuple[str, Any]]:
    found = answer.choices[choice].message.tool_calls or []
    return [(call.function.name, json.loads(call.function.arguments)) for call in found if call.type == "function"]


async def refusal(http: aiohttp.ClientSession, body: Any, status: int = 400) -> dict[str, Any]:
    async with http.post("chat/completions", json=body) as response:
        assert response.status == status
        error = (await response.json())["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return dict(error)


# What a parameter does


async def test_a_seed_repeats_its_text_whatever_was_asked_between(client: openai.AsyncOpenAI) -> None:
    """The same seed gives the same text again, another one another."""
    first = await text(client, temperature=1, seed=1)
    other = await text(client, temperature=1, seed=2)

    assert await text(client, temperature=1, seed=1) == first != other


async def test_concurrent_answers_are_those_given_one_by_one(client: openai.AsyncOpenAI) -> None:
    """Answers do not depend on what else is being generated."""
    alone = await text(client, seed=3, temperature=1)
    together = await asyncio.gather(*(text(client, seed=3, temperature=1) for _ in range(2)))

    assert together == [alone] * 2


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_an_answer_has_as_many_tokens_as_allowed(client: openai.AsyncOpenAI, name: str) -> None:
    """The bound is exact and shown as the reason of the end."""
    limits = {"max_tokens": openai.NOT_GIVEN, name: 4}
    answer = await ask(client, **limits)

    assert answer.usage
    assert answer.usage.completion_tokens == 4
    assert answer.choices[0].finish_reason == "length"


async def test_several_choices_differ(client: openai.AsyncOpenAI) -> None:
    """`n` answers come, in order, each with its own text."""
    answer = await ask(client, n=3, temperature=1, seed=5)

    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3


async def test_an_answer_ends_before_its_stop_text(client: openai.AsyncOpenAI) -> None:
    """The stop text itself is not part of the answer."""
    whole = await text(client)
    stop = whole[6:9]
    answer = await ask(client, stop=[stop])

    assert answer.choices[0].message.content == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


async def test_log_probabilities_are_given_for_every_token(client: openai.AsyncOpenAI) -> None:
    """Each token has its probability and the most likely ones, best first."""
    for without in ({}, {"top_logprobs": 0}):
        alone = await ask(client, logprobs=True, max_tokens=3, **without)
        assert alone.choices[0].logprobs
        assert [token.top_logprobs for token in alone.choices[0].logprobs.content or []] == [[]] * 3
    stream = await client.chat.completions.create(
        model="smollm2", messages=COLOURS, max_tokens=3, temperature=0, logprobs=True, stream=True
    )
    chunks = [chunk async for chunk in stream]
    streamed = [choice.logprobs.content for chunk in chunks for choice in chunk.choices if choice.logprobs]
    assert [token.top_logprobs for content in streamed for token in content or []] == [[]] * 3
    answer = await ask(client, logprobs=True, top_logprobs=2, max_tokens=3)

    assert answer.choices[0].logprobs
    tokens = answer.choices[0].logprobs.content or []
    assert "".join(token.token for token in tokens) == answer.choices[0].message.content
    assert all(token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob for token in tokens)


async def test_a_bias_forbids_a_token(http: aiohttp.ClientSession, client: openai.AsyncOpenAI) -> None:
    """The ids of `logit_bias` are those of `/tokenize`."""
    first = await text(client, max_tokens=1)
    async with http.post("/tokenize", json={"content": first}) as response:
        (token,) = (await response.json())["tokens"]

    assert await text(client, max_tokens=1, logit_bias={str(token): -100}) != first


async def test_a_schema_is_kept(client: openai.AsyncOpenAI) -> None:
    """An answer under a JSON Schema is valid JSON of it."""
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "day": {"type": "integer"}},
        "required": ["city", "day"],
        "additionalProperties": False,
    }
    messages = [{"role": "user", "content": "Extract city and day: 'Acme will open in Oslo on 3 May.'"}]
    shape = {"type": "json_schema", "json_schema": {"name": "event", "schema": schema}}
    answer = await text(client, messages, response_format=shape, max_tokens=80)

    jsonschema.validate(json.loads(answer), schema)


async def test_a_stream_joins_to_the_same_text(client: openai.AsyncOpenAI) -> None:
    """The chunks of a stream are the answer's text, its usage the last of them."""
    stream = await client.chat.completions.create(
        model="smollm2", messages=COLOURS, max_tokens=10, temperature=0, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = [chunk async for chunk in stream]

    parts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(parts) == await text(client)
    assert len([part for part in parts if part]) > 5
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 10


async def test_a_file_name_of_this_machine_is_not_told(http: aiohttp.ClientSession) -> None:
    """Answers name the model, not the path of its file."""
    async with (
        http.get("models") as models,
        http.post("chat/completions", json={"messages": COLOURS, "max_tokens": 1}) as chat,
    ):
        told = await models.text() + await chat.text()

    assert "smollm2-135m-instruct" in told
    assert str(HOME) not in told


# Tools


async def test_a_required_call_is_made(client: openai.AsyncOpenAI) -> None:
    """`required` gives a call with arguments of the function's schema."""
    answer = await ask(client, WEATHER, tools=TOOLS, tool_choice="required", max_tokens=80)

    assert calls(answer) == [("get_weather", {"city": "Paris"})]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None


async def test_a_named_function_is_called(client: openai.AsyncOpenAI) -> None:
    """Naming a function leaves the model no other."""
    choice = {"type": "function", "function": {"name": "send_mail"}}
    answer = await ask(client, WEATHER, tools=TOOLS, tool_choice=choice, max_tokens=80)

    assert [name for name, _ in calls(answer)] == ["send_mail"]


async def test_several_calls_come_where_they_are_asked_for(client: openai.AsyncOpenAI) -> None:
    """`parallel_tool_calls` allows several calls, each with an id of its own; without it there is one."""
    both = [{"role": "user", "content": "What is the weather in Paris and in Rome?"}]
    asked: dict[str, Any] = {"tools": [GET_WEATHER], "tool_choice": "required", "max_tokens": 100}
    several = await ask(client, both, parallel_tool_calls=True, **asked)
    single = await ask(client, both, parallel_tool_calls=False, **asked)

    assert calls(several) == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
    assert len({call.id for call in several.choices[0].message.tool_calls or ()}) == 2
    assert calls(single) == [("get_weather", {"city": "Paris"})]


async def test_none_answers_as_if_there_were_no_tools(client: openai.AsyncOpenAI) -> None:
    """`none` gives the text that comes without tools."""
    assert await text(client, WEATHER, tools=TOOLS, tool_choice="none") == await text(client, WEATHER)


async def test_auto_calls_or_answers(client: openai.AsyncOpenAI) -> None:
    """Left to itself the model calls where a function helps, and answers as without tools where none does."""
    explain = [{"role": "user", "content": "Explain in one sentence why backups are important."}]

    assert calls(await ask(client, WEATHER, tools=TOOLS, max_tokens=80)) == [("get_weather", {"city": "Paris"})]
    assert await text(client, explain, tools=TOOLS) == await text(client, explain)


async def test_a_result_of_a_call_is_read(client: openai.AsyncOpenAI) -> None:
    """Calls and results in the history reach the model, which answers from them."""
    call = {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    history = [
        *WEATHER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "Sunny, 21 degrees"},
    ]
    answer = await text(client, history, tools=[GET_WEATHER], max_tokens=40)

    assert "21" in answer


async def test_every_choice_has_its_calls(client: openai.AsyncOpenAI) -> None:
    """`n` works with tools as it does with text."""
    answer = await ask(
        client, WEATHER, tools=[GET_WEATHER], tool_choice="required", n=2, max_tokens=80, temperature=0.5, seed=1
    )

    assert [bool(calls(answer, choice)) for choice in range(2)] == [True, True]


async def test_a_streamed_call_is_the_same_call(client: openai.AsyncOpenAI) -> None:
    """A stream carries the call in pieces, then its reason and usage."""
    stream = await client.chat.completions.create(
        model="smollm2", messages=WEATHER, tools=[GET_WEATHER], tool_choice="required", max_tokens=80, temperature=0,
        stream=True, stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = [chunk async for chunk in stream]

    deltas = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert [(d.index, d.function and d.function.name) for d in deltas if d.id] == [(0, "get_weather")]
    assert json.loads("".join((d.function and d.function.arguments) or "" for d in deltas)) == {"city": "Paris"}
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "tool_calls"
    assert chunks[-1].usage


async def test_references_inside_a_schema_hold(client: openai.AsyncOpenAI) -> None:
    """A function's schema may refer to its own definitions, as generated ones do."""
    function = tool("register", "Register a person", person={"$ref": "#/$defs/Person"})
    definition = {"type": "object", "properties": {"age": {"enum": [30, 40]}}, "required": ["age"]}
    function["function"]["parameters"]["$defs"] = {"Person": definition}
    messages = [{"role": "user", "content": "Register a person of age 30."}]
    answer = await ask(client, messages, tools=[function], max_tokens=100, tool_choice={"type": "function", "function": {"name": "register"}})  # fmt: skip

    ((name, arguments),) = calls(answer)
    assert name == "register"
    jsonschema.validate(arguments, function["function"]["parameters"])


async def test_a_call_that_is_cut_short_is_no_call(client: openai.AsyncOpenAI) -> None:
    """Too few tokens give a choice without calls whose reason says so."""
    answer = await ask(client, WEATHER, tools=TOOLS, tool_choice="required", max_tokens=5)

    assert calls(answer) == []
    assert answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"parallel_tool_calls": True}, "parallel_tool_calls"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "required", "logprobs": True}, "logprobs"),
        ({"tools": [GET_WEATHER, GET_WEATHER]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "no name"}}]}, "tools.0.function.name"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "5"}]}, "messages"),
        ({"messages": "hello"}, "messages"),
    ],
)
async def test_what_cannot_be_done_with_tools_is_refused(
    http: aiohttp.ClientSession, asked: dict[str, Any], param: str
) -> None:
    """The refusal has OpenAI's shape and names the parameter."""
    error = await refusal(http, {"messages": WEATHER, **asked})

    assert (error["param"], error["type"]) == (param, "invalid_request_error")


# The door


async def test_faults_that_the_model_finds_come_in_openai_shape(http: aiohttp.ClientSession) -> None:
    """Too many choices and too long a prompt are refused, the latter with its own code."""
    assert "between 1 <= value <= 4" in (await refusal(http, {"messages": COLOURS, "n": 9}))["message"]
    assert "between 1 <= value <= 4" in (await refusal(http, {"messages": COLOURS, "n": 9, "stream": True}))["message"]
    long = [{"role": "user", "content": "word " * 3000}]
    assert (await refusal(http, {"messages": long}))["code"] == "context_length_exceeded"


@pytest.mark.parametrize("key", ["", "Bearer wrong", "Basic YTpi", "Bearer \xe9"])
@pytest.mark.parametrize("path", ["models", "chat/completions", "/tokenize"])
async def test_a_wrong_key_is_refused(model: LocalModel, key: str, path: str) -> None:
    """Without the key nothing is told, on any path."""
    headers = {"Authorization": key} if key else {}
    async with (
        aiohttp.ClientSession(model.api_base + "/") as http,
        http.post(path, json={}, headers=headers) as response,
    ):
        assert response.status == 401 if path != "models" else response.status in {401, 405}
        assert "error" in await response.json()


async def test_pages_in_a_browser_get_nothing(http: aiohttp.ClientSession) -> None:
    """Another host name is refused, also with the key, and no answer allows another origin."""
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example:1", ""):
        async with http.get("models", headers={"Host": host}) as response:
            assert response.status in {400, 403}
    async with http.get("models", headers={"Origin": "http://evil.example"}) as response:
        assert response.status == 200
        assert not [name for name in response.headers if name.lower().startswith("access-control")]
    async with http.options("models", headers={"Origin": "http://evil.example"}) as response:
        assert response.status == 405


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[]", 400), (b"[" * 100_000, 400), (b"\xff", 400), (b"x" * (9 << 20), 413)],
    ids=["cut", "list", "deep", "bytes", "large"],
)
async def test_bodies_that_are_no_request_are_refused(http: aiohttp.ClientSession, body: bytes, status: int) -> None:
    """What is not a JSON object of bounded size ends with an error in OpenAI's shape."""
    async with http.post("chat/completions", data=io.BytesIO(body)) as response:
        assert response.status == status
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_paths_of_the_inner_server_are_not_reachable(http: aiohttp.ClientSession) -> None:
    """Only what a client of the model needs is there."""
    for path in ("/slots", "/props", "/health", "/", "/v1/embeddings"):
        async with http.get(path) as response:
            assert response.status == 404


@pytest.mark.parametrize("stream", [True, False])
async def test_a_generation_ends_when_nobody_waits_for_it(model: LocalModel, stream: bool) -> None:
    """A client that goes away frees its slot at once, streaming or not."""
    headers = {"Authorization": f"Bearer {model.api_key.reveal()}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        request = http.post(
            f"{model.api_base}/chat/completions", json={"messages": COLOURS, "stream": stream, **ENDLESS}
        )
        waiting = asyncio.create_task(request.__aenter__())
        await until_busy(model, busy=True)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            (await waiting).close()
        started = time.monotonic()
        await until_busy(model, busy=False)

    assert time.monotonic() - started < 3


async def until_busy(model: LocalModel, *, busy: bool) -> None:
    assert model._adapter
    async with asyncio.timeout(20):
        while busy != any(slot["is_processing"] for slot in await model._adapter._json("GET", "/slots")):
            await asyncio.sleep(0.05)


# Starting and stopping


async def test_the_connection_is_an_ordinary_one(model: LocalModel) -> None:
    """The connection has the fields of a model provider, its key secret."""
    connection = await model.connection()

    assert (connection.name, connection.type) == ("local-model", "model_provider")
    assert connection.get("provider") == "openai"
    assert connection.get("api_base") == model.api_base
    assert connection.get("unsupported_parameters") == "error"
    assert connection.secret("api_key") == model.api_key
    assert isinstance(model.api_key, Secret)
    assert model.api_key.reveal() not in repr(connection)


async def test_it_stops_during_a_generation_and_starts_again() -> None:
    """Stopping ends what runs, closes the port, and does not wait for the generation; a start then works anew."""
    model = LocalModel(HOME, gguf=await weights.ensure(HOME), slots=1)
    connection = await model.connection()
    headers = {"Authorization": f"Bearer {model.api_key.reveal()}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        url = f"{connection.get('api_base')}/chat/completions"
        running = asyncio.create_task(http.post(url, json={"messages": COLOURS, **ENDLESS}).__aenter__())
        await until_busy(model, busy=True)
        started = time.monotonic()
        await model.stop()
        assert time.monotonic() - started < 5
        with pytest.raises(aiohttp.ClientError):
            await running
        with pytest.raises(aiohttp.ClientError):
            await http.get(url)
        async with http.get(f"{(await model.connection()).get('api_base')}/models") as response:
            assert response.status == 200
    await model.stop()


async def test_a_failed_start_is_told_to_all_and_not_kept(tmp_path: Path) -> None:
    """All callers of a start that fails get an error of their own; after the cause is gone a start works."""
    model = LocalModel(tmp_path, gguf=tmp_path / "model.gguf")
    errors = await asyncio.gather(*(model.start() for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in errors] == [NotFound] * 3
    assert len({id(error) for error in errors}) == 3

    (tmp_path / "model.gguf").symlink_to(await weights.ensure(HOME))
    await model.start()
    await model.stop()


async def test_a_cancelled_caller_leaves_the_start_to_the_others() -> None:
    """One caller may give up without taking the model from another."""
    model = LocalModel(HOME, gguf=await weights.ensure(HOME), slots=1)
    first, second = asyncio.create_task(model.start()), asyncio.create_task(model.start())
    await asyncio.sleep(0)
    first.cancel()
    await second

    assert first.cancelled()
    assert model.api_base
    await model.stop()


@pytest.mark.parametrize("content", [b"not a model", b"GGUF" + bytes(1000), None], ids=["text", "empty", "cut"])
async def test_a_file_that_is_no_model_is_a_clear_error(tmp_path: Path, content: bytes | None) -> None:
    """A wrong or damaged file is refused, naming the file and the remedy."""
    path = tmp_path / "model.gguf"
    path.write_bytes(content or (await weights.ensure(HOME)).read_bytes()[:40_000_000])
    with pytest.raises(ConnectionUnusable, match="cannot be loaded") as caught:
        await LocalModel(tmp_path, gguf=path).start()

    assert str(path) in str(caught.value)
    assert "complete GGUF file" in (caught.value.problem.remedy or "")


async def test_a_missing_extra_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without xllamacpp the error names the extra to install, and nothing has been fetched."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # stands for an environment without the package
    with pytest.raises(ConnectionUnusable, match="xllamacpp") as caught:
        await LocalModel(tmp_path).start()

    assert "weft[local]" in (caught.value.problem.remedy or "")
    assert not (tmp_path / "models").exists()


async def test_a_processor_that_is_too_old_is_found(tmp_path: Path) -> None:
    """What an x86-64 processor lacks is read from the system, other machines lack nothing."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu sse2 avx fma f16c\n\nprocessor\t: 1\n")

    assert missing_features(cpuinfo, "x86_64") == {"avx2", "bmi2"}
    assert missing_features(cpuinfo, "aarch64") == frozenset()
    assert missing_features(tmp_path / "absent", "x86_64") == frozenset()
    cpuinfo.write_text(f"flags\t\t: {' '.join(NEEDED_FEATURES)}\n")
    assert missing_features(cpuinfo, "x86_64") == frozenset()


PROGRAM = """
import asyncio, os, sys, threading
from pathlib import Path
import aiohttp
from weft.embedded.local_model import LocalModel

async def main(end):
    model = LocalModel(Path(sys.argv[1]))
    await model.start()
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer " + model.api_key.reveal()}) as http:
        body = {"messages": [{"role": "user", "content": "Tell a story."}], "max_tokens": 1900,
                "logit_bias": {"2": -100, "0": -100}, "stream": True}
        async with http.post(model.api_base + "/chat/completions", json=body) as response:
            await response.content.readany()
            os.write(3, (model.api_base + " " + str("OMP_WAIT_POLICY" in os.environ)).encode())
            if end == "exit":
                return
            async for chunk in response.content.iter_any():
                pass

try:
    asyncio.run(main(sys.argv[2]))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize(("end", "status"), [("exit", 0), ("SIGINT", 130), ("SIGKILL", -9), ("SIGTERM", -15)])
async def test_nothing_of_it_outlives_the_process(end: str, status: int) -> None:
    """However a process ends during a generation, it ends at once, is silent, and leaves neither port nor child."""
    read, write = os.pipe()
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    process = subprocess.Popen(  # noqa: ASYNC220 — the test itself waits for nothing else
        [sys.executable, "-c", f"import os; os.dup2({write}, 3)\n{PROGRAM}", str(HOME), end],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[write], start_new_session=True, env=environment,
    )  # fmt: skip
    os.close(write)
    with process:
        try:
            base, has_policy = (await asyncio.to_thread(os.read, read, 500)).decode().split()
            started = time.monotonic()
            if end != "exit":
                process.send_signal(signal.Signals[end])
            output, errors = await asyncio.to_thread(process.communicate, timeout=20)
        finally:
            os.close(read)
            process.kill()  # does nothing to one that has ended

    assert time.monotonic() - started < 8
    assert (process.returncode, output, errors) == (status, b"", b"")
    assert has_policy == "False"
    with pytest.raises(ProcessLookupError):  # its whole group is gone
        os.killpg(process.pid, 0)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(base.rpartition(":")[2].removesuffix("/v1")))) != 0

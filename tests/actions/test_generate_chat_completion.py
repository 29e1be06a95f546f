"""Generate Chat Completion against a real server: what is sent, what comes back, what is checked before."""

from __future__ import annotations

import asyncio
import importlib
import json
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from weft import arguments, manifest, source
from weft.errors import ActionError
from weft.sdk import ActionContext, Attempt, Connection, Known, Secret, Variant
from weft.testing.model_server import (
    Answer,
    Cut,
    Drip,
    Echo,
    Events,
    Hang,
    Huge,
    ModelServer,
    Ok,
    Reset,
    Status,
    anthropic_events,
    redirect,
)
from weft.types import Json

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")
"""LiteLLM's streams ask pydantic for attributes whose days are counted; outside tests nobody is told."""

chat = importlib.import_module("weft_core.actions.generate_chat_completion")
ROOT = Path(__file__).parent.parent.parent
SHAPES = [
    json.loads(line)
    for line in (ROOT / "tests/corpora/provider-errors/shapes.jsonl").read_text().splitlines()
    if line.strip()
]
KNOWN = Known()
KEY = "sk-connection-CANARY-0123456789"
DECOY = "sk-environment-DECOY-9876543210"
HELLO: list[Json] = [{"role": "user", "content": "Hello"}]
TOOL: Json = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALLED: Json = {"name": "get_weather", "arguments": "{}"}


@pytest.fixture(autouse=True)
def decoys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and settings of the environment that must not be used."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "AZURE_API_KEY", "HOSTED_VLLM_API_KEY"):
        monkeypatch.setenv(name, DECOY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-decoy")
    monkeypatch.setenv("OPENAI_ORGANIZATION", "org-decoy")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-decoy")


def connection(server: ModelServer, provider: str = "openai", **values: Any) -> Connection:
    base = server.root if provider in {"anthropic", "gemini", "azure"} else server.base_url
    return Connection(
        "model", "model_provider", {"provider": provider, "api_key": Secret(KEY), "api_base": base, **values}
    )


def context(account: Connection | None, *, seconds: float = 60, **facts: Any) -> ActionContext:
    return ActionContext(
        run_id="run",
        path="/answer",
        attempt=1,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        idempotency_key="key",
        deadline=time.monotonic() + seconds,
        connection=account,
        **facts,
    )


async def complete(
    account: Connection, *, seconds: float = 60, facts: Mapping[str, Any] | None = None, **given: Any
) -> Any:
    given = {"provider": account.get("provider"), "model": "m", "messages": HELLO, **given}
    return await chat.generate_chat_completion(
        chat.Arguments(**given), context(account, seconds=seconds, **(facts or {}))
    )


async def failure(account: Connection, **given: Any) -> ActionError:
    with pytest.raises(ActionError) as caught:
        await complete(account, **given)
    assert caught.value.kind in set(chat.Kind)
    for secret in (KEY, DECOY, "Hello", "Traceback", "litellm"):
        assert secret not in str(caught.value)
    return caught.value


def problems(**given: Any) -> list[str]:
    given = {"provider": "openai", "model": "m", "messages": HELLO, **given}
    return [f"{problem.severity}: {problem.where.field}" for problem in chat.check(given, KNOWN)]


# What is sent


WIRE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "n": ({"n": 2}, {"n": 2}),
    "frequency_penalty": ({"frequency_penalty": 0.5}, {"frequency_penalty": 0.5}),
    "logprobs": ({"logprobs": True}, {"logprobs": True}),
    "top_logprobs": ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
    "logit_bias": ({"logit_bias": {"2683": -100, "7211": 5}}, {"logit_bias": {"2683": -100, "7211": 5}}),
    "max_completion_tokens": ({"max_completion_tokens": 9}, {"max_completion_tokens": 9}),
    "max_tokens": ({"max_tokens": 9}, {"max_tokens": 9}),
    "messages": ({}, {}),
    "model": ({}, {}),
    "parallel_tool_calls": (
        {"parallel_tool_calls": False, "tools": [TOOL]},
        {"parallel_tool_calls": False, "tools": [TOOL]},
    ),
    "presence_penalty": ({"presence_penalty": -0.5}, {"presence_penalty": -0.5}),
    "provider": ({}, {}),
    "response_format": (
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_object"}},
    ),
    "safety_identifier": ({"safety_identifier": "u-1"}, {"safety_identifier": "u-1"}),
    "seed": ({"seed": 7}, {"seed": 7}),
    "stop": ({"stop": r"\n, END,\,,a\\b"}, {"stop": ["\n", "END", ",", "a\\b"]}),
    "temperature": ({"temperature": 0.2}, {"temperature": 0.2}),
    "tool_choice": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
    ),
    "tools": ({"tools": [TOOL]}, {"tools": [TOOL]}),
    "top_p": ({"top_p": 0.9}, {"top_p": 0.9}),
    "user": ({"user": "u-2"}, {"user": "u-2"}),
    "api_base": ({}, {}),
    "api_version": ({"api_version": "2025-02-01-preview"}, {}),
    "additional_parameters": (
        {"temperature": 0.1, "additional_parameters": {"temperature": 0.9, "reasoning_effort": "low"}},
        {"temperature": 0.9, "reasoning_effort": "low"},
    ),
    "fallbacks": ({"fallbacks": [{"openai/*": ["gpt-4o-mini"]}]}, {}),
    "metadata": ({"metadata": {"request_id": "r", "user_id": "u", "model_group": "g"}}, {}),
    "num_retries": ({"num_retries": 2}, {}),
}


def test_each_parameter_is_looked_at() -> None:
    """The cases are the parameters of the manifest, and the manifest accepts every one of them."""
    document = manifest.load(source.read_file(ROOT / "manifests/generate_chat_completion.yaml"))
    assert set(WIRE) == {parameter.name for parameter in document.all_parameters}
    for given, _ in WIRE.values():
        whole = {"provider": "openai", "model": "m", "messages": HELLO, **given}
        assert arguments.check(document.all_parameters, whole) == []


@pytest.mark.parametrize("name", WIRE)
@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
async def test_a_parameter_on_the_wire(model_server: ModelServer, provider: str, name: str) -> None:
    """The body is exactly what was asked for, and is right by OpenAI's own types."""
    given, wanted = WIRE[name]
    if name == "api_base":
        given = {"api_base": model_server.base_url}
    await complete(connection(model_server, provider), **given)

    [request] = model_server.requests
    assert request.json == {"model": "m", "messages": HELLO, **wanted}
    checked: Any = TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(request.json)
    assert set(checked) == set(request.json)
    assert list(checked["messages"]) == request.json["messages"]


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic", "gemini", "azure"])
async def test_key_and_address_are_the_connections(model_server: ModelServer, provider: str) -> None:
    """Nothing of the environment is sent: no key, no organization, no project."""
    await complete(connection(model_server, provider))

    [request] = model_server.requests
    sent = json.dumps([request.headers, request.query, request.path])
    assert KEY in sent
    assert "decoy" not in sent.lower()


async def test_the_organization_of_the_connection_is_sent(model_server: ModelServer) -> None:
    """An organization that the connection names stands in its header."""
    await complete(connection(model_server, organization="org-own"))
    assert model_server.requests[0].headers["openai-organization"] == "org-own"


async def test_azure_gets_its_version(model_server: ModelServer) -> None:
    """API Version is a part of Azure's address, the step's before the connection's."""
    account = connection(model_server, "azure", api_version="2024-01-01")
    await complete(account)
    await complete(account, api_version="2025-02-02")
    assert [request.query["api-version"] for request in model_server.requests] == ["2024-01-01", "2025-02-02"]


async def test_a_server_without_keys(model_server: ModelServer) -> None:
    """A connection with an address of its own needs no key, and never gets one from the environment."""
    account = Connection("own", "model_provider", {"provider": "openai", "api_base": model_server.base_url})
    await complete(account)
    assert model_server.requests[0].headers["authorization"] == "Bearer no-key"


async def test_a_provider_without_a_key() -> None:
    """A public provider's connection without a key is refused before anything is sent."""
    account = Connection("openai", "model_provider", {"provider": "openai", "api_key": Secret("  ")})
    error = await failure(account)
    assert (error.kind, error.effect) == ("missing_key", "none")
    assert "OPENAI_API_KEY" in str(error)


@pytest.mark.parametrize("key", ["abc\ndef", "abc\x00", "schlüssel", "a b"])
async def test_a_key_that_cannot_be_sent(model_server: ModelServer, key: str) -> None:
    """A key with control characters or letters outside ASCII is refused, and not shown."""
    error = await failure(connection(model_server, api_key=Secret(key)))
    assert error.kind == "bad_key"
    assert key not in str(error)
    assert model_server.requests == []


async def test_a_key_is_stripped(model_server: ModelServer) -> None:
    """White space around a key, as copying leaves it, is not sent."""
    await complete(connection(model_server, api_key=Secret(f" {KEY}\n")))
    assert model_server.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_a_connection_serves_its_provider_alone(model_server: ModelServer) -> None:
    """The key of one provider is never sent to another."""
    error = await failure(connection(model_server), provider="groq")
    assert error.kind == "wrong_provider"
    assert model_server.requests == []


async def test_api_base_must_be_allowed(model_server: ModelServer) -> None:
    """A step's address needs the consent of the connection; another port is another server."""
    async with ModelServer() as other:
        error = await failure(connection(model_server), api_base=other.base_url)
        assert error.kind == "host_not_allowed"
        assert other.requests == []

        await complete(connection(model_server, allowed_hosts=[f"127.0.0.1:{other.port}"]), api_base=other.base_url)
        assert len(other.requests) == 1
    assert model_server.requests == []


async def test_the_environment_leads_nowhere(model_server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address in the environment does not draw the key of a connection that names none."""
    asked: list[str] = []

    def unknown(host: str, *args: Any, **further: Any) -> Any:
        asked.append(host)
        raise socket.gaierror(f"nothing is looked up in a test: {host}")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for name in ("GROQ_API_BASE", "OPENAI_BASE_URL", "OPENAI_API_BASE", "MISTRAL_API_BASE", "ANTHROPIC_BASE_URL"):
        monkeypatch.setenv(name, model_server.base_url)
    for provider in ("groq", "openai", "mistral", "anthropic"):
        account = Connection("work", "model_provider", {"provider": provider, "api_key": Secret(KEY)})
        assert (await failure(account, max_tokens=5)).kind == "connection_failed"
    assert set(asked) == {"api.groq.com", "api.openai.com", "api.mistral.ai", "api.anthropic.com"}
    assert model_server.requests == []


async def test_a_redirect_is_not_followed(model_server: ModelServer) -> None:
    """Neither prompt nor key goes to where a redirect points."""
    async with ModelServer() as other:
        for status in (301, 302, 303, 307, 308):
            model_server.script(redirect(f"{other.base_url}/chat/completions", status))
            error = await failure(connection(model_server))
            assert (error.kind, error.retryable) == ("redirected", False)
        assert other.requests == []


async def test_anthropic_gets_additional_parameters_at_the_root(model_server: ModelServer) -> None:
    """Foreign members stand at the root of Anthropic's body, and metadata is not sent."""
    await complete(
        connection(model_server, "anthropic"),
        model="claude-sonnet-4-5",
        max_tokens=10,
        temperature=0.1,
        metadata={"user_id": "u-77"},
        additional_parameters={"top_k": 5, "temperature": 0.9, "foo": {"bar": 1}},
    )
    sent = model_server.requests[0].json
    assert (sent["top_k"], sent["temperature"], sent["foo"]) == (5, 0.9, {"bar": 1})
    assert "metadata" not in sent
    assert "extra_body" not in sent


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "azure"])
@pytest.mark.parametrize("model", ["gpt-5.4", "gpt-5"])
async def test_tools_and_reasoning_stay_where_they_are(model_server: ModelServer, provider: str, model: str) -> None:
    """A server that speaks OpenAI's protocol is asked for a chat completion, whatever its model is called."""
    await complete(
        connection(model_server, provider),
        model=model,
        tools=[TOOL],
        additional_parameters={"reasoning_effort": "low"},
    )
    [request] = model_server.requests
    assert request.path.endswith("/chat/completions")
    assert request.json["tools"] == [TOOL]
    assert request.json["reasoning_effort"] == "low"


async def test_gemini_gets_additional_parameters_at_the_root(model_server: ModelServer) -> None:
    """Foreign members stand at the root of Gemini's body, in Gemini's own structure."""
    await complete(
        connection(model_server, "gemini"),
        model="gemini-2.0-flash",
        temperature=0.1,
        additional_parameters={"labels": {"team": "support"}, "temperature": 0.9},
    )
    sent = model_server.requests[0].json
    assert sent["labels"] == {"team": "support"}
    assert sent["generationConfig"]["temperature"] == 0.9


async def test_ollama_is_asked_once(model_server: ModelServer) -> None:
    """LiteLLM asks Ollama's server nothing of its own about the model, before or after."""
    answer = {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": True, "done_reason": "stop"}
    model_server.script(Status(200, {**answer, "prompt_eval_count": 3, "eval_count": 2}))
    account = connection(model_server, "ollama_chat", api_base=model_server.root)
    output = await complete(account)
    await asyncio.sleep(0.05)
    assert output["choices"][0]["message"]["content"] == "Hi"
    assert [request.path for request in model_server.requests] == ["/api/chat"]


@pytest.mark.parametrize("name", ["mock_response", "api_key", "base_url", "model", "stream", "no-log", "cache"])
async def test_orders_to_litellm_are_refused(model_server: ModelServer, name: str) -> None:
    """Additional Parameters cannot steer LiteLLM: a key stays where it belongs and answers are real."""
    error = await failure(connection(model_server), additional_parameters={name: "x"})
    assert (error.kind, error.details["fallback"]) == ("invalid_request", False)
    assert model_server.requests == []


def test_no_keyword_of_litellm_is_open() -> None:
    """Whatever LiteLLM's function takes is a parameter of ours, reserved, or a member of some vendor's body."""
    import inspect

    request = importlib.import_module("weft_core.actions._chat_request")
    fit = importlib.import_module("weft_core.actions._chat_fit")
    litellm = importlib.import_module("weft_core.actions._litellm").load()
    keywords = set(inspect.signature(litellm.acompletion).parameters) - {"kwargs"}
    members = set(litellm.constants.DEFAULT_CHAT_COMPLETION_PARAM_VALUES)
    open_ = {
        name
        for name in keywords - set(request.BODY) - members
        if not request.RESERVED.fullmatch(name) and not fit.controls({name: 1})
    }
    assert open_ == set()


def test_no_word_of_litellm_is_missing() -> None:
    """What the installed LiteLLM takes for orders to itself is refused before a run; other versions have fewer."""
    words = importlib.import_module("weft_core.actions._litellm_words").WORDS
    litellm = importlib.import_module("weft_core.actions._litellm").load()
    assert set(litellm.types.utils.all_litellm_params) - words == set()


async def test_more_than_four_stops_are_sent(model_server: ModelServer) -> None:
    """A list of stops is never cut; whether it is too long is for the server to say."""
    await complete(connection(model_server), stop="a,b,c,d,e")
    assert model_server.requests[0].json["stop"] == ["a", "b", "c", "d", "e"]


async def test_arguments_are_not_touched(model_server: ModelServer) -> None:
    """The same arguments serve the next attempt: nothing in them is changed by a call."""
    given = {
        "messages": [{"role": "system", "content": "s"}, *HELLO],
        "tools": [TOOL],
        "metadata": {"a": {"b": 1}},
        "additional_parameters": {"foo": {"bar": [1]}},
    }
    before = json.dumps(given)
    for provider in ("openai", "anthropic"):
        await complete(connection(model_server, provider), max_tokens=5, **given)
    assert json.dumps(given) == before


async def test_numbers_are_sent_as_written(model_server: ModelServer) -> None:
    """A whole number stays one on the wire, as other servers and their types expect it."""
    biases: Json = {"2683": -100, "7211": 0.5}
    await complete(connection(model_server), temperature=1, top_p=1, presence_penalty=-2, logit_bias=biases)
    sent = model_server.requests[0].json
    found = [sent[name] for name in ("temperature", "top_p", "presence_penalty", "logit_bias")]
    assert json.dumps(found) == '[1, 1, -2, {"2683": -100, "7211": 0.5}]'


async def test_a_provider_that_nobody_knows(model_server: ModelServer) -> None:
    """A provider that LiteLLM does not know is named before anything is sent."""
    error = await failure(connection(model_server, "opnai"))
    assert (error.kind, error.effect, error.details["fallback"]) == ("invalid_request", "none", False)
    assert "There is no provider 'opnai'." in str(error)
    assert model_server.requests == []


async def test_null_is_a_value_inside(model_server: ModelServer) -> None:
    """A null within tools or further members is sent; a null for a parameter takes the step's own away."""
    tool = json.loads(json.dumps(TOOL))
    tool["function"]["parameters"]["properties"]["city"]["default"] = None
    further: dict[str, Json] = {"temperature": None, "vendor": {"a": None}}
    await complete(connection(model_server), tools=[tool], temperature=0.5, additional_parameters=further)
    sent = model_server.requests[0].json
    assert sent["tools"] == [tool]
    assert sent["vendor"] == {"a": None}
    assert "temperature" not in sent


# Parameters that a model does not take


UNSUPPORTED: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("anthropic", "claude-sonnet-4-5", {"seed": 1, "n": 2}, ["n", "seed"]),
    ("anthropic", "claude-sonnet-4-5", {"response_format": {"type": "json_object"}}, ["response_format"]),
    ("openai", "o3-mini", {"temperature": 0.3}, ["temperature"]),
    ("openai", "gpt-5", {"temperature": 0.3, "seed": 4}, ["temperature"]),
    ("mistral", "mistral-small-latest", {"user": "u"}, ["user"]),
]


@pytest.mark.parametrize(("provider", "model", "given", "lost"), UNSUPPORTED)
async def test_an_unsupported_parameter(
    model_server: ModelServer, provider: str, model: str, given: dict[str, Any], lost: list[str]
) -> None:
    """It is an error that names parameter, provider, model and remedy; or left out and listed."""
    error = await failure(connection(model_server, provider), model=model, **given)
    assert (error.kind, error.effect, error.details["fallback"]) == ("unsupported_parameter", "none", False)
    for part in (*lost, provider, model, "unsupported_parameters: drop"):
        assert part in str(error)
    assert model_server.requests == []

    output = await complete(connection(model_server, provider, unsupported_parameters="drop"), model=model, **given)
    assert sorted(output["weft"]["dropped_parameters"]) == lost
    [request] = model_server.requests
    assert not set(lost) & set(request.json)


# What comes back


async def test_the_output_is_the_documented_one(model_server: ModelServer) -> None:
    """The completion has exactly the documented members, and the manifest's schema accepts it."""
    output = await complete(connection(model_server), model="gpt-4o-mini")
    assert output == {
        "id": "chatcmpl-CzHVeyzZj09MzGSXlmesrcTztrr66",
        "created": 1768721350,
        "model": "gpt-4o-mini",
        "object": "chat.completion",
        "system_fingerprint": "fp_29330a9688",
        "service_tier": "default",
        "choices": [
            {
                "finish_reason": "stop",
                "index": 0,
                "message": {"content": "The current weather in New York City is cloudy.", "role": "assistant"},
            }
        ],
        "usage": output["usage"],
        "weft": {
            "provider": "openai",
            "model": "gpt-4o-mini",
            "outcome": "complete",
            "attempts": [
                {
                    "model": "openai/gpt-4o-mini",
                    "try": 1,
                    "status": 200,
                    "kind": "ok",
                    "ms": output["weft"]["attempts"][0]["ms"],
                    "waited_s": 0.0,
                    "cost": "unknown",
                    "tokens": {"prompt_tokens": 21, "completion_tokens": 12, "total_tokens": 33},
                    "dropped_parameters": [],
                }
            ],
            "cost": "unknown",
            "tokens": {"prompt_tokens": 21, "completion_tokens": 12, "total_tokens": 33},
            "dropped_parameters": [],
        },
    }
    assert (output["usage"]["prompt_tokens"], output["usage"]["total_tokens"]) == (21, 33)


async def test_earlier_attempts_are_on_record(model_server: ModelServer) -> None:
    """The attempts before this one stand in the output, and tries are counted for each model."""
    earlier = (
        Attempt("openai/m", 1, "rate_limited", 429, 12, 20.0),
        Attempt("openai/other", 1, "overloaded", 503, 9, 0),
    )
    output = await complete(connection(model_server), facts={"previous": earlier, "variant": Variant("openai/m", 2)})
    assert [(each["model"], each["try"], each["kind"]) for each in output["weft"]["attempts"]] == [
        ("openai/m", 1, "rate_limited"),
        ("openai/other", 1, "overloaded"),
        ("openai/m", 2, "ok"),
    ]


async def test_a_tool_call_keeps_its_null_content(model_server: ModelServer) -> None:
    """A later step that reads the content finds null, not a missing member."""
    output = await complete(connection(model_server), tools=[TOOL], tool_choice="required")
    [choice] = output["choices"]
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert output["weft"]["outcome"] == "tool_calls"


RICH: list[tuple[str, dict[str, Any], Answer]] = [
    ("plain", {}, Ok()),
    ("several", {"n": 3}, Ok()),
    ("logprobs", {"logprobs": True, "top_logprobs": 2}, Ok()),
    ("logprobs of several", {"logprobs": True, "n": 2}, Ok()),
    ("tools", {"tools": [TOOL], "tool_choice": "required"}, Ok()),
    ("two tools", {"tools": [TOOL]}, Ok(tools=["get_weather", "get_weather"])),
    ("truncated", {"max_tokens": 3}, Ok("cut off", finish_reason="length")),
    ("vendor", {}, Ok(message={"reasoning_content": "thinking"}, top={"vendor_field": {"a": 1}})),
    ("repeats", {}, Ok(" ".join(["ha"] * 300))),
    ("special", {}, Ok("a <s> b </s> <|im_end|> c ")),
    ("unicode", {}, Ok("Grüße, 世界 🌍 é")),
]


@pytest.mark.parametrize(("given", "answer"), [row[1:] for row in RICH], ids=[row[0] for row in RICH])
@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "azure"])
async def test_streaming_changes_nothing(
    model_server: ModelServer, provider: str, given: dict[str, Any], answer: Answer
) -> None:
    """The record of a watched step equals that of an unwatched one; only what is sent says that it streamed."""
    shown: list[str] = []
    model_server.script(answer)
    account = connection(model_server, provider)
    plain = await complete(account, **given)
    watched = await complete(account, facts={"watched": True, "emit": shown.append}, **given)

    for output in (plain, watched):
        output["weft"]["attempts"][0]["ms"] = 0
    assert watched == plain
    assert "".join(shown) == (plain["choices"][0]["message"]["content"] or "")
    first, second = (request.json for request in model_server.requests)
    assert second.pop("stream") is True
    assert second.pop("stream_options") == {"include_usage": True}
    assert second == first


@pytest.mark.parametrize(("provider", "tools"), [("anthropic", []), ("anthropic", ["get_weather"]), ("gemini", [])])
async def test_streaming_of_other_shapes(model_server: ModelServer, provider: str, tools: list[str]) -> None:
    """Providers that do not speak OpenAI's protocol stream as well, with the same record."""
    shown: list[str] = []
    model_server.script(Ok("It is cloudy in the city.", tools=tools))
    given: dict[str, Any] = {"model": "claude-sonnet-4-5" if provider == "anthropic" else "gemini-2.0-flash"}
    given |= {"max_tokens": 20, **({"tools": [TOOL]} if tools else {})}
    account = connection(model_server, provider)
    plain = await complete(account, **given)
    watched = await complete(account, facts={"watched": True, "emit": shown.append}, **given)

    assert "".join(shown) == "It is cloudy in the city."
    for output in (plain, watched):
        for made_up in ("id", "created"):
            output.pop(made_up)
        output["weft"]["attempts"][0]["ms"] = 0
    assert watched == plain


@pytest.mark.parametrize(
    ("provider", "model"),
    [("groq", "llama-3.3-70b-versatile"), ("anthropic", "claude-3-haiku-20240307"), ("openai", "gpt-4o")],
)
async def test_a_format_is_the_same_when_somebody_watches(model_server: ModelServer, provider: str, model: str) -> None:
    """Where LiteLLM makes a format out of a tool's call, the answer is the text, watched or not."""
    model_server.script(Ok(tools=["json_tool_call"]) if provider != "openai" else Ok('{"a": 1}'))
    schema: Json = {"name": "answer", "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    given: dict[str, Any] = {"response_format": {"type": "json_schema", "json_schema": schema}, "max_tokens": 9}
    account = connection(model_server, provider)
    plain, watched = [
        await complete(account, model=model, facts={"watched": watched}, **given) for watched in (False, True)
    ]
    assert plain["choices"] == watched["choices"]
    assert json.loads(watched["choices"][0]["message"]["content"])
    assert watched["weft"]["outcome"] == "complete"


@pytest.mark.parametrize("watched", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
async def test_tokens_that_nobody_counted(model_server: ModelServer, provider: str, watched: bool) -> None:
    """A server that says nothing of tokens gets no usage of zeros, and the cost is unknown."""
    model_server.script(Ok(usage=None))
    output = await complete(connection(model_server, provider), facts={"watched": watched})
    assert "usage" not in output
    assert output["weft"]["cost"] == "unknown"


async def test_tokens_are_shown_while_they_come(model_server: ModelServer) -> None:
    """Somebody who watches sees the first words long before the last."""
    model_server.script(Ok(pause_s=0.05))
    seen: list[float] = []
    started = time.monotonic()
    await complete(
        connection(model_server), facts={"watched": True, "emit": lambda text: seen.append(time.monotonic() - started)}
    )
    assert len(seen) >= 8
    assert seen[-1] - seen[0] > 0.3


async def test_a_server_that_does_not_stream(model_server: ModelServer) -> None:
    """A whole answer to a request for a stream is taken as it is."""
    model_server.script(Status(200, Ok().openai({"model": "m"})))
    output = await complete(connection(model_server), facts={"watched": True})
    assert output["choices"][0]["message"]["content"].startswith("The current weather")


async def test_an_answer_that_litellm_stumbles_over(model_server: ModelServer) -> None:
    """An answer of groq without a tier is a completion all the same."""
    answer = Ok().openai({"model": "m"})
    del answer["service_tier"]
    model_server.script(Status(200, answer))
    for watched in (False, True):
        output = await complete(connection(model_server, "groq"), facts={"watched": watched})
        assert output["choices"][0]["message"]["content"] == Ok().text
        assert output["usage"]["total_tokens"] == 33


@pytest.mark.parametrize("name", ["id", "model", "system_fingerprint", "service_tier"])
async def test_an_answer_with_a_member_of_another_type(model_server: ModelServer, name: str) -> None:
    """It is no completion, and its tokens are on record all the same."""
    model_server.script(Status(200, {**Ok().openai({"model": "m"}), name: 5}))
    error = await failure(connection(model_server))
    assert (error.kind, error.status, error.details["max_tries"]) == ("bad_response", 200, 2)
    assert error.details["usage"]["total_tokens"] == 33


@pytest.mark.parametrize("watched", [False, True], ids=["whole", "stream"])
async def test_counts_that_cannot_be(model_server: ModelServer, watched: bool) -> None:
    """A negative count is left out, and then nothing is said of all tokens."""
    details = {"cached_tokens": -1, "audio_tokens": 0}
    counts = {"prompt_tokens": -3, "completion_tokens": 5, "total_tokens": 2, "prompt_tokens_details": details}
    model_server.script(Ok(usage=counts))
    output = await complete(connection(model_server), facts={"watched": watched})
    assert output["usage"].items() >= {"completion_tokens": 5, "total_tokens": 2}.items()
    assert "prompt_tokens" not in output["usage"]
    assert output["usage"]["prompt_tokens_details"] == {"audio_tokens": 0}
    assert output["weft"]["tokens"] == "unknown"


# Failures


WANTED: dict[str, tuple[str, bool, float | None]] = {
    "openai-429-rate": ("rate_limited", True, 20.0),
    "openai-429-quota": ("quota_exhausted", False, None),
    "openai-401": ("authentication", False, None),
    "openai-context": ("context_window", False, None),
    "azure-filter": ("content_filter", False, None),
    "anthropic-529": ("overloaded", True, None),
    "503-html": ("overloaded", True, None),
    "200-html": ("bad_response", True, None),
    "200-empty": ("bad_response", True, None),
    "200-cut-json": ("bad_response", True, None),
    "200-no-choices": ("bad_response", True, None),
    "200-null-content": ("content_filter", False, None),
    "200-refusal": ("refused", False, None),
}


@pytest.mark.parametrize("watched", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape["id"])
async def test_a_recorded_shape(model_server: ModelServer, shape: dict[str, Any], watched: bool) -> None:
    """Each known way of failing has its kind, whatever LiteLLM makes of it, after exactly one request."""
    model_server.script(Status(shape["status"], shape["body"], shape["headers"]))
    provider = shape["id"].split("-")[0]
    account = connection(model_server, provider if provider in {"anthropic", "azure"} else "openai")
    if shape["id"] == "200-length":
        output = await complete(account, facts={"watched": watched})
        assert (output["weft"]["outcome"], output["choices"][0]["message"]["content"]) == ("truncated", "cut")
        return
    error = await failure(account, facts={"watched": watched})
    assert (error.kind, error.retryable, error.retry_after_s) == WANTED[shape["id"]]
    assert error.status == shape["status"]
    assert error.details.get("max_tries") == (2 if error.kind == "bad_response" else None)
    assert len(model_server.requests) == 1
    if error.kind == "authentication":
        assert "'model'" in str(error)
        assert "CANARY" not in str(error)


STATUSES = {
    400: ("invalid_request", False),
    401: ("authentication", False),
    402: ("quota_exhausted", False),
    403: ("permission", False),
    404: ("not_found", False),
    408: ("timeout", True),
    409: ("conflict", True),
    413: ("invalid_request", False),
    422: ("invalid_request", False),
    429: ("rate_limited", True),
    500: ("server_error", True),
    501: ("server_error", False),
    502: ("server_error", True),
    503: ("overloaded", True),
    504: ("server_error", True),
    529: ("overloaded", True),
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "azure", "hosted_vllm"])
async def test_a_status(model_server: ModelServer, provider: str, status: int) -> None:
    """A status means the same with every provider, and is answered by no second request."""
    body = {"error": {"message": f"no {KEY}", "type": None, "param": None, "code": None}}
    model_server.script([Status(status, body), Ok()])
    error = await failure(connection(model_server, provider))
    assert (error.kind, error.retryable) == STATUSES[status]
    assert error.status == status
    assert len(model_server.requests) == 1


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, None),
    ],
)
async def test_retry_after(model_server: ModelServer, headers: dict[str, str], wait: float | None) -> None:
    """What the provider asks us to wait is taken from any of its forms, and nonsense is not."""
    model_server.script(Status(429, headers=headers))
    assert (await failure(connection(model_server))).retry_after_s == wait


async def test_retry_after_a_date(model_server: ModelServer) -> None:
    """A date says how long from now."""
    until = datetime.fromtimestamp(time.time() + 90, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    model_server.script(Status(503, headers={"retry-after": until}))
    wait = (await failure(connection(model_server))).retry_after_s
    assert wait is not None
    assert 85 < wait <= 90


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "azure", "hosted_vllm"])
@pytest.mark.parametrize("answer", [Reset(), Cut()], ids=["reset", "cut"])
@pytest.mark.parametrize("watched", [False, True], ids=["whole", "stream"])
async def test_a_broken_connection(model_server: ModelServer, provider: str, answer: Answer, watched: bool) -> None:
    """A connection that breaks is worth another attempt, and is not silently made again."""
    model_server.script([answer, Ok()])
    error = await failure(connection(model_server, provider), facts={"watched": watched})
    assert (error.kind, error.retryable) == ("connection_failed", True)
    assert len(model_server.requests) == 1


async def test_nobody_listens(unused_tcp_port: int) -> None:
    """A refused connection is told as such."""
    base = f"http://127.0.0.1:{unused_tcp_port}/v1"
    account = Connection("gone", "model_provider", {"provider": "openai", "api_base": base})
    error = await failure(account)
    assert (error.kind, error.retryable, error.status) == ("connection_failed", True, None)


SLOW = {"hang": Hang(), "drip": Drip(0.1), "drip of events": Drip(0.1, "text/event-stream")}


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "azure", "hosted_vllm"])
@pytest.mark.parametrize("answer", SLOW)
async def test_the_deadline_holds(model_server: ModelServer, provider: str, answer: str) -> None:
    """Neither silence nor a trickle outlives the step's time by more than half a second."""
    await complete(connection(model_server, provider))  # imports and first use have their own time
    model_server.script(SLOW[answer])
    started = time.monotonic()
    error = await failure(connection(model_server, provider), seconds=0.6, facts={"watched": "events" in answer})
    assert 0.5 < time.monotonic() - started < 1.1
    assert (error.kind, error.retryable) == ("timeout", True)
    assert len(model_server.requests) == 2


async def test_the_connections_time_limit_holds(model_server: ModelServer) -> None:
    """request_timeout_s ends a request though the step would allow more."""
    await complete(connection(model_server))
    model_server.script(Drip(0.1))
    started = time.monotonic()
    error = await failure(connection(model_server, request_timeout_s=1))
    assert 0.9 < time.monotonic() - started < 1.5
    assert error.kind == "timeout"


async def test_the_import_is_not_the_requests_time(model_server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM's import counts against the step's time alone, and not as the time that the answer took."""
    litellm = importlib.import_module("weft_core.actions._litellm")
    load = litellm.loaded

    async def slowly() -> Any:  # in place of an import, which is slow once in a process
        await asyncio.sleep(0.8)
        return await load()

    await complete(connection(model_server))
    monkeypatch.setattr(litellm, "loaded", slowly)
    output = await complete(connection(model_server, request_timeout_s=0.5))
    assert output["weft"]["attempts"][0]["ms"] < 500
    error = await failure(connection(model_server), seconds=0.3)
    assert (error.kind, len(model_server.requests)) == ("timeout", 2)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "azure", "hosted_vllm"])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_a_huge_answer_is_not_read(model_server: ModelServer, provider: str, kind: str) -> None:
    """An answer above the connection's limit ends the attempt soon, and takes no memory to speak of."""
    model_server.script(Huge(200_000_000, kind))
    started = time.monotonic()
    error = await failure(connection(model_server, provider, max_response_mb=1), facts={"watched": "event" in kind})
    assert (error.kind, error.retryable) == ("response_too_large", False)
    assert time.monotonic() - started < 5


async def test_a_packed_answer_is_not_unpacked(model_server: ModelServer) -> None:
    """We ask for plain bytes and refuse others, for nobody knows to how much they unpack."""
    model_server.script(Status(200, "x", {"content-encoding": "gzip"}))
    assert (await failure(connection(model_server))).kind == "bad_response"
    assert model_server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("events", "kind", "status"),
    [
        ([{"error": {"code": 502, "message": "upstream"}}], "server_error", 200),
        ([{"error": {"code": "rate_limit_exceeded", "message": "slow down"}}], "rate_limited", 200),
        ([{"error": {"type": "server_error", "message": "o"}}], "server_error", 200),
        (["not json"], "bad_response", 200),
        ([], "bad_response", 200),
        (["[DONE]"], "bad_response", 200),
    ],
)
async def test_a_stream_that_breaks(model_server: ModelServer, events: list[Any], kind: str, status: int) -> None:
    """A stream that ends with an error or too early fails the attempt, by the code in it."""
    begun = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    start = [{**begun, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}]}]
    model_server.script(Events([*(start if events != ["[DONE]"] else []), *events]))
    error = await failure(connection(model_server), facts={"watched": True})
    assert (error.kind, error.status, error.retryable) == (kind, status, True)


@pytest.mark.parametrize(
    ("last", "kind"),
    [({"type": "error", "error": {"type": "overloaded_error", "message": "o"}}, "overloaded"), (None, "bad_response")],
)
async def test_a_stream_of_anthropic_that_breaks(model_server: ModelServer, last: Json, kind: str) -> None:
    """It is seen as well where the events have another shape."""
    begun = anthropic_events(Ok().anthropic({"model": "m"}))[:5]
    model_server.script(Events([*begun, *([last] if last else [])]))
    error = await failure(connection(model_server, "anthropic"), max_tokens=5, facts={"watched": True})
    assert (error.kind, error.retryable, len(model_server.requests)) == (kind, True, 1)


async def test_a_stream_that_only_its_connection_ends(model_server: ModelServer) -> None:
    """Without length and last chunk the end of an unfinished stream is a connection that broke."""
    begun = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    event = {**begun, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}]}

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        writer.write(head + b"data: " + json.dumps(event).encode() + b"\n\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as server:
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        error = await failure(connection(model_server, api_base=base), facts={"watched": True})
    assert (error.kind, error.retryable, error.status) == ("connection_failed", True, 200)


@pytest.mark.parametrize(
    ("answer", "kind", "retryable"),
    [
        (Ok(""), "empty_response", True),
        (Ok(None), "empty_response", True),
        (Ok("", finish_reason="length"), "truncated", False),
        (Ok("", finish_reason="content_filter"), "content_filter", False),
    ],
)
async def test_an_empty_answer_is_no_success(
    model_server: ModelServer, answer: Answer, kind: str, retryable: bool
) -> None:
    """A completion with nothing in it fails, by the reason that it gives."""
    model_server.script(answer)
    for watched in (False, True):
        error = await failure(connection(model_server), facts={"watched": watched})
        assert (error.kind, error.retryable) == (kind, retryable)


SCHEMA: Json = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("watched", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Bern, I think", "it is not JSON"),
        ('{"city": 7}', "$.city breaks the rule 'type'"),
        ('{"town": "Bern"}', "$ breaks the rule"),
    ],
)
async def test_an_answer_that_breaks_its_schema(model_server: ModelServer, text: str, told: str, watched: bool) -> None:
    """A strict schema is checked on our side; one more try may help, and the tokens are paid for."""
    model_server.script(Ok(text))
    given: Json = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": SCHEMA}}
    error = await failure(connection(model_server), response_format=given, facts={"watched": watched})
    assert (error.kind, error.retryable, error.details["max_tries"]) == ("schema_mismatch", True, 2)
    assert told in str(error)
    assert "Bern" not in str(error)
    assert error.details["usage"]["total_tokens"] == 33


@pytest.mark.parametrize(
    ("answer", "strict"),
    [
        (Ok('{"city": "Bern"}'), True),
        (Ok("Bern, I think"), False),
        (Ok('{"city": "Be', finish_reason="length"), True),
        (Ok(tools=["get_weather"]), True),
    ],
)
async def test_an_answer_that_its_schema_does_not_judge(
    model_server: ModelServer, answer: Answer, strict: bool
) -> None:
    """What follows the schema, was cut short, calls tools, or was only asked kindly to follow it, is a success."""
    model_server.script(answer)
    given: Json = {"type": "json_schema", "json_schema": {"name": "a", "strict": strict, "schema": SCHEMA}}
    await complete(connection(model_server), response_format=given, tools=[TOOL])


async def test_a_partly_filtered_answer_is_marked(model_server: ModelServer) -> None:
    """A text that the filter cut is kept, and the outcome says so."""
    model_server.script(Ok("Once upon", finish_reason="content_filter"))
    assert (await complete(connection(model_server)))["weft"]["outcome"] == "filtered"


async def test_a_key_that_a_server_repeats(model_server: ModelServer) -> None:
    """A provider that puts the key into its error text does not get it into ours."""
    for status in (400, 401, 500):
        model_server.script(Status(status, {"error": {"message": "bad key {authorization}", "code": KEY}}))
        await failure(connection(model_server))
    model_server.script(Status(200, "{authorization}"))
    await failure(connection(model_server))
    model_server.script(Echo())
    output = await complete(connection(model_server))  # what the model says is data; the executor masks it
    assert KEY in output["choices"][0]["message"]["content"]


async def test_cancelling_ends_the_call(model_server: ModelServer) -> None:
    """A cancelled step leaves at once."""
    await complete(connection(model_server))
    model_server.script(Hang())
    task = asyncio.create_task(complete(connection(model_server)))
    while len(model_server.requests) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 0.5


async def test_nothing_is_printed(model_server: ModelServer, capfd: pytest.CaptureFixture[str]) -> None:
    """Calls and failures write nothing on stdout or stderr."""
    await complete(connection(model_server))
    for answer in (Status(401), Status(500), Reset(), Status(200, "<html>"), Ok()):
        model_server.script(answer)
        for watched in (False, True):
            if not isinstance(answer, Ok):
                await failure(connection(model_server), facts={"watched": watched})
    await failure(connection(model_server, "anthropic"), seed=3)
    await asyncio.sleep(0.05)
    assert capfd.readouterr() == ("", "")


# What is checked before


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, []),
        ({"stop": "a,,b"}, ["error: stop"]),
        ({"stop": r"a\x"}, ["error: stop"]),
        ({"stop": "a\\"}, ["error: stop"]),
        ({"stop": " "}, ["error: stop"]),
        ({"stop": r"\s"}, []),
        ({"api_base": "ftp://host/v1"}, ["error: api_base"]),
        ({"api_base": "https://user:secret@host/v1"}, ["error: api_base"]),
        ({"api_base": "https://host:99999/v1"}, ["error: api_base"]),
        ({"api_base": "https://host/v1"}, []),
        ({"additional_parameters": {"messages": []}}, ["error: additional_parameters.messages"]),
        ({"additional_parameters": {"cache": 1, "top_k": 5}}, ["error: additional_parameters.cache"]),
        ({"additional_parameters": {"input_cost_per_token": 0}}, ["error: additional_parameters.input_cost_per_token"]),
        ({"additional_parameters": {"temperature": 5}}, ["error: additional_parameters.temperature"]),
        ({"additional_parameters": {"stop": [1]}}, ["error: additional_parameters.stop"]),
        ({"additional_parameters": {"stop": "a,b"}}, []),
        ({"max_tokens": 5, "additional_parameters": {"max_completion_tokens": 5}}, ["error: additional_parameters"]),
        ({"additional_parameters": {"top_logprobs": 2}}, []),  # `logprobs` may be there, and not known yet
        ({"fallbacks": ["gpt-4o", {"*": ["anthropic/claude"]}]}, []),
        ({"fallbacks": [{"*": ["/claude"]}, " "]}, ["error: fallbacks[0].*[0]", "error: fallbacks[1]"]),
        ({"tools": [TOOL], "tool_choice": "sometimes"}, ["error: tool_choice"]),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, ["error: tool_choice"]),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}}, ["error: tool_choice"]),
        ({"response_format": {"type": "json_object"}}, ["warning: response_format"]),
        ({"response_format": {"type": "json_schema"}}, ["error: response_format"]),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, ["error: response_format"]),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}}, []),
        ({"tools": [TOOL], "tool_choice": "{{ x }}"}, ["error: tool_choice"]),
        ({"provider": "opnai"}, ["error: provider"]),
        ({"response_format": {"type": "json_object"}, "messages": [{"role": "user", "content": "As Json."}]}, []),
    ],
)
def test_a_rule_that_the_manifest_cannot_state(given: dict[str, Any], found: list[str]) -> None:
    """Each rule names the place of what breaks it."""
    assert problems(**given) == found


def test_rules_cope_with_what_is_not_known() -> None:
    """Before a run any argument may be missing."""
    assert list(chat.check({}, KNOWN)) == []
    assert list(chat.check({"tool_choice": {"type": "function", "function": {"name": "x"}}}, KNOWN)) == []
    assert list(chat.check({"response_format": {"type": "json_object"}}, KNOWN)) == []


@pytest.mark.parametrize("further", [{"top_logprobs": 2}, {"tool_choice": "auto"}, {"parallel_tool_calls": False}])
async def test_what_additional_parameters_need(model_server: ModelServer, further: dict[str, Json]) -> None:
    """A member of the body that needs another one is refused without it, before anything is sent."""
    error = await failure(connection(model_server), additional_parameters=further)
    assert (error.kind, error.effect) == ("invalid_request", "none")
    assert model_server.requests == []


@pytest.mark.parametrize(
    ("message", "good"),
    [
        ({"role": "user", "content": ""}, True),
        ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]}, True),
        ({"role": "user", "content": [{"type": "text"}]}, False),
        ({"role": "user", "content": None}, False),
        ({"role": "assistant", "content": "a"}, True),
        ({"role": "assistant"}, False),
        ({"role": "assistant", "content": None}, False),
        ({"role": "assistant", "content": None, "refusal": "no"}, True),
        ({"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": CALLED}]}, True),
        ({"role": "tool", "content": "a"}, False),
        ({"role": "bogus", "content": "a"}, False),
    ],
)
def test_a_message_of_each_role(message: Json, good: bool) -> None:
    """The manifest wants of each message what its role needs; a message must say something."""
    document = manifest.load(source.read_file(ROOT / "manifests/generate_chat_completion.yaml"))
    given: dict[str, Json] = {"provider": "openai", "model": "m", "messages": [message]}
    assert (arguments.check(document.all_parameters, given) == []) is good


CHAINS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["openai/o3"]),
    ({"fallbacks": [{"openai/*": ["gpt-4o-mini"]}]}, ["openai/o3", "openai/gpt-4o-mini"]),
    ({"fallbacks": [{"*": ["a"], "openai/*": ["b"], "openai/o*": ["c"], "o3": ["d"]}]}, ["openai/o3", "openai/d"]),
    ({"fallbacks": [{"*": ["a"]}, {"openai/*": ["b"]}, {"openai/o*": ["c"]}]}, ["openai/o3", "openai/c"]),
    ({"fallbacks": [{"*": ["a"]}, {"groq/*": ["b"]}]}, ["openai/o3", "openai/a"]),
    ({"fallbacks": [{"groq/*": ["b"]}, "x", "anthropic/claude-x"]}, ["openai/o3", "openai/x", "anthropic/claude-x"]),
    ({"fallbacks": ["openai/o3", "o3", "x", "openai/x"]}, ["openai/o3", "openai/x"]),
    ({"fallbacks": ["meta-llama/llama-3"]}, ["openai/o3", "openai/meta-llama/llama-3"]),
    ({"fallbacks": [{"openai/o3": ["x"]}, {"openai/x": ["y"]}]}, ["openai/o3", "openai/x"]),
]


@pytest.mark.parametrize(("given", "chain"), CHAINS)
def test_the_chain_of_attempts(given: dict[str, Any], chain: list[str]) -> None:
    """The best pattern counts, names without provider are of the same one, none comes twice, none has its own."""
    variants = chat.attempts({"provider": "openai", "model": "o3", "num_retries": 2, **given}, KNOWN)
    assert [variant.name for variant in variants] == chain
    assert {variant.tries for variant in variants} == {3}
    for variant in variants:
        given |= variant.arguments
        assert f"{given.get('provider', 'openai')}/{given.get('model', 'o3')}" == variant.name
        assert variant.provider == given.get("provider", "openai")
    assert variants[0].arguments == {}


def test_an_address_stays_with_its_provider() -> None:
    """A fallback to another provider does not inherit the address that was given for the first."""
    given = {"provider": "openai", "model": "a", "api_base": "https://x/v1", "fallbacks": ["b", "anthropic/c"]}
    same, other = chat.attempts(given, KNOWN)[1:]
    assert "api_base" not in same.arguments
    assert other.arguments["api_base"] is None

"""What the catalogue says against a step before it runs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import pytest

from weft.catalogue.fit import Fit, Together, unfit
from weft.sdk import Json, Known

chat = importlib.import_module("weft_core.actions.generate_chat_completion")

PUBLIC = {"provider": "openai", "unsupported_parameters": "error"}
DROP = {"provider": "openai", "unsupported_parameters": "drop"}


def found(settings: Mapping[str, Json] | None = None, **given: Any) -> list[str]:
    known = Known(settings=lambda provider: settings or {})
    given = {"provider": "openai", "model": "gpt-4o", "messages": [{"role": "user", "content": "json"}], **given}
    problems = chat.check({name: value for name, value in given.items() if value is not None}, known)
    return [f"{problem.severity} {problem.where.field}: {problem.code}" for problem in problems]


@pytest.mark.parametrize(
    ("given", "problems"),
    [
        ({"model": "o3-mini", "temperature": 0.3}, ["error temperature: unsupported_parameter"]),
        ({"model": "o3-mini", "temperature": 1}, []),
        ({"model": "gpt-4o", "temperature": 0.3}, []),
        (
            {"model": "o3-mini", "additional_parameters": {"temperature": 0.3}},
            ["error additional_parameters.temperature: unsupported_parameter"],
        ),
        (
            {"provider": "anthropic", "model": "claude-sonnet-4-5", "seed": 1, "n": 2},
            ["error n: unsupported_parameter", "error seed: unsupported_parameter"],
        ),
        (
            {"provider": "anthropic", "model": "claude-sonnet-4-5", "response_format": {"type": "json_object"}},
            ["error response_format: unsupported_parameter"],
        ),
        ({"fallbacks": ["o3-mini"], "temperature": 0.3}, ["warning fallbacks: unsupported_parameter"]),
        ({"fallbacks": ["anthropic/claude-sonnet-4-5"], "seed": 1}, ["warning fallbacks: unsupported_parameter"]),
        ({"provider": "opnai"}, ["error provider: unknown_provider"]),
        ({"model": None, "temperature": 0.3}, []),
        ({"provider": None, "temperature": 0.3}, []),
        ({"model": "o3-mini", "stop": "a,,b"}, ["error stop: bad_stop"]),
    ],
)
def test_parameters_of_a_known_model(given: dict[str, Any], problems: list[str]) -> None:
    """What the model does not take is an error; for a fallback it is left out; what is not known yet is not judged."""
    assert found(**given) == problems


def test_the_connection_may_say_drop() -> None:
    """Then it is a warning."""
    assert found(DROP, model="o3-mini", temperature=0.3) == ["warning temperature: unsupported_parameter"]


def test_the_message_helps() -> None:
    """It names parameter, model and provider, and what to do; of a misspelt provider, the one that was meant."""
    given = {"provider": "openai", "model": "o3-mini", "temperature": 0.3}
    [problem] = chat.check(given, Known())
    for part in ("'temperature'", "openai", "'o3-mini'"):
        assert part in problem.message
    assert problem.remedy
    [problem] = chat.check({"provider": "opnai"}, Known())
    assert "'openai'" in problem.remedy


@pytest.mark.parametrize(
    ("settings", "given", "warned"),
    [
        (PUBLIC, {"model": "gpt-4o-minni"}, True),
        (PUBLIC, {"model": "gpt-4o-mini"}, False),
        (PUBLIC, {"model": "gpt-4o", "fallbacks": ["gpt-4o-minni"]}, True),
        (
            {**PUBLIC, "allowed_hosts": ["localhost"]},
            {"model": "smollm2", "api_base": "http://localhost:8000/v1"},
            False,
        ),
        ({**PUBLIC, "api_base": "http://localhost:8000/v1"}, {"model": "smollm2"}, False),
        ({"provider": "ollama"}, {"provider": "ollama", "model": "llama3"}, False),
        ({"provider": "hosted_vllm"}, {"provider": "hosted_vllm", "model": "mine"}, False),
        ({}, {"model": "smollm2"}, False),
    ],
)
def test_a_model_that_is_not_known(settings: dict[str, Json], given: dict[str, Any], warned: bool) -> None:
    """It is warned of where the provider's own server is meant, and not where anybody may have named it."""
    field = "fallbacks" if "fallbacks" in given else "model"
    assert found(settings, **given) == ([f"warning {field}: unknown_model"] if warned else [])


def test_the_nearest_model_is_named() -> None:
    """A slip of the pen is told as one."""
    known = Known(settings=lambda provider: PUBLIC)
    [problem] = chat.check({"provider": "openai", "model": "gpt-4o-minni"}, known)
    assert "'gpt-4o-mini'" in problem.remedy


OWN = {**PUBLIC, "api_base": "http://localhost:8000/v1"}


@pytest.mark.parametrize(
    ("settings", "given", "problems"),
    [
        (PUBLIC, {"api_base": "https://elsewhere.example/v1"}, ["error api_base: host_not_allowed"]),
        (PUBLIC, {"api_base": "https://api.openai.com/v2"}, []),
        (OWN, {"api_base": "http://localhost:8000/v2"}, []),
        (OWN, {"api_base": "http://localhost:9000/v1"}, ["error api_base: host_not_allowed"]),
        ({**OWN, "allowed_hosts": ["localhost"]}, {"api_base": "http://localhost:9000/v1"}, []),
        ({}, {"api_base": "https://elsewhere.example/v1"}, []),
        (PUBLIC, {"api_base": "ftp://elsewhere.example"}, ["error api_base: bad_api_base"]),
        (PUBLIC, {"api_version": "2025-01-01"}, ["warning api_version: useless_api_version"]),
        ({}, {"provider": "azure", "api_version": "2025-01-01"}, []),
        (PUBLIC, {"stop": "a,b,c,d"}, []),
        (PUBLIC, {"stop": "a,b,c,d,e"}, ["warning stop: too_many_stops"]),
        ({}, {"provider": "azure", "stop": "a,b,c,d,e"}, ["warning stop: too_many_stops"]),
        (OWN, {"stop": "a,b,c,d,e"}, []),
        (PUBLIC, {"fallbacks": [{"openai/*": ["gpt-4o-mini"]}, {"*": ["gpt-4o-mini"], "gpt-4o": ["gpt-4.1"]}]}, []),
        (PUBLIC, {"fallbacks": ["gpt-4.1", {"gpt-4": ["gpt-4o-mini"]}]}, ["warning fallbacks[1]: useless_pattern"]),
        (PUBLIC, {"model": None, "fallbacks": [{"gpt-4": ["gpt-4o-mini"]}]}, []),
    ],
)
def test_what_would_fail_or_do_nothing(settings: dict[str, Json], given: dict[str, Any], problems: list[str]) -> None:
    """An address that the connection does not allow, and what has no effect with this provider or model."""
    assert found(settings, **given) == problems


def test_what_is_taken_only_beside_something_unfit() -> None:
    """It is told together with the other one, in the order given; beside a fit one it is taken."""
    beside = Together("seed", frozenset({"any"}), "response_format", frozenset({"text", "json_object"}), "taken")
    fit = Fit({"seed": {"any": "refused"}, "response_format": {"json_object": "refused"}}, (beside,))
    given: dict[str, Json] = {"seed": 1, "top_p": 1, "response_format": {"type": "json_object"}}
    assert [each.parameter for each in unfit(fit, "p", "m", given)] == ["seed", "response_format"]
    assert unfit(fit, "p", "m", {**given, "response_format": {"type": "text"}}) == ()

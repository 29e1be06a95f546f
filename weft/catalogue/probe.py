"""Ask LiteLLM what becomes of each parameter, offline: by its mapping, and by the body that it would send.

Used to make the catalogue; it imports LiteLLM, and nothing but `build` and tests import it.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import itertools
import json
import logging
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from weft.catalogue.fit import KINDS, Fit, Together, Verdict
from weft.types import Json

ENVIRONMENT: Final = {
    "LITELLM_MODE": "PRODUCTION",  # else a `.env` found above site-packages is read
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else prices are fetched from the network during the import
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_OFFLINE_MODE": "true",
}


@lru_cache(maxsize=1)
def litellm() -> Any:
    """Import LiteLLM quietly, without network, and return it."""
    os.environ.update(ENVIRONMENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: Any = importlib.import_module("litellm")
        module.ModelResponse()  # pydantic finishes such models at their first use, with a warning
    module.suppress_debug_info = True
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    return module


def tool(name: str) -> dict[str, Json]:
    """Return the declaration of a function."""
    properties: Json = {"city": {"type": "string"}}
    parameters: Json = {"type": "object", "properties": properties, "required": ["city"]}
    return {"type": "function", "function": {"name": name, "description": "A tool.", "parameters": parameters}}


_SCHEMA: Final[dict[str, Json]] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}

VALUES: Final[Mapping[str, Mapping[str, Any]]] = {
    "n": {"1": 1, "more": 2},
    "frequency_penalty": {"any": 0.5},
    "logprobs": {"true": True, "false": False},
    "top_logprobs": {"any": 2},
    "logit_bias": {"any": {"50256": -100}},
    "max_completion_tokens": {"any": 50},
    "max_tokens": {"any": 50},
    "parallel_tool_calls": {"true": True, "false": False},
    "presence_penalty": {"any": 0.5},
    "response_format": {
        "text": {"type": "text"},
        "json_object": {"type": "json_object"},
        "json_schema": {
            "type": "json_schema",
            "json_schema": {"name": "place", "schema": _SCHEMA, "strict": True},
        },
    },
    "safety_identifier": {"any": "reader-7"},
    "seed": {"any": 7},
    "stop": {"any": ["END"]},
    "temperature": {"1": 1, "other": 0.2},
    "tool_choice": {
        "none": "none",
        "auto": "auto",
        "required": "required",
        "named": {"type": "function", "function": {"name": "look_up"}},
    },
    "tools": {"one": [tool("look_up")], "several": [tool("look_up"), tool("write_down")]},
    "top_p": {"any": 0.5},
    "user": {"name": "reader-7", "address": "reader@example.com"},
}
"""A value of each kind."""

_BESIDE: Final = {
    "tool_choice": {"tools": "several"},
    "parallel_tool_calls": {"tools": "several"},
    "top_logprobs": {"logprobs": "true"},
}
"""What must stand beside a parameter that means nothing alone."""

_DEFAULTS: Final = {
    "n": "1",
    "response_format": "text",
    "tool_choice": "auto",
    "parallel_tool_calls": "true",
    "temperature": "1",
    "logprobs": "false",
}
"""The kind of value that changes nothing when it is lost, because a model does so anyway."""

_LOSERS: Final = (
    ("tool_choice", "response_format", "json_schema"),
    ("response_format", "tools", "one"),
    ("response_format", "tools", "several"),
    ("parallel_tool_calls", "tool_choice", "required"),
)
"""Parameters of which it is known that some provider loses them beside another one."""

_INTERNAL: Final = ("json_mode", "fake_stream", "functions_unsupported_model", "stream")
"""What LiteLLM notes for itself beside what it sends."""

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What is another one in every request."""

FORCED: Final = frozenset(
    "azure custom_openai docker_model_runner groq hosted_vllm litellm_proxy llamafile lm_studio openai openrouter vllm".split()  # noqa: SIM905
)
"""Providers that take `user` though LiteLLM does not list it for all their models, and then drops it."""


class Refused(Exception):
    """LiteLLM does not take the parameters as they are."""


def mapped(provider: str, model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what LiteLLM makes of parameters.

    Raises:
        Refused: It does not take them.
    """
    module = litellm()
    try:
        made: dict[str, Any] = module.get_optional_params(
            model=model, custom_llm_provider=provider, **copy.deepcopy(dict(given))
        )
    except (module.UnsupportedParamsError, module.BadRequestError) as error:
        raise Refused from error
    return made


def sent(provider: str, model: str, made: dict[str, Any]) -> str:
    """Return the body that LiteLLM would send, as text; where that cannot be had offline, what it mapped."""
    body: Any = made
    with contextlib.suppress(Exception):  # whatever a provider raises when an account or a file is missing
        body = _transformed(provider, model, made)
    if not isinstance(body, dict):
        body = made
    text = json.dumps({key: body[key] for key in body if key not in _INTERNAL}, default=str, sort_keys=True)
    return _ID.sub("", text)


_ACCOUNTS: Final[Mapping[str, Mapping[str, str]]] = {
    "oci": {"oci_compartment_id": "none"},
    "watsonx_text": {"project_id": "none"},
}
"""What a body cannot be made without."""


def _transformed(provider: str, model: str, made: dict[str, Any]) -> Any:
    content: Json = "Hello."
    if provider == "fal_ai":  # it answers questions about images only
        content = [
            {"type": "text", "text": "Hello."},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}},
        ]
    messages = [{"role": "user", "content": content}]
    parameters = {"api_base": "http://localhost/v1/generate", "api_key": "none"}
    made = {**made, **_ACCOUNTS.get(provider, {})}
    if provider in ("gemini", "vertex_ai_beta") or (provider == "vertex_ai" and "gemini" in model):
        gemini = importlib.import_module("litellm.llms.vertex_ai.gemini.transformation")
        return gemini._transform_request_body(messages, model, copy.deepcopy(made), provider, parameters, None)
    config = _config(provider, model)
    if config is None:
        return made
    return config.transform_request(model, messages, copy.deepcopy(made), parameters, {})


@lru_cache(maxsize=8192)
def _config(provider: str, model: str) -> Any:
    module = litellm()
    if provider not in {each.value for each in module.LlmProviders}:
        return None
    return module.utils.ProviderConfigManager.get_provider_chat_config(
        model=model, provider=module.LlmProviders(provider)
    )


def fit(provider: str, model: str) -> Fit:
    """Return what becomes of every kind of value of every parameter, alone and beside others."""
    return _Asked(provider, model).fit()


class _Asked:
    """One model, while it is being asked about."""

    def __init__(self, provider: str, model: str) -> None:
        self.provider = provider
        self.model = model
        self.bare: dict[tuple[tuple[str, str], ...], str] = {}
        self.verdicts: dict[str, dict[str, Verdict]] = {}
        self.forced: set[str] = set()

    def fit(self) -> Fit:
        for parameter, values in VALUES.items():
            self.verdicts[parameter] = {each: self.alone(parameter, each) for each in values}
        self.settle()
        together = [*self.apart(), *self.lifted(), *self.lost_beside()]
        told = {name: found for name, found in self.verdicts.items() if set(found.values()) != {"taken"}}
        return Fit(told, tuple(together), frozenset(self.forced))

    def maps(self, kinds: Mapping[str, str]) -> dict[str, Any] | None:
        try:
            return mapped(self.provider, self.model, {name: VALUES[name][each] for name, each in kinds.items()})
        except Refused:
            return None

    def body(self, kinds: Mapping[str, str]) -> str | None:
        """Return the body for parameters of these kinds, or None when they are refused."""
        key = tuple(sorted(kinds.items()))
        if key not in self.bare:
            made = self.maps(kinds)
            if made is None:
                return None
            self.bare[key] = sent(self.provider, self.model, made)
        return self.bare[key]

    def alone(self, parameter: str, value_kind: str) -> Verdict:
        """Return the verdict for a value alone, or beside what it needs."""
        beside: Mapping[str, str] = _BESIDE.get(parameter, {})
        without = self.body(beside) if beside else None
        if without is None:
            beside, without = {}, self.body({})
        own = self.body({**beside, parameter: value_kind})
        if own is None:
            return "refused" if not beside or self.maps({parameter: value_kind}) is None else "taken"
        return "ignored" if own == without else "taken"

    def settle(self) -> None:
        """Take back "ignored" where nothing is lost: values that change nothing, while others of them do."""
        for parameter, default in _DEFAULTS.items():
            found = self.verdicts[parameter]
            others = {verdict for each, verdict in found.items() if each != default}
            if found[default] == "ignored" and ("taken" in others or parameter in ("n", "temperature")):
                found[default] = "taken"
        user = self.verdicts["user"]
        if self.provider in FORCED and "taken" not in user.values():
            self.verdicts["user"] = dict.fromkeys(user, "taken")
            self.forced.add("user")

    def takes(self, parameter: str, value_kind: str) -> bool:
        return self.verdicts[parameter][value_kind] == "taken"

    def whole(self) -> Iterable[dict[str, str]]:
        """Yield bodies with all that is taken alone, until each kind of value was in one."""
        taken = {
            name: [each for each in values if self.takes(name, each)]
            for name, values in VALUES.items()
            if name != "max_tokens"
        }
        for turn in range(max(map(len, taken.values()))):
            yield {name: kinds[turn % len(kinds)] for name, kinds in taken.items() if kinds}

    def apart(self) -> Iterable[Together]:
        """Yield what is refused beside others only."""
        if all(self.maps(body) is not None for body in self.whole()):
            return
        kinds = [(name, each) for name, values in VALUES.items() for each in values if self.takes(name, each)]
        for (name, each), (other, its) in itertools.combinations(kinds, 2):
            if name != other and self.maps({name: each, other: its}) is None:
                culprit, reason = self._blame((name, each), (other, its))
                yield Together(culprit[0], frozenset({culprit[1]}), reason[0], frozenset({reason[1]}), "refused")

    def _blame(self, one: tuple[str, str], two: tuple[str, str]) -> tuple[tuple[str, str], tuple[str, str]]:
        """Return which of two that do not go together should be left out: the one that says less."""
        weight = ("tools", "response_format", "stop")
        rank = [weight.index(name) if name in weight else len(weight) for name, _ in (one, two)]
        return (one, two) if rank[0] > rank[1] else (two, one)

    def lifted(self) -> Iterable[Together]:
        """Yield what is refused alone and taken beside a response format."""
        formats = [each for each in VALUES["response_format"] if self.maps({"response_format": each}) is not None]
        for name, found in self.verdicts.items():
            if name == "response_format" or not formats:
                continue
            for each in (each for each, verdict in found.items() if verdict == "refused"):
                if self.maps({name: each, "response_format": formats[0]}) is None:
                    continue
                free = [form for form in formats if self.maps({name: each, "response_format": form}) is not None]
                if free:
                    yield Together(name, frozenset({each}), "response_format", frozenset(free), "taken")

    def lost_beside(self) -> Iterable[Together]:
        """Yield what has its effect alone and loses it beside others."""
        for name, other, its in _LOSERS:
            if not self.takes(other, its):
                continue
            beside = {**({"tools": "several"} if name in ("tool_choice", "parallel_tool_calls") else {}), other: its}
            without = self.body(beside)
            lost = {each for each in VALUES[name] if self.takes(name, each) and each != _DEFAULTS.get(name)}
            lost = {each for each in lost if without is not None and self.body({**beside, name: each}) == without}
            if lost:
                yield Together(name, frozenset(lost), other, frozenset({its}), "ignored")


assert {name: tuple(values) for name, values in VALUES.items()} == KINDS  # noqa: S101  one of each kind

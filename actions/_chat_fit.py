"""What a model takes of a request, by the catalogue, and by LiteLLM itself for models that the catalogue lacks."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from weft.sdk import Catalogue, Json, JsonObject

from . import _litellm

NEEDS: Final = {"tools": ("parallel_tool_calls", "tool_choice"), "logprobs": ("top_logprobs",)}
"""Parameters that say nothing without another one; providers refuse them then."""


@lru_cache(maxsize=1024)
def supported(provider: str, model: str) -> frozenset[str] | None:
    """Return the parameters that LiteLLM lists for a model; None when it knows nothing of it."""
    litellm = _litellm.load()
    try:
        found = litellm.get_supported_openai_params(model=model, custom_llm_provider=provider)
    except Exception:  # noqa: BLE001  some providers raise on models they do not know; then nothing is known
        return None
    return None if found is None else frozenset(found)


def refused(provider: str, model: str, given: Mapping[str, Json]) -> Iterator[str]:
    """Yield the names of given parameters whose value LiteLLM's own mapping refuses, such as a reasoner's temperature."""
    litellm = _litellm.load()
    for name, value in given.items():
        try:
            litellm.get_optional_params(model=model, custom_llm_provider=provider, **{name: copy.deepcopy(value)})
        except litellm.UnsupportedParamsError:
            yield name


def unfit(catalogue: Catalogue, provider: str, model: str, given: Mapping[str, Json]) -> list[str]:
    """Return the names of given parameters that would be refused, or lost without a word."""
    if catalogue.model(provider, model) is not None:
        return [each.parameter for each in catalogue.unfit(provider, model, given)]
    listed = supported(provider, model)
    forced = catalogue.forced(provider, model)
    return [
        name
        for name, value in given.items()
        if (listed is not None and name not in listed and name not in forced) or _lost(catalogue, provider, name, value)
    ]


def _lost(catalogue: Catalogue, provider: str, name: str, value: Json) -> bool:
    """Whether a provider's models take a value and make nothing of it, as far as that holds for all of them."""
    if not catalogue.has(provider):
        return False
    usual = catalogue.provider(provider).fit
    verdicts = usual.verdicts.get(name, {})
    if isinstance(value, dict) and name == "response_format":
        return verdicts.get(str(value.get("type"))) == "ignored"
    return not usual.takes(name) and "ignored" in verdicts.values()


def keywords(
    catalogue: Catalogue, given: Mapping[str, Json], extra: JsonObject, provider: str, model: str
) -> dict[str, Any]:
    """Return the keywords that make LiteLLM send these members of the body."""
    made: dict[str, Any] = copy.deepcopy(dict(given))
    if forced := sorted(catalogue.forced(provider, model) & given.keys()):
        made["allowed_openai_params"] = forced  # else LiteLLM drops them and says nothing
    if extra:
        made |= extra if _anthropic(provider, model) else {"extra_body": extra}
    return made


def controls(extra: JsonObject) -> list[str]:
    """Return the names in `extra` that LiteLLM would take for orders to itself."""
    types = _litellm.load().types.utils
    return sorted(set(extra) & set(types.all_litellm_params))


def _anthropic(provider: str, model: str) -> bool:
    """Whether the body is Anthropic's, for which LiteLLM takes foreign members from its keywords."""
    return provider == "anthropic" or (provider in {"azure_ai", "bedrock", "vertex_ai"} and "claude" in model)

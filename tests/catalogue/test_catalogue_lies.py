"""What LiteLLM takes and then does not send: every such parameter is listed here, and shown to be lost."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from weft.catalogue import load, probe
from weft.catalogue.fit import KINDS

ALL_CHOICES = ("none", "auto", "required", "named")

LIES: dict[tuple[str, str], set[tuple[str, ...]]] = {
    ("a2a", "max_tokens"): {("any",)},
    ("a2a", "temperature"): {("other",)},
    ("a2a", "top_p"): {("any",)},
    ("anthropic", "response_format"): {("json_object",)},
    ("azure", "response_format"): {("json_object",)},
    ("azure_ai", "response_format"): {("json_object",)},
    ("bedrock", "parallel_tool_calls"): {("true", "false")},
    ("bedrock", "response_format"): {("json_object",)},
    ("bedrock", "tool_choice"): {ALL_CHOICES},
    ("codestral", "tool_choice"): {("named",)},
    ("cohere", "tool_choice"): {ALL_CHOICES},
    ("cohere_chat", "tool_choice"): {ALL_CHOICES},
    ("databricks", "response_format"): {("json_object",)},
    ("deepinfra", "tool_choice"): {("none", "auto")},
    ("gemini", "frequency_penalty"): {("any",)},
    ("gemini", "parallel_tool_calls"): {("true", "false")},
    ("gemini", "presence_penalty"): {("any",)},
    ("gigachat", "response_format"): {("json_object",)},
    ("gigachat", "stop"): {("any",)},
    ("meta_llama", "response_format"): {("json_object",)},
    ("mistral", "tool_choice"): {("named",)},
    ("moonshot", "temperature"): {("other",)},
    ("ollama", "tool_choice"): {ALL_CHOICES},
    ("ollama_chat", "tool_choice"): {ALL_CHOICES},
    ("replicate", "seed"): {("any",)},
    ("replicate", "tool_choice"): {ALL_CHOICES},
    ("replicate", "tools"): {("one", "several")},
    ("sap", "tool_choice"): {ALL_CHOICES},
    ("vertex_ai", "frequency_penalty"): {("any",)},
    ("vertex_ai", "logit_bias"): {("any",)},
    ("vertex_ai", "parallel_tool_calls"): {("true", "false"), ("false",)},
    ("vertex_ai", "presence_penalty"): {("any",)},
    ("vertex_ai", "response_format"): {("json_object",)},
    ("vertex_ai", "safety_identifier"): {("any",)},
    ("vertex_ai", "tool_choice"): {("named",)},
    ("vertex_ai_beta", "parallel_tool_calls"): {("true", "false")},
}
"""Provider and parameter → the kinds of values that at least one of its models loses; `user` has a test of its own."""

LOST_BESIDE = {
    ("databricks", "tool_choice", "response_format"),
    ("fireworks_ai", "response_format", "tools"),
    ("ollama", "response_format", "tools"),
}
"""Provider, parameter, and the other one beside which it is lost."""

Case = tuple[str, str, dict[str, str], dict[str, str]]


def fits() -> Any:
    """Yield provider, name and fit of all models, and of models of which nothing is known."""
    for provider in load().providers():
        yield provider.id, "unknown", provider.fit
        yield from ((provider.id, name, model.fit) for name, model in provider.models.items())


def ignored() -> dict[tuple[str, str], dict[tuple[str, ...], str]]:
    """Return provider and parameter → kinds of values that are lost → a model that loses them."""
    found: dict[tuple[str, str], dict[tuple[str, ...], str]] = defaultdict(dict)
    for provider, name, fit in fits():
        for parameter, verdicts in fit.verdicts.items():
            kinds = tuple(each for each in KINDS[parameter] if verdicts.get(each) == "ignored")
            if kinds and parameter != "user":
                found[provider, parameter].setdefault(kinds, name)
    return found


def body(provider: str, model: str, kinds: dict[str, str]) -> str:
    given = {name: probe.VALUES[name][each] for name, each in kinds.items()}
    return probe.sent(provider, model, probe.mapped(provider, model, given))


def test_the_lies_are_those_of_the_list() -> None:
    """A parameter that is lost is listed above, and what is listed above is lost."""
    assert {place: set(kinds) for place, kinds in ignored().items()} == LIES


@pytest.mark.parametrize(("provider", "parameter"), sorted(LIES))
def test_a_lost_parameter_does_not_change_the_request(provider: str, parameter: str) -> None:
    """LiteLLM makes the same body with the parameter as without it."""
    for kinds, model in ignored()[provider, parameter].items():
        known = load().model(provider, model)
        tools = known is None or known.fit.takes("tools")
        beside = {"tools": "several"} if tools and parameter in ("tool_choice", "parallel_tool_calls") else {}
        for each in kinds:
            assert body(provider, model, {**beside, parameter: each}) == body(provider, model, beside)


@pytest.mark.parametrize(("provider", "parameter"), sorted(LIES))
def test_a_lost_parameter_is_told(provider: str, parameter: str) -> None:
    """Each lie is told as ignored, by a sentence that names parameter, provider and model."""
    models = [model for model in load().provider(provider).models.values() if parameter in model.fit.verdicts]
    for model in models[:5]:
        kinds = [each for each, verdict in model.fit.verdicts[parameter].items() if verdict == "ignored"]
        for each in kinds:
            (unfit,) = load().unfit(provider, model.name, {parameter: probe.VALUES[parameter][each]})
            assert (unfit.parameter, unfit.reason) == (parameter, "ignored")
            assert all(name in unfit.message for name in (parameter, provider, model.name))
            assert unfit.remedy


def test_what_is_lost_beside_another_is_listed_and_lost() -> None:
    """Some parameters have their effect alone and lose it beside another one."""
    found: dict[tuple[str, str, str], tuple[str, Any]] = {}
    for provider, name, fit in fits():
        for rule in fit.together:
            if rule.verdict == "ignored":
                found.setdefault((provider, rule.parameter, rule.other), (name, rule))
    assert found.keys() == LOST_BESIDE
    for (provider, parameter, other), (name, rule) in found.items():
        for each in rule.kinds:
            beside = {"tools": "several", other: min(rule.other_kinds)}
            assert body(provider, name, {**beside, parameter: each}) == body(provider, name, beside)


def test_a_body_is_the_same_twice() -> None:
    """Two bodies differ only where their parameters do, so that what is lost can be seen."""
    for provider, name in {provider: name for provider, name, _ in fits()}.items():
        assert body(provider, name, {}) == body(provider, name, {}), provider


@pytest.mark.parametrize("provider", [provider.id for provider in load().providers()])
def test_user_is_sent_where_it_is_taken_and_nowhere_else(provider: str) -> None:
    """LiteLLM sends `user` where the catalogue says so, if told to where it must be, and else drops it in silence."""
    models = [("unknown", load().provider(provider).fit)]
    models += [(name, model.fit) for name, model in list(load().provider(provider).models.items())[:8]]
    for name, fit in models:
        if fit.verdict("user", "name") == "refused":
            with pytest.raises(probe.Refused):
                probe.mapped(provider, name, {"user": "reader-77"})
            continue
        told = {"allowed_openai_params": ["user"]} if "user" in fit.forced else {}
        made = probe.mapped(provider, name, {"user": "reader-77", **told})
        assert ("reader-77" in probe.sent(provider, name, made)) == (fit.verdict("user", "name") == "taken"), name
        if "user" in fit.forced:
            assert "reader-77" not in probe.sent(provider, name, probe.mapped(provider, name, {"user": "reader-77"}))

"""The catalogue beside LiteLLM's own mapping: what is refused is refused there, what is taken is taken there.

Every provider and every chat model of the catalogue is asked, with all 18 parameters. `test_catalogue_build` proves the
same for one value of each kind, alone; here other values of each kind stand alone where they are refused, and all
together, and in random company, where they are taken.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from weft.catalogue import load, probe
from weft.catalogue.fit import KINDS, Fit, kind

VALUES: Mapping[str, Mapping[str, list[Any]]] = {
    "n": {"1": [1], "more": [3, 128]},
    "frequency_penalty": {"any": [0, 0.1, -2, 2.0]},
    "logprobs": {"true": [True], "false": [False]},
    "top_logprobs": {"any": [0, 5]},
    "logit_bias": {"any": [{"1": 100}, {"2435": 0.5, "640": -1}]},
    "max_completion_tokens": {"any": [1, 100_000]},
    "max_tokens": {"any": [1, 100_000]},
    "parallel_tool_calls": {"true": [True], "false": [False]},
    "presence_penalty": {"any": [0, 0.1, -2, 2.0]},
    "response_format": {
        "text": [{"type": "text"}],
        "json_object": [{"type": "json_object"}],
        "json_schema": [
            {"type": "json_schema", "json_schema": {"name": "any", "schema": {"type": "object"}}},
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {}}}},
        ],
    },
    "safety_identifier": {"any": ["a", "0123456789abcdef"]},
    "seed": {"any": [0, -1, 2**31]},
    "stop": {"any": [["a"], ["\n", "b", "c", "d"], ["1", "2", "3", "4", "5", "6"]]},
    "temperature": {"1": [1, 1.0], "other": [0, 0.0, 0.7, 1.5, 2]},
    "tool_choice": {
        "none": ["none"],
        "auto": ["auto"],
        "required": ["required"],
        "named": [{"type": "function", "function": {"name": "add"}}],
    },
    "tools": {
        "one": [[{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]],
        "several": [[probe.tool("add"), probe.tool("take"), probe.tool("give")]],
    },
    "top_p": {"any": [0, 0.01, 0.9, 1.0]},
    "user": {"name": ["x", "reader 7"], "address": ["a.b@mail.example.com", "+1 (555) 123-4567"]},
}


def cases(fit: Fit, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Yield bodies: what is not taken alone, all that is taken together, anything together."""
    taken: dict[str, list[Any]] = {}
    for name, kinds in VALUES.items():
        for each, values in kinds.items():
            if fit.verdict(name, each) == "taken":
                taken.setdefault(name, []).extend(values)
            else:
                yield {name: chance.choice(values)}
    for _ in range(2):
        yield {name: chance.choice(values) for name, values in taken.items()}
    for _ in range(2):
        names = chance.sample(list(VALUES), 6)
        yield {name: chance.choice(chance.choice(list(VALUES[name].values()))) for name in names}


def disagreement(provider: str, model: str, given: dict[str, Any]) -> str | None:
    """Return how LiteLLM and the catalogue differ; what LiteLLM takes and loses is listed in `test_catalogue_lies`."""
    unfit = load().unfit(provider, model, given)
    try:
        probe.mapped(provider, model, given)
    except probe.Refused as refused:
        return None if unfit else f"{provider}/{model} {given}: accepted, but {str(refused.__cause__)[:150]}"
    wrong = [each for each in unfit if each.reason != "ignored"]
    return f"{provider}/{model} {given}: LiteLLM takes it, but {wrong}" if wrong else None


def test_the_values_are_of_all_kinds_and_none_is_the_one_that_the_catalogue_was_made_with() -> None:
    """Each value is of the kind under which it stands."""
    assert {name: tuple(kinds) for name, kinds in VALUES.items()} == KINDS
    for name, kinds in VALUES.items():
        for each, values in kinds.items():
            assert [kind(name, value) for value in values] == [each] * len(values)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("provider", [provider.id for provider in load().providers() if provider.models])
def test_every_model_takes_and_refuses_what_litellm_does(provider: str) -> None:
    """0 accepted that LiteLLM refuses, 0 refused that it takes, for all chat models of a provider."""
    chance = random.Random(f"weft {provider}")
    models = load().provider(provider).models
    asked = [(name, given) for name, model in models.items() for given in cases(model.fit, chance)]
    found = [told for name, given in asked if (told := disagreement(provider, name, given))]
    assert not found, f"{len(found)} of {len(asked)}: " + "\n".join(found[:5])


def test_what_an_unknown_model_takes_is_what_litellm_lists_for_its_provider() -> None:
    """A provider's own parameters are those that LiteLLM takes for a model of which it knows nothing."""
    chance = random.Random(7)
    wrong = []
    for provider in load().providers():
        for given in cases(provider.fit, chance):
            refused = {
                name for name, value in given.items() if provider.fit.verdict(name, kind(name, value)) == "refused"
            }
            try:
                probe.mapped(provider.id, "unknown", given)
            except probe.Refused:
                if not refused and not provider.fit.together:
                    wrong.append((provider.id, given, "accepted"))
            else:
                if refused and not provider.fit.together:
                    wrong.append((provider.id, given, "refused"))
    assert not wrong, wrong[:3]


def test_a_catalogue_that_says_something_else_is_told_apart() -> None:
    """The comparison can fail: a model with another model's fit disagrees with LiteLLM."""
    gpt5, claude = load().model("openai", "gpt-5"), load().model("anthropic", "claude-haiku-4-5")
    assert gpt5 is not None
    assert claude is not None
    given = {"temperature": 0.7}
    with pytest.raises(probe.Refused):
        probe.mapped("openai", "gpt-5", given)
    assert claude.fit.verdict("temperature", "other") == "taken"
    assert gpt5.fit.verdict("temperature", "other") == "refused"

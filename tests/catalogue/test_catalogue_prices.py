"""What an answer costs: by hand, and beside LiteLLM's own reckoning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from weft.catalogue import Cost, Model, Prices, Tier, load, probe, rates
from weft.types import JsonObject

PLAIN: JsonObject = {"prompt_tokens": 1000, "completion_tokens": 500}
USAGES: dict[str, JsonObject] = {
    "plain": PLAIN,
    "long": {"prompt_tokens": 300_000, "completion_tokens": 500},
    "cached": {**PLAIN, "prompt_tokens_details": {"cached_tokens": 400}},
    "cached and long": {
        "prompt_tokens": 250_000,
        "completion_tokens": 500,
        "prompt_tokens_details": {"cached_tokens": 1000},
    },
    "written": {
        "prompt_tokens": 3000,
        "completion_tokens": 500,
        "cache_creation_input_tokens": 1000,
        "cache_read_input_tokens": 500,
    },
    "thought": {**PLAIN, "total_tokens": 1500, "completion_tokens_details": {"reasoning_tokens": 300}},
    "heard and spoken": {
        **PLAIN,
        "prompt_tokens_details": {"audio_tokens": 400},
        "completion_tokens_details": {"audio_tokens": 100},
    },
}

DIFFERS = {"perplexity"}
"""LiteLLM leaves out what Perplexity's old models cost for each request."""
UNMAPPED = {"amazon_nova"}
"""LiteLLM does not find its own prices under the name by which it calls the provider."""


def sample() -> Iterator[Model]:
    """Yield every ninth model with a price, and all that have tiers, hours, or prices of their own for something."""
    priced = [model for model in load().models() if model.prices is not None]
    for place, model in enumerate(priced):
        assert model.prices is not None
        odd = model.prices.tiers or model.prices.off_peak or model.prices.reasoning or model.prices.request
        if place % 9 == 0 or odd:
            yield model


def theirs(model: Model, usage: JsonObject) -> float:
    litellm = probe.litellm()
    response = litellm.ModelResponse(model=model.name)
    response.usage = litellm.Usage(**usage)
    cost: float = litellm.completion_cost(
        completion_response=response,
        model=f"{model.provider}/{model.name}",
        custom_llm_provider=model.provider,
    )
    return cost


@pytest.mark.timeout(300)
def test_costs_are_those_that_litellm_reckons() -> None:
    """Equal for all models and usages, but for what stands above; where a price is missing ours is unknown."""
    found: Counter[str] = Counter()
    wrong = []
    for model in sample():
        assert model.prices is not None
        for name, usage in USAGES.items():
            told = probe.litellm().Usage(**usage).model_dump()
            own = model.prices.cost(told)
            if own is None:
                assert missing(model.prices, name), (model, name)
                found["unknown"] += 1
            elif model.provider not in DIFFERS | UNMAPPED:
                found["compared"] += 1
                if own.amount != pytest.approx(theirs(model, usage), rel=1e-6, abs=1e-10):
                    wrong.append((model.provider, model.name, name, own.amount, theirs(model, usage)))
    assert not wrong, wrong[:5]
    assert found["compared"] > 2000


def missing(prices: Prices, usage: str) -> bool:
    """Return whether a price is missing for what a usage counts."""
    needed = {
        "cached": ("cached_input",),
        "cached and long": ("cached_input",),
        "written": ("cached_input", "cache_write"),
        "heard and spoken": ("audio_input", "audio_output"),
    }
    return any(getattr(prices, name) is None for name in needed.get(usage, ()))


def test_what_litellm_does_not_reckon_is_reckoned() -> None:
    """The differences that are excused above are there, and are the ones that are meant."""
    model = load().model("perplexity", "pplx-70b-online")
    assert model is not None
    assert model.prices is not None
    cost = model.prices.cost(PLAIN)
    assert cost is not None
    assert cost.amount == pytest.approx(theirs(model, PLAIN) + 0.005)
    nova = load().model("amazon_nova", "nova-pro-v1")
    assert nova is not None
    with pytest.raises(Exception, match="mapped"):
        theirs(nova, PLAIN)


PRICES = Prices(
    "USD",
    input=2.0,
    output=10.0,
    cached_input=0.5,
    cache_write=2.5,
    cache_write_1h=4.0,
    reasoning=20.0,
    audio_input=40.0,
    audio_output=80.0,
    request=0.01,
    tiers=(Tier(128_000, input=4.0), Tier(200_000, input=6.0, output=30.0, cached_input=1.0)),
)


@pytest.mark.parametrize(
    ("usage", "amount"),
    [
        (PLAIN, 0.01 + 0.002 + 0.005),
        ({**PLAIN, "prompt_tokens_details": {"cached_tokens": 1000}}, 0.01 + 0.0005 + 0.005),
        ({"prompt_tokens": 128_000, "completion_tokens": 0}, 0.01 + 0.256),
        ({"prompt_tokens": 128_001, "completion_tokens": 1000}, 0.01 + 0.512004 + 0.01),
        ({"prompt_tokens": 200_001, "completion_tokens": 1000}, 0.01 + 1.200006 + 0.03),
        (
            {
                "prompt_tokens": 1000,
                "completion_tokens": 0,
                "prompt_tokens_details": {
                    "cache_creation_tokens": 600,
                    "cache_creation_token_details": {"ephemeral_1h_input_tokens": 200},
                },
            },
            0.01 + 0.0008 + 0.001 + 0.0008,
        ),
        ({**PLAIN, "completion_tokens_details": {"reasoning_tokens": 300}}, 0.01 + 0.002 + 0.002 + 0.006),
        (
            {**PLAIN, "total_tokens": 1800, "completion_tokens_details": {"reasoning_tokens": 300}},
            0.01 + 0.002 + 0.005 + 0.006,
        ),
        (
            {
                **PLAIN,
                "prompt_tokens_details": {"audio_tokens": 1000},
                "completion_tokens_details": {"audio_tokens": 500},
            },
            0.01 + 0.04 + 0.04,
        ),
    ],
)
def test_each_kind_of_token_has_its_price(usage: JsonObject, amount: float) -> None:
    """Cached, written, thought, heard and spoken tokens, tiers above their limits, and the request itself."""
    cost = PRICES.cost(usage)
    assert isinstance(cost, Cost)
    assert cost.amount == pytest.approx(amount)
    assert cost.currency == "USD"


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"prompt_tokens": 10},
        {"prompt_tokens": None, "completion_tokens": 3},
        {"prompt_tokens": "10", "completion_tokens": 3},
        {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 11}},
        {"prompt_tokens": 10, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 4}},
    ],
)
def test_a_usage_that_does_not_add_up_has_no_cost(usage: JsonObject) -> None:
    """Missing counts, counts of another type, and parts that are more than the whole are unknown, never zero."""
    assert PRICES.cost(usage) is None


def test_a_kind_of_token_without_a_price_makes_the_cost_unknown() -> None:
    """Unknown is never counted as zero, unless there are no such tokens."""
    prices = Prices("USD", input=1.0, output=2.0)
    assert prices.cost({**PLAIN, "prompt_tokens_details": {"cached_tokens": 1}}) is None
    assert prices.cost({**PLAIN, "prompt_tokens_details": {"audio_tokens": 1}}) is None
    assert prices.cost({**PLAIN, "prompt_tokens_details": {"cached_tokens": 0}}) is not None
    assert Prices("USD", input=1.0).cost(PLAIN) is None


def test_zero_stands_only_where_a_vendor_gives_the_model_away() -> None:
    """LiteLLM's other zeros, of models that nobody priced and of servers of one's own, are unknown here."""
    free = {
        f"{model.provider}/{model.name}"
        for model in load().models()
        if model.prices and 0 in (model.prices.input, model.prices.output) and not model.prices.request
    }
    assert free
    assert all(rates.FREE.fullmatch(name) for name in free)
    table: dict[str, Any] = probe.litellm().model_cost
    assert table["ollama/llama3"]["input_cost_per_token"] == 0
    assert all(model.prices is None for provider in ("ollama", "lemonade") for model in load().models(provider))
    paid = load().model("volcengine", "glm-4-7-251222")
    assert paid is not None
    assert paid.prices is None


def test_a_price_that_follows_the_clock_is_that_of_the_hour() -> None:
    """DeepSeek charges half at night and at week-ends."""
    model = load().model("deepseek", "deepseek-flash")
    assert model is not None
    assert model.prices is not None
    day, night = datetime(2026, 11, 23, 2, tzinfo=UTC), datetime(2026, 11, 23, 11, tzinfo=UTC)
    week_end = datetime(2026, 11, 22, 2, tzinfo=UTC)
    dear, cheap, cheap_too = (model.prices.cost(PLAIN, at) for at in (day, night, week_end))
    assert dear is not None
    assert cheap is not None
    assert cheap.amount == pytest.approx(dear.amount / 2)
    assert cheap_too == cheap


def test_models_that_are_not_token_priced_have_no_prices() -> None:
    """Provisioned capacity of Bedrock is paid by the second: nothing is said of its tokens."""
    model = load().model("bedrock", "*/1-month-commitment/cohere.command-light-text-v14")
    assert model is not None
    assert model.prices is None

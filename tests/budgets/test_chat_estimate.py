"""The bound of a completion before it is made, and what it has used up."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.catalogue import load
from weft.registry import Registry
from weft.sdk import Cost, Estimate, Known, Usage

MINI = {"provider": "openai", "model": "gpt-4o-mini"}
"""0.15 and 0.60 USD for a million tokens; 128,000 in, 16,384 out."""

NO_OR_ONE: tuple[dict[str, Any], ...] = ({}, {"max_tokens": 1})

PICTURE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}


@pytest.fixture
def hooks(core_registry: Registry) -> Any:
    return core_registry.action("generate_chat_completion").load()


def ask(text: str = "Hello", **given: Any) -> dict[str, Any]:
    return {**MINI, "messages": [{"role": "user", "content": text}], **given}


def known(**settings_: Any) -> Known:
    return Known(settings=lambda provider: settings_)


def test_the_answer_is_bounded_by_max_tokens_times_n(hooks: Any) -> None:
    """Max Tokens, under either name, and every choice counts."""
    one, three = (hooks.estimate(ask(max_tokens=100, n=n), known()).tokens for n in (1, 3))
    assert three - one == 200
    assert hooks.estimate(ask(max_completion_tokens=100), known()).tokens == one


def test_without_max_tokens_the_models_longest_answer_counts(hooks: Any) -> None:
    """What the author does not bound, the model's own limit does."""
    whole, one = (hooks.estimate(ask(**more), known()).tokens for more in NO_OR_ONE)
    assert whole - one == 16_384 - 1


def test_the_cost_is_that_of_the_bounds(hooks: Any) -> None:
    """The prices of the catalogue, for what may be read and written at most."""
    found = hooks.estimate(ask(max_tokens=1000), known())
    prompt = found.tokens - 1000
    assert found.cost.currency == "USD"
    assert found.cost.amount == pytest.approx((prompt * 0.15 + 1000 * 0.6) / 1e6)


@pytest.fixture(scope="module")
def tokenizers() -> Iterator[None]:
    """The tokenizers that LiteLLM brings; it names their place when it is imported, which may be forgotten since."""
    package = importlib.util.find_spec("litellm")
    assert package is not None
    assert package.origin is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(Path(package.origin).parent / "litellm_core_utils" / "tokenizers"))
        yield


@settings(deadline=None, max_examples=40)
@given(text=st.text(max_size=20) | st.text(min_size=700, max_size=1500), role=st.sampled_from(["system", "user"]))
def test_no_text_has_more_tokens_than_bytes(core_registry: Registry, tokenizers: None, text: str, role: str) -> None:
    """A real tokenizer, of a model in wide use, stays below the bound for every text."""
    action = core_registry.action("generate_chat_completion").load()
    assert action.warm is not None
    assert action.estimate is not None
    action.warm()
    import litellm

    messages: list[Any] = [{"role": role, "content": text}]
    clean = [{"role": role, "content": text.encode("utf-8", "replace").decode()}]
    counted = litellm.token_counter(model="gpt-4o-mini", messages=clean)
    found = action.estimate({**MINI, "messages": messages, "max_tokens": 1}, known())
    assert found.tokens is not None
    assert counted < found.tokens - 400  # far below, and not only for what a template may add


def test_a_picture_counts_as_the_longest_input(hooks: Any) -> None:
    """Of what is no text the bytes say nothing."""
    found = hooks.estimate({**MINI, "messages": [PICTURE], "max_tokens": 10}, known())
    assert found.tokens == 128_000 + 10
    assert found.cost is not None
    unknown = hooks.estimate({**MINI, "model": "new", "messages": [PICTURE], "max_tokens": 10}, known())
    assert unknown.tokens is None
    assert "no text" in unknown.why


def test_tools_and_formats_count(hooks: Any) -> None:
    """All that is sent is read by the model, and more is written around it."""
    tool: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    plain, with_tool = (
        hooks.estimate(ask(max_tokens=1, **more), known()).tokens for more in (NO_OR_ONE[0], {"tools": [tool]})
    )
    assert with_tool - plain > 1_000


@pytest.mark.parametrize(
    "more",
    [
        {"service_tier": "priority"},
        {"speed": "fast"},
        {"inference_geo": "us"},
        {"prediction": {"type": "content", "content": "Hello"}},
    ],
)
def test_what_is_priced_otherwise_has_no_price(hooks: Any, more: dict[str, Any]) -> None:
    """The catalogue has no prices for places ahead in the queue, and the like; the tokens are bounded still."""
    found = hooks.estimate(ask(max_tokens=1, additional_parameters=more), known())
    assert found.cost is None
    assert found.tokens is not None
    assert "not in the catalogue" in found.why


@pytest.mark.parametrize(
    "more",
    [
        {"additional_parameters": {"web_search_options": {}}},
        {"additional_parameters": {"plugins": [{"id": "web"}]}},
        {"additional_parameters": {"mcp_servers": [{"type": "url"}]}},
        {"tools": [{"type": "web_search"}]},
    ],
)
def test_of_what_the_provider_looks_up_nobody_knows_the_length(hooks: Any, more: dict[str, Any]) -> None:
    """What a search finds is read by the model and counted, and nobody knows beforehand how much that is."""
    found = hooks.estimate(ask(max_tokens=1, **more), known())
    assert (found.cost, found.tokens) == (None, None)
    assert "not in the catalogue" in found.why


@pytest.mark.parametrize(
    ("given", "connection"),
    [
        ({"model": "new"}, {}),
        ({}, {"api_base": "http://127.0.0.1:8000/v1"}),
        ({"api_base": "https://models.example.com/v1"}, {}),
        ({"provider": "hosted_vllm", "model": "qwen"}, {}),
    ],
)
def test_nobody_knows_the_price_of_a_server_of_ones_own(
    hooks: Any, given: dict[str, Any], connection: dict[str, Any]
) -> None:
    """A model's name says nothing of what another server charges; where no price is known it is said, not guessed."""
    found = hooks.estimate({**ask(max_tokens=5), **given}, known(**connection))
    assert found.cost is None
    assert "has no price" in found.why
    assert found.tokens is not None


def test_an_own_price_holds_for_every_server(hooks: Any, tmp_path: Path) -> None:
    """What the operator says in models.yaml counts, in his currency."""
    file = tmp_path / "models.yaml"
    prices = "prices: {currency: EUR, input: 0, output: 1000}"
    file.write_text(f"models:\n  openai:\n    own: {{{prices}}}\n")
    own = Known(load(file), lambda provider: {"api_base": "http://127.0.0.1:8000/v1"})
    assert hooks.estimate(ask(model="own", max_tokens=50), own).cost == Cost(0.05, "EUR")


def test_without_a_model_nothing_is_bounded(hooks: Any) -> None:
    """A request that cannot be read has no bound; its own check refuses it."""
    assert hooks.estimate({"messages": []}, known()) == Estimate(why="Provider and model are not known.")
    assert hooks.estimate(ask(stop=","), known()).tokens is None


def test_what_an_answer_has_used_up_is_that_of_its_own_attempt(hooks: Any) -> None:
    """Earlier attempts of the chain have counted already."""
    counts = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    attempts = [
        {"cost": "unknown", "tokens": "unknown"},
        {"cost": {"amount": 0.5, "currency": "USD"}, "tokens": counts},
    ]
    assert hooks.usage({"weft": {"attempts": attempts}}, None) == Usage(Cost(0.5, "USD"), 7)
    assert hooks.usage({"weft": {"attempts": attempts[:1]}}, None) == Usage()
    assert hooks.usage({}, None) == Usage()


def test_thoughts_that_stand_only_in_the_total_count(hooks: Any) -> None:
    """xAI counts them beside the completion."""
    counts = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 17}
    told = {"weft": {"attempts": [{"cost": "unknown", "tokens": counts}]}}
    assert hooks.usage(told, None) == Usage(None, 17)


@pytest.mark.parametrize(
    ("kind", "details", "used"),
    [
        ("rate_limited", {"cost": {"amount": 0, "currency": "USD"}}, Usage(Cost(0, "USD"), 0)),
        ("server_error", {"cost": "unknown"}, Usage()),
        ("unknown_connection", {}, Usage(Cost(0, "USD"), 0)),
        ("timeout", {}, Usage()),
        ("crashed", {}, Usage()),
        ("run_too_large", {}, Usage()),
        (
            "truncated",
            {
                "cost": {"amount": 0.25, "currency": "USD"},
                "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
            },
            Usage(Cost(0.25, "USD"), 3),
        ),
    ],
)
def test_a_failure_costs_what_is_known_of_it(hooks: Any, kind: str, details: dict[str, Any], used: Usage) -> None:
    """Nothing where no work can have been done, the counted where it was counted, and else nobody knows."""
    assert hooks.usage(details, kind) == used


@pytest.mark.parametrize("sign", ["\ufdfa", "\u33a8", "\u3374"])
def test_a_sign_that_is_written_in_several_others_counts_as_those(hooks: Any, sign: str) -> None:
    """Tokenizers that begin with NFKC read one ligature of three bytes as eighteen letters."""
    import unicodedata

    found = hooks.estimate(ask(sign * 1000, max_tokens=1), known())
    assert found.tokens > len(unicodedata.normalize("NFKC", sign * 1000).encode())


def test_a_picture_outside_the_content_counts_as_one(hooks: Any) -> None:
    """Ollama takes pictures as a member of the message; its bytes say nothing of its tokens."""
    message = {"role": "user", "content": "What is it?", "images": ["aGVsbG8="]}
    assert hooks.estimate({**MINI, "messages": [message], "max_tokens": 10}, known()).tokens == 128_000 + 10
    spoken = {"role": "assistant", "content": "A cat.", "reasoning_content": "Whiskers.", "images": None}
    assert hooks.estimate({**MINI, "messages": [spoken], "max_tokens": 10}, known()).tokens < 1_000

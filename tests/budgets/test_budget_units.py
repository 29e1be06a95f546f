"""Money as whole numbers, the bound of prices, and the keys of meters."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.budgets import units
from weft.budgets.keys import Kept, day_of, limit
from weft.budgets.telling import money
from weft.catalogue.prices import OffPeak, Prices, Tier

AMOUNTS = st.floats(min_value=0, max_value=1e6, allow_nan=False).map(lambda amount: round(amount, 12))
PRICE = st.floats(min_value=0, max_value=500, allow_nan=False).map(lambda price: round(price, 6))
COUNT = st.integers(min_value=0, max_value=2_000_000)


@given(AMOUNTS)
def test_money_is_never_counted_too_low_and_a_cap_never_too_high(amount: float) -> None:
    """What is spent is rounded up, a cap down, each by less than a unit."""
    exact = Decimal(str(amount)) * units.PER_ONE
    assert 0 <= units.used_up(amount) - exact < 1
    assert 0 <= exact - units.cap(amount) < 1


@given(st.lists(AMOUNTS, max_size=20))
def test_sums_of_units_are_exact_in_every_order(amounts: list[float]) -> None:
    """What floats lose when they are added, whole numbers keep."""
    spent = [units.used_up(amount) for amount in amounts]
    assert sum(spent) == sum(reversed(spent)) >= sum(Decimal(str(amount)) for amount in amounts) * units.PER_ONE


@pytest.mark.parametrize("amount", [-1.0, float("nan"), float("inf")])
def test_what_is_no_amount_is_refused(amount: float) -> None:
    """Neither a negative amount nor one without end is money."""
    with pytest.raises(ValueError, match="finite"):
        units.used_up(amount)


def test_what_no_attempt_can_have_used_up_spoils_no_sum() -> None:
    """A server that tells of absurd amounts again and again does not bring a journal's whole numbers to their end."""
    assert units.LARGEST + 500 * units.used_up(1e300) < 2**63
    assert units.LARGEST + 1_000_000 * units.tokens(10**30) < 2**63
    assert units.cap(1e300) == units.LARGEST
    assert units.tokens(7) == 7


@given(st.integers(min_value=0, max_value=units.LARGEST))
def test_money_is_told_exactly(amount: int) -> None:
    """What people read is the amount itself, with two digits at least."""
    text, currency = money(amount, "CHF").rsplit(" ", 1)
    assert Decimal(text.replace(",", "")) * units.PER_ONE == amount
    assert currency == "CHF"
    assert len(text.partition(".")[2]) >= 2


def test_no_usage_within_the_counts_costs_more_than_the_bound() -> None:
    """Tiers, hours, caches, thoughts and sound: `most` is at least what `cost` makes of any answer."""

    @given(st.data())
    def bounded(data: st.DataObject) -> None:
        prices, usage = data.draw(_prices()), data.draw(_usage())
        most = prices.most(
            usage["prompt_tokens"] + data.draw(COUNT),
            usage["total_tokens"] - usage["prompt_tokens"],
            kept=True,
            audio=True,
        )
        cost = prices.cost(usage)
        assert most is not None
        assert cost is not None
        assert units.used_up(cost.amount) <= units.used_up(most.amount)

    bounded()


@st.composite
def _prices(draw: st.DrawFn) -> Prices:
    kinds = (
        "input",
        "output",
        "cached_input",
        "cache_write",
        "cache_write_1h",
        "reasoning",
        "audio_input",
        "audio_output",
    )
    prices: dict[str, Any] = {kind: draw(PRICE) for kind in kinds}
    whole = Prices("USD", **prices, request=draw(PRICE))
    limits = sorted(draw(st.sets(st.integers(1, 1_500_000), max_size=3)))
    tiers = tuple(Tier(limit, input=draw(PRICE), output=draw(st.none() | PRICE)) for limit in limits)
    off_peak = OffPeak({"input": draw(PRICE)}, ()) if draw(st.booleans()) else None
    return replace(whole, tiers=tiers, off_peak=off_peak)


@st.composite
def _usage(draw: st.DrawFn) -> dict[str, Any]:
    cached, written, hour, heard, rest, thought, spoken, said = (draw(st.integers(0, 300_000)) for _ in range(8))
    prompt, completion = cached + written + hour + heard + rest, thought + spoken + said
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": cached,
            "cache_creation_tokens": written + hour,
            "cache_creation_token_details": {"ephemeral_1h_input_tokens": hour},
            "audio_tokens": heard,
        },
        "completion_tokens_details": {"reasoning_tokens": thought, "audio_tokens": spoken},
    }


def test_without_a_price_there_is_no_bound() -> None:
    """Sound without a price, like text without one, makes the cost unknown."""
    assert Prices("USD", 1.0, 2.0).most(10, 10, audio=True) is None
    assert Prices("USD", None, 2.0).most(10, 10) is None
    assert Prices("USD", 1.0, 2.0).most(1_000_000, 1_000_000, kept=True) is not None


@pytest.mark.parametrize(
    "kept",
    [
        Kept("cost", "run", "run-1", currency="USD"),
        Kept("tokens", "step", "run-1 /each/ask"),
        Kept("steps", "workflow", "digest", "2026-03-01"),
        Kept("cost", "workspace", "", "2026-03-01", "EUR"),
    ],
)
def test_a_key_says_what_it_counts(kept: Kept) -> None:
    """What was put into a key is read from it again."""
    assert Kept.read(kept.key) == kept


@pytest.mark.parametrize("key", ["", "tokens@smtp/post", limit("slots", "model_provider", "run"), "cost USD run"])
def test_the_key_of_a_limit_is_none_of_a_budget(key: str) -> None:
    """Who is refused by a limit waits, so the two must not be mistaken."""
    assert Kept.read(key) is None


def test_a_day_is_one_of_utc() -> None:
    """The date turns at midnight in UTC, wherever the machine stands."""
    assert (day_of(1_772_409_599.9), day_of(1_772_409_600.0)) == ("2026-03-01", "2026-03-02")

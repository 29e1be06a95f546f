"""Amounts as whole numbers: sums of them are exact, and no order of adding changes them."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

PER_ONE: Final = 1_000_000_000
"""Units of a currency: 1e-9 of it, a thousandth of what a token of a cheap model costs."""

LARGEST: Final = 2**62
"""The largest cap; every journal's whole numbers hold it and hundreds of attempts that used up more than they reserved."""

LARGEST_COST: Final = 2**53
"""The most money of one attempt that is counted: nine million. A larger amount is a fault of whoever tells it."""

LARGEST_TOKENS: Final = 2**40
"""The most tokens of one attempt that are counted, for the same reason; they are summed up without end."""


def used_up(amount: float) -> int:
    """Return an amount of money that is, or may be, spent by an attempt; never less than it is, up to nine million."""
    return min(LARGEST_COST, _units(amount, ROUND_CEILING))


def tokens(count: int) -> int:
    """Return how many tokens of an attempt are counted."""
    return min(LARGEST_TOKENS, count)


def cap(amount: float) -> int:
    """Return a cap; never more than it is."""
    return min(LARGEST, _units(amount, ROUND_FLOOR))


def money(units: int) -> float:
    """Return how much money some units are."""
    return float(Decimal(units) / PER_ONE)


def _units(amount: float, rounding: str) -> int:
    if not math.isfinite(amount) or amount < 0:
        raise ValueError("an amount is finite and not negative")
    return int((Decimal(str(amount)) * PER_ONE).to_integral_value(rounding))

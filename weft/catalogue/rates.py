"""From an entry of LiteLLM's table to prices for a million tokens; zero only where it is one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from weft.catalogue.prices import MILLION

NAMES: Final = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached_input": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "reasoning": "output_cost_per_reasoning_token",
    "audio_input": "input_cost_per_audio_token",
    "audio_output": "output_cost_per_audio_token",
}

FREE: Final = re.compile(r"zai/glm-4\.(5|7)-flash|gemini/gemma-.*")
"""Models that their vendors give away: docs.z.ai/guides/overview/pricing, ai.google.dev/gemini-api/docs/pricing.

All other zeros of LiteLLM's table stand where nobody looked the price up, where something else is paid for, or for
servers of one's own; they are not taken over.
"""

_ABOVE: Final = re.compile(r"(\w+?)_above_(\d+)k_tokens")


def prices(model: str, entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the members of `Prices` for a model, or None when not both input and output are known."""
    request = _million(entry.get("input_cost_per_request"))
    free = FREE.fullmatch(model) is not None
    found = {name: _price(entry.get(key), free=free) for name, key in NAMES.items()}
    if request and entry.get(NAMES["input"]) == 0:
        found["input"] = 0.0  # the request is paid instead
    if isinstance(entry.get("tiered_pricing"), list):
        found, tiers = _stepped(entry["tiered_pricing"])
    else:
        tiers = _above(entry)
    if found.get("input") is None or found.get("output") is None:
        return None
    told: dict[str, Any] = {name: price for name, price in found.items() if price is not None}
    if request:
        told["request"] = request / MILLION
    told |= {"tiers": tiers} if tiers else {}
    return told | ({"off_peak": _off_peak(entry["off_peak_pricing"])} if "off_peak_pricing" in entry else {})


def _off_peak(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cheaper prices, and the hours at which they hold: days of the week, begin, end."""
    if told.keys() - {"windows", "weekday_timezone"} - set(NAMES.values()):
        raise ValueError(f"hours told in an unknown way: {sorted(told)}")
    hours = [
        [window.get("weekdays", []), *span.split("-")]
        for window in told["windows"]
        for span in ([window["hours_utc"]] if isinstance(window["hours_utc"], str) else window["hours_utc"])
    ]
    zone = {"zone": told["weekday_timezone"]} if "weekday_timezone" in told else {}
    found = {name: price for name, key in NAMES.items() if (price := _price(told.get(key))) is not None}
    return {"hours": hours, **zone, **found}


def _price(told: Any, *, free: bool = False) -> float | None:
    """Return a price for a million tokens, None where the table has none, or a zero that nobody vouches for."""
    return _million(told) if told or free else None


def _million(told: Any) -> float | None:
    if not isinstance(told, int | float) or isinstance(told, bool) or told < 0:
        return None
    exact = round(Decimal(str(told)) * MILLION, 9)
    return float(exact)


def _above(entry: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return the tiers that the table names by their limits: `input_cost_per_token_above_200k_tokens`."""
    kinds = {key: name for name, key in NAMES.items()}
    tiers: dict[int, dict[str, float]] = {}
    for key, told in entry.items():
        match = _ABOVE.fullmatch(key)
        if match and match[1] in kinds and (price := _price(told)) is not None:
            tiers.setdefault(int(match[2]) * 1000, {})[kinds[match[1]]] = price
    return [{"above": above, **dict(sorted(found.items()))} for above, found in sorted(tiers.items())]


def _stepped(steps: list[Mapping[str, Any]]) -> tuple[dict[str, float | None], list[dict[str, float]]]:
    """Return the first of a list of ranges as the prices, and the others as tiers."""
    told = [
        (int(step["range"][0]), {name: _price(step.get(key)) for name, key in NAMES.items()})
        for step in sorted(steps, key=lambda step: step["range"][0])
    ]
    tiers = [{"above": above, **{k: v for k, v in found.items() if v is not None}} for above, found in told[1:]]
    return told[0][1], tiers

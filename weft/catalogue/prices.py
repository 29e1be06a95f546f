"""What an answer costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from weft.types import Json

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Cost:
    """An amount of money."""

    amount: float
    currency: str


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model's tokens cost, in `currency` for a million of them; None where no price is known.

    Zero is a price like any other: the catalogue holds it only where a vendor says that it charges nothing.
    """

    currency: str
    input: float | None = None
    output: float | None = None
    cached_input: float | None = None  #: read from the provider's cache
    cache_write: float | None = None  #: written to it, for five minutes where there are several times
    cache_write_1h: float | None = None  #: written to it for an hour
    reasoning: float | None = None  #: where they cost otherwise than other output
    audio_input: float | None = None
    audio_output: float | None = None
    request: float = 0.0  #: for each request, besides its tokens
    tiers: tuple[Tier, ...] = ()  #: by their limits; the last that the input exceeds replaces the prices for all tokens
    off_peak: OffPeak | None = None  #: what replaces prices at some hours; the others are those of the dear hours

    def cost(self, usage: Mapping[str, Json], at: datetime | None = None) -> Cost | None:
        """Return the cost of an answer with this `usage`, or None when it cannot be known.

        It cannot when the usage does not count input and output, or when some of the tokens have no price.

        Args:
            usage: OpenAI's object, with what LiteLLM adds of Anthropic's: `cache_read_input_tokens`,
                `cache_creation_input_tokens` and `prompt_tokens_details.cache_creation_token_details`.
            at: When the answer came, for vendors whose prices follow the clock; left out: now.
        """
        counts = _counted(usage)
        if counts is None:
            return None
        prices = self._at(at)._for(_count(usage, "prompt_tokens"))
        total = self.request
        for kind, tokens in counts.items():
            price = prices._price(kind)
            if tokens and price is None:
                return None
            total += tokens * (price or 0) / MILLION
        return Cost(round(total, 12), self.currency)

    def most(
        self, prompt_tokens: int, completion_tokens: int, *, kept: bool = False, audio: bool = False
    ) -> Cost | None:
        """Return the most that an answer can cost, at any hour, with at most so many tokens; None: nobody knows.

        No usage within these counts has a higher `cost`.

        Args:
            prompt_tokens: The longest that the input may be.
            completion_tokens: The longest that the output may be, thoughts among it.
            kept: Whether the request may ask the provider to keep the input for an hour.
            audio: Whether sound may be heard or spoken.
        """
        lengths = (0, *(tier.above + 1 for tier in self.tiers if tier.above < prompt_tokens))
        hours = [self, *([replace(self, **dict[str, Any](self.off_peak.prices))] if self.off_peak else [])]
        read = ("input", "cached_input", "cache_write", *(("cache_write_1h",) if kept else ()))
        heard, spoken = (("audio_input",), ("audio_output",)) if audio else ((), ())
        needed = ("input", "output", *heard, *spoken)
        totals = []
        for prices in (each._for(length) for each in hours for length in lengths):
            if any(prices._price(kind) is None for kind in needed):
                return None
            of_input, of_output = prices._dearest(*read, *heard), prices._dearest("output", "reasoning", *spoken)
            totals.append(self.request + (prompt_tokens * of_input + completion_tokens * of_output) / MILLION)
        return Cost(round(max(totals), 12), self.currency)

    def _dearest(self, *kinds: str) -> float:
        return max(price for kind in kinds if (price := self._price(kind)) is not None)

    def _at(self, at: datetime | None) -> Prices:
        """Return the prices at an instant."""
        if self.off_peak is None or not self.off_peak.covers((at or datetime.now(UTC)).astimezone(UTC)):
            return self
        return replace(self, **dict[str, Any](self.off_peak.prices))

    def _for(self, prompt_tokens: int) -> Prices:
        """Return the prices for an input of this length."""
        tier = next((tier for tier in reversed(self.tiers) if prompt_tokens > tier.above), None)
        if tier is None:
            return self
        changed = {name: price for name in TIERED if (price := getattr(tier, name)) is not None}
        return replace(self, tiers=(), **changed)

    def _price(self, kind: str) -> float | None:
        price: float | None = getattr(self, kind)
        if price is None and kind == "reasoning":
            return self.output
        return price


TIERED = ("input", "output", "cached_input", "cache_write", "cache_write_1h", "reasoning")


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices that replace others when the input is longer than `above` tokens; None: as below."""

    above: int
    input: float | None = None
    output: float | None = None
    cached_input: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    reasoning: float | None = None


@dataclass(frozen=True, slots=True)
class OffPeak:
    """Prices at the hours when a vendor has less to do."""

    prices: Mapping[str, float]  #: by the names of `Prices`
    hours: tuple[tuple[frozenset[int], time, time], ...]  #: days of the week from 1, or none for all; begin, end in UTC
    zone: str = "UTC"  #: whose calendar tells the day

    def covers(self, at: datetime) -> bool:
        """Return whether an instant of UTC lies in one of the spans; equal ends mean the whole day."""
        now = at.time()
        for days, begin, end in self.hours:
            within = begin <= now < end if begin < end else now >= begin or now < end
            if within and (not days or at.astimezone(ZoneInfo(self.zone)).isoweekday() in days):
                return True
        return False


def _counted(usage: Mapping[str, Json]) -> dict[str, int] | None:
    """Return how many tokens there are of each kind that may have a price of its own; None when they do not add up."""
    if not all(type(usage.get(name)) is int for name in ("prompt_tokens", "completion_tokens")):
        return None
    details, written = _object(usage, "prompt_tokens_details"), _object(usage, "completion_tokens_details")
    cached = _count(details, "cached_tokens") or _count(usage, "cache_read_input_tokens")
    write = _count(details, "cache_creation_tokens") or _count(usage, "cache_creation_input_tokens")
    hour = _count(_object(details, "cache_creation_token_details"), "ephemeral_1h_input_tokens")
    counts = {
        "cached_input": cached,
        "cache_write": write - hour,
        "cache_write_1h": hour,
        "audio_input": _count(details, "audio_tokens"),
        "reasoning": _count(written, "reasoning_tokens"),
        "audio_output": _count(written, "audio_tokens"),
    }
    counts["input"] = _count(usage, "prompt_tokens") - cached - write - counts["audio_input"]
    counts["output"] = _count(usage, "completion_tokens") - counts["audio_output"]
    if _count(usage, "total_tokens") != _count(usage, "prompt_tokens") + _count(usage, "completion_tokens") + (
        counts["reasoning"] or -1
    ):  # xAI counts thoughts beside the completion, all others as a part of it
        counts["output"] -= counts["reasoning"]
    return counts if min(counts.values()) >= 0 else None


def _object(of: Mapping[str, Json], name: str) -> Mapping[str, Json]:
    found = of.get(name)
    return found if isinstance(found, dict) else {}


def _count(of: Mapping[str, Json], name: str) -> int:
    found = of.get(name)
    return found if type(found) is int else 0

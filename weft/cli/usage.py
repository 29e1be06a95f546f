"""What attempts used: tokens and money, as the actions that know of it have written it down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from weft.cli.view import cost_text, object_at
from weft.engine.report import AttemptReport
from weft.types import Json


@dataclass
class Usage:
    """What one attempt or several used."""

    prompt: int = 0
    completion: int = 0
    counted: bool = False
    costs: dict[str, float] = field(default_factory=dict)  #: by currency
    unknown: bool = False  #: something has cost nobody knows how much

    def told(self) -> Iterator[str]:
        """Say it to a person: `48 + 54 tokens`, `0.0021 USD`."""
        if self.counted:
            yield f"{self.prompt} + {self.completion} tokens"
        costs = " + ".join(cost_text({"amount": self.costs[name], "currency": name}) for name in sorted(self.costs))
        if costs:
            yield f"at least {costs}" if self.unknown else costs

    def add(self, other: Usage) -> None:
        """Count another one's use in."""
        self.prompt += other.prompt
        self.completion += other.completion
        self.counted |= other.counted
        self.unknown |= other.unknown
        for currency, amount in other.costs.items():
            self.costs[currency] = self.costs.get(currency, 0.0) + amount


def of_attempt(attempt: AttemptReport) -> Usage:
    """Return what an attempt itself used, without those before it."""
    made = object_at(attempt.output, "weft").get("attempts")
    this = object_at(made[-1]) if isinstance(made, list) and made else attempt.details
    usage = Usage()
    _count(usage, object_at(attempt.output, "usage") or object_at(attempt.details, "usage"))
    _price(usage, this.get("cost"))
    return usage


def total(attempts: Iterable[AttemptReport]) -> Usage:
    """Return what was used by attempts that this run has made itself; what it inherited was counted where it was made."""
    whole = Usage()
    for attempt in attempts:
        if not attempt.inherited:
            whole.add(of_attempt(attempt))
    return whole


def _count(usage: Usage, tokens: dict[str, Json]) -> None:
    prompt, completion = tokens.get("prompt_tokens"), tokens.get("completion_tokens")
    if isinstance(prompt, int) and isinstance(completion, int):
        usage.prompt, usage.completion, usage.counted = prompt, completion, True


def _price(usage: Usage, cost: Json) -> None:
    if cost == "unknown":
        usage.unknown = True
    elif isinstance(cost, dict) and isinstance(amount := cost.get("amount"), int | float):
        usage.costs[str(cost.get("currency", "USD"))] = float(amount)

"""What Weft adds to a completion, or to its failure: each attempt, its tokens and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from weft.sdk import Attempt, Catalogue, Json, JsonObject

from ._litellm import Exchange

UNKNOWN: Final = "unknown"
COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")

_TURNED_AWAY: Final = {401, 402, 403, 404, 429}
"""Statuses with which a provider refuses to begin. After any other the model may have worked: Azure charges for a
filtered prompt (status 400), and what became of the work behind a 5xx nobody tells."""

_NOT_SENT: Final = {"certificate", "connect", "foreign_host"}
"""Faults before the first byte of a request."""

MAY_HAVE_RUN: Final = {"timeout", "crashed", "bad_output", "output_too_large", "run_too_large"}
"""Kinds of failures told in place of the action after the action had begun."""


def price(usage: Mapping[str, Json] | None, catalogue: Catalogue, provider: str, model: str, *, public: bool) -> Json:
    """Return what an answer costs by the catalogue's prices, or "unknown".

    It is unknown for a server of one's own, whatever its models are called, unless a catalogue of one's own has its
    price; for models without a price; and when the provider did not count the tokens. Nothing is free by accident.
    """
    known = catalogue.model(provider, model)
    if known is None or known.prices is None or not usage or not (public or known.own):
        return UNKNOWN
    cost = known.prices.cost(usage)
    return UNKNOWN if cost is None else {"amount": cost.amount, "currency": cost.currency}


def price_of_failure(exchange: Exchange, catalogue: Catalogue, provider: str, model: str) -> Json:
    """Return the cost of an attempt that brought no answer: nothing where no work can have been done."""
    sent = exchange.requests > 0 and exchange.fault not in _NOT_SENT
    if sent and exchange.status not in _TURNED_AWAY:
        return UNKNOWN
    known = catalogue.model(provider, model)
    return {"amount": 0, "currency": known.prices.currency if known and known.prices else "USD"}


def tokens(usage: Json) -> JsonObject | None:
    """Return how many tokens were counted, or None when nobody counted all of them."""
    if not isinstance(usage, dict):
        return None
    found: JsonObject = {name: count for name in COUNTS if isinstance(count := usage.get(name), int)}
    return found if len(found) == len(COUNTS) and any(found.values()) else None


def earlier(attempt: Attempt) -> JsonObject:
    """Return the record of an earlier attempt."""
    cost = attempt.details.get("cost")
    if cost is None:
        cost = UNKNOWN if attempt.kind in MAY_HAVE_RUN else {"amount": 0, "currency": "USD"}
    return {
        "model": attempt.variant,
        "try": attempt.number,
        "status": attempt.status,
        "kind": attempt.kind,
        "ms": attempt.ms,
        "waited_s": attempt.waited_s,
        "cost": cost,
        "tokens": tokens(attempt.details.get("usage")) or (UNKNOWN if cost == UNKNOWN else _none()),
        "dropped_parameters": attempt.details.get("dropped_parameters", []),
    }


def _none() -> JsonObject:
    return dict.fromkeys(COUNTS, 0)


def total(attempts: Sequence[JsonObject], what: Literal["cost", "tokens"]) -> Json:
    """Return the sum of all attempts; "unknown" when it is of one of them, or when their currencies differ."""
    parts = [part for attempt in attempts if isinstance(part := attempt[what], dict)]
    if len(parts) < len(attempts):
        return UNKNOWN
    if what == "tokens":
        return {name: sum(_number(part.get(name)) for part in parts) for name in COUNTS}
    paid = [part for part in parts if part["amount"]] or parts
    if len({str(part["currency"]) for part in paid}) > 1:
        return UNKNOWN
    return {"amount": round(sum(_number(part["amount"]) for part in paid), 12), "currency": paid[0]["currency"]}


def _number(value: Json) -> float:
    return value if isinstance(value, int | float) else 0

"""What people are told of an attempt that may not begin."""

from __future__ import annotations

from weft.budgets import units
from weft.budgets.caps import Cap
from weft.budgets.keys import Kept
from weft.errors import Problem
from weft.executor import Call
from weft.journal.base import Full
from weft.outcome import Failure
from weft.sdk import Estimate
from weft.types import Json, JsonObject

EXCEEDED = "budget_exceeded"
UNKNOWN_PRICE = "unknown_price"
UNKNOWN_TOKENS = "unknown_tokens"


def unknown(call: Call, cap: Cap, most: Estimate) -> Failure:
    """Return how an attempt fails that a cap holds back, because nobody knows what it may use up."""
    allow = "or let such calls through: budget: {unknown_price: allow}"
    if cap.kept.what == "tokens":
        problem = Problem(
            UNKNOWN_TOKENS,
            f"Nobody knows how many tokens this call may take, and {_whose(cap.kept)} has a cap of them. {most.why}".rstrip(),
            f"Give Max Tokens, {allow}.",
        )
    elif most.cost is not None:
        problem = Problem(
            UNKNOWN_PRICE,
            f"This call is paid in {most.cost.currency}, and the cap of {_whose(cap.kept)} is in {cap.kept.currency}.",
            f"Give the cap in the currency of the price, {allow}.",
        )
    else:
        problem = Problem(
            UNKNOWN_PRICE,
            f"Nobody knows what this call may cost, and {_whose(cap.kept)} has a cap of money. {most.why}".rstrip(),
            f"Say the model's price in models.yaml, {allow}.",
        )
    return _failure(call, problem, {"what": cap.kept.what, "scope": cap.kept.scope, "cap": _told(cap.kept, cap.most)})


def exceeded(call: Call, kept: Kept, amount: int, full: Full) -> Failure:
    """Return how an attempt fails for which a cap has no room."""
    may = "may cost up to" if kept.what == "cost" else "may take up to" if kept.what == "tokens" else "counts as"
    left = max(0, full.most - full.used)
    message = (
        f"This call {may} {_text(kept, amount)}, and {_whose(kept)} has {_text(kept, left)} left of "
        f"{_text(kept, full.most)}."
    )
    facts: JsonObject = {
        "what": kept.what,
        "scope": kept.scope,
        "asked": _told(kept, amount),
        "used": _told(kept, full.used),
        "cap": _told(kept, full.most),
    }
    if kept.currency:
        facts["currency"] = kept.currency
    return _failure(call, Problem(EXCEEDED, message, _remedy(kept, amount, full)), facts)


def waiting(full: Full) -> str:
    """Return what an attempt waits for that a limit holds back."""
    what, _, rest = full.key.partition("@")
    name = rest.partition("/")[2]
    most = f"{full.most:,}"
    match what:
        case "slots":
            told = f"{most} at once use it"
        case "requests":
            told = f"{most} have begun within a minute"
        case _:
            told = f"{most} tokens within a minute are taken"
    return f"Connection {name!r} has no room: {told}. The step waits."


def _failure(call: Call, problem: Problem, facts: JsonObject) -> Failure:
    """Return a failure before the attempt: no retry and no fallback makes up for it."""
    return Failure(problem.at(call.step.where()), effect="none", details={"fallback": False, "budget": facts})


def _remedy(kept: Kept, amount: int, full: Full) -> str:
    raised = "raise the cap" if kept.scope != "workspace" else "raise the cap in workspace.yaml"
    if kept.what != "steps" and amount > full.most:
        return f"Allow the answer fewer tokens with Max Tokens, or {raised}."
    if kept.day:
        return f"Wait until the next day in UTC, or {raised}."
    return f"{raised[0].upper()}{raised[1:]}, or do less in one run."


def _whose(kept: Kept) -> str:
    match kept.scope:
        case "run":
            return "the run's budget"
        case "step":
            return "the step's budget"
        case "workflow":
            return f"the day's budget of workflow {kept.of!r}"
        case "workspace":
            return "the day's budget of the workspace"


def _told(kept: Kept, amount: int) -> Json:
    return units.money(amount) if kept.what == "cost" else amount


def _text(kept: Kept, amount: int) -> str:
    if kept.what == "cost":
        return money(amount, kept.currency)
    return f"{amount:,} {kept.what if amount != 1 else kept.what[:-1]}"


def money(amount: int, currency: str) -> str:
    """Tell some units of money to a person, with as many digits as they need: `0.05 USD`, `0.000012 USD`."""
    text = f"{amount // units.PER_ONE:,}.{amount % units.PER_ONE:09d}"
    whole, _, part = text.partition(".")
    return f"{whole}.{part.rstrip('0').ljust(2, '0')} {currency}"

"""What an attempt may use up, why it may not begin, and what it has used up: asked by the engine around each attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from weft.budgets import units
from weft.budgets.asking import estimate, usage
from weft.budgets.caps import Cap, OfAll, caps
from weft.budgets.keys import Kept, day_of
from weft.budgets.limits import is_of_tokens, limits
from weft.budgets.telling import exceeded, unknown, waiting
from weft.errors import WeftError
from weft.executor import Call
from weft.journal.base import Full, Meter, Settled
from weft.outcome import Failure, Outcome
from weft.plan import ConnectionsKnown, Plan
from weft.sdk import Cost, Estimate, Usage


class Budgets:
    """Caps of workflows and of the workspace, and limits of connections.

    Nothing is kept here: every process that asks the same journal counts together.

    Args:
        connections: What is known of connections.
        now: The journal's own time; it says which day it is.
        workspace: The budget of everything that is run from here.
    """

    def __init__(self, connections: ConnectionsKnown, now: Callable[[], float], workspace: OfAll | None = None) -> None:
        self._connections = connections
        self._now = now
        self._workspace = workspace

    def meters(self, call: Call, plan: Plan) -> tuple[Meter, ...] | Failure:
        """Return what an attempt may use up, nothing for most; a failure when that is not known and must be.

        The caps come first: what they refuse need not wait for its connection.
        """
        action, budget = call.step.action, plan.workflow.budget
        of_connection = limits(call, self._connections)
        if action is None or (
            budget is None and self._workspace is None and call.step.budget is None and not of_connection
        ):
            return ()
        held = caps(call, plan.workflow.name, budget, self._workspace, day_of(self._now()))
        try:
            most = estimate(action, call)
        except WeftError as error:
            return Failure(error.problem.at(call.step.where()), effect="none", details={"fallback": False})
        if most is None:  # it uses up neither money nor tokens
            held = tuple(cap for cap in held if cap.kept.what == "steps")
            of_connection = tuple(meter for meter in of_connection if not is_of_tokens(meter))
            most = _NOTHING
        for cap in held:
            if cap.blocks and _amount(cap.kept, most) is None:
                return unknown(call, cap, most)
        return (*_of_caps(held, call, most), *_of_connection(of_connection, most))

    def refused(self, call: Call, meters: Sequence[Meter], full: Full) -> Failure | None:
        """Return how an attempt fails for which a budget has no room; None: its connection will have some."""
        kept = Kept.read(full.key)
        if kept is None:
            return None
        amount = next((meter.amount for meter in meters if meter.key == full.key), 0)
        return exceeded(call, kept, amount, full)

    def waits(self, full: Full) -> str:
        """Return what people are told of an attempt that is to wait."""
        return waiting(full)

    def settled(self, call: Call, meters: Sequence[Meter], outcome: Outcome) -> Settled:
        """Return what an attempt that was granted its meters has really used up; what nobody knows stays reserved."""
        amounts: dict[str, int] = {}
        if call.step.action is not None:
            used = usage(call.step.action, outcome)
            for meter in meters:
                amount = None if meter.live else _settled(meter, used)
                if amount is not None:
                    amounts[meter.key] = amount
        return Settled(call.path, call.number, amounts)


_NOTHING = Estimate(Cost(0.0, "USD"), 0)


def _of_caps(held: Sequence[Cap], call: Call, most: Estimate) -> Iterator[Meter]:
    """Yield the meters of caps; what is not known beforehand, and allowed, counts when it is known."""
    for cap in held:
        if cap.kept.what != "steps" or (call.number == 1 and not call.begun):
            yield Meter(cap.kept.key, _amount(cap.kept, most) or 0, cap.most)


def _of_connection(meters: Iterable[Meter], most: Estimate) -> Iterator[Meter]:
    """Yield the meters of a connection; who may need more than a whole minute's tokens waits for an empty window."""
    for meter in meters:
        if not is_of_tokens(meter):
            yield meter
        else:
            yield replace(meter, amount=min(meter.most if (tokens := _tokens(most)) is None else tokens, meter.most))


def _amount(kept: Kept, most: Estimate) -> int | None:
    """Return the most that may be used up of something; None: nobody knows."""
    match kept.what:
        case "cost":
            return _cost(most, kept.currency)
        case "tokens":
            return _tokens(most)
        case _:
            return 1


def _cost(of: Estimate | Usage, currency: str) -> int | None:
    cost = of.cost
    if cost is None or (cost.currency != currency and cost.amount):
        return None  # of another currency nobody knows what it is in this one
    return units.used_up(cost.amount)


def _tokens(of: Estimate | Usage) -> int | None:
    return None if of.tokens is None else units.tokens(of.tokens)


def _settled(meter: Meter, used: Usage) -> int | None:
    if is_of_tokens(meter):
        return _tokens(used)
    kept = Kept.read(meter.key)
    if kept is None or kept.what == "steps":
        return None
    return _cost(used, kept.currency) if kept.what == "cost" else _tokens(used)

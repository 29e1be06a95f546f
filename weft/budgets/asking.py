"""What an action says of what it may use up, and has used up, whoever wrote it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from weft.budgets import units
from weft.errors import PackError
from weft.executor import Call
from weft.outcome import Outcome
from weft.registry import Action
from weft.sdk import Estimate, Usage

T = TypeVar("T", Estimate, Usage)


def estimate(action: Action, call: Call) -> Estimate | None:
    """Return the most that an attempt may use up; None when its action uses up neither money nor tokens.

    Raises:
        PackError: What the action says is no estimate.
    """
    hook = action.load().estimate
    if hook is None:
        return None
    given = {**call.arguments, **call.variant.arguments}
    return _asked(Estimate, action, "estimate", lambda: hook(given, call.step.known))


def usage(action: Action, outcome: Outcome) -> Usage:
    """Return what an attempt has used up; nothing is known of one that was cancelled, or whose action cannot say it."""
    hook = action.load().usage
    failure = outcome.failure
    if hook is None or outcome.state == "cancelled":
        return Usage()
    if failure is not None and failure.effect == "happened" and not failure.details:
        return Usage()  # it returned, and what it returned could not be kept
    output = outcome.output if isinstance(outcome.output, dict) else {}
    told, kind = (output, None) if failure is None else (failure.details, failure.kind)
    try:
        return _asked(Usage, action, "usage", lambda: hook(told, kind))
    except PackError:
        return Usage()  # told in the log; what was reserved stays


def _asked(kind: type[T], action: Action, name: str, hook: Callable[[], object]) -> T:
    try:
        found = hook()
    except Exception as error:
        # The text of the exception may hold arguments, so it goes to the log alone.
        logging.getLogger("weft.budgets").exception("hook_failed %s %s", action.id, name)
        fault = f"raised {type(error).__name__}"
    else:
        if isinstance(found, kind) and _is_sound(found):
            return found
        logging.getLogger("weft.budgets").error("hook_failed %s %s", action.id, name)
        fault = f"returned something that is no {kind.__name__}"
    raise PackError(
        f"`{name}` of action {action.id!r} {fault}.",
        code=f"broken_{name}",
        remedy="This is a fault of the action: tell its author.",
    )


def _is_sound(found: Estimate | Usage) -> bool:
    try:
        units.used_up(found.cost.amount if found.cost else 0.0)
    except (ValueError, ArithmeticError, AttributeError, TypeError):
        return False
    return found.tokens is None or (type(found.tokens) is int and found.tokens >= 0)

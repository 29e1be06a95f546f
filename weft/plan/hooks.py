"""What an action says of its own arguments: its `check` and its `attempts`, whoever wrote them."""

from __future__ import annotations

import logging
from typing import Any

from weft.errors import PackError, Problem
from weft.registry import Action
from weft.sdk import Variant
from weft.types import JsonObject


def own_problems(action: Action, given: JsonObject) -> list[Problem]:
    """Return what the action's own check finds wrong with its arguments.

    Raises:
        PackError: The check itself is wrong.
    """
    check = action.load().check
    if check is None:
        return []
    return _all_of(Problem, action, "check", check, given)


def variants(action: Action, given: JsonObject) -> tuple[Variant, ...]:
    """Return the calls to try, in order.

    Raises:
        PackError: The action's `attempts` is wrong, or names none.
    """
    attempts = action.load().attempts
    if attempts is None:
        return (Variant("default"),)
    found: list[Variant] = _all_of(Variant, action, "attempts", attempts, given)
    if not found:
        raise _broken(action, "attempts", "named nothing to try")
    return tuple(found)


def _all_of(kind: type, action: Action, name: str, hook: Any, given: JsonObject) -> list[Any]:
    try:
        found = list(hook(dict(given)))
    except Exception as error:
        # The text of the exception may hold arguments, so it goes to the log alone.
        logging.getLogger("weft.plan").exception("hook_failed %s %s", action.id, name)
        fault = f"raised {type(error).__name__}"
    else:
        if all(isinstance(item, kind) for item in found):
            return found
        fault = f"returned something that is no {kind.__name__}"
    raise _broken(action, name, fault)


def _broken(action: Action, name: str, fault: str) -> PackError:
    return PackError(
        f"`{name}` of action {action.id!r} {fault}.",
        code=f"broken_{name}",
        remedy="This is a fault of the action: tell its author.",
    )

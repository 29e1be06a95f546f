"""What an action says of its own arguments: its `check` and its `attempts`, whoever wrote them."""

from __future__ import annotations

import logging
from typing import Any

from weft.errors import PackError, Problem
from weft.registry import Action
from weft.sdk import Known, Variant
from weft.types import JsonObject


def own_problems(action: Action, given: JsonObject, known: Known) -> list[Problem]:
    """Return what the action's own check finds wrong with its arguments.

    Raises:
        PackError: The check itself is wrong.
    """
    return _all_of(Problem, action, "check", given, known)


def variants(action: Action, given: JsonObject, known: Known) -> tuple[Variant, ...]:
    """Return the calls to try, in order.

    Raises:
        PackError: The action's `attempts` is wrong, or names none.
    """
    found = foreseen(action, given, known)
    if not found:
        raise _broken(action, "attempts", "named nothing to try")
    return found


def foreseen(action: Action, given: JsonObject, known: Known) -> tuple[Variant, ...]:
    """Return the calls to try as far as they follow from some of the arguments; none when that cannot be said.

    Raises:
        PackError: The action's `attempts` is wrong.
    """
    if action.load().attempts is None:
        return (Variant("default"),)
    return tuple(_all_of(Variant, action, "attempts", given, known))


def _all_of(kind: type, action: Action, name: str, given: JsonObject, known: Known) -> list[Any]:
    hook = getattr(action.load(), name)
    if hook is None:
        return []
    try:
        found = list(hook(dict(given), known))
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

"""The values that expressions work on: JSON and nothing else, told by their exact type."""

from __future__ import annotations

import json
import math
from difflib import get_close_matches
from typing import Any, Final, cast

from weft.expressions.limits import Account, Fault, LimitFault
from weft.types import Json

NUMBERS: Final = frozenset({int, float, bool})
NAMES_OF_TYPES: Final[dict[type, str]] = {
    type(None): "null",
    bool: "a boolean",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


SPELLINGS: Final = dict.fromkeys(("null", "Null", "NULL", "nil", "NONE", "undefined"), "none") | {
    "TRUE": "true",
    "FALSE": "false",
}
"""How other languages spell the constants."""


class Missing:
    """Stands for a value that is not there, while something still decides what to do about it."""

    __slots__ = ()


MISSING: Final = Missing()


def kind(value: Any) -> str:
    """Name the type of `value` for the author of a template."""
    return NAMES_OF_TYPES.get(type(value)) or f"a Python {type(value).__name__}"


def foreign(value: Any) -> Fault:
    """Return the fault for a value that is not JSON."""
    return Fault(
        f"it meets {kind(value)}, and expressions see JSON values only",
        "Give the action's output as JSON.",
        code="expression_type",
    )


def wrong_type(expected: str, value: Any, remedy: str | None = None) -> Fault:
    """Return the fault for a value of a type that the operation does not take."""
    if type(value) not in NAMES_OF_TYPES:
        return foreign(value)
    return Fault(f"it needs {expected}, not {kind(value)}", remedy, code="expression_type")


def text(account: Account, value: Any, what: str = "text") -> str:
    """Return `value`, which must be a text of bearable length."""
    if type(value) is not str:
        raise wrong_type(what, value)
    account.need_text(len(value))
    return value


def whole(account: Account, value: Any, what: str = "a whole number") -> int:
    """Return `value`, which must be a whole number."""
    if type(value) is not int:
        raise wrong_type(what, value)
    return account.integer(value)


def number(account: Account, value: Any, what: str = "a number") -> int | float:
    """Return `value`, which must be a number (true and false count as 1 and 0)."""
    if type(value) is int:
        return account.integer(value)
    if type(value) is float or type(value) is bool:
        return value
    raise wrong_type(what, value)


def finite(value: float) -> float:
    """Return `value` unless it is infinite or not a number."""
    if not math.isfinite(value):
        raise Fault("the result is not a finite number")
    return value


def items(account: Account, value: Any, what: str = "a list") -> list[Any]:
    """Return what a filter walks over: the items of a list, the keys of an object, the characters of a text."""
    if type(value) is list:
        account.need_items(len(value))
        return value
    if type(value) is dict:
        account.need_items(len(value))
        return account.made_items(list(value))
    if type(value) is str:
        account.need_items(len(value))
        return account.made_items(list(value))
    raise wrong_type(what, value)


def truth(value: Any) -> bool:
    """Tell whether `value` counts as true: not null, false, 0, and not empty."""
    if type(value) in NAMES_OF_TYPES:
        return bool(value)
    raise foreign(value)


def lookup(container: Any, key: Any) -> Any:
    """Return what `container` holds under `key`, or MISSING; never anything of Python's."""
    if type(container) is dict:
        return container.get(key, MISSING) if type(key) is str else MISSING
    if (type(container) is list or type(container) is str) and type(key) is int:
        return container[key] if -len(container) <= key < len(container) else MISSING
    return MISSING


def equal(account: Account, left: Any, right: Any, depth: int = 0) -> bool:
    """Tell whether two JSON values are the same; 1 equals 1.0."""
    if type(left) is str and type(right) is str:
        account.charge(min(len(left), len(right)) >> 10)
        return left == right
    if type(left) not in NAMES_OF_TYPES or type(right) not in NAMES_OF_TYPES:
        raise foreign(left if type(left) not in NAMES_OF_TYPES else right)
    if type(left) is not type(right) or type(left) not in (list, dict):
        return bool(left == right) if {type(left), type(right)} <= NUMBERS or left is right else False
    if len(left) != len(right):
        return False
    _check_depth(account, depth)
    account.charge(1 + (len(left) >> 2))
    if isinstance(left, list):
        return all(equal(account, one, other, depth + 1) for one, other in zip(left, right, strict=True))
    pairs = dict.items(left)
    return all(key in right and equal(account, value, right[key], depth + 1) for key, value in pairs)


def _check_depth(account: Account, depth: int) -> None:
    if depth >= account.limits.depth:
        raise LimitFault("depth", f"a value is nested deeper than {account.limits.depth}")


def copy(account: Account, value: Any, depth: int = 0) -> Json:
    """Return a deep copy that is JSON through and through, paying for it as output.

    Raises:
        Fault: Something in it is not JSON: an object of Python's, a number without end, a key that is not text.
    """
    if type(value) is str:
        account.leave(len(value))
        return value
    if type(value) is list or type(value) is dict:
        _check_depth(account, depth)
        account.charge(1 + (len(value) >> 2))
        account.leave(1 + len(value))
        if isinstance(value, list):
            account.keep(56 + 8 * len(value))
            return [copy(account, item, depth + 1) for item in value]
        account.keep(184 + 64 * len(value))
        return {copy_key(account, key): copy(account, item, depth + 1) for key, item in value.items()}
    if type(value) is float:
        return finite(value)
    if type(value) not in NAMES_OF_TYPES:
        raise foreign(value)
    return cast(Json, value)


def copy_key(account: Account, key: Any) -> str:
    """Return a key of an object, which must be text, paying for it as output."""
    if type(key) is not str:
        raise Fault(f"the keys of an object are text, not {kind(key)}", code="expression_type")
    account.leave(len(key))
    return key


def measure(account: Account, value: Any, indent: int = 0, depth: int = 0) -> int:
    """Return about how many characters `value` takes as JSON, having checked that it is JSON.

    Characters that JSON escapes count once, so it may take up to six times as many.
    """
    if type(value) is str:
        return len(value) + 2
    if type(value) is list or type(value) is dict:
        _check_depth(account, depth)
        account.charge(1 + (len(value) >> 2))
        size = 2 + len(value) * (2 + indent * (depth + 1)) + indent * depth
        inner: Any = value
        if type(value) is dict:
            for key in value:
                if type(key) is not str:
                    raise Fault(f"the keys of an object are text, not {kind(key)}", code="expression_type")
                size += len(key) + 4
            inner = value.values()
        for item in inner:
            size += measure(account, item, indent, depth + 1)
        return size
    if type(value) is float:
        finite(value)
    elif type(value) is int:
        return len(integer_text(value))
    elif type(value) not in NAMES_OF_TYPES:
        raise foreign(value)
    return 5


def integer_text(value: int) -> str:
    """Write a whole number; Python refuses more than 4,300 digits, so do we."""
    try:
        return str(value)
    except ValueError:
        raise LimitFault("integer", "a whole number has more than 4,300 digits") from None


def json_text(account: Account, value: Any, indent: int | None = None) -> str:
    """Write `value` as JSON, keys in their order, every character as itself."""
    account.need_text(measure(account, value, indent or 0))
    return account.made_text(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent))


def written(account: Account, value: Any) -> str:
    """Return `value` as text: null is empty, lists and objects are JSON."""
    if type(value) is str:
        return value
    if type(value) is int:
        return account.made_text(integer_text(value))
    if value is None:
        return ""
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float:
        return repr(finite(value))
    if type(value) is list or type(value) is dict:
        return json_text(account, value)
    raise foreign(value)


def nearest(name: Any, names: Any) -> str | None:
    """Return the one of `names` that looks most like `name`, if any does."""
    if type(name) is not str or len(name) > 64:
        return None
    candidates = [candidate for candidate in list(names)[:500] if type(candidate) is str and len(candidate) <= 64]
    return next(iter(get_close_matches(name, candidates, 1)), None)


def few(names: Any, most: int = 8) -> str:
    """Write some of `names` for a message."""
    shown = [name if len(name) <= 40 else f"{name[:39]}…" for name in list(names)[: most + 1] if type(name) is str]
    return ", ".join(repr(name) for name in shown[:most]) + (" and more" if len(shown) > most else "")

"""What may stand after `is`; nothing else may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from weft.expressions import values
from weft.expressions.limits import Account, Fault
from weft.expressions.operators import COMPARISONS, contains


def _of_type(*types: type) -> Callable[[Account, Any], bool]:
    def check(account: Account, value: Any) -> bool:
        return type(value) in types

    return check


def _is_true(account: Account, value: Any) -> bool:
    return value is True


def _is_false(account: Account, value: Any) -> bool:
    return value is False


def _is_defined(account: Account, value: Any) -> bool:
    return value is not values.MISSING


def _is_undefined(account: Account, value: Any) -> bool:
    return value is values.MISSING


def _is_even(account: Account, value: Any) -> bool:
    return values.whole(account, value) % 2 == 0


def _is_odd(account: Account, value: Any) -> bool:
    return values.whole(account, value) % 2 == 1


def _is_divisible_by(account: Account, value: Any, number: Any) -> bool:
    if values.whole(account, number) == 0:
        raise Fault("it divides by zero")
    return values.whole(account, value) % values.whole(account, number) == 0


def _is_lower(account: Account, value: Any) -> bool:
    return values.text(account, value).islower()


def _is_upper(account: Account, value: Any) -> bool:
    return values.text(account, value).isupper()


def _comparing(name: str) -> Callable[[Account, Any, Any], bool]:
    def compare(account: Account, value: Any, other: Any) -> bool:
        return bool(COMPARISONS[name](account, value, other))

    return compare


def _is_in(account: Account, value: Any, container: Any) -> bool:
    return contains(account, value, container)


_equal, _different = _comparing("eq"), _comparing("ne")
_less, _at_most, _greater, _at_least = _comparing("lt"), _comparing("lteq"), _comparing("gt"), _comparing("gteq")

PREDICATES: Final[dict[str, Callable[..., bool]]] = {
    "boolean": _of_type(bool),
    "defined": _is_defined,
    "divisibleby": _is_divisible_by,
    "even": _is_even,
    "false": _is_false,
    "float": _of_type(float),
    "in": _is_in,
    "integer": _of_type(int),
    "iterable": _of_type(list, dict, str),
    "lower": _is_lower,
    "mapping": _of_type(dict),
    "none": _of_type(type(None)),
    "number": _of_type(int, float),
    "odd": _is_odd,
    "sequence": _of_type(list, dict, str),
    "string": _of_type(str),
    "true": _is_true,
    "undefined": _is_undefined,
    "upper": _is_upper,
    "==": _equal,
    "eq": _equal,
    "equalto": _equal,
    "!=": _different,
    "ne": _different,
    "<": _less,
    "lt": _less,
    "lessthan": _less,
    "<=": _at_most,
    "le": _at_most,
    ">": _greater,
    "gt": _greater,
    "greaterthan": _greater,
    ">=": _at_least,
    "ge": _at_least,
}
"""Jinja's names; `==` and its like can be given to `select` and `reject`."""

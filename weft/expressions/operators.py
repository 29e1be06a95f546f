"""The operators of expressions: each checks what it is given and how large its result will be, then works."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

from weft.expressions import values
from weft.expressions.limits import Account, Fault, LimitFault
from weft.expressions.values import NUMBERS, kind

Operator = Callable[[Account, Any, Any], Any]


def _result(account: Account, value: Any) -> int | float:
    if type(value) is int:
        return account.integer(value)
    if type(value) is float:
        return values.finite(value)
    raise Fault("the result is not a real number")


def _numbers(account: Account, sign: str, left: Any, right: Any) -> tuple[int | float, int | float]:
    for value in (left, right):
        if type(value) not in NUMBERS:
            if type(value) not in values.NAMES_OF_TYPES:
                raise values.foreign(value)
            raise Fault(
                f"{sign!r} needs two numbers, not {kind(left)} and {kind(right)}",
                "Turn text into a number with `| int` or `| float`." if type(value) is str else None,
                code="expression_type",
            )
    return values.number(account, left), values.number(account, right)


def _arithmetic(sign: str, apply: Callable[[Any, Any], Any]) -> Operator:
    def calculate(account: Account, left: Any, right: Any) -> Any:
        account.charge()
        left, right = _numbers(account, sign, left, right)
        try:
            return _result(account, apply(left, right))
        except ZeroDivisionError:
            raise Fault("it divides by zero") from None
        except OverflowError:
            raise Fault("the result is not a finite number") from None

    return calculate


_add_numbers = _arithmetic("+", operator.add)
_multiply_numbers = _arithmetic("*", operator.mul)
_raise_number = _arithmetic("**", operator.pow)
_remainder = _arithmetic("%", operator.mod)


def _add(account: Account, left: Any, right: Any) -> Any:
    if type(left) is str and type(right) is str:
        account.need_text(len(left) + len(right))
        return account.made_text(left + right)
    if type(left) is list and type(right) is list:
        account.need_items(len(left) + len(right))
        return account.made_items(left + right)
    if (type(left) is str) != (type(right) is str):
        raise Fault(
            f"'+' cannot add {kind(left)} and {kind(right)}",
            "Join them as text with `~`, or turn the text into a number with `| int` or `| float`.",
            code="expression_type",
        )
    return _add_numbers(account, left, right)


def _multiply(account: Account, left: Any, right: Any) -> Any:
    if type(left) is int and type(right) in (str, list):
        left, right = right, left
    if type(left) is str and type(right) is int:
        account.need_text(len(left) * max(right, 0))
        return account.made_text(left * right)
    if type(left) is list and type(right) is int:
        account.need_items(len(left) * max(right, 0))
        return account.made_items(left * right)
    return _multiply_numbers(account, left, right)


def _power(account: Account, left: Any, right: Any) -> Any:
    if type(left) is int and type(right) is int and right > 0:
        bits = left.bit_length() * right
        if abs(left) > 1 and bits - right >= account.limits.integer_bits:  # 2**n has n + 1 bits, not 2n
            raise LimitFault("integer", f"a whole number takes more than {account.limits.integer_bits} bits")
    return _raise_number(account, left, right)


def _modulo(account: Account, left: Any, right: Any) -> Any:
    if type(left) is str:
        raise Fault("'%' does not format text", "Join text with `~`.", code="expression_type")
    return _remainder(account, left, right)


def concatenate(account: Account, parts: Sequence[Any]) -> str:
    """Join values as the text that each of them prints as."""
    pieces = [values.written(account, part) for part in parts]
    account.need_text(sum(map(len, pieces)))
    return account.made_text("".join(pieces))


def negative(account: Account, value: Any) -> Any:
    """Return a number with its sign turned."""
    account.charge()
    return -values.number(account, value, "a number after '-'")


def positive(account: Account, value: Any) -> Any:
    """Return a number as it is."""
    account.charge()
    return +values.number(account, value, "a number after '+'")


def _equal(account: Account, left: Any, right: Any) -> bool:
    account.charge()
    return values.equal(account, left, right)


def _different(account: Account, left: Any, right: Any) -> bool:
    account.charge()
    return not values.equal(account, left, right)


def _order(sign: str, apply: Callable[[Any, Any], bool]) -> Operator:
    def compare(account: Account, left: Any, right: Any) -> bool:
        account.charge()
        if type(left) is str and type(right) is str:
            account.charge(min(len(left), len(right)) >> 10)
            return apply(left, right)
        if type(left) in NUMBERS and type(right) in NUMBERS:
            return apply(left, right)
        if type(left) not in values.NAMES_OF_TYPES or type(right) not in values.NAMES_OF_TYPES:
            raise values.foreign(left if type(left) not in values.NAMES_OF_TYPES else right)
        raise Fault(
            f"{sign!r} cannot order {kind(left)} and {kind(right)}",
            "Turn text into a number with `| int` or `| float`." if str in (type(left), type(right)) else None,
            code="expression_type",
        )

    return compare


def contains(account: Account, item: Any, container: Any) -> bool:
    """Tell whether `container` has `item`: a text inside a text, an item of a list, a key of an object."""
    account.charge()
    if type(container) is str:
        account.charge(len(container) >> 8)
        return values.text(account, item, "a text to look for in a text") in container
    if type(container) is list:
        for other in container:
            account.charge()
            if values.equal(account, item, other):
                return True
        return False
    if type(container) is dict:
        if type(item) not in values.NAMES_OF_TYPES:
            raise values.foreign(item)
        return values.lookup(container, item) is not values.MISSING
    raise values.wrong_type("a text, a list or an object after 'in'", container)


def _lacks(account: Account, item: Any, container: Any) -> bool:
    return not contains(account, item, container)


def cut(account: Account, value: Any, start: Any, stop: Any, step: Any) -> Any:
    """Return the part of a text or list that `[start:stop:step]` names."""
    if type(value) is not str and type(value) is not list:
        raise values.wrong_type("a text or a list to cut", value)
    for bound in (start, stop, step):
        if bound is not None:
            values.whole(account, bound, "whole numbers between the brackets")
    if step == 0:
        raise Fault("the step of a cut cannot be 0")
    part = slice(start, stop, step)
    size = len(range(*part.indices(len(value))))
    if isinstance(value, str):
        account.need_text(size)
        return account.made_text(value[part])
    account.need_items(size)
    return account.made_items(value[part])


ARITHMETIC: Final[dict[str, Operator]] = {
    "Add": _add,
    "Sub": _arithmetic("-", operator.sub),
    "Mul": _multiply,
    "Div": _arithmetic("/", operator.truediv),
    "FloorDiv": _arithmetic("//", operator.floordiv),
    "Mod": _modulo,
    "Pow": _power,
}
"""By the name of the syntax node."""

COMPARISONS: Final[dict[str, Operator]] = {
    "eq": _equal,
    "ne": _different,
    "lt": _order("<", operator.lt),
    "lteq": _order("<=", operator.le),
    "gt": _order(">", operator.gt),
    "gteq": _order(">=", operator.ge),
    "in": contains,
    "notin": _lacks,
}
"""By Jinja's name of the operator."""

"""How much one rendering may do, and the account that it is kept in.

A thread cannot be killed from outside, so every operation pays here before it works: with operations, with the
memory that its result takes, and with time. An operation asks for room before it builds something large.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from sys import getsizeof
from typing import Any, Final, Never

_OPERATIONS_BETWEEN_CLOCK_READINGS = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one template; each may be set lower than its default, never higher."""

    source: int = 65_536  #: characters of the template
    nodes: int = 5_000  #: syntax nodes of the template
    depth: int = 100  #: nesting, of the syntax and of values
    text: int = 1_000_000  #: characters of any text that an operation reads or makes
    items: int = 100_000  #: items of any list or object that an operation reads or makes
    integer_bits: int = 256
    range: int = 10_000  #: numbers from one `range(…)`
    operations: int = 200_000  #: operators, calls, turns of loops, and a share for the size they work on
    memory: int = 32 * 1024 * 1024  #: bytes of all values made during one rendering, kept or not
    output: int = 1_000_000  #: characters of the text, or characters and items of the value, that leave
    seconds: float = 2.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value <= field.default:
                raise ValueError(f"limit {field.name!r} must be above 0 and at most {field.default}, not {value!r}")


class Fault(Exception):
    """Something went wrong inside an operation, which does not know its place in the template.

    The evaluator turns it into an `ExpressionError` at the place of the operation.
    """

    def __init__(self, message: str, remedy: str | None = None, *, code: str = "expression_value") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.code = code


class LimitFault(Fault):
    """An operation would pass one of the limits."""

    def __init__(self, limit: str, message: str, remedy: str | None = None) -> None:
        super().__init__(message, remedy, code=f"expression_{limit}")


MISHAPS: Final = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What a checked operation does not raise; should one do so nevertheless, it is told as an error of the expression."""


def mishap(error: BaseException) -> Fault:
    """Return the fault that stands for one of the MISHAPS; its text may hold values, so it is left out."""
    if isinstance(error, RecursionError):
        return LimitFault("depth", "it is nested too deeply")
    if isinstance(error, MemoryError):
        return LimitFault("memory", "it needs more memory than there is")
    return Fault(f"it cannot be evaluated ({type(error).__name__})")


class Account:
    """What one rendering has used so far, and the values that its names stand for.

    Args:
        limits: The bounds.
        names: What the expressions may see; the account changes it while it runs.
    """

    __slots__ = (
        "_deadline",
        "_next_look",
        "chunks",
        "limits",
        "loop",
        "memory_left",
        "names",
        "operations_left",
        "room",
    )

    def __init__(self, limits: Limits, names: dict[str, Any]) -> None:
        self.limits = limits
        self.names = names
        self.loop: Any = None
        self.chunks: list[str] = []
        self.room = limits.output
        self.memory_left = limits.memory
        self.operations_left = limits.operations
        self._next_look = max(0, limits.operations - _OPERATIONS_BETWEEN_CLOCK_READINGS)
        self._deadline = time.monotonic() + limits.seconds

    def charge(self, cost: int = 1) -> None:
        """Pay for work about to be done."""
        self.operations_left -= cost
        if self.operations_left < self._next_look:
            self._look()

    def _look(self) -> None:
        if self.operations_left < 0:
            raise LimitFault(
                "operations",
                f"it does more than {self.limits.operations:,} operations",
                "Do the heavy work in an action.",
            )
        if time.monotonic() > self._deadline:
            raise LimitFault(
                "time", f"it runs longer than {self.limits.seconds:g} seconds", "Do the heavy work in an action."
            )
        self._next_look = max(0, self.operations_left - _OPERATIONS_BETWEEN_CLOCK_READINGS)

    def need_text(self, size: int) -> None:
        """Refuse a text of `size` characters when it is too long to read or make."""
        if size > self.limits.text:
            raise LimitFault("text", f"a text would be longer than {self.limits.text:,} characters")
        self.charge(1 + (size >> 8))

    def need_items(self, size: int) -> None:
        """Refuse a list or object of `size` items when it is too long to read or make."""
        if size > self.limits.items:
            raise LimitFault("items", f"a list would be longer than {self.limits.items:,} items")
        self.charge(1 + (size >> 2))

    def keep(self, size: int) -> None:
        """Pay for `size` bytes of memory."""
        self.memory_left -= size
        if self.memory_left < 0:
            raise LimitFault("memory", f"the values it makes take more than {self.limits.memory >> 20} MiB")

    def made_text(self, text: str) -> str:
        """Pay for a text that an operation has made."""
        if len(text) > self.limits.text:
            raise LimitFault("text", f"a text is longer than {self.limits.text:,} characters")
        self.keep(getsizeof(text))
        return text

    def made_items(self, items: list[Any]) -> list[Any]:
        """Pay for a list that an operation has made; its items are paid for apart."""
        if len(items) > self.limits.items:
            raise LimitFault("items", f"a list is longer than {self.limits.items:,} items")
        self.keep(56 + 8 * len(items))
        return items

    def integer(self, number: int) -> int:
        """Return `number` unless it has too many digits to reckon with."""
        if number.bit_length() > self.limits.integer_bits:
            raise LimitFault("integer", f"a whole number takes more than {self.limits.integer_bits} bits")
        return number

    def leave(self, size: int) -> None:
        """Pay for `size` characters or items of output."""
        self.room -= size
        if self.room < 0:
            self._too_much_output()

    def write(self, text: str) -> None:
        """Append to the text that the template makes."""
        self.room -= len(text)
        if self.room < 0:
            self._too_much_output()
        self.chunks.append(text)

    def _too_much_output(self) -> Never:
        raise LimitFault(
            "output",
            f"it gives more than {self.limits.output:,} characters",
            "Keep large content in a file of the run and pass its reference.",
        )

"""The names that a template reads: which are its own, which come from the scope, and what to say when one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from jinja2 import nodes

from weft.errors import ExpressionError
from weft.expressions import values
from weft.expressions.limits import Fault
from weft.expressions.methods import METHODS
from weft.expressions.syntax import Origin, constant, start
from weft.expressions.values import MISSING

Path = tuple[str | int, ...]

_MISSING_CODE: Final = "expression_missing"


@dataclass(frozen=True, slots=True)
class Reference:
    """A name that a template reads from the scope, with the constant keys behind it."""

    path: Path  #: `("steps", "answer", "output", "choices", 0)`
    offset: int  #: of its first character in the template's text
    optional: bool = False  #: guarded by `default` or `is defined`, so that it may be missing
    hint: str | None = None  #: what the author may have meant: `steps['my-step']`


@dataclass(frozen=True, slots=True)
class Step:
    """One `.name` or `[key]` behind an expression."""

    key: Any
    offset: int  #: of the dot or bracket
    place: int  #: of the name or key itself
    written: bool = True  #: in the template itself, so that an error may show it


class Names:
    """Keeps apart the names that a template sets from those it reads, and notes the latter."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._own: list[set[str]] = [set()]
        self._found: list[Reference] = []
        self._asked: set[Path] = set()

    @property
    def references(self) -> tuple[Reference, ...]:
        """The names read, in the order of the text; one that is asked for by `is defined` anywhere is optional."""
        marked = {replace(found, optional=found.optional or self._is_asked(found.path)) for found in self._found}
        return tuple(sorted(marked, key=lambda found: found.offset))

    def _is_asked(self, path: Path) -> bool:
        return any(path[:length] in self._asked for length in range(1, len(path) + 1))

    @contextmanager
    def scope(self) -> Iterator[set[str]]:
        """Collect the names that the body of a loop sets; they end with it."""
        self._own.append(set())
        yield self._own[-1]
        self._own.pop()

    def set(self, node: nodes.Name) -> str:
        """Note that the template gives a value to a name from here on."""
        if node.name == "loop" or node.name.startswith("__"):
            fault = Fault(f"the name {node.name!r} cannot be set", code="expression_not_allowed")
            raise self._origin.error(fault, node.lineno)
        self._own[-1].add(node.name)
        return str(node.name)

    def is_own(self, name: str) -> bool:
        """Tell whether the template itself gives the name its value."""
        return any(name in names for names in self._own)

    def read(self, base: nodes.Name, steps: list[Step], *, optional: bool) -> None:
        """Note that the template reads `base.steps…`."""
        if base.name.startswith("__"):
            raise self._origin.error(Fault("names do not begin with '__'", code="expression_not_allowed"), base.lineno)
        if not self.is_own(base.name):
            path = (base.name, *(step.key for step in steps))
            self._found.append(Reference(path, base.lineno, optional, self._hint(base, steps)))

    def ask(self, node: nodes.Node) -> None:
        """Note that the template asks whether a name is there."""
        base, steps = unwind(self._origin, node)
        if isinstance(base, nodes.Name) and not self.is_own(base.name):
            self._asked.add((base.name, *(step.key for step in steps)))

    def _hint(self, base: nodes.Name, steps: list[Step]) -> str | None:
        """Return how to write a constant, or a name with `-` when the last part of a path looks like its begin."""
        if base.name in values.SPELLINGS:
            return f"Write `{values.SPELLINGS[base.name]}`."
        if not steps or self._origin.text[steps[-1].offset] != ".":
            return None
        joined = self._origin.joined(steps[-1].place)
        return f"{self._origin.text[base.lineno : steps[-1].offset].rstrip()}[{joined!r}]" if joined else None


def unwind(origin: Origin, node: nodes.Node) -> tuple[nodes.Node, list[Step]]:
    """Split `base.a['b'][0]` into its base and the constant steps behind it."""
    steps: list[Step] = []
    while True:
        if isinstance(node, nodes.Getattr):
            steps.append(Step(node.attr, node.lineno, origin.after_space(node.lineno + 1)))
        elif isinstance(node, nodes.Getitem) and (key := constant(node.arg)) is not None:
            steps.append(Step(key, node.lineno, start(node.arg)))
        else:
            return node, steps[::-1]
        node = node.node


def follow(origin: Origin, value: Any, steps: list[Step], begin: int, *, lenient: bool) -> Any:
    """Return what lies behind `steps` from `value`.

    Args:
        origin: The template's text.
        value: Where to begin.
        steps: The keys.
        begin: The character at which the expression that gave `value` begins.
        lenient: Return MISSING for what is not there instead of an error.
    """
    for step in steps:
        found = values.lookup(value, step.key)
        if found is MISSING:
            if lenient and type(value) in values.NAMES_OF_TYPES:
                return MISSING
            raise origin.error(_no_key(origin, value, step, begin), step.place)
        value = found
    return value


def unknown(origin: Origin, name: str, offset: int, names: dict[str, Any]) -> ExpressionError:
    """Return the error for a name that the scope does not have."""
    if origin.hyphen_before(offset):
        remedy = "A '-' between names subtracts; a name with '-' is written in brackets: `steps['my-step']`."
    elif name in values.SPELLINGS:
        remedy = f"Write `{values.SPELLINGS[name]}`."
    elif near := values.nearest(name, names):
        remedy = f"Did you mean {near!r}?"
    else:
        remedy = f"There are {values.few(sorted(names))}." if names else "No names are known here."
    return origin.error(Fault(f"the name {name!r} is not known", remedy, code=_MISSING_CODE), offset)


def _no_key(origin: Origin, value: Any, step: Step, begin: int) -> Fault:
    """Tell what is missing, what there is instead, and what to do; never a key that came from the scope."""
    holder = " ".join(origin.text[begin : step.offset].split())
    holder = f"`{holder}`" if len(holder) <= 60 else f"`…{holder[-59:]}`"
    if type(value) not in values.NAMES_OF_TYPES:
        return values.foreign(value)
    if type(value) is dict:
        return _no_key_of_object(origin, value, step, holder)
    if type(value) is list and type(step.key) is int:
        which = f"item {step.key}" if step.written else "such item"
        message = f"{holder} has {len(value)} items and no {which}"
        return Fault(message, "Items are counted from 0; give a value with `| default(…)`.", code=_MISSING_CODE)
    shown = repr(step.key) if step.written else "such part"
    remedy = _call_it(value, step)
    if type(value) is list and step.written and remedy is None:
        remedy = f"Name an item, `[0]`, or take {shown} of each with `| map(attribute={shown})`."
    elif value is None:
        remedy = "Give a value with `| default(…)`."
    return Fault(f"{holder} is {values.kind(value)} and has no {shown}", remedy, code=_MISSING_CODE)


def _no_key_of_object(origin: Origin, value: dict[str, Any], step: Step, holder: str) -> Fault:
    if type(step.key) is not str:
        message = f"{holder} is an object, whose keys are text, not {values.kind(step.key)}"
        return Fault(message, code=_MISSING_CODE)
    there = f"it has {values.few(value)}" if value else "it is empty"
    joined = origin.joined(step.place)
    if joined in value:
        remedy = f"A '-' between names subtracts; write the name in brackets: `[{joined!r}]`."
    elif near := values.nearest(step.key, value):
        remedy = f"Did you mean {near!r}?"
    else:
        remedy = _call_it(value, step) or "If it may be missing, give a value with `| default(…)`."
    shown = repr(step.key) if step.written else "such key"
    return Fault(f"{holder} has no {shown}; {there}", remedy, code=_MISSING_CODE)


def _call_it(value: Any, step: Step) -> str | None:
    known = METHODS.get(type(value), {})
    return f"To call the method, write `{step.key}()`." if step.written and step.key in known else None

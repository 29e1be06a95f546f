"""From the syntax tree of an expression to plain functions: one per node, for the nodes on the list, and no others.

No code is generated. What is not in the tables of this package cannot be expressed, whatever Jinja's parser reads;
and since each function knows its node's character in the text, every error has its place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal, cast

from jinja2 import nodes

from weft.errors import ExpressionError
from weft.expressions import instants, methods, operators, values
from weft.expressions.limits import MISHAPS, Account, Fault, LimitFault, Limits, mishap
from weft.expressions.names import Names, Step, follow, unknown, unwind
from weft.expressions.sequences import named
from weft.expressions.syntax import Origin, constant, start
from weft.expressions.values import MISSING

Evaluate = Callable[[Account], Any]
Applied = nodes.Filter | nodes.Test

_FORGIVING_FILTERS: Final = frozenset({"first", "last", "min", "max"})
"""Filters without a value when the list is empty; `default` then gives one."""

_FILTERS_OF_NAMES: Final = frozenset({"map", "select", "reject", "selectattr", "rejectattr"})
"""Filters that are given the name of a filter or test."""

LOOP_NAMES: Final[dict[str, Callable[[list[Any], int], Any]]] = {
    "index": lambda items, at: at + 1,
    "index0": lambda items, at: at,
    "revindex": lambda items, at: len(items) - at,
    "revindex0": lambda items, at: len(items) - at - 1,
    "first": lambda items, at: at == 0,
    "last": lambda items, at: at == len(items) - 1,
    "length": lambda items, at: len(items),
    "previtem": lambda items, at: items[at - 1] if at else MISSING,
    "nextitem": lambda items, at: items[at + 1] if at + 1 < len(items) else MISSING,
}
"""What `loop` has."""


class Evaluator:
    """Turns the expressions of one template into functions.

    Args:
        origin: The template's text.
        limits: The bounds of constants.
    """

    def __init__(self, origin: Origin, limits: Limits) -> None:
        self.origin = origin
        self.names = Names(origin)
        self.loops = 0  #: how many loops surround the expression
        self._limits = limits

    def expression(self, node: nodes.Node) -> Evaluate:
        """Return what evaluates an expression; a name that is missing is an error at its place."""
        build = _EXPRESSIONS.get(type(node))
        if build is None:
            raise self.refusal(node)
        return build(self, node)

    def condition(self, node: nodes.Node) -> Evaluate:
        """Return what tells whether an expression counts as true."""
        expression = self.expression(node)
        return self.placed(lambda account: values.truth(expression(account)), start(node))

    def placed(self, evaluate: Evaluate, offset: int) -> Evaluate:
        """Return `evaluate` with its faults told at `offset`."""
        origin = self.origin

        def placed(account: Account) -> Any:
            try:
                return evaluate(account)
            except Fault as fault:
                raise origin.error(fault, offset) from None
            except MISHAPS as error:
                raise origin.error(mishap(error), offset) from None

        return placed

    def refusal(self, node: nodes.Node) -> ExpressionError:
        """Return the error for a part of the language that is not available."""
        name = type(node).__name__.lower()
        return self._error(Fault(f"'{name}' is not available", code="expression_not_allowed"), start(node))

    def _error(self, fault: Fault, offset: int) -> ExpressionError:
        return self.origin.error(fault, offset)

    def _lenient(self, node: nodes.Node) -> Evaluate:
        """Like `expression`, but MISSING for what is not there, as `default` and `is defined` need it."""
        if isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem):
            return self._access(node, lenient=True)
        if isinstance(node, nodes.Filter) and node.name in _FORGIVING_FILTERS:
            return self._filter(node, lenient=True)
        return self.expression(node)

    # Constants, lists, objects

    def _const(self, node: nodes.Const) -> Evaluate:
        value = node.value
        try:
            if type(value) is int or type(value) is float:
                values.finite(values.number(Account(self._limits, {}), value))
        except Fault as fault:
            raise self._error(fault, node.lineno) from None
        return lambda account: value

    def _list(self, node: nodes.List | nodes.Tuple) -> Evaluate:
        items = [self.expression(item) for item in node.items]

        def evaluate(account: Account) -> list[Any]:
            account.charge()
            return account.made_items([item(account) for item in items])

        return self.placed(evaluate, start(node))

    def _dict(self, node: nodes.Dict) -> Evaluate:
        pairs = [(self.expression(pair.key), self.expression(pair.value)) for pair in node.items]

        def evaluate(account: Account) -> dict[str, Any]:
            account.charge()
            account.keep(184 + 64 * len(pairs))
            return {values.text(account, key(account), "text as key"): value(account) for key, value in pairs}

        return self.placed(evaluate, node.lineno)

    # Operators

    def _choice(self, node: nodes.CondExpr) -> Evaluate:
        if node.expr2 is None:
            raise self._error(
                Fault(
                    "an `if` inside an expression needs its `else`",
                    "Say what the value is otherwise: `a if test else b`.",
                    code="expression_syntax",
                ),
                start(node),
            )
        test, then, otherwise = self.condition(node.test), self.expression(node.expr1), self.expression(node.expr2)
        return lambda account: then(account) if test(account) else otherwise(account)

    def _either(self, node: nodes.And | nodes.Or) -> Evaluate:
        left, right = self.expression(node.left), self.expression(node.right)
        stops = isinstance(node, nodes.Or)  # the value of the left side at which the right side is not asked

        def evaluate(account: Account) -> Any:
            value = left(account)
            return value if values.truth(value) is stops else right(account)

        return self.placed(evaluate, start(node))

    def _not(self, node: nodes.Not) -> Evaluate:
        condition = self.condition(node.node)
        return lambda account: not condition(account)

    def _sign(self, node: nodes.Neg | nodes.Pos) -> Evaluate:
        operand = self.expression(node.node)
        apply = operators.negative if isinstance(node, nodes.Neg) else operators.positive
        return self.placed(lambda account: apply(account, operand(account)), node.lineno)

    def _arithmetic(self, node: nodes.BinExpr) -> Evaluate:
        left, right = self.expression(node.left), self.expression(node.right)
        apply = operators.ARITHMETIC[type(node).__name__]
        return self.placed(lambda account: apply(account, left(account), right(account)), start(node))

    def _concat(self, node: nodes.Concat) -> Evaluate:
        parts = [self.expression(part) for part in node.nodes]
        return self.placed(
            lambda account: operators.concatenate(account, [part(account) for part in parts]), start(node)
        )

    def _compare(self, node: nodes.Compare) -> Evaluate:
        first = self.expression(node.expr)
        rest = [(operators.COMPARISONS[operand.op], self.expression(operand.expr)) for operand in node.ops]

        def evaluate(account: Account) -> bool:
            left = first(account)
            for compare, operand in rest:
                right = operand(account)
                if not compare(account, left, right):
                    return False
                left = right
            return True

        return self.placed(evaluate, start(node))

    # Filters, tests, calls

    def _test(self, node: nodes.Test) -> Evaluate:
        place = self.origin.text.find(node.name.partition(".")[0], node.lineno + 2)
        if node.name not in ("defined", "undefined"):
            return self._applied(node, "test", self.expression(node.node), place)
        self.names.ask(node.node)
        return self._applied(node, "test", self._lenient(node.node), place)

    def _filter(self, node: nodes.Filter, *, lenient: bool = False) -> Evaluate:
        if node.node is None:
            raise self.refusal(node)
        guarding = lenient or node.name in ("default", "d")
        value = self._lenient(node.node) if guarding else self.expression(node.node)
        apply = self._applied(node, "filter", value, node.lineno)
        if lenient or node.name not in _FORGIVING_FILTERS:
            return apply

        def evaluate(account: Account) -> Any:
            if (result := apply(account)) is not MISSING:
                return result
            raise Fault(
                f"the list is empty, so {node.name!r} has no value",
                "Give a value for that case with `| default(…)`.",
                code="expression_missing",
            )

        return self.placed(evaluate, node.lineno)

    def _applied(self, node: Applied, what: Literal["filter", "test"], value: Evaluate, place: int) -> Evaluate:
        """Return what applies a filter or test; its name and the number of its arguments are checked here."""
        try:
            function = named(what, node.name, written=True)
            if node.name in _FILTERS_OF_NAMES:
                _check_inner_name(node)
            if node.name == "date":
                self._check_date(node)
        except Fault as fault:
            raise self._error(fault, place) from None
        arguments, keywords = self._arguments(node, [function], f"{what} {node.name!r}", place)
        passes_on = what == "filter" and node.name in _FORGIVING_FILTERS

        def evaluate(account: Account) -> Any:
            subject = value(account)
            if passes_on and subject is MISSING:
                return MISSING
            account.charge()
            if not arguments and not keywords:
                return function(account, subject)
            given = [argument(account) for argument in arguments]
            return function(account, subject, *given, **{name: item(account) for name, item in keywords})

        return self.placed(evaluate, place)

    def _check_date(self, node: Applied) -> None:
        """Refuse a format or zone that is written out and unknown, before any run."""
        given = dict(zip(("format", "zone"), map(constant, node.args), strict=False))
        given |= {str(keyword.key): constant(keyword.value) for keyword in cast("list[nodes.Keyword]", node.kwargs)}
        known = {name: given[name] for name in ("format", "zone") if given.get(name) is not None}
        instants.check(Account(self._limits, {}), **known)

    def _arguments(
        self, node: Applied | nodes.Call, functions: list[Callable[..., Any]], name: str, place: int
    ) -> tuple[list[Evaluate], list[tuple[str, Evaluate]]]:
        """Return what evaluates the arguments, having checked that one of the functions takes so many."""
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            fault = Fault("`*` and `**` are not available in calls", code="expression_not_allowed")
            raise self._error(fault, node.lineno)
        arguments = [self.expression(argument) for argument in node.args]
        given = cast("list[nodes.Keyword]", node.kwargs)
        keywords = [(str(keyword.key), self.expression(keyword.value)) for keyword in given]
        if not any(_takes(function, len(arguments), [key for key, _ in keywords]) for function in functions):
            allowed = ", ".join(list(_signature(functions[0]).parameters)[2:]) or "none"
            fault = Fault(f"the {name} takes other arguments: {allowed}", code="expression_arguments")
            raise self._error(fault, place)
        return arguments, keywords

    def _call(self, node: nodes.Call) -> Evaluate:
        if isinstance(node.node, nodes.Name) and node.node.name == "range":
            return self._range(node)
        if not isinstance(node.node, nodes.Getattr):
            raise self._error(
                Fault(
                    "only `range(…)` and the methods of text, lists and objects can be called",
                    "Most functions are filters: `value | name(…)`.",
                    code="expression_not_allowed",
                ),
                start(node),
            )
        value, name = self.expression(node.node.node), node.node.attr
        place = self.origin.after_space(node.node.lineno + 1)
        candidates = methods.CANDIDATES.get(name)
        if candidates is None:
            fault = Fault(f"there is no method {name!r}", methods.other_way(name), code="expression_not_allowed")
            raise self._error(fault, place)
        arguments, keywords = self._arguments(node, candidates, f"method {name!r}", place)

        def evaluate(account: Account) -> Any:
            subject = value(account)
            given = [argument(account) for argument in arguments]
            return methods.call(account, subject, name, given, {key: item(account) for key, item in keywords})

        return self.placed(evaluate, place)

    def _range(self, node: nodes.Call) -> Evaluate:
        place = start(node)
        bounds, _ = self._arguments(node, [_range], "function 'range'", place)
        return self.placed(lambda account: _range(account, None, *[bound(account) for bound in bounds]), place)

    # Names, attributes, items

    def _access(self, node: nodes.Name | nodes.Getattr | nodes.Getitem, *, lenient: bool = False) -> Evaluate:
        base, steps = unwind(self.origin, node)
        if isinstance(base, nodes.Name):
            if base.name == "loop" and self.loops:
                return self._loop(base, steps, lenient)
            self.names.read(base, steps, optional=lenient)
            return self._path(base.name, base.lineno, steps, lenient)
        if isinstance(base, nodes.Getitem):
            value = self._item(base, lenient)
        else:
            value = self._lenient(base) if lenient else self.expression(base)
        return self._follow(value, steps, start(base), lenient) if steps else value

    def _path(self, root: str, begin: int, steps: list[Step], lenient: bool) -> Evaluate:
        keys, origin = [step.key for step in steps], self.origin

        def evaluate(account: Account) -> Any:
            try:
                value = account.names[root]
                for key in keys:
                    of = type(value)
                    if of is not dict and (of is not list or type(key) is not int):
                        break
                    value = value[key]
                else:
                    return value
            except LookupError:
                pass
            return slowly(account.names)

        def slowly(names: dict[str, Any]) -> Any:
            if root in names:
                return follow(origin, names[root], steps, begin, lenient=lenient)
            if lenient:
                return MISSING
            raise unknown(origin, root, begin, names)

        return evaluate

    def _follow(self, base: Evaluate, steps: list[Step], begin: int, lenient: bool) -> Evaluate:
        origin = self.origin

        def evaluate(account: Account) -> Any:
            value = base(account)
            return MISSING if value is MISSING else follow(origin, value, steps, begin, lenient=lenient)

        return evaluate

    def _item(self, node: nodes.Getitem, lenient: bool) -> Evaluate:
        """Return what reads `value[key]` with a key that is known only in a run, or cuts `value[1:2]`."""
        value = self._lenient(node.node) if lenient else self.expression(node.node)
        if isinstance(node.arg, nodes.Slice):
            return self._cut(node, node.arg, value)
        key, begin, place, origin = self.expression(node.arg), start(node), start(node.arg), self.origin

        def evaluate(account: Account) -> Any:
            container = value(account)
            if container is MISSING:
                return MISSING
            account.charge()
            step = Step(key(account), node.lineno, place, written=False)
            return follow(origin, container, [step], begin, lenient=lenient)

        return self.placed(evaluate, place)

    def _cut(self, node: nodes.Getitem, part: nodes.Slice, value: Evaluate) -> Evaluate:
        bounds = [None if bound is None else self.expression(bound) for bound in (part.start, part.stop, part.step)]

        def evaluate(account: Account) -> Any:
            container = value(account)
            if container is MISSING:
                return MISSING
            begin, end, step = [None if bound is None else bound(account) for bound in bounds]
            return operators.cut(account, container, begin, end, step)

        return self.placed(evaluate, node.lineno)

    def _loop(self, base: nodes.Name, steps: list[Step], lenient: bool) -> Evaluate:
        read = LOOP_NAMES.get(steps[0].key) if steps else None
        if read is None:
            near = values.nearest(steps[0].key, LOOP_NAMES) if steps else None
            remedy = f"Did you mean {near!r}?" if near else f"There are {', '.join(LOOP_NAMES)}."
            message = f"`loop` has no {steps[0].key!r}" if steps else "`loop` is not a value; its parts are"
            fault = Fault(message, remedy, code="expression_name")
            raise self._error(fault, steps[0].place if steps else base.lineno)

        def evaluate(account: Account) -> Any:
            value = read(account.loop.items, account.loop.position)
            if value is MISSING and not lenient:
                raise Fault(
                    f"the loop has no {steps[0].key!r} here",
                    "Ask with `is defined`, or give a value with `| default(…)`.",
                    code="expression_missing",
                )
            return value

        value = self.placed(evaluate, steps[0].place)
        return self._follow(value, steps[1:], base.lineno, lenient) if len(steps) > 1 else value


_EXPRESSIONS: Final[dict[type[nodes.Node], Callable[[Evaluator, Any], Evaluate]]] = {
    nodes.Const: Evaluator._const,
    nodes.List: Evaluator._list,
    nodes.Tuple: Evaluator._list,
    nodes.Dict: Evaluator._dict,
    nodes.CondExpr: Evaluator._choice,
    nodes.And: Evaluator._either,
    nodes.Or: Evaluator._either,
    nodes.Not: Evaluator._not,
    nodes.Neg: Evaluator._sign,
    nodes.Pos: Evaluator._sign,
    nodes.Add: Evaluator._arithmetic,
    nodes.Sub: Evaluator._arithmetic,
    nodes.Mul: Evaluator._arithmetic,
    nodes.Div: Evaluator._arithmetic,
    nodes.FloorDiv: Evaluator._arithmetic,
    nodes.Mod: Evaluator._arithmetic,
    nodes.Pow: Evaluator._arithmetic,
    nodes.Concat: Evaluator._concat,
    nodes.Compare: Evaluator._compare,
    nodes.Test: Evaluator._test,
    nodes.Filter: Evaluator._filter,
    nodes.Call: Evaluator._call,
    nodes.Name: Evaluator._access,
    nodes.Getattr: Evaluator._access,
    nodes.Getitem: Evaluator._access,
}
"""The list of what expressions may be made of."""


@lru_cache(maxsize=256)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def _takes(function: Callable[..., Any], positional: int, keywords: list[str]) -> bool:
    try:
        _signature(function).bind(None, None, *[None] * positional, **dict.fromkeys(keywords))
    except TypeError:
        return False
    return True


def _check_inner_name(node: Applied) -> None:
    """Look up the filter or test whose name is given to `map`, `select` and their like."""
    position = 1 if node.name.endswith("attr") else 0
    if len(node.args) > position:
        name = constant(node.args[position])
        if type(name) is not str:
            raise Fault(f"the name that {node.name!r} is given must be written out, in quotes", code="expression_name")
        named("filter" if node.name == "map" else "test", name, written=True)


def _range(account: Account, _: None, start: Any, stop: Any = None, step: Any = 1, /) -> list[Any]:
    """Return a list of whole numbers, as Python's `range` counts them."""
    for bound in (start, 0 if stop is None else stop, step):
        values.whole(account, bound, "whole numbers in `range`")
    if step == 0:
        raise Fault("the step of `range` cannot be 0")
    numbers = range(start) if stop is None else range(start, stop, step)
    most = account.limits.range
    if numbers[most:]:
        raise LimitFault("range", f"`range` gives at most {most:,} numbers")
    account.need_items(len(numbers))
    account.keep(32 * len(numbers))
    return account.made_items(list(numbers))

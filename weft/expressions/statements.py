"""From statements to plain functions: text, `{{ … }}`, `if`, `for` and `set`; there are no others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import nodes

from weft.expressions import values
from weft.expressions.evaluator import Evaluate, Evaluator
from weft.expressions.filters import escaped
from weft.expressions.limits import Account, Fault
from weft.expressions.syntax import start

Execute = Callable[[Account], None]
Assign = Callable[[Account, Any], None]


@dataclass(slots=True)
class Loop:
    """Where an iteration stands."""

    items: list[Any]
    position: int = 0


class Statements:
    """Turns the statements of one template into functions that write to the account.

    Args:
        evaluator: What turns its expressions into functions.
        escape: Whether what expressions print is escaped for HTML.
    """

    def __init__(self, evaluator: Evaluator, *, escape: bool) -> None:
        self._evaluator = evaluator
        self._names = evaluator.names
        self._escape = escape

    def body(self, statements: Sequence[nodes.Node]) -> Execute:
        """Return what runs statements in their order."""
        parts = [self._statement(statement) for statement in statements]
        if len(parts) == 1:
            return parts[0]

        def execute(account: Account) -> None:
            for part in parts:
                part(account)

        return execute

    def _statement(self, node: nodes.Node) -> Execute:
        if isinstance(node, nodes.Output):
            return self._output(node)
        if isinstance(node, nodes.If):
            return self._if(node)
        if isinstance(node, nodes.For):
            return self._for(node)
        if isinstance(node, nodes.Assign):
            return self._set(node)
        raise self._evaluator.refusal(node)

    def _output(self, node: nodes.Output) -> Execute:
        parts = [
            (part.data, None) if isinstance(part, nodes.TemplateData) else ("", self._printed(part))
            for part in node.nodes
        ]
        cost = len(parts)

        def execute(account: Account) -> None:
            account.charge(cost)
            write = account.write
            for literal, printed in parts:
                write(literal if printed is None else printed(account))

        return self._evaluator.placed(execute, start(node.nodes[0]))

    def _printed(self, node: nodes.Expr) -> Evaluate:
        """Return what gives the text that an expression prints."""
        expression = self._evaluator.expression(node)
        escapes_itself = isinstance(node, nodes.Filter) and node.name in ("e", "escape")

        def plain(account: Account) -> str:
            return values.written(account, expression(account))

        def for_html(account: Account) -> str:
            return account.made_text(escaped(plain(account)))

        return self._evaluator.placed(for_html if self._escape and not escapes_itself else plain, start(node))

    def _if(self, node: nodes.If) -> Execute:
        branches = [(self._evaluator.condition(branch.test), self.body(branch.body)) for branch in (node, *node.elif_)]
        otherwise = self.body(node.else_)

        def execute(account: Account) -> None:
            account.charge()
            for test, then in branches:
                if test(account):
                    then(account)
                    return
            otherwise(account)

        return self._evaluator.placed(execute, start(node.test))

    def _set(self, node: nodes.Assign) -> Execute:
        if not isinstance(node.target, nodes.Name):
            raise self._evaluator.refusal(node.target)
        expression = self._evaluator.expression(node.node)
        name = self._names.set(node.target)

        def execute(account: Account) -> None:
            account.names[name] = expression(account)

        return execute

    def _for(self, node: nodes.For) -> Execute:
        if node.recursive:
            fault = Fault("'recursive' is not available", code="expression_not_allowed")
            raise self._evaluator.origin.error(fault, node.lineno)
        items = self._loop_items(node)
        with self._names.scope() as own:
            assign = self._target(node.target)
            test = self._loop_test(node)
            targets = set(own)
            self._evaluator.loops += 1
            run = self.body(node.body)
            self._evaluator.loops -= 1
        otherwise = self.body(node.else_)
        changed, set_inside = sorted(own), sorted(own - targets)

        def execute(account: Account) -> None:
            names, chosen = account.names, items(account)
            before = {name: names[name] for name in changed if name in names}
            if test is not None:
                chosen = [item for item in chosen if _passes(account, assign, item, test)]
            outer, account.loop = account.loop, Loop(account.made_items(chosen))
            for account.loop.position, item in enumerate(chosen):
                account.charge()
                assign(account, item)
                run(account)
                _restore(names, set_inside, before)
            account.loop = outer
            _restore(names, changed, before)
            if not chosen:
                otherwise(account)

        return self._evaluator.placed(execute, node.lineno)

    def _loop_items(self, node: nodes.For) -> Evaluate:
        expression = self._evaluator.expression(node.iter)

        def evaluate(account: Account) -> list[Any]:
            found = expression(account)
            if type(found) is str:
                raise Fault(
                    "'for' does not walk over text",
                    "Split it first, `x.split(',')`, or take its characters with `| list`.",
                    code="expression_type",
                )
            return values.items(account, found, "a list after 'in'")

        return self._evaluator.placed(evaluate, start(node.iter))

    def _loop_test(self, node: nodes.For) -> Evaluate | None:
        """Return what chooses the items of `for … if test`; `loop` is not known there, for it has not begun."""
        if node.test is None:
            return None
        outside, self._evaluator.loops = self._evaluator.loops, 0
        test = self._evaluator.condition(node.test)
        self._evaluator.loops = outside
        return test

    def _target(self, node: nodes.Node) -> Assign:
        """Return what gives an item of a loop its name, or its parts their names."""
        if isinstance(node, nodes.Name):
            name = self._names.set(node)

            def assign(account: Account, item: Any) -> None:
                account.names[name] = item

            return assign
        if not isinstance(node, nodes.Tuple):
            raise self._evaluator.refusal(node)
        parts = [self._target(item) for item in node.items]
        origin, place = self._evaluator.origin, start(node)

        def assign_parts(account: Account, item: Any) -> None:
            if type(item) is not list or len(item) != len(parts):
                fault = Fault(
                    f"an item is {values.kind(item)}, not a list of {len(parts)}",
                    "Over the keys and values of an object goes `for key, value in x | items`.",
                    code="expression_type",
                )
                raise origin.error(fault, place)
            for part, value in zip(parts, item, strict=True):
                part(account, value)

        return assign_parts


def _passes(account: Account, assign: Assign, item: Any, test: Evaluate) -> bool:
    account.charge()
    assign(account, item)
    return bool(test(account))


def _restore(names: dict[str, Any], changed: list[str], before: dict[str, Any]) -> None:
    for name in changed:
        if name in before:
            names[name] = before[name]
        else:
            names.pop(name, None)
